"""Names and labels of what a run has on the cluster; the same run always has the same names."""

from __future__ import annotations

import re
from typing import Final

from hbseg.specs import Spec
from hbseg.steps import SHORT, TRAINING

LONGEST_PYTORCH_JOB: Final = 50
"""Characters of a PyTorchJob's name: its pods and Services add `-worker-999` to it, and a Service
ends at 63. The operator's webhook does not check this."""
LONGEST_JOB: Final = 57
"""Characters of a batch Job's name: its pods add `-` and five random characters."""
KEY_DIGITS: Final = 6
"""Digits of an engine's or a measurement's key in a name."""
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
QUEUE: Final = "kueue.x-k8s.io/queue-name"
"""Kueue's label on the job, not on its pods."""

_KEY = re.compile(rf"[0-9a-f]{{{SHORT}}}")
_WORDS = {"engine": "compile"}
"""First part of a task's folder: word in a name, where it is another one."""


def job_name(run: str, prefix: str) -> str:
    """Return the name of the job that makes a run's folder `prefix`.

    `stage1` of the run `main` is `main-stage1`, `engine/0a1b2c3d4e5f` is `main-compile-0a1b2c`. At
    most 50 characters for a training, 57 for all others: where a run's name leaves less room, a
    key has one digit less.
    """
    head, _, key = prefix.partition("/")
    key = key[:KEY_DIGITS] if _KEY.fullmatch(key) else key.replace("/", "-")
    words = (run, _WORDS.get(head, head), key)
    longest = LONGEST_PYTORCH_JOB if head in TRAINING else LONGEST_JOB
    return "-".join(word for word in words if word)[:longest].rstrip("-")


def spec_name(spec: Spec) -> str:
    """Return the name of the ConfigMap that holds a spec."""
    return spec_name_of(spec.digest())


def spec_name_of(digest: str) -> str:
    """Return the name of the ConfigMap that holds what has this digest."""
    return f"hbseg-spec-{digest[:SHORT]}"


def anchor_name(run: str) -> str:
    """Return the name of the ConfigMap that owns everything of a run."""
    return f"hbseg-run-{run}"


def labels(run: str, step: str | None = None, task: str | None = None) -> dict[str, str]:
    """Return the labels of an object of a run; jobs and pods have step and task."""
    named = {
        "app.kubernetes.io/part-of": "hbseg",
        "app.kubernetes.io/managed-by": "hbseg",
        RUN: run,
        STEP: step,
        TASK: task,
    }
    return {name: str(value) for name, value in named.items() if value is not None}
