"""The kinds of jobs that steps become on a cluster: the one place that lists them.

A further kind is one more module here and one more entry of `KINDS`. All else asks the `JobKind`.
"""

from __future__ import annotations

from typing import Final

from hbseg.cluster.kinds.batch_job import BatchJob
from hbseg.cluster.kinds.job_kind import JobKind
from hbseg.cluster.kinds.pytorch_job import PyTorchJob
from hbseg.cluster.objects import Object
from hbseg.runs.steps import Step, step_of

_BATCH_JOB: Final = BatchJob()

KINDS: tuple[JobKind, ...] = (PyTorchJob(), _BATCH_JOB)
"""All kinds; where several may run a step, the first makes its jobs."""


def named_kind(name: str) -> JobKind | None:
    """Return the kind that objects call themselves `name`; none for what is no job of ours."""
    return next((kind for kind in KINDS if kind.resource.kind == name), None)


def kind_of(job: Object) -> JobKind:
    """Return the kind of a job. Raises ValueError where it is none of ours."""
    kind = named_kind(job["kind"])
    if kind is None:
        raise ValueError(f"{job['kind']} is no kind of job that runs a step")
    return kind


def kinds_of_step(step: Step) -> tuple[JobKind, ...]:
    """Return the kinds of jobs that may run a step."""
    return tuple(kind for kind in KINDS if kind.may_run(step))


def kind_of_step(step: Step) -> JobKind:
    """Return the kind of job that a step is made to."""
    return kinds_of_step(step)[0]


def kinds_of_task(task_name: str) -> tuple[JobKind, ...]:
    """Return the kinds of jobs that a task may be."""
    try:
        return kinds_of_step(step_of(task_name))
    except ValueError:  # the pipeline's runner is no step
        return (_BATCH_JOB,)
