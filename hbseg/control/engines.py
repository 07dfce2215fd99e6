"""Where specs and places meet: the engine that a place offers, and refusals before anything starts.

A spec that is stored always names its kind of engine; where a person names none, commands put in
what the place offers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hbseg.config.placement import Placement
from hbseg.config.profile import PodGroup
from hbseg.config.specs import CompileSpec
from hbseg.errors import SpecError
from hbseg.runs.chain_specs import ChainSpecs, chain_steps
from hbseg.runs.engines import ENGINE_KINDS, has_engine
from hbseg.runs.steps import Step
from hbseg.system.gpu import has_gpu

ON_CPUS: Final = "onnx"
"""Kind of engine for any place."""


def offered_engine(backend: str, placement: Placement) -> str:
    """Return the kind of engine that is compiled where a spec names none.

    That is TensorRT where the pods of the step compile have GPUs, ONNX elsewhere.
    """
    in_pods = backend == "kubernetes"
    return "tensorrt" if in_pods and _pods_have_gpus(Step.COMPILE, placement) else ON_CPUS


def check_place(step: Step, engine: str | None, backend: str, placement: Placement) -> None:
    """Refuse a step whose engine needs a GPU where there is none; `engine` is its kind, if any.

    Raises:
        SpecError: there is no GPU.
    """
    if engine is None or not ENGINE_KINDS[engine].needs_gpu:
        return
    if backend == "kubernetes" and not _pods_have_gpus(step, placement):
        raise SpecError(
            f"{engine} engines need a GPU, and the pods of {step} have none: "
            "cluster.gpus_per_process is 0",
            f"give --engine {ON_CPUS}, or set cluster.steps.{step}.gpus_per_process to 1",
        )
    if backend == "local" and not has_gpu():
        raise SpecError(
            f"{engine} engines need an NVIDIA GPU, and this machine has none",
            f"give --engine {ON_CPUS}, or run it with --backend kubernetes",
        )


def check_chain(specs: ChainSpecs, backend: str, placement: Placement) -> None:
    """Refuse a chain that would fail where its engine is made or run, hours after its start.

    Raises:
        SpecError: there is no GPU, or no image.
    """
    check_gpus(specs, backend, placement)
    if backend == "kubernetes":
        from hbseg.cluster.pods.template import require_image

        for step, engine in _engines(specs):
            require_image(step, engine, placement)


def check_gpus(specs: ChainSpecs, backend: str, placement: Placement) -> None:
    """Refuse a chain whose engine needs a GPU where a step has none. Raises as `check_place`."""
    for step, engine in _engines(specs):
        check_place(step, engine, backend, placement)


def _engines(specs: ChainSpecs) -> Iterator[tuple[Step, str | None]]:
    """Yield the chain's steps, each with the kind of engine that it makes or runs."""
    engine = specs.get(Step.COMPILE, CompileSpec).engine
    for step in chain_steps():
        yield step, engine if has_engine(step) else None


def _pods_have_gpus(step: Step, placement: Placement) -> bool:
    return placement.cluster.for_pods(PodGroup.OTHERS, step.value).gpus_per_process > 0
