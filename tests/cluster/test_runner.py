"""The control image at its work in the cluster, with the rights that the chart gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hbseg.control.specs import chain_specs
from hbseg.runs.chain import chain
from hbseg.storage.opening import open_store
from tests.cluster.crew import VERSION, crew_of
from tests.cluster.team import Team
from tests.helm import Helm
from tests.integration.fakes.fake_chain import plant

ACCOUNT = "hbseg-runner"
PINNED = tuple(f"{stage}.dataset.version={VERSION}" for stage in ("stage1", "stage2"))


@pytest.fixture
def runner(team: Team, control_image: str, helm: Helm) -> Team:
    """A team with an account for the runner, and nothing in its pods but the control image."""
    role = helm.rendered()["Role", "hbseg"]
    del role["metadata"]["namespace"]
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": role["metadata"]["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}}
    team.namespace.create(account, role, binding)
    return team.with_profile(control_image=control_image, environment={}, volumes=[])


def applied(runner: Team, *command: str) -> str:
    """Apply the runner's job, with another command if given; return its name."""
    pins = [word for setting in PINNED for word in ("--set", setting)]
    rendered = runner.hbseg("render", "pipeline", "--run", "drill", *pins, "-o", "json")
    objects = json.loads(rendered.stdout)
    job = objects["items"][-1]
    if command:
        job["spec"]["template"]["spec"]["containers"][0] |= {"command": command, "args": []}
    runner.namespace.kubectl("apply", "-f", "-", input=json.dumps(objects))
    return f"job/{job['metadata']['name']}"


@pytest.mark.own_node  # gives an account rights
def test_a_runner_in_the_cluster_finds_a_chain_done(runner: Team, tmp_path: Path) -> None:
    crew_of(runner)  # leaves the dataset's marker
    run, data = runner.run("drill"), open_store(f"{runner.url}/data")
    run.claim(data=data.url, namespace=runner.namespace.name, owner="tester")
    specs = chain_specs(config=None, settings=PINNED, variant="")
    tasks = []
    for task in chain(run, data, specs):
        plant(run, data, task, tmp_path / "work")
        tasks.append(task.prefix)

    job = applied(runner)

    runner.namespace.wait(job, "condition=Complete")
    lines = runner.namespace.kubectl("logs", job).splitlines()
    skipped = [line.split()[0] for line in lines if "skipped: done and up to date" in line]
    assert skipped == tasks
    assert "stage1" in tasks


@pytest.mark.own_node  # gives an account rights
def test_the_doctor_in_the_cluster_finds_the_charts_rights_enough(runner: Team) -> None:
    job = applied(runner, "hbseg", "doctor", "-o", "json")

    runner.namespace.wait(job, "condition=Complete")
    summary, brace, report = runner.namespace.kubectl("logs", job).partition("{")
    found = {check["name"]: check["status"] for check in json.loads(brace + report)["checks"]}
    assert "failed" not in found.values(), summary + report
    names = ("api", "rights", "dry run: PyTorchJob", "runs: conditional write")
    assert [found[name] for name in names] == ["ok"] * len(names)
