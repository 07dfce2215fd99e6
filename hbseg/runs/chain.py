"""The tasks of a run, in the order in which they depend on each other.

A task is known once its inputs are done, since its folder may carry a digest of them. The same
functions serve the single verbs, the pipeline on this machine and a runner in a cluster. What a
step reads and writes is in the table (`hbseg.runs.steps`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hbseg.config.specs import CompileSpec, EfficiencySpec, Spec, TrainSpec
from hbseg.data.places import version_folder
from hbseg.documents import canonical_digest, in_this_version
from hbseg.errors import ConflictError, NotFoundError
from hbseg.runs.chain_specs import ChainSpecs, chain_steps
from hbseg.runs.engines import ENGINE_KINDS, compile_flags
from hbseg.runs.run import Run
from hbseg.runs.steps import (
    ENGINE_FOLDER,
    IDENTITY,
    PICTURES,
    SHORT,
    TRAINING_STAGES,
    Folder,
    Step,
    StepInput,
    TaskName,
    folder_named,
    maker_of,
)
from hbseg.runs.task import Input, Task
from hbseg.storage.markers import MARKER, read_marker, sha256_of
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store

if TYPE_CHECKING:
    from hbseg.data.picture_folder import Pictures  # for inference of any pictures alone


@dataclass(frozen=True)
class Chosen:
    """A folder of the run that serves as an input."""

    prefix: str
    engine: str | None = None
    """Kind of the engine in it, if it is one."""
    card: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What that engine promises, as `find_engine` read it."""


def make_task(
    run: Run,
    data: Store,
    step: Step,
    spec: Spec,
    *,
    chosen: Mapping[str, Chosen] | None = None,
    engine: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    raw: Store | None = None,
    skip_bad: bool = False,
) -> Task:
    """Return the task of a step: its inputs as they are now, and the folder that it makes.

    Args:
        run: the run.
        data: folder of the datasets.
        step: the step.
        spec: its spec; that of a training names the dataset's version (see `pinned`). In one
            of the step efficiency, the batch size for the throughput is filled in.
        chosen: by input, the folder that serves; other inputs are looked up in the run.
        engine: kind of an engine that is looked up; none: the latest of any kind.
        device: GPU model that such an engine is for; none: any.
        precision: of its arithmetic; none: any.
        raw: raw set, for the step prepare.
        skip_bad: whether the step prepare leaves pictures with errors out.

    Raises:
        ConflictError: an input is not finished; the hint is the command that makes it.
        NotFoundError: the spec names pictures, and there are none.
        InvalidInput: two of them have one name.
    """
    wanted = {"kind": engine, "device": device, "precision": precision}
    if isinstance(spec, EfficiencySpec) and spec.throughput_batch_size is None:
        spec = spec.with_throughput(_throughput_batch_size(run, spec.batch_size, wanted))
    lookup = _InputLookup(run, data, spec, chosen or {}, wanted)
    task = Task(
        step=step,
        spec=spec,
        folder=run.folder,
        prefix="",
        inputs=tuple(found for item in step.inputs_for(spec) for found in lookup.inputs(item)),
        raw=None if raw is None else raw.url,
        skip_bad=skip_bad,
        engine=spec.engine if isinstance(spec, CompileSpec) else lookup.engine,
    )
    prefix = _prefix(step.folder_for(spec), task)
    return replace(task, folder=run.folder.folder(prefix), prefix=prefix)


def _prefix(folder: Folder, task: Task) -> str:
    """Return the path of the folder that a task makes."""
    if folder.key is None:
        return folder.name
    if folder.key == IDENTITY:
        return f"{folder.name}/{task.identity()[:SHORT]}"
    if folder.key == PICTURES:
        from hbseg.data.picture_folder import open_pictures

        images: str = getattr(task.spec, "images")  # noqa: B009 - of whichever spec has pictures
        return f"{folder.name}/{pictures_key(open_pictures(images))}"
    source = next(item.folder for item in task.inputs if item.name == folder.key)
    return f"{folder.name}/{source.url.rpartition('/')[2]}"


def pictures_key(pictures: Pictures) -> str:
    """Return a digest of pictures: of their names, contents and how they are read.

    Files that are no pictures by their names are not read.

    Raises:
        NotFoundError: there is no picture in the folder, or no folder.
        InvalidInput: two pictures have one name.
    """
    from hbseg.data.formats import READING
    from hbseg.data.picture_folder import PictureFolder

    paths = PictureFolder(pictures).paths.values()
    content = [(path, sha256_of(pictures.get(path))) for path in paths]
    return canonical_digest([READING, *content])[:SHORT]


class _InputLookup:
    """Finds the folders that serve as the inputs of one task."""

    def __init__(
        self,
        run: Run,
        data: Store,
        spec: Spec,
        chosen: Mapping[str, Chosen],
        wanted: Mapping[str, Any],
    ) -> None:
        self._run, self._data, self._spec, self._chosen = run, data, spec, chosen
        self._wanted = wanted
        """Of an engine: its kind, device and precision; a further one is like the first."""
        self.engine: str | None = None
        """Kind of the engine among the inputs that were found."""

    def inputs(self, item: StepInput) -> Iterator[Input]:
        """Yield what an entry of the table stands for; nothing: it is optional and not finished."""
        named = item.named(self._spec)
        for name, url in named.items():
            yield Input(name, _finished(open_store(url), item))
        if not named and not item.many and (folder := self._find(item)):
            yield Input(item.name, folder)

    def _find(self, item: StepInput) -> Store | None:
        if item.folder is None:
            return self._dataset()
        try:
            return self._of_run(item, item.folder)
        except ConflictError:
            if item.optional:
                return None
            raise

    def _dataset(self) -> Store:
        version = self._spec.dataset.version if isinstance(self._spec, TrainSpec) else None
        return version_folder(self._data, version or dataset_version(self._run))

    def _of_run(self, item: StepInput, name: str) -> Store:
        found = self._chosen.get(item.name) or self._latest(item, name)
        folder = self._run.folder.folder(found.prefix)
        if not folder.exists(MARKER):
            hint = maker_of(name).start_hint(self._run.name)
            raise ConflictError(
                f"run {self._run.name} has no finished {name}",
                f"{hint}, or give --ckpt URL" if item.named_by else hint,
            )
        if name == ENGINE_FOLDER:
            self.engine = found.engine
            like = {name: found.card.get(name) for name in ("device", "precision")}
            self._wanted = {"kind": found.engine, **like}
        return folder

    def _latest(self, item: StepInput, name: str) -> Chosen:
        if name == ENGINE_FOLDER:
            return find_engine(self._run, **item.wanted(self._spec), **self._wanted)
        return Chosen(latest_finished(self._run, name) or name)


def _finished(folder: Store, item: StepInput) -> Store:
    if not folder.exists(MARKER):
        hint = "submit again with --with RUN" if item.many else "correct --ckpt URL"
        raise ConflictError(f"no finished {item.name} in {folder.url}", hint)
    return folder


def latest_finished(run: Run, name: str) -> str | None:
    """Return the path of the run's folder `name`, or of the latest finished one below it.

    None where none below it is finished.
    """
    if folder_named(name).key is None:
        return name
    found = []
    for key in run.folder.list_folders(name):
        with suppress(NotFoundError):
            found.append((read_marker(run.folder.folder(f"{name}/{key}")).finished, key))
    return f"{name}/{max(found)[1]}" if found else None


_ENGINE_WORDS = {
    "batch_size": "batch size",
    "backend": "kind",
    "device": "device",
    "precision": "precision",
}
"""What an engine is chosen by, as `engine.json` has it, and what messages call it."""


def find_engine(
    run: Run,
    batch_size: int,
    *,
    kind: str | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> Chosen:
    """Return the run's latest engine of a batch size that was made from its stage 2.

    Args:
        run: the run.
        batch_size: images of one call.
        kind: `onnx`, `tensorrt` or `eager`; none: any.
        device: GPU model that it is for, or `cpu`; none: any.
        precision: of its arithmetic; none: any.

    Raises:
        ConflictError: there is none, or of an unknown kind; the hint is the command that makes one.
    """
    asked = {
        "backend": kind,
        "device": device,
        "precision": precision,
        "batch_size": batch_size,
    }
    wanted = {name: value for name, value in asked.items() if value is not None}
    flags = shlex.join(compile_flags(batch_size, kind, device, precision))
    hint = f"{Step.COMPILE.start_hint(run.name)} {flags}"
    fitting = list(_engines(run))
    if not fitting:
        raise ConflictError(f"run {run.name} has no engine of its stage 2", hint)
    for name, value in wanted.items():
        others = sorted({card.get(name) for _, _, card in fitting}, key=_in_order)
        fitting = [found for found in fitting if found[2].get(name) == value]
        if not fitting:
            raise ConflictError(
                f"engine was compiled for {_ENGINE_WORDS[name]} {', '.join(map(str, others))}, "
                f"asked for {value}",
                hint,
            )
    _, key, card = max(fitting, key=lambda found: found[:2])
    made_for = card.get("backend")
    if made_for is not None and made_for not in ENGINE_KINDS:
        raise ConflictError(
            f"{ENGINE_FOLDER}/{key} of run {run.name} is of kind {made_for}, which this version "
            "does not know",
            hint,
        )
    return Chosen(f"{ENGINE_FOLDER}/{key}", made_for, card)


def _throughput_batch_size(run: Run, batch_size: int, wanted: Mapping[str, str | None]) -> int:
    """Return the batch size of the latest engine of more images that is like that of latency.

    It is of the same kind, GPU and precision. It is `batch_size` where there is no such engine.

    Raises:
        ConflictError: there is no engine of `batch_size`, see `find_engine`.
    """
    like = find_engine(run, batch_size, **wanted).card
    found = [
        (end, key, size)
        for end, key, card in _engines(run)
        if all(card.get(name) == like.get(name) for name in ("backend", "device", "precision"))
        and isinstance(size := card.get("batch_size"), int)
        and size > batch_size
    ]
    return max(found)[2] if found else batch_size


def _in_order(value: object) -> tuple[bool, object]:
    """Return a key that sorts numbers by size and keeps them apart from other values."""
    return (True, value) if isinstance(value, int) else (False, str(value))


def _engines(run: Run) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield end, key and card of each finished engine of the run's stage 2 as it is now."""
    stage = run.folder.folder(Step.STAGE2)
    if not stage.exists(MARKER):
        raise ConflictError(
            f"run {run.name} has no finished stage2", Step.STAGE2.start_hint(run.name)
        )
    checkpoint = read_marker(stage).digest
    for key in run.folder.list_folders(ENGINE_FOLDER):
        folder = run.folder.folder(f"{ENGINE_FOLDER}/{key}")
        try:
            marker, card = read_marker(folder), json.loads(folder.get("engine.json"))
        except (NotFoundError, ValueError):
            continue
        if marker.inputs.get("checkpoint") == checkpoint and isinstance(card, dict):
            yield marker.finished, key, in_this_version(card, source=f"{folder.url}/engine.json")


def dataset_version(run: Run) -> str:
    """Return the hash of the dataset version that the run's latest stage was trained on.

    Raises:
        ConflictError: no stage is done.
    """
    for stage in reversed(TRAINING_STAGES):
        folder = run.folder.folder(stage)
        if folder.exists(MARKER):
            source = f"{folder.url}/spec.yaml"
            version = TrainSpec.from_text(folder.get("spec.yaml"), source=source).dataset.version
            if version is not None:
                return version
    raise ConflictError(
        f"run {run.name} has no finished training stage", TRAINING_STAGES[0].start_hint(run.name)
    )


def chain(run: Run, data: Store, specs: ChainSpecs) -> Iterator[Task]:
    """Yield the run's tasks in order; each next one may be asked for when the last one is done.

    `specs` must name the dataset's version (see `ChainSpecs.pinned`).

    Raises:
        ConflictError: it was asked for before.
    """
    made: list[Task] = []
    for step in chain_steps():
        for _, spec in specs.of_step(step):
            task = make_task(run, data, step, spec, chosen=_among(made, step, spec))
            made.append(task)
            yield task


def _among(made: list[Task], step: Step, spec: Spec) -> dict[str, Chosen]:
    """Return which of the chain's earlier tasks serve as inputs of a step, by input."""
    return {
        item.name: Chosen(task.prefix, task.engine)
        for item in step.row.inputs
        for task in made
        if TaskName(task.prefix).folder == item.folder
        and item.wanted(spec).items() <= dict(task.spec).items()
    }


def reached(run: Run, data: Store, specs: ChainSpecs) -> Iterator[tuple[Task, bool]]:
    """Yield the run's tasks with whether they are done, up to the first that is not."""
    for task in chain(run, data, specs):
        done = task.is_done()
        yield task, done
        if not done:
            return
