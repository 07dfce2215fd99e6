"""Profiles as teams on real clusters write them, in YAML, and what is rendered with them."""

from __future__ import annotations

from typing import Any, Final

from hbseg.cluster.rendering.manifests import job_objects, runner_objects
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile
from hbseg.config.settings import SettingsFile
from tests.unit.cluster.rendering.cases import INFER, STAGE1

PROFILES: Final = {
    "openshift": """
        # The namespace has a range of users, and quotas that count limits.
        image: images.example/hbseg-train@sha256:{digest}
        control_image: images.example/hbseg-control@sha256:{digest}
        run_as_user: null
        credentials_secret: hbseg-s3
        s3_endpoint: https://s3.openshift-storage.example
        s3_addressing: path
        labels: {cost-center: "4711"}
        limits: {cpu: request, ephemeral_storage: request}
        priority_class: batch
        steps:
          training: {node_selector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}}
    """,
    "eks": """
        # Roles for service accounts instead of keys, EFA between nodes, Karpenter.
        image: 111122223333.dkr.ecr.eu-central-1.amazonaws.com/hbseg-train@sha256:{digest}
        control_image: 111122223333.dkr.ecr.eu-central-1.amazonaws.com/hbseg-control@sha256:{digest}
        service_account: hbseg-steps
        s3_region: eu-central-1
        annotations: {karpenter.sh/do-not-disrupt: "true"}
        job_annotations: {alpha.example/owner: vision}
        scratch: {size: 200Gi, storage_class: gp3}
        secret_environment: {WANDB_API_KEY: {secret: wandb, key: key, optional: true}}
        steps:
          training:
            node_selector: {node.kubernetes.io/instance-type: p5.48xlarge}
            tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
            devices: {vpc.amazonaws.com/efa: 32, hugepages-2Mi: 5120Mi}
            environment: {FI_PROVIDER: efa, NCCL_SOCKET_IFNAME: "^lo,docker"}
            spread_over: topology.kubernetes.io/zone
          others: {scratch: {size: 20Gi}}
    """,
    "k3s": """
        # GPUs need a runtime class, the S3 server is a gateway in the next rack.
        image: registry.lan:5000/hbseg-train:0.1.0
        control_image: registry.lan:5000/hbseg-control:0.1.0
        image_pull_policy: Always
        credentials_secret: minio
        s3_endpoint: http://minio.lan:9000
        s3_checksums: when_required
        s3_addressing: path
        gpu_runtime_class: nvidia
        tolerations:
          - {key: node.example/drain, effect: NoExecute, operator: Exists, tolerationSeconds: 60}
        volumes: [{claim: sets, path: /data, sub_path: team}]
    """,
    "mesh": """
        # Istio and Linkerd are told to leave the pods alone; Volcano starts gangs.
        image: images.example/hbseg-train:0.1.0
        control_image: images.example/hbseg-control:0.1.0
        credentials_secret: hbseg-s3
        labels: {sidecar.istio.io/inject: "false", team: vision}
        annotations: {linkerd.io/inject: disabled}
        scheduler: volcano
        gang: {queue: vision, priority_class: training}
        queue_priority: high
        queue: vision
        pod_overrides:
          metadata: {annotations: {example.com/profile: hands}}
          spec:
            dnsConfig: {options: [{name: ndots, value: "2"}]}
            containers:
              - name: main
                env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    """,
    "proxy": """
        # The way out is a proxy, and S3 has a certificate of the company's own authority.
        image: images.corp.example/hbseg-train:0.1.0
        control_image: images.corp.example/hbseg-control:0.1.0
        image_pull_secrets: [images]
        credentials_secret: hbseg-s3
        s3_endpoint: https://s3.corp.example
        ca_bundle: {config_map: corp-ca, key: ca.crt}
        environment:
          HTTPS_PROXY: http://proxy.corp.example:3128
          NO_PROXY: .svc,.cluster.local,s3.corp.example,169.254.169.254,169.254.170.23
        volumes: [{secret: gcp, path: /etc/gcp}, {config_map: hosts, path: /etc/team}]
    """,
}
"""YAML below `cluster:`, by the kind of cluster."""


def profile(name: str) -> ClusterProfile:
    """Return a profile as it is read from a file."""
    text = PROFILES[name].replace("{digest}", "0a" * 32)
    return SettingsFile.from_text(f"cluster:\n{text}", source=f"{name}.yaml").cluster


def rendered(name: str) -> list[dict[str, Any]]:
    """Return the objects of a training on two nodes, of inference and of the runner."""
    placement = Placement(nodes=2, processes_per_node=4, cluster=profile(name))
    settings = {"backend": "kubernetes", "data": "s3://team/data", "runs": "s3://team/runs"}
    return [
        *job_objects(STAGE1, placement),
        *job_objects(INFER, placement),
        *runner_objects("main", {}, settings, placement, owner="alice"),
    ]


def pods(name: str) -> dict[str, Any]:
    """Return the pods of a profile by the name of their step."""
    training, inference, runner = (item for item in rendered(name) if item["kind"] != "ConfigMap")
    (replica,) = training["spec"]["pytorchReplicaSpecs"].values()
    return {
        "stage1": replica["template"],
        "infer": inference["spec"]["template"],
        "pipeline": runner["spec"]["template"],
    }


def jobs(name: str) -> dict[str, Any]:
    """Return the jobs of a profile by the name of their step."""
    found = [item for item in rendered(name) if item["kind"] != "ConfigMap"]
    return {item["metadata"]["labels"]["hbseg.io/step"]: item for item in found}
