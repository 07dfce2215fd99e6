"""The files that the node's components read, written anew for each start."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.node.addresses import (
    API_PORT,
    KUBELET_PORT,
    NODE,
    NODE_ADDRESS,
    POD_NETWORK,
)
from tests.cluster.node.certificates import CLIENTS, Authority
from tests.cluster.node.images import PAUSE
from tests.cluster.node.paths import State
from tests.cluster.node.requirements import PLUGINS

RUN = Path("/run/hbseg")
"""The components' data. Inside the node /run is a file system of its own, that ends with it."""
CONTAINERD_SOCKET = RUN / "containerd.sock"
API = f"https://{NODE_ADDRESS}:{API_PORT}"

_CONTAINERD = f"""\
version = 2
root = "{RUN}/containerd/root"
state = "{RUN}/containerd/state"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{{configuration}}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""
_COREFILE = f"""\
.:53 {{{{
  bind {NODE_ADDRESS}
  errors
  health 127.0.0.1:8082
  ready 127.0.0.1:8083
  kubernetes cluster.local in-addr.arpa {{{{
    kubeconfig {{kubeconfig}}
    pods insecure
    ttl 1
  }}}}
}}}}
"""


def write_configuration(state: State, authority: Authority, host_port: int) -> None:
    """Write every component's files; `host_port` leads from the host's loopback to the API."""
    folder = state.configuration
    folder.mkdir(mode=0o700, parents=True)
    for name in CLIENTS:
        user = _certificate_user(authority, name)
        write_kubeconfig(kubeconfig(folder, name), API, authority, user)
    outside = f"https://127.0.0.1:{host_port}"
    admin = _certificate_user(authority, "admin")
    write_kubeconfig(state.kubeconfig, outside, authority, admin)
    (folder / "containerd.toml").write_text(_CONTAINERD.format(configuration=folder))
    (folder / "Corefile").write_text(_COREFILE.format(kubeconfig=kubeconfig(folder, "admin")))
    (folder / "resolv.conf").touch()
    (folder / "cni").mkdir()
    _write_json(folder / "cni" / "10-hbseg.conflist", _network())
    _write_json(folder / "kubelet.yaml", _kubelet(folder, authority, state.cgroup))
    _write_json(folder / "kube-proxy.yaml", _proxy(folder))


def kubeconfig(folder: Path, name: str) -> Path:
    """Return the path of the kubeconfig with which the client `name` finds the API server."""
    return folder / f"{name}.kubeconfig"


def write_kubeconfig(
    path: Path, server: str, authority: Authority, user: Mapping[str, str]
) -> None:
    """Write a kubeconfig that needs no other file, readable by the owner only."""
    cluster = {
        "server": server,
        "certificate-authority-data": _base64(authority.certificate("ca")),
    }
    context = {"cluster": "hbseg-test", "user": "hbseg-test", "namespace": "default"}
    path.touch(mode=0o600)
    _write_json(
        path,
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "hbseg-test",
            "clusters": [{"name": "hbseg-test", "cluster": cluster}],
            "users": [{"name": "hbseg-test", "user": dict(user)}],
            "contexts": [{"name": "hbseg-test", "context": context}],
        },
    )


def _certificate_user(authority: Authority, name: str) -> dict[str, str]:
    return {
        "client-certificate-data": _base64(authority.certificate(name)),
        "client-key-data": _base64(authority.key(name)),
    }


def _network() -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": str(RUN / "cni-addresses"),
        "ranges": [[{"subnet": POD_NETWORK}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "0.4.0",
        "name": "hbseg",
        "plugins": [
            {"type": "ptp", "mtu": 1500, "ipMasq": False, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }


def _kubelet(folder: Path, authority: Authority, cgroup: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "port": KUBELET_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(folder / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "podLogsDir": str(RUN / "pod-logs"),
        "volumePluginDir": str(RUN / "volume-plugins"),
        "syncFrequency": "5s",
        # A full disk of the machine is not the node's business, until its own last percent.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 60,
    }


def _proxy(folder: Path) -> dict[str, object]:
    # Limits of connection tracking belong to the machine: zero leaves them as they are.
    untouched = {
        "maxPerCore": 0,
        "min": 0,
        "tcpEstablishedTimeout": "0s",
        "tcpCloseWaitTimeout": "0s",
    }
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": NODE,
        "clusterCIDR": POD_NETWORK,
        "detectLocalMode": "ClusterCIDR",
        "clientConnection": {"kubeconfig": str(kubeconfig(folder, "kube-proxy"))},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "linux": {"oomScoreAdj": 0},
        "conntrack": untouched,
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
