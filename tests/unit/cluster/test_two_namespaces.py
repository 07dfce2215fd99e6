"""Two namespaces that share a folder of runs: what one may do with a run that the other holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hbseg.cluster.backend import KubernetesBackend
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile
from hbseg.config.specs import PrepareSpec, TrainSpec
from hbseg.control import verbs
from hbseg.control.backends import open_backend
from hbseg.control.diff import run_diff
from hbseg.control.events import run_events
from hbseg.control.pipeline import Pipeline
from hbseg.control.prepare import prepare_first
from hbseg.control.specs import chain_specs
from hbseg.control.status import statuses
from hbseg.data.places import version_folder
from hbseg.errors import ConflictError, InvalidInput
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.markers import write_marker
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from tests.unit.cluster.conftest import connect
from tests.unit.cluster.fake_api import FakeApi

VERSION = "0123456789abcdef"
SPEC = TrainSpec.from_mapping({"model": {}, "dataset": {"version": VERSION}}, source="x")
CHAIN = chain_specs(settings=[f"stage{n}.dataset.version={VERSION}" for n in (1, 2)])
PLACEMENT = Placement(cluster=ClusterProfile(image="images.example/hbseg-train:1"))


@dataclass(frozen=True)
class Member:
    """Somebody who works on the run `main` in a namespace of their own."""

    api: FakeApi
    backend: KubernetesBackend
    run: Run
    data: Store

    def submit(self) -> object:
        return verbs.submit(self.backend, self.run, self.data, Step.STAGE1, SPEC, PLACEMENT)

    def prepare(self) -> object:
        raw = self.data.folder("raw")
        return verbs.submit(
            self.backend, self.run, self.data, Step.PREPARE, PrepareSpec(), PLACEMENT, raw=raw
        )

    def prepare_first(self) -> object:
        first = prepare_first(
            self.backend,
            self.run,
            self.data,
            "s3://team/raw",
            PrepareSpec(),
            skip_bad=False,
            here=lambda folder: pytest.fail(f"{folder} was prepared"),
        )
        return self.pipeline(prepare=first)

    def pipeline(self, **options: Any) -> object:
        options["placement"] = PLACEMENT
        return Pipeline(self.backend, self.run, self.data, CHAIN, **options).run()

    def cancel(self) -> list[str]:
        return verbs.active_tasks(self.backend, self.run)

    def delete(self) -> None:
        verbs.delete(self.backend, self.run)

    def created(self) -> list[str]:
        return [request.path for request in self.api.requests if request.method != "GET"]


@pytest.fixture
def members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Member]]:
    """Gives a member of each namespace; all have one folder of runs and one of datasets."""
    # manifests refuse folders of this machine, which stand for a bucket here
    monkeypatch.setattr("hbseg.cluster.job_lifecycle.check_storage", lambda *_: None)
    data = open_store(tmp_path / "data")
    write_marker(
        version_folder(data, VERSION), step="prepare", spec_hash="0", inputs={}, outputs={}
    )
    with FakeApi() as team, FakeApi() as other:
        apis = {"team": team, "other": other}

        def member(namespace: str) -> Member:
            backend = KubernetesBackend(connect(apis[namespace].url, namespace=namespace))
            run = Run(open_store(tmp_path / "runs"), "main")
            return Member(apis[namespace], backend, run, data)

        yield member


CHANGES = ["submit", "prepare", "prepare_first", "pipeline", "cancel", "delete"]
Members = Callable[[str], Member]


@pytest.mark.parametrize("verb", CHANGES)
def test_another_users_run_is_refused_to_every_verb_that_changes_something(
    members: Members, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    ann, bob = members("team"), members("other")
    ann.submit()
    claim, objects = ann.run.read(), dict(ann.api.objects)
    monkeypatch.setenv("LOGNAME", "bob")

    with pytest.raises(ConflictError, match="run main belongs to ann"):
        getattr(bob, verb)()

    assert bob.created() == []
    assert (ann.run.read(), ann.api.objects) == (claim, objects)


@pytest.mark.parametrize("verb", CHANGES)
def test_ones_own_run_is_refused_while_it_is_at_work_in_another_namespace(
    members: Members, verb: str
) -> None:
    there, here = members("team"), members("other")
    there.submit()
    claim, objects = there.run.read(), dict(there.api.objects)

    with pytest.raises(ConflictError, match=r"run main .* team.*-n team"):
        getattr(here, verb)()

    assert here.created() == []
    assert (there.run.read(), there.api.objects) == (claim, objects)


def test_others_may_look_at_a_run(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    ann, bob = members("team"), members("other")
    ann.submit()
    ann.run.folder.put("logs/stage1/1/0.log", b"2026-01-01T00:00:00Z epoch 1\n")
    monkeypatch.setenv("LOGNAME", "bob")
    before = ann.run.read()

    (status,) = statuses(bob.backend, bob.run, before)
    events = run_events(bob.backend, bob.run)
    diff = run_diff(bob.backend, bob.run, bob.data, CHAIN)

    assert status.prefix == "stage1"
    assert events[0].message.startswith("by ann")
    assert diff[0].prefix == "stage1"
    assert bob.created() == []
    assert ann.run.read() == before


def test_a_run_that_has_ended_moves_with_its_owner_and_leaves_what_it_made(
    members: Members,
) -> None:
    there, here = members("team"), members("other")
    there.submit()
    verbs.cancel(there.backend, there.run, there.cancel())

    here.submit()

    assert here.run.read().namespace == "other"
    assert ("pytorchjobs", "main-stage1") in here.api.objects
    assert ("configmaps", "hbseg-run-main") in there.api.objects
    with pytest.raises(ConflictError, match="at work in other"):
        there.submit()


def test_a_namespace_cannot_be_called_as_this_machine_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, users: [{name: u, user: {token: t}}],"
        " clusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}],"
        " contexts: [{name: c, context: {cluster: k, user: u, namespace: local}}]}"
    )
    monkeypatch.setenv("KUBECONFIG", str(config))

    with pytest.raises(
        InvalidInput, match=r"namespace local cannot be used: .* means this machine"
    ):
        open_backend("kubernetes")

    assert open_backend("kubernetes", namespace="team").namespace == "team"
