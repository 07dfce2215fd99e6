"""What all entry points share: arguments in, documented exit codes out.

A step is started as `python -m hbseg_jobs.<step> --spec FILE --spec-hash HASH ...`, by torchrun
where it trains. It verifies the spec's hash, does its work, and writes its marker last. A failure
is one line on stderr and a JSON record in the folder `HBSEG_FAILURES`, one file for each rank; the
launcher takes the earliest for the root cause.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeVar

from hbseg.config.specs import Spec, TrainSpec
from hbseg.data.places import version_folder
from hbseg.documents import load_yaml
from hbseg.errors import HbsegError, PeerLost, SpecError, Terminated, VersionError
from hbseg.exit_codes import StepExit
from hbseg.runs.chain_specs import pinned
from hbseg.runs.progress import Heartbeat
from hbseg.runs.run import Run
from hbseg.runs.steps import Step, step_named
from hbseg.runs.task import Input, Task
from hbseg.storage.files import disk_full
from hbseg.storage.markers import Marker, write_marker
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from hbseg.system.parent_death import die_with
from hbseg.system.startup import gc_paused, skip_gc_at_exit

Kind = TypeVar("Kind", bound=Spec)

SAME_VERSION = "submit with the same hbseg version as the image's"

_SPECS: Mapping[str, type[Spec]] = {step.row.spec.__name__: step.row.spec for step in Step}
"""The specs of the table, by their kind."""


@dataclass(frozen=True)
class StepContext:
    """All that a step is given."""

    task: Task
    run: Run
    data: Store
    """Folder of the datasets."""
    work: Path
    """Local folder of this task, kept between attempts; may be empty at any start."""
    attempt: int
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    """Where the step says how far it is."""

    def spec(self, kind: type[Kind]) -> Kind:
        """Return the spec. Raises SpecError where it is of another kind."""
        spec = self.task.spec
        if not isinstance(spec, kind):
            raise SpecError(
                f"step {self.task.step} was given {type(spec).__name__}, expected {kind.__name__}"
            )
        return spec

    def input(self, name: str) -> Store:
        """Return the folder of an input."""
        for item in self.task.inputs:
            if item.name == name:
                return item.folder
        raise SpecError(f"step {self.task.step} was started without --input {name}=URL")

    def finish(
        self,
        outputs: Mapping[str, str],
        *,
        records: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> Marker:
        """Write the marker; `outputs` and `records` are keys in the task's folder: sha256.

        `inputs` are the digests as they were when the step read them; default: as they are now.
        """
        return write_marker(
            self.task.folder,
            step=self.task.step,
            spec_hash=self.task.spec.digest(),
            inputs=self.task.input_digests() if inputs is None else inputs,
            outputs=outputs,
            records=records,
            metrics=metrics,
        )


def run_step(
    work: Callable[[StepContext], None], arguments: Sequence[str] | None = None
) -> NoReturn:
    """Do `work` and exit with its documented code."""
    die_with(os.getppid())  # or an orphan would train on
    skip_gc_at_exit()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A line in one write: unbuffered, its end would come after another rank's line.
            stream.reconfigure(line_buffering=True, write_through=False)
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        context = context_of(arguments)
        work(context)
        context.heartbeat.flush()
    except HbsegError as error:
        _fail(error.step_exit_code, str(error), peer_lost=isinstance(error, PeerLost))
    except OSError as error:
        full = disk_full(error, Path(error.filename) if error.filename else Path.cwd())
        if full is None:
            _bug(error)
        _fail(full.step_exit_code, str(full))
    except Exception as error:
        _bug(error)
    sys.exit(0)


@contextmanager
def libraries() -> Iterator[None]:
    """Return a context in which a step's `work` loads large libraries.

    They are loaded in `work`, when the process is tied to its parent already: it takes seconds, in
    which a parent that dies would leave an orphan that works on. No garbage is searched meanwhile,
    and SIGTERM ends the process: an import might catch what the signal raises elsewhere, and there
    is nothing to keep yet.
    """
    if signal.getsignal(signal.SIGTERM) is not _raise_terminated:
        yield  # `run_step` did not start this: the process is not ours
        return
    signal.signal(signal.SIGTERM, _end_terminated)
    try:
        with gc_paused():
            yield
    finally:
        signal.signal(signal.SIGTERM, _raise_terminated)


def context_of(arguments: Sequence[str] | None) -> StepContext:
    """Return the context that command-line `arguments` describe.

    A training's spec without a dataset version (from a dry run, which reads no storage) gets the
    current one here.

    Raises:
        SpecError: the spec is not valid or its hash is not the one that was submitted.
        NotFoundError: it names no dataset version, and there is none.
    """
    parser = argparse.ArgumentParser(description="One step of an hbseg run.")
    parser.add_argument("--step", required=True, choices=[step.value for step in Step])
    parser.add_argument("--spec", required=True, type=Path, help="file with the spec")
    parser.add_argument("--spec-hash", required=True, help="digest that the spec must have")
    parser.add_argument("--run-name", required=True, help="name of the run")
    parser.add_argument("--runs", required=True, help="URL of the runs")
    parser.add_argument("--data", required=True, help="URL of the datasets")
    parser.add_argument("--prefix", required=True, help="folder of the outputs in the run")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=URL")
    parser.add_argument("--work", required=True, type=Path, help="local folder for files")
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--raw", metavar="URL", help="raw set, for the step prepare")
    parser.add_argument("--skip-bad", action="store_true", help="leave out pictures with errors")
    options = parser.parse_args(arguments)
    run, data = Run(open_store(options.runs), options.run_name), open_store(options.data)
    spec = read_spec(options.spec, options.spec_hash)
    urls = dict(item.split("=", 1) for item in options.input if "=" in item)
    if isinstance(spec, TrainSpec) and spec.dataset.version is None:
        spec = pinned(spec, data)
        urls.setdefault("dataset", version_folder(data, str(spec.dataset.version)).url)
    task = Task(
        step=step_named(options.step),
        spec=spec,
        folder=run.folder.folder(options.prefix),
        prefix=options.prefix,
        inputs=tuple(Input(name, open_store(url)) for name, url in urls.items()),
        raw=options.raw,
        skip_bad=options.skip_bad,
    )
    options.work.mkdir(parents=True, exist_ok=True)
    return StepContext(
        task=task,
        run=run,
        data=data,
        work=options.work,
        attempt=options.attempt,
        heartbeat=Heartbeat.of_environment(),
    )


def read_spec(path: Path, expected_hash: str) -> Spec:
    """Return the spec in a file.

    Raises:
        SpecError: unreadable, of an unknown kind, or with another digest than `expected_hash`.
    """
    try:
        data = load_yaml(path.read_bytes(), source=str(path))
    except OSError as error:
        raise SpecError(f"spec {path} is not readable: {error.strerror}") from None
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in _SPECS:
        raise SpecError(f"{path}: kind is {kind!r}, expected one of {', '.join(_SPECS)}")
    try:
        spec = _SPECS[kind].from_mapping(data, source=str(path))
    except (SpecError, VersionError) as error:
        raise SpecError(error.message, SAME_VERSION) from None
    if spec.digest() != expected_hash:
        raise SpecError(
            f"spec {path} has digest {spec.digest()[:12]}, submitted was {expected_hash[:12]}",
            SAME_VERSION,
        )
    return spec


def _raise_terminated(signum: int, frame: object) -> None:
    raise Terminated("ended by SIGTERM")


def _end_terminated(signum: int, frame: object) -> None:
    _fail(StepExit.TERMINATED, "ended by SIGTERM")


def _bug(error: BaseException) -> NoReturn:
    traceback.print_exc()
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    _fail(StepExit.BUG, f"bug: {type(error).__name__} at {place}: {error}")


def _fail(code: int, reason: str, *, peer_lost: bool = False) -> NoReturn:
    rank = os.environ.get("RANK", "0")
    reason = " ".join(reason.split())[:2000]
    print(f"error: {reason}", file=sys.stderr, flush=True)
    folder = os.environ.get("HBSEG_FAILURES")
    if folder:
        record = {
            "code": code,
            "reason": reason,
            "rank": int(rank),
            "time": time.time(),
            "peer_lost": peer_lost,
        }
        with suppress(OSError):  # on a disk that is full the code alone has to do
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{rank}.json").write_text(json.dumps(record))
    sys.stdout.flush()
    # Peers may hang in a collective and native threads may hold on: leave without waiting.
    os._exit(code)
