"""A short batch Job that looks at storage from inside the cluster, for the doctor.

It gets image, Secret, endpoint, service account and place of a step, so that what keeps a step
from starting keeps it too; it is deleted whatever happens.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from hbseg import __version__
from hbseg.cluster.base_manifest import load_manifest
from hbseg.cluster.objects import Manifest, Object
from hbseg.cluster.observe.events import is_about
from hbseg.cluster.observe.pending import job_reason
from hbseg.cluster.pods.containers import Role, containers, main_container
from hbseg.cluster.pods.resources import set_limits
from hbseg.cluster.pods.states import failure_of_pod, has_ended, has_started
from hbseg.cluster.pods.template import complete_pod, escape_variables
from hbseg.cluster.rendering.manifests import job_labels
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.informer import Informer, Watched
from hbseg.cluster.requests.resources import EVENT, JOB, POD
from hbseg.config.profile import ImageKind, PodGroup, stand_in_image
from hbseg.doctor.check import Check, failed, ok
from hbseg.doctor.report import DoctorReport
from hbseg.doctor.subject import Subject
from hbseg.errors import HbsegError, SpecError

HOPELESS: Final = (
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
)
"""Why a container waits, where waiting longer does not help."""

_PARTS: Final = {f"app.kubernetes.io/{name}": "hbseg" for name in ("name", "part-of", "managed-by")}


def probe(subject: Subject, seconds: float) -> Iterator[Check]:
    """Yield what a pod found, or why none got to look within `seconds`."""
    job = probe_job(subject, seconds)
    name = job["metadata"]["name"]
    subject.cluster.create(JOB, job)
    try:
        began = time.monotonic()
        pod = _ended(subject.cluster, name, seconds)
        if isinstance(pod, str):
            events = f"kubectl -n {subject.cluster.namespace} get events"
            yield failed("pod", pod, f"see: {events}; image and Secret stand under cluster:")
        else:
            yield from _findings(pod, time.monotonic() - began)
    finally:
        with suppress(HbsegError):
            subject.cluster.delete(JOB, name)


def probe_job(subject: Subject, seconds: float) -> Manifest:
    """Return the job."""
    profile = subject.profile.for_pods(PodGroup.OTHERS).model_copy(update={"spread_over": None})
    job = load_manifest("probe.yaml")
    job["metadata"] = {
        "name": f"hbseg-doctor-{uuid.uuid4().hex[:8]}",
        "namespace": subject.cluster.namespace,
        "labels": job_labels(profile, dict(_PARTS)),
    }
    job["spec"]["activeDeadlineSeconds"] = int(seconds) + 60
    template = job["spec"]["template"]
    container = template["spec"]["containers"][0]
    container["image"] = profile.image or stand_in_image(ImageKind.TRAIN)
    set_limits(container, profile)
    folders = [f"--folder={name}={url}" for name, url in subject.folders.items()]
    container["args"] = [escape_variables(a) for a in ("--expect", __version__, *folders)]
    if profile.service_account is not None:
        template["spec"]["serviceAccountName"] = profile.service_account
    complete_pod(template, profile, dict(_PARTS))
    return job


def _ended(cluster: Cluster, name: str, seconds: float) -> Object | str:
    """Return the job's pod when its main container has ended.

    Else return why it does not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    watched = (
        Watched(JOB, fields=f"metadata.name={name}"),
        Watched(POD, labels=f"batch.kubernetes.io/job-name={name}"),
        Watched(EVENT, optional=True),
    )
    with Informer(cluster, watched) as informer:
        while True:
            pods = informer.objects(POD)
            if ended := next(filter(has_ended, pods), None):
                return ended
            if failure := next(filter(None, map(failure_of_pod, pods)), None):
                return failure.reason
            events = [event for event in informer.objects(EVENT) if is_about(event, [name])]
            jobs = informer.objects(JOB)
            why = job_reason(jobs[0], pods, events, cluster.now(), None) if jobs else "it is gone"
            if not jobs or _is_hopeless(pods, events):
                return why
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return f"it did not end within {seconds:g} s: {why or 'it runs'}"
            informer.wait(remaining)


def _is_hopeless(pods: Sequence[Object], events: Iterable[Object]) -> bool:
    """Return whether waiting longer does not help."""
    if not pods:
        return any(event.get("reason") == "FailedCreate" for event in events)
    return any(_is_stuck(pod) for pod in pods if not has_started(pod))


def _is_stuck(pod: Object) -> bool:
    """Return whether a container that the main one has to wait for, or itself, will never start."""
    states = (item.state for item in containers(pod) if item.role != Role.SIDECAR)
    return any((state.get("waiting") or {}).get("reason") in HOPELESS for state in states)


def _findings(pod: Object, seconds: float) -> Iterator[Check]:
    ended = main_container(pod).end or {}
    message = str(ended.get("message") or "")
    try:
        report = DoctorReport.from_text(message, source="the pod's report")
    except SpecError:
        text = f"it ended with code {ended.get('exitCode')}: {message.strip()[-300:] or 'no word'}"
        yield failed("pod", text, "use an image with this version of hbseg: cluster.image")
        return
    node = (pod.get("spec") or {}).get("nodeName")
    yield ok("pod", f"pulled, started and ended on {node} in {seconds:.0f} s")
    for check in report.checks:
        yield check.model_copy(update={"name": f"pod: {check.name}"})
