"""The cluster, and our node, do what the tests of the Kubernetes backend rely on."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

import boto3
import pytest

from tests.cluster.cluster import STATE_SECONDS, KubectlFailed, OwnCluster
from tests.cluster.ground import Ground
from tests.cluster.namespace import TestNamespace
from tests.cluster.node.paths import ROOT, NodeError
from tests.cluster.pods import python_pod, pytorch_job

IMPORT_TORCH = """
import os, torch
from pathlib import Path
from typing import Any
try:
    Path("/hbseg/site/written").touch()
except OSError as error:
    api_error = type(error).__name__, error.errno
print(os.getuid(), torch.ones(3).sum().item(), api_error, torch.__file__)
"""
READ_OBJECT = """
import os, boto3
s3 = boto3.client("s3")
print(s3.get_object(Bucket=os.environ["BUCKET"], Key="bone")["Body"].read().decode())
"""
DIAL = """
import os, socket
host, port = os.environ["ADDRESS"].split(":")
socket.create_connection((host, int(port)), 30).sendall(b"from a pod")
"""
DIGESTS = """
import hashlib, importlib
from pathlib import Path
for name in ("hbseg", "hbseg_cli", "hbseg_jobs", "hbseg_manifests", "tests.integration.fakes"):
    folder = Path(*importlib.import_module(name).__path__)
    digest = hashlib.sha256()
    files = (path for path in folder.rglob("*") if path.is_file())
    for path in sorted(path for path in files if path.suffix in (".py", ".yaml")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    print(name, digest.hexdigest())
"""
READ_ONLY_FILE_SYSTEM = 30  # EROFS


def pod_that_runs(ground: Ground, code: str, **environment: str) -> dict[str, Any]:
    spec = python_pod(ground, code, environment=environment)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}


def output_of(namespace: TestNamespace, pod: dict[str, Any]) -> str:
    """Return what the pod printed, once it has succeeded."""
    namespace.create(pod)
    namespace.wait("pod/one", "jsonpath={.status.phase}=Succeeded")
    return namespace.kubectl("logs", "one")


@pytest.mark.own_node
@pytest.mark.usefixtures("turn")  # while no drill stops the server
def test_the_node_is_ready(own_cluster: OwnCluster) -> None:
    nodes = json.loads(own_cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    conditions = {c["type"]: c["status"] for node in nodes for c in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"


@pytest.mark.own_node
def test_a_user_without_rights_imports_torch_but_cannot_write_next_to_it(
    ground: Ground, namespace: TestNamespace
) -> None:
    pod = pod_that_runs(ground, IMPORT_TORCH)
    user, total, api_error = output_of(namespace, pod).split(" ", 2)
    assert (user, total) == ("1000", "3.0")
    assert api_error.startswith(f"('OSError', {READ_ONLY_FILE_SYSTEM}) /hbseg/site/torch/")


def test_a_pod_reads_an_object_that_this_machine_has_written(
    ground: Ground, namespace: TestNamespace, bucket: str
) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key="bone", Body=b"capitate")
    pod = pod_that_runs(ground, READ_OBJECT, BUCKET=bucket)
    assert output_of(namespace, pod) == "capitate\n"


def test_a_pod_imports_our_packages_as_they_are_in_the_checkout(
    ground: Ground, namespace: TestNamespace
) -> None:
    here = subprocess.run(
        [sys.executable, "-c", DIGESTS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert output_of(namespace, pod_that_runs(ground, DIGESTS)) == here.stdout


def test_the_namespace_refuses_a_pod_that_may_be_root(
    ground: Ground, namespace: TestNamespace
) -> None:
    pod = pod_that_runs(ground, "pass")
    del pod["spec"]["securityContext"]
    with pytest.raises(KubectlFailed, match='violates PodSecurity "restricted'):
        namespace.create(pod)


def test_the_webhook_refuses_a_container_that_is_not_called_pytorch(
    ground: Ground, namespace: TestNamespace
) -> None:
    job = pytorch_job("misnamed", python_pod(ground, "pass", container="trainer"))
    with pytest.raises(KubectlFailed, match=r"denied the request.*container with name pytorch"):
        namespace.create(job)


def test_a_job_of_one_pod_succeeds(ground: Ground, namespace: TestNamespace) -> None:
    code = "import os; print('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'])"
    namespace.create(pytorch_job("small", python_pod(ground, code, container="pytorch")))
    namespace.wait("pytorchjob/small", "condition=Succeeded")
    assert namespace.kubectl("logs", "small-master-0") == "rank 0 of 1\n"


@pytest.mark.own_node
def test_gpus_that_are_patched_in_can_be_asked_for(
    ground: Ground, own_cluster: OwnCluster, namespace: TestNamespace
) -> None:
    pod = pod_that_runs(ground, "print('on a GPU')")
    [container] = pod["spec"]["containers"]
    container["resources"] = {"limits": {"nvidia.com/gpu": "4"}}
    with own_cluster.gpus(4):
        assert output_of(namespace, pod) == "on a GPU\n"


@pytest.mark.own_node
def test_two_may_expose_a_port_and_each_gives_up_its_own(
    ground: Ground, own_cluster: OwnCluster, namespace: TestNamespace
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with listener, own_cluster.expose(port) as kept:
        own_cluster.expose(port).close()
        namespace.create(pod_that_runs(ground, DIAL, ADDRESS=kept.address))
        listener.settimeout(STATE_SECONDS)
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100) == b"from a pod"


@pytest.mark.own_node
def test_a_component_that_is_not_there_is_named_with_those_that_are(
    own_cluster: OwnCluster,
) -> None:
    with pytest.raises(NodeError, match="no component 'cubelet'; it has containerd, coredns,"):
        own_cluster.stop_component("cubelet")
