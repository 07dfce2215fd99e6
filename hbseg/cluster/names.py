"""Names and labels of what a run has on the cluster; the same run always has the same names."""

from __future__ import annotations

from typing import Final

from hbseg.config.specs import Spec
from hbseg.runs.steps import SHORT

PIPELINE: Final = "pipeline"
"""Step and task of the pipeline's runner."""

RUN: Final = "hbseg.io/run"
STEP: Final = "hbseg.io/step"
TASK: Final = "hbseg.io/task"
SPEC_HASH: Final = "hbseg.io/spec-hash"
PREFIX: Final = "hbseg.io/prefix"
RUNS: Final = "hbseg.io/runs"
DATA: Final = "hbseg.io/data"
PLACEMENT: Final = "hbseg.io/placement"
PENDING_TIMEOUT: Final = "hbseg.io/pending-timeout"
"""Labels (run, step, task) and annotations of jobs."""
MAIN_CONTAINERS: Final = ("pytorch", "step")
"""Names of the container that does the work of a pod: of a training, and of all other pods."""
QUEUE: Final = "kueue.x-k8s.io/queue-name"
QUEUE_PRIORITY: Final = "kueue.x-k8s.io/priority-class"
"""Kueue's labels on the job, not on its pods."""


def spec_name(spec: Spec) -> str:
    """Return the name of the ConfigMap that holds a spec."""
    return spec_name_of(spec.digest())


def spec_name_of(digest: str) -> str:
    """Return the name of the ConfigMap that holds what has this digest."""
    return f"hbseg-spec-{digest[:SHORT]}"


def run_owner_name(run: str) -> str:
    """Return the name of the ConfigMap that owns everything of a run."""
    return f"hbseg-run-{run}"


def labels(run: str, step: str | None = None, task: str | None = None) -> dict[str, str]:
    """Return the labels of an object of a run; jobs and pods have step and task."""
    named = {
        "app.kubernetes.io/name": "hbseg",
        "app.kubernetes.io/part-of": "hbseg",
        "app.kubernetes.io/managed-by": "hbseg",
        RUN: run,
        STEP: step,
        TASK: task,
    }
    return {name: str(value) for name, value in named.items() if value is not None}
