"""One pipeline a run: a Lease that its holder renews, and that runs out once the holder is gone."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final

from hbseg.cluster.names import labels, run_owner_name
from hbseg.cluster.objects import Object
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.resources import LEASE
from hbseg.errors import ConflictError, HbsegError, NotFoundError
from hbseg.system.clock import parse, z_time

LEASE_SECONDS: Final = 30
"""After so long without a renewal, another may take the lease."""
RENEWAL_SECONDS: Final = 10.0


@contextmanager
def held(
    cluster: Cluster, run: str, *, renewal: float = RENEWAL_SECONDS
) -> Iterator[Callable[[], None]]:
    """Hold the run's lease while the context is open.

    Yields what raises ConflictError once another has taken it, while we did not renew it.

    Raises:
        ConflictError: another holds it; or, at the end, another took it.
    """
    name, holder = run_owner_name(run), _identity()
    _take(cluster, run, name, holder)
    done, lost = threading.Event(), threading.Event()

    def renew() -> None:
        while not done.wait(renewal):
            try:
                if not _renew(cluster, name, holder):
                    lost.set()
                    return
            except HbsegError:
                continue  # the server may be back in time

    def check() -> None:
        if lost.is_set():
            raise ConflictError(
                f"another pipeline took over run {run} while this one did not answer",
                f"see: hbseg pipeline status {run}",
            )

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        done.set()
        thread.join(renewal)
        _release(cluster, name, holder)
    check()


def _identity() -> str:
    return f"{socket.gethostname()[:100]}-{os.getpid()}-{secrets.token_hex(4)}"


def _take(cluster: Cluster, run: str, name: str, holder: str) -> None:
    wanted = {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": {"name": name, "labels": labels(run)},
        "spec": _spec(cluster, holder),
    }
    try:
        cluster.create(LEASE, wanted)
        return
    except ConflictError:
        there = cluster.find(LEASE, name)
    if there is None:
        raise ConflictError(f"another pipeline has just left run {run}", "try again")
    if _is_ours(there, holder):  # the answer to our create was lost
        return
    if is_held(there, cluster.now()):
        since = there["spec"].get("acquireTime", "an unknown time")
        raise ConflictError(
            f"another pipeline is at work on run {run} (since {str(since)[:19]}Z)",
            f"see: hbseg pipeline status {run}",
        )
    version = there["metadata"]["resourceVersion"]
    body = {"metadata": {"resourceVersion": version}, "spec": _spec(cluster, holder)}
    try:
        cluster.patch(LEASE, name, body)
    except (ConflictError, NotFoundError):
        if _is_ours(cluster.find(LEASE, name), holder):  # the answer to our patch was lost
            return
        raise ConflictError(f"another pipeline has just taken run {run}", "try again") from None


def _is_ours(lease: Object | None, holder: str) -> bool:
    return lease is not None and lease["spec"].get("holderIdentity") == holder


def is_held(lease: Object, now: datetime) -> bool:
    """Return whether the holder of a lease is alive: it renewed it in time."""
    spec = lease.get("spec") or {}
    if not spec.get("holderIdentity"):
        return False
    try:
        renewed = parse(str(spec.get("renewTime")))
    except ValueError:
        return False
    return now - renewed < timedelta(seconds=int(spec.get("leaseDurationSeconds") or LEASE_SECONDS))


def _renew(cluster: Cluster, name: str, holder: str) -> bool:
    """Renew the lease; return whether it is still ours."""
    there = cluster.find(LEASE, name)
    if there is None or not _is_ours(there, holder):
        return False
    version = there["metadata"]["resourceVersion"]
    body = {"metadata": {"resourceVersion": version}, "spec": {"renewTime": _time(cluster)}}
    try:
        cluster.patch(LEASE, name, body)
    except (ConflictError, NotFoundError):
        # somebody took or removed it, or only the answer to our patch was lost
        return _is_ours(cluster.find(LEASE, name), holder)
    return True


def _release(cluster: Cluster, name: str, holder: str) -> None:
    with suppress(HbsegError):  # it expires
        there = cluster.find(LEASE, name)
        if there is not None and _is_ours(there, holder):
            cluster.delete(LEASE, name, uid=there["metadata"]["uid"])


def _spec(cluster: Cluster, holder: str) -> dict[str, Any]:
    return {
        "holderIdentity": holder,
        "leaseDurationSeconds": LEASE_SECONDS,
        "acquireTime": _time(cluster),
        "renewTime": _time(cluster),
    }


def _time(cluster: Cluster) -> str:
    """Return the server's time as a Lease has it, so that holders' own clocks do not matter."""
    return z_time(cluster.now(), "microseconds")
