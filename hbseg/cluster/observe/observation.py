"""What the cluster has of one task at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from hbseg.cluster.objects import Object


@dataclass(frozen=True)
class Observation:
    """The objects that the state of a task follows from (`hbseg.cluster.observe.job_state`)."""

    job: Object | None
    """Of any of `hbseg.cluster.kinds`."""
    pods: Sequence[Object]
    now: datetime
    """Time by the server's clock."""
    events: Sequence[Object] = field(default=())
    """Warnings about the job and its pods; needed only while it is pending."""
    cancelled: bool = False
    """Whether the run's owner records that the task was cancelled."""
    workload: Object | None = None
    """Kueue's object for the job."""
