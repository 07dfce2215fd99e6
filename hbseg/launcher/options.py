"""What a launcher is given: its command line, and of a pod its environment."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from hbseg.config.placement import Placement
from hbseg.config.specs import TrainSpec
from hbseg.errors import HbsegError, SpecError
from hbseg.runs.chain_specs import pinned
from hbseg.runs.node import node_index
from hbseg.runs.run import Run
from hbseg.runs.steps import Step, TaskName, step_named
from hbseg.storage.markers import read_marker
from hbseg.storage.opening import open_store

GRACE = 30.0
"""Seconds from SIGTERM to SIGKILL of the launcher, unless it is told otherwise."""
KEPT_BACK_SECONDS = 5.0
"""Of the grace, for the launcher itself after the step; torchrun keeps as much back for itself."""


@dataclass(frozen=True)
class Launch:
    """One step of one run, to be executed here."""

    job: Path
    """The job's folder."""
    module: str
    """Module of the step, started as `python -m`."""
    arguments: tuple[str, ...]
    """Arguments of the step, without `--attempt`."""
    step: Step
    run: Run
    prefix: str
    """The task's folder in the run."""
    placement: Placement
    spec_hash: str
    """Digest of the spec that was submitted."""
    spec: Path
    """File with it."""
    data: str
    """URL of the datasets."""
    work: Path
    """The step's local folder."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name of each input: URL of its folder."""
    in_pod: bool = False
    """Whether an operator starts the launcher again: it makes one attempt."""
    grace: float = GRACE
    """Seconds from SIGTERM to SIGKILL of the launcher."""
    node: int = 0
    """Number of this node among those of the step, from 0."""

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(TaskName(self.prefix))

    @property
    def stop_seconds(self) -> float:
        """From SIGTERM to SIGKILL of the step."""
        return max(1.0, self.grace - KEPT_BACK_SECONDS)

    @property
    def trains(self) -> bool:
        """Whether torchrun starts the step."""
        return self.step.row.torchrun

    @property
    def is_gang(self) -> bool:
        """Whether the step's nodes can only go on together."""
        return self.trains and self.placement.nodes > 1

    @property
    def is_shared(self) -> bool:
        """Whether nodes share the step out, each with an end of its own."""
        return self.step.row.shared and self.placement.nodes > 1

    def is_done(self) -> bool:
        """Return whether the step's marker is there and fits spec and inputs as they are now.

        Never for a step that repeats: its marker does not know all that it reads.
        """
        if self.step.row.repeats:
            return False
        try:
            marker = read_marker(self.run.folder.folder(self.prefix))
            if marker.spec_hash not in (self.spec_hash, self._pinned_hash()):
                return False
            return all(
                marker.inputs.get(name) == read_marker(open_store(url)).digest
                for name, url in self.inputs.items()
            )
        except HbsegError:
            return False

    def _pinned_hash(self) -> str | None:
        """Return the digest of a training's spec as the step pins it, where it had to."""
        if self.step.row.spec is not TrainSpec or not self.spec.is_file():
            return None
        spec = TrainSpec.from_text(self.spec.read_bytes(), source=str(self.spec))
        if spec.dataset.version is not None:
            return None
        return pinned(spec, open_store(self.data)).digest()


@dataclass(frozen=True)
class Options:
    """The launcher's command line, nothing opened yet."""

    job: Path
    in_pod: bool
    claimed: bool
    """Whether to start only if `job.json` names this process."""
    given: argparse.Namespace
    step: argparse.Namespace

    def launch(self) -> Launch:
        """Return what the options describe.

        Raises:
            HbsegError: storage is not reachable, or a name, a URL, the placement or HBSEG_NODE is
                not valid.
        """
        return Launch(
            job=self.job,
            module=self.given.module,
            arguments=tuple(self.given.step_arguments),
            step=step_named(self.step.step),
            run=Run(open_store(self.step.runs), self.step.run_name),
            prefix=self.step.prefix,
            placement=_placement(self.given.placement),
            spec_hash=self.step.spec_hash,
            spec=self.step.spec,
            data=self.step.data,
            work=self.step.work,
            inputs=dict(item.split("=", 1) for item in self.step.input if "=" in item),
            in_pod=self.in_pod,
            grace=self.given.grace,
            node=node_index() if self.in_pod else 0,
        )


def options_of(arguments: Sequence[str] | None) -> Options:
    """Return what the command line says; one that is not valid ends the process with code 2."""
    parser = argparse.ArgumentParser(description="The launcher around one step of an hbseg run.")
    parser.add_argument("--job", required=True, type=Path, help="folder of the job")
    parser.add_argument("--module", required=True, help="module of the step")
    parser.add_argument("--placement", required=True, help="placement as JSON")
    parser.add_argument(
        "--claimed", action="store_true", help="start only if job.json names this process"
    )
    parser.add_argument(
        "--in-pod", action="store_true", help="make one attempt; an operator starts it again"
    )
    parser.add_argument(
        "--grace", type=float, default=GRACE, help="seconds from SIGTERM to SIGKILL"
    )
    parser.add_argument("step_arguments", nargs="+", metavar="-- ARGUMENT", help="for the step")
    given = parser.parse_args(arguments)
    known = argparse.ArgumentParser(add_help=False)
    for name in ("step", "run-name", "runs", "data", "prefix", "spec-hash"):
        known.add_argument(f"--{name}", required=True)
    for name in ("spec", "work"):
        known.add_argument(f"--{name}", required=True, type=Path)
    known.add_argument("--input", action="append", default=[])
    step, _ = known.parse_known_args(given.step_arguments)
    return Options(given.job, given.in_pod, given.claimed, given, step)


def _placement(text: str) -> Placement:
    try:
        return Placement.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(
            f"--placement: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            "submit with the same hbseg version as the image's",
        ) from None
