"""The states of a task, as people and documents see them."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """State of a task, from storage and a backend together.

    These are the words of `hbseg status` and of `steps` in `run.json`. What a backend alone knows
    is a `hbseg.runs.backend.Phase`; its `task_state` says what that means here.
    """

    WAITING = "waiting"
    """It has not been started, or has left nothing behind."""
    PENDING = "pending"
    """It was submitted and has not started."""
    RUNNING = "running"
    STALLED = "stalled"
    """It runs and makes no progress."""
    DONE = "done"
    """Its outputs are complete and up to date."""
    STALE = "stale"
    """Its outputs are complete, but were made from other inputs."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """Another version of hbseg wrote what would tell it."""
