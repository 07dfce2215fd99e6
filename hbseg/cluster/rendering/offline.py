"""A step's call as far as it is known without storage, for a dry run and for `hbseg render`.

What a submit finds out in storage stays open: the dataset's version where a spec does not name it,
and the key of an engine, which is a digest of what it is made from. A folder named by such a key
is called `unresolved` here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hbseg.config.specs import InferSpec, Spec, TrainSpec
from hbseg.errors import InvalidInput
from hbseg.runs.step_call import StepCall
from hbseg.runs.task import TRAINING, Step
from hbseg.storage.store import join_key, open_store

UNRESOLVED = "unresolved"
"""Name of a folder whose key is decided at submit."""
_NEED_DATASET = (Step.COMPILE, Step.INFER, Step.EFFICIENCY, Step.REPORT)


@dataclass(frozen=True)
class OfflineCall:
    """A call, and what in it is open."""

    call: StepCall
    open: tuple[str, ...]
    """A sentence for each thing that only a submit knows."""


def offline_call(
    run: str, step: Step, spec: Spec, *, runs: str, data: str, extra: tuple[str, ...] = ()
) -> OfflineCall:
    """Return the call of a step without a look at storage; `runs` and `data` are URLs.

    It is the call of `hbseg.runs.chain`'s task of the same step wherever nothing is open.
    """
    runs, data = canonical_url(runs), canonical_url(data)
    prefix = _prefix(step, spec)
    call = StepCall(
        run=run,
        step=step,
        prefix=prefix,
        spec=spec,
        runs=runs,
        data=data,
        inputs=dict(_inputs(f"{runs}/{run}", data, step, spec)),
        extra=extra,
    )
    return OfflineCall(call, tuple(_open(call)))


def canonical_url(url: str) -> str:
    """Return a store's URL as the store itself says it, without the library of its kind.

    Raises:
        InvalidInput: no store has such a URL.
    """
    if not url.startswith("s3://"):
        return open_store(url).url
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise InvalidInput("an S3 URL has no bucket", "give s3://bucket/prefix")
    return f"s3://{join_key(bucket, prefix.strip('/'))}"


def _prefix(step: Step, spec: Spec) -> str:
    match step:
        case Step.COMPILE:
            return f"engine/{UNRESOLVED}"
        case Step.EFFICIENCY:
            return f"efficiency/{UNRESOLVED}"
        case Step.INFER if isinstance(spec, InferSpec):
            return {"submission": "infer", "valid": "valid", "images": f"images/{UNRESOLVED}"}[
                spec.mode
            ]
        case _:
            return step.value


def _inputs(run: str, data: str, step: Step, spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield the inputs' names and URLs, in the chain's order."""
    if isinstance(spec, TrainSpec) and spec.dataset.version is not None:
        yield "dataset", f"{data}/versions/{spec.dataset.version}"
    if step in (Step.INFER, Step.EFFICIENCY):
        yield "engine", f"{run}/engine/{UNRESOLVED}"
    if step in (Step.COMPILE, Step.EFFICIENCY):
        yield "checkpoint", f"{run}/{Step.STAGE2}"
    if step == Step.STAGE2:
        first = spec.init_from if isinstance(spec, TrainSpec) else None
        yield "checkpoint", f"{run}/{Step.STAGE1}" if first is None else canonical_url(first)
    if step == Step.REPORT:
        for name in (Step.STAGE1, Step.STAGE2, "valid", Step.INFER):
            yield str(name), f"{run}/{name}"
        yield "efficiency", f"{run}/efficiency/{UNRESOLVED}"


def _open(call: StepCall) -> Iterator[str]:
    if call.step in TRAINING and "dataset" not in call.inputs:
        yield (
            "dataset.version is not set: a submit pins the current one, these manifests have no "
            "--input=dataset; name one with --set dataset.version=HASH"
        )
    if call.step in _NEED_DATASET:
        yield (
            "the dataset is the version that the run was trained on, which storage knows: these "
            "manifests have no --input=dataset, a submit adds it"
        )
    engines = [url for url in (call.prefix, *call.inputs.values()) if url.endswith(UNRESOLVED)]
    if engines:
        folders = " and ".join(dict.fromkeys("/".join(url.split("/")[-2:]) for url in engines))
        yield f"keys are decided at submit, from what is in storage; open here: {folders}"
