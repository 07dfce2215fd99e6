"""Checks of what the profile names: Secret, service account, volumes, queue, images."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Final

from hbseg.cluster.objects import Object
from hbseg.cluster.pods.template import KEYS, no_image
from hbseg.cluster.rendering.manifests import CONTROL_IMAGE_HINT, NO_CONTROL_IMAGE
from hbseg.cluster.requests.resources import (
    CLAIM,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    Resource,
)
from hbseg.config.profile import IMAGE_HINT, ImageKind, image_hint
from hbseg.doctor.check import Check, Status, failed, ok, warning
from hbseg.doctor.subject import Subject
from hbseg.errors import NotFoundError, UnreachableError
from hbseg.runs.engines import engine_steps

LOCAL_QUEUE: Final = Resource("kueue.x-k8s.io", "v1beta1", "localqueues", "LocalQueue")
PRIORITY_CLASS: Final = Resource(
    "scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False
)
RUNTIME_CLASS: Final = Resource(
    "node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False
)
STORAGE_CLASS: Final = Resource(
    "storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False
)


def secret(subject: Subject) -> Iterator[Check]:
    """Whether the Secret with the S3 keys has them; their values are never shown."""
    name, profile = subject.profile.credentials_secret, subject.profile
    if name is None:
        account = profile.service_account or "default"
        text = f"none is named: pods of service account {account} need workload identity"
        yield ok("secret", text)
        return
    make = (
        f"kubectl -n {subject.cluster.namespace} create secret generic {name} --from-env-file=FILE"
        f", FILE with {' and '.join(KEYS)}"
    )
    try:
        data = subject.cluster.get(SECRET, name).get("data") or {}
    except NotFoundError:
        yield failed("secret", f"no Secret {name}", make)
        return
    missing = [key for key in KEYS if not data.get(key)]
    blank = [key for key in KEYS if key not in missing and _has_blanks(data[key])]
    if missing:
        yield failed("secret", f"Secret {name} has no {' and no '.join(missing)}", make)
    elif blank:
        text = f"Secret {name}: {' and '.join(blank)} begins or ends with a blank or a line break"
        yield failed("secret", text, "create it again, e.g. with printf instead of echo")
    else:
        yield ok("secret", f"Secret {name} has {' and '.join(KEYS)}")


def _has_blanks(encoded: str) -> bool:
    value = base64.b64decode(encoded)
    return value != value.strip()


def pull_secrets(subject: Subject) -> Iterator[Check]:
    """Whether the Secrets for pulling images are there."""
    for name in subject.profile.image_pull_secrets:
        fix = f"make it: kubectl create secret docker-registry {name} --help"
        yield _there(subject, "pull secret", SECRET, name, fix)


def service_accounts(subject: Subject) -> Iterator[Check]:
    """Whether the service accounts of steps and of the pipeline's runner are there."""
    steps, runner = subject.profile.service_account, subject.profile.runner_service_account
    if steps is not None:
        fix = "create it, or correct cluster.service_account"
        yield _there(subject, "service account", SERVICE_ACCOUNT, steps, fix)
    found = _there(subject, "runner account", SERVICE_ACCOUNT, runner, "install the chart")
    if found.status == Status.FAILED:
        found = warning(found.name, f"{found.message}: no pipeline run --detach", found.fix)
    yield found


def priority_class(subject: Subject) -> Iterator[Check]:
    """Whether the priority classes are there."""
    for name in _named(profile.priority_class for profile in subject.profiles):
        fix = "correct cluster.priority_class; kubectl get priorityclasses lists them"
        yield _there(subject, "priority class", PRIORITY_CLASS, name, fix)


def runtime_class(subject: Subject) -> Iterator[Check]:
    """Whether the runtime classes of pods with GPUs are there."""
    for name in _named(profile.gpu_runtime_class for profile in subject.profiles):
        fix = "correct cluster.gpu_runtime_class; kubectl get runtimeclasses lists them"
        yield _there(subject, "runtime class", RUNTIME_CLASS, name, fix)


def storage_class(subject: Subject) -> Iterator[Check]:
    """Whether the storage classes of scratch disks are there."""
    for name in _named(profile.scratch.storage_class for profile in subject.profiles):
        fix = "correct cluster.scratch.storage_class; kubectl get storageclasses lists them"
        yield _there(subject, "storage class", STORAGE_CLASS, name, fix)


def environment(subject: Subject) -> Iterator[Check]:
    """Whether the keys of Secrets that become environment are there; values are never shown."""
    keys = {
        (name, key)
        for profile in subject.profiles
        for name, key in profile.secret_environment.items()
        if key is not None and not key.optional
    }
    for name, key in sorted(keys, key=str):
        fix = f"create it, or correct cluster.secret_environment.{name}"
        yield _key(subject, "environment", SECRET, key.secret, key.key, fix)


def ca_bundle(subject: Subject) -> Iterator[Check]:
    """Whether the certificates by which pods trust S3 are there."""
    bundle = subject.profile.ca_bundle
    if bundle is not None:
        kind = CONFIG_MAP if bundle.secret is None else SECRET
        name = bundle.secret or bundle.config_map or ""
        fix = "create it, or correct cluster.ca_bundle"
        yield _key(subject, "certificates", kind, name, bundle.key, fix)


def volumes(subject: Subject) -> Iterator[Check]:
    """Whether the claims, ConfigMaps and Secrets that are mounted are there and can be used."""
    fix = "create it, or correct cluster.volumes"
    mounted = [volume for profile in subject.profiles for volume in profile.volumes]
    for claim in _named(volume.claim for volume in mounted):
        try:
            found = subject.cluster.get(CLAIM, claim)
        except NotFoundError:
            yield failed("volume", f"no volume claim {claim}", fix)
        else:
            yield _claim(claim, found)
    for name in _named(volume.config_map for volume in mounted):
        yield _there(subject, "volume", CONFIG_MAP, name, fix)
    for name in _named(volume.secret for volume in mounted):
        yield _there(subject, "volume", SECRET, name, fix)


def _named(names: Iterable[str | None]) -> list[str]:
    """Return each name once."""
    return list(dict.fromkeys(name for name in names if name is not None))


def _key(subject: Subject, what: str, kind: Resource, name: str, key: str, fix: str) -> Check:
    try:
        data = subject.cluster.get(kind, name).get("data") or {}
    except NotFoundError:
        return failed(what, f"no {kind.kind} {name}", fix)
    if not data.get(key):
        return failed(what, f"{kind.kind} {name} has no key {key}", fix)
    return ok(what, f"{kind.kind} {name} has {key}")


def _claim(name: str, claim: Object) -> Check:
    phase = (claim.get("status") or {}).get("phase")
    if phase == "Lost":
        return failed("volume", f"the volume of claim {name} is lost", "create the claim again")
    if phase != "Bound":
        text = f"claim {name} is {phase}: it may be bound when the first pod needs it"
        return warning("volume", text, f"kubectl describe persistentvolumeclaim {name}")
    return ok("volume", f"claim {name} is bound")


def images(subject: Subject) -> Iterator[Check]:
    """Whether images are named, and cannot change under their names where nodes keep them."""
    if steps := subject.steps_by(lambda profile: profile.image is None).get(True):
        yield failed("image", f"no image for the pods of {steps}", IMAGE_HINT)
        return
    named = _named(
        profile.image_of(kind)
        for profile in subject.profiles
        if profile.image_pull_policy == "IfNotPresent"
        for kind in ImageKind
    )
    if tagged := [image for image in named if "@" not in image]:
        text = f"{', '.join(tagged)}: by tag, so a node may keep an older image of that name"
        yield warning("image", text, "pin a digest: cluster.image: NAME@sha256:...")
    elif named:
        yield ok("image", "all are given by digest")


def runner_image(subject: Subject) -> Iterator[Check]:
    """Whether the image of the pipeline's runner is named; steps need none of it."""
    if subject.runner_profile.image_of(ImageKind.CONTROL) is None:
        yield warning("runner image", NO_CONTROL_IMAGE, CONTROL_IMAGE_HINT)


def tensorrt_image(subject: Subject) -> Iterator[Check]:
    """Whether the image of TensorRT engines is named, where GPUs make them what is compiled."""
    kind, profiles = ImageKind.TENSORRT, {s: subject.step_profiles[s] for s in engine_steps()}
    lacking = [step for step, profile in profiles.items() if profile.image_of(kind) is None]
    if lacking and all(profile.gpus_per_process for profile in profiles.values()):
        yield warning("tensorrt image", no_image(kind, *lacking), image_hint(kind))


def queue(subject: Subject) -> Iterator[Check]:
    """Whether Kueue's queues are there and admit."""
    for name in _named(profile.queue for profile in subject.profiles):
        yield from _queue(subject, name)


def _queue(subject: Subject, name: str) -> Iterator[Check]:
    try:
        found = subject.cluster.get(LOCAL_QUEUE, name)
    except NotFoundError:
        fix = "correct cluster.queue; kubectl get localqueues lists them"
        yield failed("queue", f"no LocalQueue {name}", fix)
        return
    except UnreachableError as error:
        fix = "install Kueue, or take cluster.queue out of the profile"
        yield failed("queue", error.message, fix)
        return
    for condition in (found.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Active" and condition.get("status") == "False":
            text = f"LocalQueue {name} does not admit: {condition.get('message')}"
            yield failed("queue", text, "ask who runs Kueue")
            return
    yield ok("queue", f"LocalQueue {name} is there")


def _there(subject: Subject, what: str, kind: Resource, name: str, fix: str) -> Check:
    try:
        subject.cluster.get(kind, name)
    except NotFoundError:
        return failed(what, f"no {kind.kind} {name}", fix)
    return ok(what, f"{kind.kind} {name} is there")
