"""A step's call as far as it is known without storage, for a dry run and for `hbseg render`.

What a submit finds out in storage stays open: the dataset's version where a spec does not name it,
and the key of an engine, which is a digest of what it is made from. A folder named by such a key
is called `unresolved` here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hbseg.config.specs import CompileSpec, EfficiencySpec, InferSpec, Spec, TrainSpec
from hbseg.data.places import version_key
from hbseg.runs.chain_specs import offline_spec
from hbseg.runs.engines import has_engine
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step, folder_named
from hbseg.storage.opening import canonical_url

UNRESOLVED = "unresolved"
"""Name of a folder whose key is decided at submit."""


class OfflineCall(NamedTuple):
    """A call, and what in it is open."""

    call: StepCall
    open: tuple[str, ...]
    """A sentence for each thing that only a submit knows."""


def offline_call(
    run: str,
    step: Step,
    spec: Spec,
    *,
    runs: str,
    data: str,
    raw: str | None = None,
    skip_bad: bool = False,
    engine: str | None = None,
) -> OfflineCall:
    """Return the call of a step without a look at storage; `runs` and `data` are URLs.

    `engine` is the kind of engine that the step runs, if it runs one; a compile's spec names its.

    It is the call of `hbseg.runs.chain`'s task of the same step wherever nothing is open.
    """
    runs, data = canonical_url(runs), canonical_url(data)
    notes = list(_unset(spec))
    spec = offline_spec(spec)
    prefix = _prefix(step, spec)
    runs_engine = has_engine(step)
    call = StepCall(
        run=run,
        step=step,
        prefix=prefix,
        spec=spec,
        runs=runs,
        data=data,
        inputs=dict(_inputs(f"{runs}/{run}", data, step, spec)),
        raw=None if raw is None else canonical_url(raw),
        skip_bad=skip_bad,
        engine=spec.engine if isinstance(spec, CompileSpec) else engine if runs_engine else None,
    )
    return OfflineCall(call, (*notes, *_open(call)))


def _unset(spec: Spec) -> Iterator[str]:
    if isinstance(spec, EfficiencySpec) and spec.throughput_batch_size is None:
        yield (
            "throughput_batch_size is not set: a submit takes that of the run's latest engine, "
            f"these manifests have {InferSpec().batch_size}; name one with "
            "--set throughput_batch_size=N"
        )


def _prefix(step: Step, spec: Spec) -> str:
    folder = step.folder_for(spec)
    return folder.name if folder.key is None else f"{folder.name}/{UNRESOLVED}"


def _inputs(run: str, data: str, step: Step, spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield the inputs' names and URLs, in the order of the table."""
    for item in step.inputs_for(spec):
        named = item.named(spec)
        if named or item.many:
            yield from ((name, canonical_url(url)) for name, url in named.items())
        elif item.folder is None:
            if isinstance(spec, TrainSpec) and spec.dataset.version is not None:
                yield item.name, f"{data}/{version_key(spec.dataset.version)}"
        else:
            keyed = folder_named(item.folder).key is not None
            yield item.name, f"{run}/{item.folder}" + (f"/{UNRESOLVED}" if keyed else "")


def _open(call: StepCall) -> Iterator[str]:
    needs_dataset = call.step.input("dataset") is not None and "dataset" not in call.inputs
    if needs_dataset and isinstance(call.spec, TrainSpec):
        yield (
            "dataset.version is not set: a submit pins the current one, these manifests have no "
            "--input=dataset; name one with --set dataset.version=HASH"
        )
    elif needs_dataset:
        yield (
            "the dataset is the version that the run was trained on, which storage knows: these "
            "manifests have no --input=dataset, a submit adds it"
        )
    engines = [url for url in (call.prefix, *call.inputs.values()) if url.endswith(UNRESOLVED)]
    if engines:
        folders = " and ".join(dict.fromkeys("/".join(url.split("/")[-2:]) for url in engines))
        yield f"keys are decided at submit, from what is in storage; open here: {folders}"
    if call.engine is not None and not isinstance(call.spec, CompileSpec):
        yield (
            "image and GPU follow the kind of the run's engine; these manifests are for the kind "
            f"{call.engine}; name another one with --engine"
        )
    optional = [item.name for item in call.step.row.inputs if item.optional]
    if optional:
        yield (
            f"a submit names those of the inputs {', '.join(optional)} that are finished; these "
            "manifests need all of them"
        )
