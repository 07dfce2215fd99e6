"""What a submit of a run's chain would change; nothing is started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hbseg.config.changes import spec_changes
from hbseg.config.specs import Spec
from hbseg.documents import load_yaml
from hbseg.errors import ContractError, HbsegError, NotFoundError
from hbseg.runs.backend import ACTIVE, Backend, Phase
from hbseg.runs.chain import reached
from hbseg.runs.chain_specs import ChainSpecs, chain_steps
from hbseg.runs.run import Run
from hbseg.runs.steps import Folder, Step, TaskName
from hbseg.runs.task import Task
from hbseg.storage.markers import MARKER, Marker, read_marker
from hbseg.storage.store import Store


class Change(StrEnum):
    """What a submit would do with a step."""

    UNCHANGED = "unchanged"
    """It is done and up to date."""
    RUNNING = "running"
    """It runs with this spec already."""
    NEW = "new"
    """Nothing of it is there."""
    UNFINISHED = "unfinished"
    """It was begun and resumes from there, as far as its spec and inputs are the same."""
    CHANGED = "changed"
    """It is made again: its spec or its inputs are others."""
    FOLLOWS = "follows"
    """It is made again if a step before it comes out otherwise."""


@dataclass(frozen=True)
class StepDiff:
    """What a submit would do with one step of a run."""

    step: Step
    prefix: str | None
    """The step's folder in the run; none where it depends on what a step before it makes."""
    change: Change
    details: tuple[str, ...] = ()
    """`run.epochs: 3 -> 5` for each value of the spec that differs, and words on inputs."""


def run_diff(backend: Backend, run: Run, data: Store, specs: ChainSpecs) -> list[StepDiff]:
    """Return what a submit of the whole chain would change, in its order.

    Raises:
        NotFoundError: there is no dataset.
    """
    specs = specs.pinned(data)
    known = set(backend.tasks(run))
    diffs = [
        StepDiff(task.step, task.prefix, Change.UNCHANGED)
        if done
        else _of_task(backend, run, task, runs=task.name in known)
        for task, done in reached(run, data, specs)
    ]
    return [*diffs, *_rest(run, specs, diffs)]


def _of_task(backend: Backend, run: Run, task: Task, *, runs: bool) -> StepDiff:
    def diff(change: Change, *details: str) -> StepDiff:
        return StepDiff(task.step, task.prefix, change, details)

    phase = backend.state(run, task.name).phase if runs else Phase.ABSENT
    last = backend.spec_of(run, task.name) if runs else None
    if phase in ACTIVE:
        changes = spec_changes(last or {}, task.spec.to_mapping()) if last else []
        if changes:
            return diff(Change.CHANGED, *changes, f"it is {phase} with the old values")
        return diff(Change.RUNNING)
    old, marker = _read_spec(task.folder) or last, _marker(task.folder)
    changes = [] if old is None else spec_changes(old, task.spec.to_mapping())
    if marker is not None:
        return diff(Change.CHANGED, *(changes or _other_inputs(task, marker)))
    if old is None:
        return diff(Change.NEW)
    return diff(Change.CHANGED if changes else Change.UNFINISHED, *changes)


def _read_spec(folder: Store) -> Mapping[str, Any] | None:
    """Return the spec that a training has left in storage; none of other steps."""
    with suppress(NotFoundError, HbsegError):
        loaded = load_yaml(folder.get("spec.yaml"), source=f"{folder.url}/spec.yaml")
        return loaded if isinstance(loaded, Mapping) else None
    return None


def _marker(folder: Store) -> Marker | None:
    with suppress(NotFoundError, ContractError):
        return read_marker(folder)
    return None


def _other_inputs(task: Task, marker: Marker) -> tuple[str, ...]:
    """Return which inputs are others than those that a marker names."""
    if marker.spec_hash != task.spec.digest():
        return ("another spec",)
    now = {}
    for item in task.inputs:
        with suppress(NotFoundError, ContractError):
            now[item.name] = item.digest()
    return tuple(
        f"input {name} was replaced"
        for name in marker.inputs
        if marker.inputs[name] != now.get(name)
    )


def _rest(run: Run, specs: ChainSpecs, diffs: list[StepDiff]) -> Iterator[StepDiff]:
    """Yield the steps that the chain has not reached: their inputs are not known yet."""
    met = {TaskName(diff.prefix).folder for diff in diffs if diff.prefix is not None}
    for step in chain_steps():
        for folder, spec in specs.of_step(step):
            if folder.name not in met:
                met.add(folder.name)
                yield _not_reached(run, step, folder, spec)


def _not_reached(run: Run, step: Step, made: Folder, spec: Spec) -> StepDiff:
    if made.key is not None:
        there = any(True for _ in run.folder.list_folders(made.name))
        return StepDiff(step, None, Change.FOLLOWS if there else Change.NEW)
    folder = run.folder.folder(made.name)
    if not folder.exists(MARKER):
        return StepDiff(step, made.name, Change.NEW)
    old = _read_spec(folder)
    changes = () if old is None else tuple(spec_changes(old, spec.to_mapping()))
    return StepDiff(step, made.name, Change.CHANGED if changes else Change.FOLLOWS, changes)
