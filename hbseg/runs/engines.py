"""The kinds of engines, as far as the control plane knows them: what their pods need.

How an engine is made and run is `hbseg.ml.engines`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from hbseg.config.profile import ImageKind
from hbseg.runs.steps import Step


class EngineKind(NamedTuple):
    """What the pods of the steps that make or run an engine need."""

    image: ImageKind
    gpu: bool = False
    """Whether it is made and run on a GPU where there is one."""
    needs_gpu: bool = False
    """Whether there must be one."""


ENGINE_KINDS: Final[Mapping[str, EngineKind]] = {
    "onnx": EngineKind(ImageKind.TRAIN),
    "tensorrt": EngineKind(ImageKind.TENSORRT, gpu=True, needs_gpu=True),
    "eager": EngineKind(ImageKind.TRAIN, gpu=True),
}


def compile_flags(
    batch_size: int, kind: str | None, device: str | None, precision: str | None = None
) -> Iterator[str]:
    """Yield the flags that make `hbseg submit-compile` compile what was asked for."""
    if kind is not None:
        yield from ("--engine", kind)
    if device not in (None, "cpu"):
        yield from ("--tensorrt-device", str(device))
    yield from ("--batch-size-eval", str(batch_size))
    if precision not in (None, "fp32"):
        yield from ("--precision", str(precision))


def image_kind(step: Step, engine: str | None) -> ImageKind:
    """Return the image of a step's pods; `engine` is the kind that it makes or runs, if any."""
    return step.row.image if engine is None else ENGINE_KINDS[engine].image


def gpus_of_process(step: Step, engine: str | None, of_training: int) -> int:
    """Return the GPUs of one process of a step; `engine` is the kind that it makes or runs, if any.

    An engine takes one where a process of a training is given any.
    """
    if step.row.gpu:
        return of_training
    return min(of_training, 1) if engine is not None and ENGINE_KINDS[engine].gpu else 0


def engine_steps() -> list[Step]:
    """Return the steps that make or run an engine."""
    return [step for step in Step if has_engine(step)]


def has_engine(step: Step) -> bool:
    """Return whether a step makes or runs an engine."""
    return step == Step.COMPILE or any(item.match for item in step.row.inputs)
