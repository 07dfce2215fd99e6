"""What the node has of its own, inside namespaces that are still copies of the machine's."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.cluster.node.addresses import NODE, NODE_ADDRESS, SERVICE_NETWORK
from tests.cluster.node.configuration import RUN
from tests.cluster.node.paths import State

CGROUPS = Path("/sys/fs/cgroup")
_HIERARCHIES = (
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "memory",
    "pids",
    "systemd",
    "unified",
)
_SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""What the kubelet wants. These belong to the whole machine: it finds its values in files that
hide the real ones, and writes nothing."""
_NETWORK = f"""\
link set lo up
link add node0 type veth peer name node0-peer
link set node0-peer up
addr add {NODE_ADDRESS}/24 dev node0
link set node0 up
route add {SERVICE_NETWORK} dev node0
"""


def isolate(state: State) -> None:
    """Give the node its own /run, /var, sysctls, network and cgroup."""
    _mount("--make-rshared", "/")
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    RUN.mkdir(mode=0o755)
    upper, work = RUN / "var", RUN / "var-work"
    upper.mkdir()
    work.mkdir()
    layers = f"lowerdir=/var,upperdir={upper},workdir={work}"
    _mount("-t", "overlay", "overlay", "-o", layers, "/var")
    _hide_sysctls()
    subprocess.run(["ip", "-batch", "-"], input=_NETWORK, text=True, check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    socket.sethostname(NODE)
    _make_cgroups(state.cgroup)


def bind(source: Path, target: Path) -> None:
    """Show the folder `source` at `target` too, whoever may enter the folders above it."""
    target.mkdir(mode=0o755, parents=True)
    _mount("--bind", str(source), str(target))


def remove_cgroups(cgroup: str) -> bool:
    """Return whether no cgroup of the node is left; those still in use stay."""
    left = False
    for hierarchy in _HIERARCHIES:
        top = CGROUPS / hierarchy / cgroup
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:
                left = True
    return not left


def _hide_sysctls() -> None:
    for name, value in _SYSCTLS.items():
        file = RUN / "sysctl" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
        _mount("--bind", str(file), f"/proc/sys/{name}")


def _make_cgroups(cgroup: str) -> None:
    """Make the pods' cgroup in every hierarchy; runc makes one even in the empty v2 hierarchy."""
    for hierarchy in _HIERARCHIES:
        parent = CGROUPS / hierarchy
        if parent.is_dir():
            (parent / cgroup).mkdir(exist_ok=True)
    with suppress(FileNotFoundError):  # a new cpuset is empty: nothing could run in it
        for file in ("cpuset.cpus", "cpuset.mems"):
            value = (CGROUPS / "cpuset" / file).read_text()
            (CGROUPS / "cpuset" / cgroup / file).write_text(value)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
