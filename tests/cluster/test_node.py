"""The node does what the tests of the Kubernetes backend rely on."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from tests.cluster.cluster import STATE_SECONDS, KubectlFailed, TestCluster
from tests.cluster.namespace import TestNamespace
from tests.cluster.node.paths import NodeError
from tests.cluster.pods import python_pod, pytorch_job
from tests.conftest import S3Place

IMPORT_TORCH = """
import os, torch
from pathlib import Path
from typing import Any
try:
    Path("/hbseg/site/written").touch()
except OSError as error:
    refusal = type(error).__name__, error.errno
print(os.getuid(), torch.ones(3).sum().item(), refusal, torch.__file__)
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
IMPORT_OURS = """
import hbseg, hbseg_cli, hbseg_jobs, hbseg_manifests
from tests.integration.fakes import fake_step
print(hbseg.__file__, len(list(open(hbseg.__file__))))
"""
READ_ONLY_FILE_SYSTEM = 30  # EROFS


def pod_that_runs(code: str, **environment: str) -> dict[str, Any]:
    spec = python_pod(code, environment=environment)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}


def output_of(namespace: TestNamespace, pod: dict[str, Any]) -> str:
    """Return what the pod printed, once it has succeeded."""
    namespace.create(pod)
    namespace.wait("pod/one", "jsonpath={.status.phase}=Succeeded")
    return namespace.kubectl("logs", "one")


@pytest.mark.usefixtures("turn")  # while no drill stops the server
def test_the_node_is_ready(cluster: TestCluster) -> None:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    conditions = {c["type"]: c["status"] for node in nodes for c in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"


@pytest.mark.own_node
def test_a_user_without_rights_imports_torch_but_cannot_write_next_to_it(
    namespace: TestNamespace,
) -> None:
    user, total, refusal = output_of(namespace, pod_that_runs(IMPORT_TORCH)).split(" ", 2)
    assert (user, total) == ("1000", "3.0")
    assert refusal.startswith(f"('OSError', {READ_ONLY_FILE_SYSTEM}) /hbseg/site/torch/")


@pytest.mark.own_node
def test_a_pod_reads_an_object_of_the_s3_server_on_our_loopback(
    cluster: TestCluster, namespace: TestNamespace, s3: S3Place
) -> None:
    boto3.client("s3").put_object(Bucket=s3.bucket, Key="bone", Body=b"capitate")
    port = urlsplit(s3.server.environment["AWS_ENDPOINT_URL"]).port
    assert port
    with cluster.expose(port) as forward:
        url = f"http://{forward.address}"
        pod = pod_that_runs(READ_OBJECT, BUCKET=s3.bucket, AWS_ENDPOINT_URL=url)
        assert output_of(namespace, pod) == "capitate\n"


@pytest.mark.own_node
def test_a_pod_imports_our_packages_as_they_are_in_the_checkout(namespace: TestNamespace) -> None:
    path, lines = output_of(namespace, pod_that_runs(IMPORT_OURS)).split()
    here = Path(__file__).parents[2] / "hbseg" / "__init__.py"
    assert path == "/hbseg/source/hbseg/__init__.py"
    assert int(lines) == len(here.read_text().splitlines())


def test_the_namespace_refuses_a_pod_that_may_be_root(namespace: TestNamespace) -> None:
    pod = pod_that_runs("pass")
    del pod["spec"]["securityContext"]
    with pytest.raises(KubectlFailed, match='violates PodSecurity "restricted'):
        namespace.create(pod)


def test_the_webhook_refuses_a_container_that_is_not_called_pytorch(
    namespace: TestNamespace,
) -> None:
    job = pytorch_job("misnamed", python_pod("pass", container="trainer"))
    with pytest.raises(KubectlFailed, match=r"denied the request.*container with name pytorch"):
        namespace.create(job)


@pytest.mark.own_node
def test_a_job_of_one_pod_succeeds(namespace: TestNamespace) -> None:
    code = "import os; print('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'])"
    namespace.create(pytorch_job("small", python_pod(code, container="pytorch")))
    namespace.wait("pytorchjob/small", "condition=Succeeded")
    assert namespace.kubectl("logs", "small-master-0") == "rank 0 of 1\n"


@pytest.mark.own_node
def test_gpus_that_are_patched_in_can_be_asked_for(
    cluster: TestCluster, namespace: TestNamespace
) -> None:
    pod = pod_that_runs("print('on a GPU')")
    [container] = pod["spec"]["containers"]
    container["resources"] = {"limits": {"nvidia.com/gpu": "4"}}
    with cluster.gpus(4):
        assert output_of(namespace, pod) == "on a GPU\n"


@pytest.mark.own_node
def test_two_may_expose_a_port_and_each_gives_up_its_own(
    cluster: TestCluster, namespace: TestNamespace
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with listener, cluster.expose(port) as kept:
        cluster.expose(port).close()
        namespace.create(pod_that_runs(DIAL, ADDRESS=kept.address))
        listener.settimeout(STATE_SECONDS)
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100) == b"from a pod"


@pytest.mark.own_node
def test_a_component_that_is_not_there_is_named_with_those_that_are(cluster: TestCluster) -> None:
    with pytest.raises(NodeError, match="no component 'cubelet'; it has containerd, coredns,"):
        cluster.stop_component("cubelet")
