"""Where specs and places meet: the engine that a place offers, and refusals before anything starts.

A spec that is stored always names its kind of engine; where a person names none, commands put in
what the place offers.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final

from hbseg.config.placement import Placement
from hbseg.config.profile import PodGroup
from hbseg.config.specs import CompileSpec
from hbseg.errors import SpecError
from hbseg.runs.chain_specs import ChainSpecs, chain_steps
from hbseg.runs.engines import ENGINE_KINDS, engine_steps, has_engine
from hbseg.runs.steps import Step
from hbseg.system.gpu import has_gpu

ON_CPUS: Final = "onnx"
"""Kind of engine for any place."""
_ON_CPUS_HINT: Final = f"give --engine {ON_CPUS} (a pipeline: --set compile.engine={ON_CPUS})"


def offered_engine(backend: str, placement: Placement) -> str:
    """Return the kind of engine that is compiled where a spec names none.

    That is TensorRT where the pods of all steps that make or run an engine have GPUs, ONNX
    elsewhere.
    """
    in_pods = backend == "kubernetes"
    gpus = in_pods and all(_pods_have_gpus(step, placement) for step in engine_steps())
    return "tensorrt" if gpus else ON_CPUS


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
            f"{_ON_CPUS_HINT}, or set cluster.steps.{step}.gpus_per_process to 1",
        )
    if backend == "local" and not has_gpu():
        raise SpecError(
            f"{engine} engines need an NVIDIA GPU, and this machine has none",
            f"{_ON_CPUS_HINT}, or run it with --backend kubernetes",
        )


def check_chain(
    specs: ChainSpecs, backend: str, placement: Placement, *, done: Container[Step] = ()
) -> None:
    """Refuse a chain that would fail where its engine is made or run, hours after its start.

    Steps that are `done` need nothing.

    Raises:
        SpecError: there is no GPU, or no image.
    """
    left = [(step, engine) for step, engine in step_engines(specs) if step not in done]
    for step, engine in left:
        check_place(step, engine, backend, placement)
    if backend == "kubernetes":
        from hbseg.cluster.pods.template import require_image

        for step, engine in left:
            require_image(step, engine, placement)


def check_gpus(specs: ChainSpecs, backend: str, placement: Placement) -> None:
    """Refuse a chain whose engine needs a GPU where a step has none. Raises as `check_place`."""
    for step, engine in step_engines(specs):
        check_place(step, engine, backend, placement)


def step_engines(specs: ChainSpecs) -> Iterator[tuple[Step, str | None]]:
    """Yield the chain's steps, each with the kind of engine that it makes or runs."""
    engine = specs.get(Step.COMPILE, CompileSpec).engine
    for step in chain_steps():
        yield step, engine if has_engine(step) else None


def _pods_have_gpus(step: Step, placement: Placement) -> bool:
    return placement.cluster.for_pods(PodGroup.OTHERS, step.value).gpus_per_process > 0
