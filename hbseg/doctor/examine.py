"""The doctor: checks all that hbseg needs, and says of each thing how it is and how to fix it.

A check that fails does not keep the later ones from looking, but for a cluster that does not
answer at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from hbseg.cluster.requests.client import Cluster
from hbseg.config.placement import Placement
from hbseg.doctor import capacity, machine, network, objects, operator, rights, server
from hbseg.doctor.check import Check, failed, guarded, ok, unknown
from hbseg.doctor.pods_storage import pods_storage
from hbseg.doctor.report import DoctorReport
from hbseg.doctor.storage import storage
from hbseg.doctor.subject import Subject
from hbseg.errors import HbsegError

Look = Callable[[Subject], Iterable[Check]]

OF_THE_CLUSTER: Final[Mapping[str, Look]] = {
    "clock": server.clock,
    "namespace": server.namespace,
    "version": server.version,
    "rights": rights.rights,
    "pytorchjobs": operator.crd,
    "operator": operator.running,
    "dry run: PyTorchJob": operator.training,
    "dry run: Job": operator.batch,
    "dry run: pod": operator.pod,
    "quota": capacity.quota,
    "nodes": capacity.nodes,
    "queue": objects.queue,
    "secret": objects.secret,
    "pull secret": objects.pull_secrets,
    "service account": objects.service_accounts,
    "priority class": objects.priority_class,
    "runtime class": objects.runtime_class,
    "storage class": objects.storage_class,
    "environment": objects.environment,
    "certificates": objects.ca_bundle,
    "volume": objects.volumes,
    "image": objects.images,
    "runner image": objects.runner_image,
    "tensorrt image": objects.tensorrt_image,
    "proxy": network.proxy,
    "storage of pods": pods_storage,
}
"""Checks of a cluster that answers, in the order in which they are made."""


def examine_cluster(
    connect: Callable[[], Cluster],
    placement: Placement,
    folders: Mapping[str, str],
    *,
    probe: Callable[[Subject], Iterable[Check]] | None = None,
) -> DoctorReport:
    """Return the findings on a cluster and on storage, from here and, by `probe`, from a pod.

    `folders` are the URLs of `runs` and `data` that are set.
    """
    try:
        cluster = connect()
        subject = Subject(cluster, placement, folders.get("runs"), folders.get("data"))
        first = list(server.api(subject))
    except HbsegError as error:
        checks = (*_without_cluster(error), *storage(folders))
        return DoctorReport(backend="kubernetes", reachable=False, checks=checks)
    found = [ok("kubeconfig", f"leads to {cluster.server}, namespace {cluster.namespace}"), *first]
    for name, look in OF_THE_CLUSTER.items():
        found += guarded(name, look, subject)
    found += storage(folders)
    if probe is not None:
        found += guarded("pod", probe, subject)
    return DoctorReport(backend="kubernetes", namespace=cluster.namespace, checks=tuple(found))


def _without_cluster(error: HbsegError) -> Iterator[Check]:
    yield failed("api", error.message, "" if "hbseg doctor" in str(error) else error.hint or "")
    for name in OF_THE_CLUSTER:
        yield unknown(name, "not checked: the cluster is not reachable")


def examine_machine(state: Path, folders: Mapping[str, str]) -> DoctorReport:
    """Return the findings on this machine, for the local backend."""
    return DoctorReport(backend="local", checks=tuple(_of_the_machine(state, folders)))


def _of_the_machine(state: Path, folders: Mapping[str, str]) -> Iterator[Check]:
    yield from machine.torch()
    yield from machine.disk(state)
    yield from storage(folders)
