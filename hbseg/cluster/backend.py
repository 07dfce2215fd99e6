"""The Kubernetes backend: each task is a job (`hbseg.cluster.kinds`) of one namespace.

The cluster says what runs, storage what was achieved. All objects of a run belong to its owner
(`hbseg.cluster.run_owner`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any

from hbseg.cluster import lease, run_owner
from hbseg.cluster.job_lifecycle import Jobs, checked
from hbseg.cluster.kinds import kind_of
from hbseg.cluster.kinds.job_names import job_name
from hbseg.cluster.objects import Object
from hbseg.cluster.observe.events import aggregated, is_about
from hbseg.cluster.observe.follow import TICK_SECONDS, Followed, Follower, merged_logs
from hbseg.cluster.observe.job_state import ended_condition, is_over, job_state, latest
from hbseg.cluster.observe.observer import TaskObserver
from hbseg.cluster.pods.states import has_started, name_of
from hbseg.cluster.pods.template import require_image
from hbseg.cluster.rendering.manifests import job_objects
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.informer import OUTAGE_SECONDS
from hbseg.cluster.requests.resources import CONFIG_MAP, EVENT
from hbseg.config.placement import Placement
from hbseg.errors import ConflictError, HbsegError, NotFoundError
from hbseg.exit_codes import StepExit
from hbseg.runs.attempts import latest_record
from hbseg.runs.backend import ENDED, JobState, Phase, RunEvent
from hbseg.runs.logs import stored_logs
from hbseg.runs.run import Run
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import step_of
from hbseg.runs.task import Task
from hbseg.storage.store import READERS


def _ignore(reason: str) -> None:
    del reason


class KubernetesBackend:
    """Runs tasks as jobs of one namespace of a cluster.

    While logs are followed, `tell` is called with the reason why a task has not started.
    """

    name = "kubernetes"

    def __init__(self, cluster: Cluster, *, tell: Callable[[str], None] = _ignore) -> None:
        self._cluster = cluster
        self._retrying = cluster.with_retry_timeout(OUTAGE_SECONDS)
        self._observer = TaskObserver(cluster)
        self._retrying_observer = TaskObserver(self._retrying)
        self._jobs = Jobs(cluster, self._observer)
        self._tell = tell

    @property
    def namespace(self) -> str:
        """The namespace that tasks run in."""
        return self._cluster.namespace

    def dry_run(self, call: StepCall, placement: Placement) -> list[dict[str, Any]]:
        """Return the objects of a step as the server would create them; nothing is created.

        Raises:
            SpecError: the profile names no image, or the cluster would break on a job.
            InvalidInput: the server or a webhook refuses one.
        """
        require_image(call.step, call.engine, placement)
        config_map, job = job_objects(call, placement, namespace=self.namespace)
        return [
            checked(self._cluster, CONFIG_MAP, config_map),
            checked(self._cluster, kind_of(job).resource, job),
        ]

    def submit(self, run: Run, task: Task, placement: Placement, *, data: str) -> JobState:
        """Start the task unless it already runs, and return its state.

        Raises:
            ConflictError: the task runs with another spec, or the run's name is another run's here.
            InvalidInput: the server or a webhook refuses the job.
            NotFinished: an ended job and its pods were not removed in time.
        """
        self._jobs.start(run, task, placement, data=data)
        return self.state(run, task.name)

    def spec_of(self, run: Run, task_name: str) -> Mapping[str, Any] | None:
        """Return the spec of the task's job; none if there is no job, or its spec was deleted."""
        job = self._observer.job(run, task_name)
        return None if job is None else self._jobs.spec_of(job)

    def state(self, run: Run, task_name: str) -> JobState:
        """Return the state of a task."""
        return _with_storage(run, task_name, job_state(self._observer.observe(run, task_name)))

    def snapshot(self, runs: Sequence[Run]) -> dict[str, dict[str, JobState]]:
        """Return the state of every task that the cluster knows, by run name and task name.

        However many runs and tasks there are, it lists each kind of object once, page by page.
        Storage is read only for tasks that run, and for those whose pods do not say how they
        failed; the attempt of others is 0 unless their pods record it.
        """
        if not runs:
            return {}
        snapshot = self._observer.snapshot(runs)
        observed = [
            (run, task_name, job_state(snapshot.observe(run, task_name)))
            for run in runs
            for task_name in snapshot.tasks(run)
        ]
        found: dict[str, dict[str, JobState]] = {run.name: {} for run in runs}
        for (run, task_name, _), state in zip(observed, _completed(observed), strict=True):
            found[run.name][task_name] = state
        return found

    def wait(self, run: Run, task_name: str, timeout: float | None = None) -> JobState:
        """Return the state when the task has ended, or its state after `timeout` seconds."""
        state = JobState(Phase.ABSENT)
        for state in self.changes(run, task_name, timeout):  # noqa: B007 - the last one counts
            pass
        if state.is_kept_alive:
            self._release(run, task_name)
        return _with_storage(run, task_name, state)

    def _release(self, run: Run, task_name: str) -> None:
        """Delete a job that sidecars alone keep alive, with what it holds: GPUs, a quota.

        Where that is not allowed the job stays, and its state still tells of it.
        """
        with suppress(HbsegError):
            observation = self._observer.observe(run, task_name)
            job = observation.job
            if job is not None and job_state(observation).is_kept_alive:
                resource, uid = kind_of(job).resource, job["metadata"]["uid"]
                self._cluster.delete(resource, name_of(job), uid=uid)

    def changes(self, run: Run, task_name: str, timeout: float | None = None) -> Iterator[JobState]:
        """Yield the state now and at each change, until the task has ended or `timeout` seconds.

        It waits through an outage of the API server of up to five minutes.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        last: JobState | None = None
        with self._observer.informer(run, task_name) as informer:
            while True:
                state = job_state(self._retrying_observer.observe_in(informer, run, task_name))
                if last is not None and state.phase == Phase.ABSENT:
                    state = _deleted(last)
                if state != last:
                    yield state
                last = state
                left = None if deadline is None else deadline - time.monotonic()
                over = state.phase in ENDED or state.phase == Phase.ABSENT
                if over or (left is not None and left <= 0):
                    return
                may_change = state.phase == Phase.PENDING or state.exit_code is not None
                tick = TICK_SECONDS if may_change else None
                informer.wait(min((t for t in (left, tick) if t is not None), default=None))

    def logs(
        self, run: Run, task_name: str, *, rank: int | None = None, follow: bool = False
    ) -> Iterator[str]:
        """Yield `<time> <text>` of the pods, `[rank] ` before the text of several ranks.

        With `follow` it waits while the task is pending, continues through restarts and outages,
        and ends with the job. Where the pods are gone, the logs come from storage.

        Raises:
            NotFoundError: there are no logs.
        """
        observation = self._observer.observe(run, task_name)
        job = observation.job
        if job is None:
            yield from stored_logs(run, task_name, rank)
        elif follow and not is_over(job):
            yield from self._followed(run, task_name, rank)
        else:
            yield from self._logs_now(run, task_name, rank, job, latest(observation.pods))

    def _logs_now(
        self, run: Run, task_name: str, rank: int | None, job: Object, pods: list[Any]
    ) -> Iterator[str]:
        started = [pod for pod in pods if has_started(pod)]
        complete = len(started) == len(pods) > 0
        if not complete or is_over(job):
            # a pod of a job that has ended may be gone, with its log; storage has every log
            with suppress(NotFoundError):
                yield from list(stored_logs(run, task_name, rank))
                return
        if not started:
            state = self.state(run, task_name)
            raise NotFoundError(
                f"{task_name} of run {run.name} has no log yet: {state.reason or state.phase}",
                f"follow it: hbseg logs {run.name} -f",
            )
        yield from merged_logs(self._cluster, job, started, rank)

    def _followed(self, run: Run, task_name: str, rank: int | None) -> Iterator[str]:
        followed = Followed(
            run,
            task_name,
            rank,
            observe=lambda informer: self._retrying_observer.observe_in(informer, run, task_name),
            tell=self._tell,
        )
        follower = Follower(self._retrying, followed)
        with self._observer.informer(run, task_name, follower.changed) as informer:
            yield from follower.lines(informer)

    def cancel(self, run: Run, task_name: str) -> bool:
        """Stop a task and wait until its pods are gone; return whether it was running.

        A task that has ended and is kept alive is removed, too.

        Raises:
            NotFinished: its pods were not removed in time.
        """
        observation = self._observer.observe(run, task_name)
        job = observation.job
        if job is None and not observation.pods:
            return False
        if job is not None and ended_condition(job) is not None:
            return False
        was_running = not job_state(observation).is_kept_alive
        if was_running:
            run_owner.record_cancel(self._cluster, run, task_name)
        self._jobs.remove(run, task_name, job)
        return was_running

    def tasks(self, run: Run) -> list[str]:
        """Return the names of the run's tasks that the cluster knows, sorted."""
        return self._observer.snapshot([run]).tasks(run)

    def exclusive(self, run: Run) -> AbstractContextManager[Callable[[], None]]:
        """Hold the run's Lease while the context is open. Raises ConflictError."""
        return lease.held(self._cluster, run.name)

    def events(self, run: Run) -> list[RunEvent]:
        """Return the events of the run's jobs and their pods, oldest first."""
        jobs = [job for _, job in self._observer.snapshot([run]).jobs(run)]
        prefixes = set(run.read().steps)
        names = {name_of(job) for job in jobs} | {job_name(run.name, p) for p in prefixes}
        found = [event for event in self._cluster.list(EVENT) if is_about(event, names)]
        return aggregated(found)

    def forget(self, run: Run) -> None:
        """Remove everything of a run from the cluster, and return when its pods are gone.

        Raises:
            ConflictError: one of its tasks runs.
            NotFinished: pods of an ended task were not removed in time.
        """
        snapshot = self._observer.snapshot([run])
        jobs = snapshot.jobs(run)
        for task_name, job in jobs:
            if not is_over(job) and not job_state(snapshot.observe(run, task_name)).is_kept_alive:
                raise ConflictError(
                    f"{task_name} of run {run.name} is running", f"run: hbseg cancel {run.name}"
                )
        owner = snapshot.run_owner(run)
        for task_name, job in jobs:
            self._jobs.remove(run, task_name, job)
        if owner is None:
            return
        for task_name in self._observer.snapshot([run]).tasks_with_pods(run):
            self._jobs.remove(run, task_name, None)
        self._cluster.delete(CONFIG_MAP, name_of(owner), uid=owner["metadata"]["uid"])


def _deleted(last: JobState) -> JobState:
    """Return how a task ended whose job was deleted: cancelled, unless it had ended before."""
    if last.exit_code is None:
        return JobState(Phase.CANCELLED, 0, StepExit.TERMINATED, "its job was deleted")
    return replace(last, phase=Phase.FAILED if last.exit_code else Phase.SUCCEEDED)


def _lacks(state: JobState) -> bool:
    """Return whether storage has to add the attempt of a running task, or why a task failed."""
    return state.phase == Phase.RUNNING or (state.phase == Phase.FAILED and state.exit_code is None)


def _completed(observed: Sequence[tuple[Run, str, JobState]]) -> Iterator[JobState]:
    """Yield the states with what storage has to add; several are looked up at a time."""
    from concurrent.futures import ThreadPoolExecutor

    def completed(item: tuple[Run, str, JobState]) -> JobState:
        run, task_name, state = item
        return _with_storage(run, task_name, state) if _lacks(state) else state

    with ThreadPoolExecutor(READERS, thread_name_prefix="attempt") as readers:
        yield from readers.map(completed, observed)


def _with_storage(run: Run, task_name: str, state: JobState) -> JobState:
    """Return the state with what only storage knows: the attempt, perhaps the root cause."""
    known = bool(state.attempt and state.exit_code is not None)
    if known or state.phase in (Phase.ABSENT, Phase.PENDING):
        return state
    with suppress(HbsegError):
        record = latest_record(run, step_of(task_name), task_name)
        if record is None:
            return state
        if state.phase == Phase.RUNNING and record.result is not None:
            return state  # that was an earlier attempt; the one that runs has no number yet
        state = replace(state, attempt=state.attempt or record.number)
        result = record.result
        if state.phase == Phase.FAILED and state.exit_code is None and result is not None:
            return replace(state, exit_code=result.code, reason=result.reason or state.reason)
    return state
