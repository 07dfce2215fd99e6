"""Steps beside the sidecars of a mesh, native and plain: their states, logs and ends."""

from __future__ import annotations

import pytest

from hbseg.storage.opening import open_store
from tests.cluster.cluster import STATE_SECONDS, until
from tests.cluster.crew import PREPARE, TRAIN, fake, is_gone, row
from tests.cluster.mesh import SIDECAR, mesh
from tests.cluster.team import Team

pytestmark = pytest.mark.own_node

MISSING = "localhost/no-such:1"


def sidecar_state(crew: Team, step: str, field: str, *, native: bool = False) -> str:
    """Return a field of the sidecar's state in the pods of a step, as kubectl prints it."""
    statuses = "initContainerStatuses" if native else "containerStatuses"
    path = f"{{.items[*].status.{statuses}[?(@.name=='{SIDECAR}')].state.{field}}}"
    labels = f"hbseg.io/step={step}"
    return crew.namespace.kubectl("get", "pods", "-l", labels, "-o", f"jsonpath={path}")


def test_beside_a_native_sidecar_the_step_alone_decides_how_a_job_ends(crew: Team) -> None:
    faking = fake(crew, stage1=["fail 65"], prepare=["ok"])
    with mesh(crew.namespace, native=True):
        faking.hbseg(*PREPARE)

        line = faking.api_error(100, *TRAIN, "--wait")

        until(lambda: row(crew, "prepare")["state"] == "done", "prepare is done")
    assert "failed with code 65 in attempt 1: planned failure 65" in line
    assert SIDECAR not in line
    assert sidecar_state(crew, "stage1", "terminated.exitCode", native=True) == "137"
    assert SIDECAR not in str(row(crew)["reason"])
    assert row(crew, "prepare")["reason"] is None


def test_beside_a_plain_sidecar_that_never_ends_steps_end_and_their_jobs_are_removed(
    crew: Team,
) -> None:
    faking = fake(crew, stage1=["key gate"], prepare=["fail 65"])
    with mesh(crew.namespace, native=False):
        faking.hbseg(*PREPARE)
        faking.hbseg(*TRAIN)
        follower = faking.start("logs", "drill", "--step", "stage1", "-f")
        assert follower.stdout is not None
        assert any("acts: key gate" in line for line in follower.stdout)
        assert row(crew)["state"] == "running"
        waiter = faking.start(*TRAIN, "--wait")
        assert waiter.stderr is not None
        assert any("running already" in line for line in waiter.stderr)
        open_store(f"{crew.url}/data").put("gate", b"")

        _, told = waiter.communicate(timeout=STATE_SECONDS)
        rest, _ = follower.communicate(timeout=STATE_SECONDS)

        assert waiter.returncode == 0, told
        assert f"sidecar {SIDECAR} keeps pod drill-stage1-master-0 from ending" in told
        assert "the gate is open" in rest
        assert "the proxy listens" not in rest
        assert row(crew)["state"] == "done"
        assert is_gone(crew, "pytorchjobs")
        failed = row(crew, "prepare")
        assert (failed["state"], failed["attempt"]) == ("failed", 1)
        assert str(failed["reason"]).startswith("planned failure 65")
        assert f"; the step has ended, but sidecar {SIDECAR} keeps pod" in str(failed["reason"])
        crew.hbseg("cancel", "drill", "-y")
        assert is_gone(crew, "pods,jobs")
    assert row(crew, "prepare")["state"] == "failed"


def test_a_step_whose_image_is_missing_is_pending_beside_a_sidecar_that_runs(crew: Team) -> None:
    wrong = crew.with_profile(image=MISSING, image_pull_policy="IfNotPresent")

    def is_told(step: str) -> bool:
        told = row(crew, step)
        return told["state"] == "pending" and MISSING in str(told["reason"])

    with mesh(crew.namespace, native=False):
        wrong.hbseg(*TRAIN)
        wrong.hbseg(*PREPARE)
        for step in ("stage1", "prepare"):
            until(lambda step=step: is_told(step), f"{step}: its image is the reason")  # type: ignore[misc]
            assert "startedAt" in sidecar_state(crew, step, "running")
            assert is_told(step)
