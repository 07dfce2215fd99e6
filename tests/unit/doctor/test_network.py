from __future__ import annotations

import pytest

from hbseg.doctor import network
from hbseg.doctor.check import Status
from tests.unit.doctor.fake_cluster import FakeCluster, one, subject

PROXY = {"HTTPS_PROXY": "http://proxy.team:3128"}
METADATA = "169.254.170.23,169.254.170.2,169.254.169.254"


def test_without_a_proxy_there_is_nothing_to_tell(cluster: FakeCluster) -> None:
    for environment in ({}, {"NO_PROXY": "x"}, {"HTTPS_PROXY": ""}, PROXY | {"https_proxy": ""}):
        assert list(network.proxy(subject(cluster, environment=environment))) == []


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_workload_identity_must_not_go_through_a_proxy(cluster: FakeCluster, variable: str) -> None:
    environment = {variable: "http://proxy.team:3128", "NO_PROXY": "169.254.169.254, .svc"}

    check = one(network.proxy, subject(cluster, environment=environment))

    assert check.status == Status.WARNING
    assert check.fix == "add to its NO_PROXY: 169.254.170.23,169.254.170.2"


def test_a_proxy_of_one_step_is_looked_at(cluster: FakeCluster) -> None:
    of = subject(cluster, steps={"infer": {"environment": PROXY}})

    check = one(network.proxy, of)

    assert check.status == Status.WARNING
    assert check.message.startswith("the pods of infer would ask 169.254.170.23, ")


def test_pods_with_a_secret_ask_nobody_for_keys(cluster: FakeCluster) -> None:
    of = subject(cluster, environment=PROXY, credentials_secret="keys")

    assert one(network.proxy, of).status == Status.OK


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://minio.storage.svc:9000",
        "http://minio.storage.svc.cluster.local",
        "http://minio:9000/",
        "https://10.1.2.3:443",
        "https://s3.company.internal",
    ],
)
def test_an_endpoint_inside_must_not_go_through_a_proxy(
    cluster: FakeCluster, endpoint: str
) -> None:
    place = endpoint.partition("://")[2].rstrip("/")

    check = one(
        network.proxy,
        subject(cluster, environment=PROXY | {"NO_PROXY": METADATA}, s3_endpoint=endpoint),
    )

    assert (check.status, place in check.message) == (Status.WARNING, True)
    for entry in (place, place.partition(":")[0], "*"):
        excluded = PROXY | {"no_proxy": entry if entry == "*" else f"{METADATA}, {entry}"}
        of = subject(cluster, environment=excluded, s3_endpoint=endpoint)
        assert one(network.proxy, of).status == Status.OK


@pytest.mark.parametrize(
    "endpoint", ["https://s3.eu-central-1.amazonaws.com", "https://8.8.8.8", "http://["]
)
def test_an_endpoint_outside_may(cluster: FakeCluster, endpoint: str) -> None:
    environment = PROXY | {"NO_PROXY": METADATA, "AWS_ENDPOINT_URL": endpoint}

    assert one(network.proxy, subject(cluster, environment=environment)).status == Status.OK


@pytest.mark.parametrize(
    ("no_proxy", "status"),
    [
        (".svc", Status.OK),
        ("svc", Status.OK),
        ("minio.storage.svc", Status.OK),
        ("MINIO.storage.svc:9000", Status.OK),
        ("minio.storage.svc:9001", Status.WARNING),
        ("storage", Status.WARNING),
        ("", Status.WARNING),
        (",", Status.WARNING),
    ],
)
def test_entries_count_as_boto3_reads_them(
    cluster: FakeCluster, no_proxy: str, status: Status
) -> None:
    of = subject(
        cluster,
        environment=PROXY | {"NO_PROXY": no_proxy},
        s3_endpoint="http://minio.storage.svc:9000",
        credentials_secret="keys",
    )

    assert one(network.proxy, of).status == status


def test_a_range_of_addresses_does_not_count(cluster: FakeCluster) -> None:
    environment = PROXY | {"NO_PROXY": "169.254.0.0/16"}

    assert one(network.proxy, subject(cluster, environment=environment)).status == Status.WARNING


def test_a_name_in_small_letters_comes_first(cluster: FakeCluster) -> None:
    environment = {"no_proxy": METADATA, "NO_PROXY": "", **PROXY}

    assert one(network.proxy, subject(cluster, environment=environment)).status == Status.OK
