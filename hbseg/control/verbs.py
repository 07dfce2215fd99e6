"""What people do with steps and runs, on any backend: submit, wait, follow, cancel, delete.

The command line, a web page and a notebook call the same functions. They print nothing: `tell` gets
a line for a person where there is something to say before the end.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass

from hbseg.config.placement import Placement
from hbseg.config.specs import Spec
from hbseg.control.pipeline import Started, failure_of, start_task, unfinished
from hbseg.control.waiting import Tell, ended_state, say_nothing, wait_for_start
from hbseg.errors import ConflictError, HbsegError, NotFinished, NotFoundError
from hbseg.runs.attempts import summary_problem
from hbseg.runs.backend import ACTIVE, Backend, JobState, Phase
from hbseg.runs.chain import make_task
from hbseg.runs.chain_specs import pinned
from hbseg.runs.run import AT_WORK, CLAIM, Run, RunClaim, place_flags
from hbseg.runs.states import TaskState
from hbseg.runs.steps import Step, TaskName, is_step, step_of
from hbseg.runs.task import Task
from hbseg.storage.markers import MARKER
from hbseg.storage.store import Store
from hbseg.system.user import current_user


@dataclass(frozen=True)
class Submitted:
    """A task that was submitted."""

    run: Run
    task: Task
    outcome: Started
    state: JobState
    """Of the task, right after the submit."""
    placement: Placement


def submit(
    backend: Backend,
    run: Run,
    data: Store,
    step: Step,
    spec: Spec,
    placement: Placement,
    *,
    raw: Store | None = None,
    skip_bad: bool = False,
    engine: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    again: bool = False,
    tell: Tell = say_nothing,
) -> Submitted:
    """Start a step of a run unless it is done or running.

    A training without a dataset version gets the current one. The run is claimed in the user's
    name, and its summary gets the step's state.

    Args:
        backend: where it runs.
        run: the run.
        data: folder of the datasets.
        step: the step.
        spec: its spec.
        placement: with what it runs.
        raw: raw set, for the step prepare.
        skip_bad: whether the step prepare leaves pictures with errors out.
        engine: kind of the run's engine that the step runs; none: the latest of any kind.
        device: GPU model that the engine is for; none: any.
        precision: of the engine's arithmetic; none: any.
        again: whether it starts though it is done.
        tell: gets a warning where the run's summary cannot be written.

    Raises:
        ConflictError: an input is not finished, the task runs with another spec, or the run is
            somebody else's.
        SpecError: its engine needs a GPU, and the place has none.
        HbsegError: the backend refuses it, or storage does not answer.
    """
    task = make_task(
        run,
        data,
        step,
        pinned(spec, data),
        engine=engine,
        device=device,
        precision=precision,
        raw=raw,
        skip_bad=skip_bad,
    )
    run.claim(data=data.url, namespace=backend.namespace)
    outcome, state = start_task(backend, run, task, placement, data=data, again=again)
    if outcome == Started.DONE:
        _summarise(run, task, TaskState.DONE, tell)
    return Submitted(run, task, outcome, state, placement)


def wait(
    backend: Backend,
    submitted: Submitted,
    *,
    tell: Tell = say_nothing,
    line: Tell | None = None,
) -> JobState:
    """Return the state of a submitted task at its end.

    Args:
        backend: where it runs.
        submitted: the task.
        tell: gets each reason for which it waits for its start.
        line: gets each line of its logs; none: they are not followed.

    Raises:
        NotFinished: it did not start within the placement's `pending_timeout`.
        StepFailed, Cancelled: it ended otherwise than well, or left no marker.
    """
    run, task = submitted.run, submitted.task
    if submitted.outcome == Started.DONE:
        return submitted.state
    joined = submitted.outcome == Started.RUNNING
    try:
        limit = submitted.placement.pending_timeout
        wait_for_start(
            backend, run, task, limit, joined=joined, tell=lambda reason: tell(f"waits: {reason}")
        )
    except NotFinished:
        if not joined:
            _summarise(run, task, TaskState.CANCELLED, tell)
        raise
    if line is not None:
        with suppress(NotFoundError):  # it was cancelled before it wrote any
            for text in backend.logs(run, task.name, follow=True):
                line(text)
    state = backend.wait(run, task.name)
    if state.phase != Phase.SUCCEEDED:
        _summarise(run, task, ended_state(state.phase), tell)
        raise failure_of(run, task, state)
    if not task.is_done():
        raise unfinished(run, task)
    _summarise(run, task, TaskState.DONE, tell)
    if state.is_kept_alive:
        tell(f"warning: {task.prefix}: {state.reason}")
    return state


def _summarise(run: Run, task: Task, state: TaskState, tell: Tell) -> None:
    if problem := summary_problem(run, {task.prefix: state.value}):
        tell(problem)


def held_claim(run: Run) -> RunClaim | None:
    """Return the run's claim; none where it has no owner yet."""
    return run.read() if run.folder.exists(CLAIM) else None


def active_tasks(backend: Backend, run: Run, *, owner: str | None = None) -> list[str]:
    """Return the names of a run's tasks that may be stopped: pending, running, or kept alive.

    `owner` is whose run it is; none: the user's.

    Raises:
        ConflictError: the run is somebody else's; or nothing of it is at work here, and it belongs
            to another namespace.
    """
    claim = run.read()
    check_owner(claim, owner)
    active = _active(backend, run)
    if not active:
        check_namespace(claim, backend)
    return active


def _active(backend: Backend, run: Run) -> list[str]:
    return [name for name, state in backend.snapshot([run])[run.name].items() if _is_active(state)]


def _is_active(state: JobState) -> bool:
    """Return whether a task is at work, or may be as far as this version can tell."""
    return state.phase in (*ACTIVE, Phase.UNKNOWN) or state.is_kept_alive


def cancel(
    backend: Backend,
    run: Run,
    names: list[str],
    *,
    owner: str | None = None,
    tell: Tell = say_nothing,
) -> None:
    """Stop tasks of a run, and note it in the run's summary; `tell` gets a line for each.

    Submitting again resumes from the last checkpoint. `owner` is whose run it is; none: the user's.

    Raises:
        ConflictError: the run is somebody else's.
        HbsegError: a task could not be stopped; the others were.
    """
    claim = run.read()
    check_owner(claim, owner)
    known = backend.snapshot([run])[run.name]
    active = {name for name, state in known.items() if _is_active(state)}
    stopped: list[str] = []
    missed: HbsegError | None = None
    for name in names:
        try:
            if backend.cancel(run, name):
                stopped.append(name)
                tell(f"{name} cancelled")
            elif name in known and known[name].is_kept_alive:
                tell(f"{name} had ended already; its job is deleted")
        except HbsegError as error:
            tell(f"{name} not cancelled: {error}")
            missed = missed or error
    prefixes = [TaskName.parse(name).prefix for name in stopped]
    if claim.namespace == backend.namespace:
        # also what an execution that was lost has left in the summary
        prefixes += [
            prefix
            for prefix, state in claim.steps.items()
            if state in AT_WORK and str(TaskName(prefix)) not in active.difference(stopped)
        ]
    states = dict.fromkeys(prefixes, TaskState.CANCELLED.value)
    if states and (problem := summary_problem(run, states)):
        tell(problem)
    if missed is not None:
        raise missed


def tasks_for_logs(backend: Backend, run: Run, step: Step | None = None) -> list[str]:
    """Return the names of the tasks whose logs a person wants: of a step, all.

    Without a step it is the one that runs, or is pending, or failed, or else the latest.

    Raises:
        NotFoundError: there is none.
    """
    claim = run.read()
    found = dict.fromkeys([*map(str, map(TaskName, claim.steps)), *backend.tasks(run)])
    names = [name for name in found if is_step(name) and step in (None, step_of(name))]
    if not names:
        raise NotFoundError(
            f"run {run.name} has no logs" + (f" of {step}" if step else ""),
            f"see: hbseg status {run.name}",
        )
    if step is not None:
        return names
    known = backend.snapshot([run])[run.name]
    for phase in (Phase.RUNNING, Phase.PENDING, Phase.FAILED):
        chosen = [name for name in names if name in known and known[name].phase == phase]
        if chosen:
            return chosen[-1:]
    return names[-1:]


@dataclass(frozen=True)
class Holdings:
    """What a run has in storage."""

    claim: RunClaim
    objects: int
    bytes: int


def deletable(backend: Backend, run: Run, *, owner: str | None = None) -> Holdings:
    """Return what a deletion of a run would remove from storage.

    `owner` is whose run it is; none: the user's.

    Raises:
        ConflictError: the run is somebody else's or belongs to another namespace, or is recorded as
            active and this cluster does not know its job.
    """
    claim = run.read()
    check_owner(claim, owner)
    check_namespace(claim, backend)
    _check_known(claim, backend.tasks(run))
    sizes = [entry.size for entry in run.folder.list()]
    return Holdings(claim, len(sizes), sum(sizes))


def delete(backend: Backend, run: Run, *, owner: str | None = None) -> None:
    """Delete a run with all its results (see `deletable`).

    Raises:
        ConflictError: as `deletable`; or one of its tasks is running, or another pipeline holds
            the run.
    """
    claim = run.read()
    check_owner(claim, owner)
    check_namespace(claim, backend)
    _check_known(claim, backend.tasks(run))
    with backend.exclusive(run):
        backend.forget(run)
        # listed when nothing writes any more
        entries = list(run.folder.list())
        # markers first, so that no half of a result looks whole; the claim last, so that the
        # same command can finish what was cut off
        for key in sorted(
            (entry.key for entry in entries),
            key=lambda key: (key == CLAIM, not key.endswith(MARKER), key),
        ):
            run.folder.delete(key)


def check_owner(claim: RunClaim, owner: str | None = None) -> None:
    """Refuse to stop or delete another user's run, unless `owner` names that user.

    Raises:
        ConflictError: the run is somebody else's.
    """
    user = owner or current_user()
    if claim.owner != user:
        raise ConflictError(
            f"run {claim.name} belongs to {claim.owner}, not to {user}",
            f"to do it all the same, give --owner {shlex.quote(claim.owner)}",
        )


def check_namespace(claim: RunClaim, backend: Backend) -> None:
    """Refuse to act on a run from another namespace than its own. Raises ConflictError."""
    if claim.namespace == backend.namespace:
        return
    flags = place_flags(claim.namespace, here=backend.namespace)
    raise ConflictError(
        f"run {claim.name} belongs to namespace {claim.namespace}; you are using "
        f"{backend.namespace}",
        f"give {flags}",
    )


def _check_known(claim: RunClaim, tasks: list[str]) -> None:
    """Refuse to delete what another cluster may be at work on. Raises ConflictError."""
    for prefix, state in claim.steps.items():
        if state in AT_WORK and str(TaskName(prefix)) not in tasks:
            raise ConflictError(
                f"{prefix} of run {claim.name} is recorded as {state}, but {claim.namespace} has "
                "no such job",
                f"give the right --context; if it was lost, first: hbseg cancel {claim.name}",
            )
