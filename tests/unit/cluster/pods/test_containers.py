"""Which container of a pod does the work, whatever a mesh adds to it."""

from __future__ import annotations

from typing import Any

import pytest

from hbseg.cluster.base_manifest import load_manifest
from hbseg.cluster.kinds import kind_of
from hbseg.cluster.names import MAIN_CONTAINERS
from hbseg.cluster.pods.containers import Role, containers, main_container, main_name
from hbseg.cluster.pods.states import (
    failure_of_pod,
    has_ended,
    has_started,
    has_succeeded,
    is_running,
    sidecar_problem,
)
from tests.unit.cluster.sidecars import KILLED, RUNS, add_sidecar, ended

MANIFESTS = ("train.yaml", "train-elastic.yaml", "step.yaml", "pipeline.yaml", "probe.yaml")


def pod(state: dict[str, Any] | None, *, main: str = "step", phase: str = "Running") -> Any:
    """Return a pod whose main container is in a state; without one the kubelet has not told."""
    status: dict[str, Any] = {"phase": phase, "containerStatuses": []}
    if state is not None:
        status["containerStatuses"].append({"name": main, "state": state})
    spec = {"containers": [{"name": main}], "nodeName": "n"}
    return {"metadata": {"name": "p", "uid": "1"}, "spec": spec, "status": status}


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_main_container_of_every_manifest_is_known_by_its_name(name: str) -> None:
    job = load_manifest(name)
    for template in kind_of(job).pod_templates(job):
        (container,) = template["spec"]["containers"]
        assert container["name"] in MAIN_CONTAINERS


@pytest.mark.parametrize("main", MAIN_CONTAINERS)
def test_the_container_that_does_the_work_is_found_behind_a_meshs(main: str) -> None:
    meshed = pod(RUNS, main=main)
    add_sidecar(meshed, KILLED)
    add_sidecar(meshed, KILLED, native=True, name="linkerd-proxy")
    meshed["spec"]["initContainers"].append({"name": "linkerd-init"})

    assert main_name(meshed) == main
    assert main_container(meshed).state == RUNS
    assert [(item.name, item.role) for item in containers(meshed)] == [
        ("linkerd-proxy", Role.NATIVE_SIDECAR),
        ("linkerd-init", Role.INIT),
        ("istio-proxy", Role.SIDECAR),
        (main, Role.MAIN),
    ]


def test_a_container_whose_name_is_not_known_is_the_first() -> None:
    assert main_name({"spec": {"containers": [{"name": "worker"}, {"name": "proxy"}]}}) == "worker"


@pytest.mark.parametrize("native", [False, True])
def test_a_pod_runs_only_when_its_main_container_does(native: bool) -> None:
    pulling = pod({"waiting": {"reason": "ContainerCreating"}}, phase="Pending")
    unknown = pod(None, phase="Pending")
    for waiting in (pulling, unknown):
        add_sidecar(waiting, RUNS, native=native)
        assert not is_running(waiting)
        assert not has_started(waiting)


@pytest.mark.parametrize("native", [False, True])
def test_a_main_container_that_ended_beside_a_sidecar_tells_how_the_pod_ended(
    native: bool,
) -> None:
    well, failed = pod(ended(0)), pod(ended(65, message="bad"))
    for meshed in (well, failed):
        add_sidecar(meshed, RUNS, native=native)
        assert has_ended(meshed)
        assert not is_running(meshed)
    assert has_succeeded(well)
    assert failure_of_pod(well) is None
    failure = failure_of_pod(failed)
    assert failure is not None
    assert (failure.code, failure.reason) == (65, "p ended with exit code 65: bad")


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("code", [0, 65])
def test_the_end_of_a_sidecar_is_not_taken_for_that_of_the_pod(native: bool, code: int) -> None:
    meshed = pod(ended(code), phase="Failed" if code else "Succeeded")
    add_sidecar(meshed, KILLED, native=native)

    failure = failure_of_pod(meshed)

    assert (0 if failure is None else failure.code) == code


def test_a_sidecar_that_crashes_while_the_main_container_runs_is_no_failure() -> None:
    meshed = pod(RUNS)
    add_sidecar(meshed, ended(1))
    add_sidecar(meshed, ended(1), native=True, name="linkerd-proxy")

    assert failure_of_pod(meshed) is None
    assert is_running(meshed)


def test_an_init_container_that_fails_is_named_as_the_failure() -> None:
    meshed = pod({"waiting": {"reason": "PodInitializing"}}, phase="Failed")
    meshed["spec"]["initContainers"] = [{"name": "istio-validation"}]
    state = ended(126, message="no redirect")
    meshed["status"]["initContainerStatuses"] = [{"name": "istio-validation", "state": state}]

    failure = failure_of_pod(meshed)

    assert failure is not None
    assert (failure.code, failure.reason) == (
        126,
        "init container istio-validation of p ended with exit code 126: no redirect",
    )


def test_only_a_plain_sidecar_keeps_a_pod_from_ending() -> None:
    alive, native, over, crashed = (pod(ended(0)) for _ in range(4))
    add_sidecar(alive, RUNS)
    add_sidecar(native, RUNS, native=True)
    add_sidecar(over, ended(0))
    add_sidecar(crashed, ended(3))

    assert sidecar_problem(alive) == "sidecar istio-proxy keeps pod p from ending"
    assert sidecar_problem(crashed) == "sidecar istio-proxy of pod p ended with exit code 3"
    assert sidecar_problem(native) == sidecar_problem(over) == ""


def test_a_sidecar_that_fails_after_a_failure_keeps_nothing_from_ending() -> None:
    failed = pod(ended(170), phase="Failed")
    add_sidecar(failed, KILLED)

    assert sidecar_problem(failed) == ""
