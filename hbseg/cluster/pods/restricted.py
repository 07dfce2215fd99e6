"""Kubernetes' Pod Security standard `restricted`: what it refuses in a pod.

Source: the Pod Security Standards of the Kubernetes documentation, as of 1.36.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from hbseg.cluster.objects import Manifest, Object

_HOST: Final = ("hostNetwork", "hostPID", "hostIPC")
_VOLUMES: Final = frozenset(
    {
        *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"),
        *("projected", "secret", "image"),
    }
)
_SELINUX: Final = frozenset(
    {"container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS: Final = ("postStart", "preStop")
_PROFILES: Final = ("RuntimeDefault", "Localhost")
_SYSCTLS: Final = frozenset(
    {
        *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies"),
        *("net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"),
        *("net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time"),
        *("net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
        *("net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
    }
)


def restricted_problems(pod: Object) -> Iterator[str]:
    """Yield what the standard refuses in a pod's spec, e.g. `spec.hostNetwork is true`."""
    for key in _HOST:
        if pod.get(key):
            yield f"spec.{key} is true"
    for volume in pod.get("volumes") or ():
        for kind in volume.keys() - _VOLUMES - {"name"}:
            yield f"volume {volume['name']} is a {kind}"
    security = pod.get("securityContext") or {}
    for sysctl in security.get("sysctls") or ():
        if sysctl.get("name") not in _SYSCTLS:
            yield f"sysctl {sysctl.get('name')} is set"
    yield from _user(security, "spec.securityContext", is_pod=True)
    for container in (*(pod.get("initContainers") or ()), *pod["containers"]):
        yield from _container(container)


def _container(container: Manifest) -> Iterator[str]:
    of = f"container {container.get('name')}"
    security = container.get("securityContext") or {}
    if security.get("privileged"):
        yield f"{of} is privileged"
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{of} does not set allowPrivilegeEscalation to false"
    if security.get("procMount") not in (None, "Default"):
        yield f"{of} has procMount {security['procMount']}"
    yield from _capabilities(security.get("capabilities") or {}, of)
    yield from _user(security, of, is_pod=False)
    yield from _hosts(container, of)
    for port in container.get("ports") or ():
        if port.get("hostPort"):
            yield f"{of} has hostPort {port['hostPort']}"


def _hosts(container: Manifest, of: str) -> Iterator[str]:
    lifecycle = container.get("lifecycle") or {}
    handlers = [*map(container.get, _PROBES), *map(lifecycle.get, _HOOKS)]
    for handler in handlers:
        for kind in ("httpGet", "tcpSocket"):
            if host := ((handler or {}).get(kind) or {}).get("host"):
                yield f"{of} has a probe or hook of host {host}"


def _capabilities(capabilities: Manifest, of: str) -> Iterator[str]:
    if "ALL" not in (capabilities.get("drop") or ()):
        yield f"{of} does not drop all capabilities"
    for added in capabilities.get("add") or ():
        if added != "NET_BIND_SERVICE":
            yield f"{of} adds capability {added}"


def _user(security: Manifest, of: str, *, is_pod: bool) -> Iterator[str]:
    """Yield what is wrong with user and profiles; a container may leave them to its pod."""
    non_root, user = security.get("runAsNonRoot"), security.get("runAsUser")
    if non_root is False or (is_pod and non_root is not True):
        yield f"{of} does not set runAsNonRoot to true"
    if user == 0:
        yield f"{of} has runAsUser 0"
    seccomp: Any = (security.get("seccompProfile") or {}).get("type")
    if seccomp not in _PROFILES and (is_pod or seccomp is not None):
        yield f"{of} has seccompProfile {seccomp}, expected {' or '.join(_PROFILES)}"
    apparmor = (security.get("appArmorProfile") or {}).get("type")
    if apparmor not in (None, *_PROFILES):
        yield f"{of} has appArmorProfile {apparmor}"
    selinux = security.get("seLinuxOptions") or {}
    if selinux.get("user") or selinux.get("role"):
        yield f"{of} sets user or role of seLinuxOptions"
    if selinux.get("type") and selinux["type"] not in _SELINUX:
        yield f"{of} has type {selinux['type']} of seLinuxOptions"
    if (security.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{of} is a host process"
