"""The node's components: which program each is, and with which flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.cluster.node.addresses import API_PORT, NODE, NODE_ADDRESS, SERVICE_NETWORK
from tests.cluster.node.build import Build
from tests.cluster.node.configuration import RUN, kubeconfig
from tests.cluster.node.operator_manifests import NAME, NAMESPACE
from tests.cluster.node.paths import State

ETCD = "http://127.0.0.1:2379"
PROBES = {
    "coredns": "http://127.0.0.1:8083/ready",
    "kubelet": "http://127.0.0.1:10248/healthz",
    NAME: "http://127.0.0.1:8081/readyz",
}
"""Where components say that they are ready; kube-apiserver says it to kubectl."""
OPERATOR_TMP = RUN / "operator-tmp"
"""The operator's own /tmp: it looks for its webhook's certificate at a fixed path below."""
OPERATOR_PROGRAMS = RUN / "bin"
OPERATOR_KUBECONFIG = RUN / "training-operator.kubeconfig"
"""Both in /run, because what the cache has may lie below /tmp."""
OPERATOR_CERTIFICATES = OPERATOR_TMP / "k8s-webhook-server" / "serving-certs"


@dataclass(frozen=True)
class Component:
    """A long-running process of the node."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def components(state: State, build: Build) -> dict[str, Component]:
    """Return every component by its name."""
    folder = state.configuration

    def of_kubernetes(name: str, *flags: str) -> Component:
        return Component([build.program(name), *flags])

    def with_kubeconfig(name: str, *flags: str) -> Component:
        return of_kubernetes(name, f"--kubeconfig={kubeconfig(folder, name)}", *flags)

    return {
        "containerd": Component(["containerd", "-c", str(folder / "containerd.toml")]),
        "etcd": of_kubernetes("etcd", *_etcd_flags()),
        "kube-apiserver": of_kubernetes("kube-apiserver", *_apiserver_flags(state)),
        "kube-controller-manager": with_kubeconfig(
            "kube-controller-manager",
            "--bind-address=127.0.0.1",
            # Its usual 20 requests a second make a start 2 s longer: one account per controller.
            "--kube-api-burst=400",
            "--kube-api-qps=200",
            "--leader-elect=false",
            f"--root-ca-file={state.keys}/ca.crt",
            f"--service-account-private-key-file={state.keys}/service-account.key",
            "--use-service-account-credentials=true",
        ),
        "kube-scheduler": with_kubeconfig(
            "kube-scheduler", "--bind-address=127.0.0.1", "--leader-elect=false"
        ),
        "kubelet": with_kubeconfig(
            "kubelet",
            f"--config={folder}/kubelet.yaml",
            f"--root-dir={RUN}/kubelet",
            f"--cert-dir={RUN}/kubelet-pki",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_ADDRESS}",
        ),
        "kube-proxy": of_kubernetes("kube-proxy", f"--config={folder}/kube-proxy.yaml"),
        "coredns": of_kubernetes("coredns", "-conf", str(folder / "Corefile")),
        NAME: _operator(),
    }


def _etcd_flags() -> list[str]:
    return [
        f"--data-dir={RUN}/etcd",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver_flags(state: State) -> list[str]:
    keys = state.keys
    return [
        f"--advertise-address={NODE_ADDRESS}",
        "--allow-privileged=true",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--bind-address=0.0.0.0",
        f"--client-ca-file={keys}/ca.crt",
        # Webhooks are called at the addresses of their EndpointSlice, without kube-proxy.
        "--enable-aggregator-routing=true",
        "--enable-admission-plugins=NodeRestriction",
        f"--etcd-servers={ETCD}",
        f"--kubelet-client-certificate={keys}/apiserver-kubelet.crt",
        f"--kubelet-client-key={keys}/apiserver-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
        f"--secure-port={API_PORT}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={keys}/service-account.pub",
        f"--service-account-signing-key-file={keys}/service-account.key",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        f"--tls-cert-file={keys}/kube-apiserver.crt",
        f"--tls-private-key-file={keys}/kube-apiserver.key",
    ]


def _operator() -> Component:
    """Return the training operator, in a mount namespace of its own with its own /tmp."""
    command = [
        f"{OPERATOR_PROGRAMS}/{NAME}",
        f"--kubeconfig={OPERATOR_KUBECONFIG}",
        "--enable-scheme=pytorchjob",
        "--metrics-bind-address=127.0.0.1:8080",
        f"--health-probe-bind-address={urlsplit(PROBES[NAME]).netloc}",
        "--zap-log-level=info",
    ]
    own_tmp = f'mount --bind {OPERATOR_TMP} /tmp && exec "$@"'
    return Component(
        ["unshare", "--mount", "sh", "-c", own_tmp, "sh", *command],
        {"MY_POD_NAMESPACE": NAMESPACE},
    )
