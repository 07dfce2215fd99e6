"""A team whose steps are fakes (tests/integration/fakes) that do what a drill tells them."""

from __future__ import annotations

import json
from collections.abc import Callable

from hbseg.storage.markers import write_marker
from hbseg.storage.opening import open_store
from tests.cluster.cluster import until
from tests.cluster.team import Team

VERSION = "0123456789abcdef"
TRAIN = ("submit-train", "--stage", "1", "--run", "drill", "--set", f"dataset.version={VERSION}")
PREPARE = ("data", "prepare", "s3://bucket/raw", "--run", "drill")


def crew_of(team: Team) -> Team:
    """Return the team with a dataset's marker, and with fake steps that end well."""
    folder = open_store(f"{team.url}/data").folder(f"versions/{VERSION}")
    write_marker(folder, step="prepare", spec_hash="x", inputs={}, outputs={})
    return team.faking("{}")


def fake(crew: Team, **behaviours: list[str]) -> Team:
    return crew.faking(json.dumps(behaviours))


def row(crew: Team, step: str = "stage1") -> dict[str, object]:
    """Return what `status` tells of a step."""
    told = json.loads(crew.hbseg("status", "drill", "-o", "json").stdout)
    return next(item for item in told["tasks"] if item["step"] == step)


def until_row(crew: Team, holds: Callable[[dict[str, object]], bool], what: str) -> None:
    until(lambda: holds(row(crew)), what)


def is_gone(crew: Team, kind: str) -> bool:
    return crew.namespace.kubectl("get", kind, "-o", "name", "-l", "hbseg.io/run=drill") == ""
