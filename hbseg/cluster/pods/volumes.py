"""Volumes of a pod: its scratch disk, certificates that it trusts, and those of the profile."""

from __future__ import annotations

from hbseg.cluster.objects import Manifest
from hbseg.config.kubernetes_types import CA_FOLDER
from hbseg.config.pod_profile import CaBundle, Scratch, Volume
from hbseg.config.profile import ClusterProfile


def set_scratch(volume: Manifest, scratch: Scratch) -> None:
    """Make a volume the scratch disk: the node's own, or a claim that lives with the pod."""
    if scratch.storage_class is None:
        volume["emptyDir"] = {"sizeLimit": scratch.size}
        return
    del volume["emptyDir"]
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": scratch.storage_class,
        "resources": {"requests": {"storage": scratch.size}},
    }
    volume["ephemeral"] = {"volumeClaimTemplate": {"spec": claim}}


def add_volumes(pod: Manifest, container: Manifest, profile: ClusterProfile) -> None:
    """Mount the volumes of the profile, and the certificates that pods are to trust."""
    if profile.ca_bundle is not None:
        pod["volumes"].append({"name": "ca", **_certificates(profile.ca_bundle)})
        mount = {"name": "ca", "mountPath": CA_FOLDER, "readOnly": True}
        container["volumeMounts"].append(mount)
    for number, volume in enumerate(profile.volumes):
        name = f"volume-{number}"
        pod["volumes"].append({"name": name, **_source(volume)})
        container["volumeMounts"].append(_mount(name, volume))


def _certificates(bundle: CaBundle) -> Manifest:
    if bundle.secret is not None:
        return {"secret": {"secretName": bundle.secret}}
    return {"configMap": {"name": bundle.config_map}}


def _source(volume: Volume) -> Manifest:
    if volume.claim is not None:
        return {"persistentVolumeClaim": {"claimName": volume.claim, "readOnly": volume.read_only}}
    if volume.secret is not None:
        return {"secret": {"secretName": volume.secret}}
    return {"configMap": {"name": volume.config_map}}


def _mount(name: str, volume: Volume) -> Manifest:
    mount = {"name": name, "mountPath": volume.path, "readOnly": volume.read_only}
    return mount if volume.sub_path is None else {**mount, "subPath": volume.sub_path}
