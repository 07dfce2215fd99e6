"""Checks of the training operator, and of our jobs before any is made."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

from hbseg.cluster.kinds import kind_of
from hbseg.cluster.objects import Manifest
from hbseg.cluster.requests.resources import POD, PYTORCH_JOB, Resource
from hbseg.doctor.check import Check, failed, ok, unknown, warning
from hbseg.doctor.subject import Subject, pod_of
from hbseg.errors import DeniedError, InvalidInput

DEPLOYMENT: Final = Resource("apps", "v1", "deployments", "Deployment", namespaced=False)
"""Deployments of all namespaces."""
OPERATOR: Final = "training-operator"


def crd(subject: Subject) -> Iterator[Check]:
    """Whether the cluster knows PyTorchJobs."""
    subject.cluster.list(PYTORCH_JOB, fields=f"metadata.name={_name()}")
    yield ok("pytorchjobs", "the cluster knows PyTorchJob kubeflow.org/v1")


def running(subject: Subject) -> Iterator[Check]:
    """Whether the operator's Deployment, where it may be seen, is ready."""
    found = subject.cluster.list(DEPLOYMENT, fields=f"metadata.name={OPERATOR}")
    if not found:
        yield unknown("operator", f"no Deployment {OPERATOR} found; see the dry run")
        return
    place = found[0]["metadata"]["namespace"]
    ready = (found[0].get("status") or {}).get("readyReplicas") or 0
    if ready:
        yield ok("operator", f"runs in namespace {place}")
    else:
        fix = f"kubectl -n {place} describe deployment {OPERATOR}"
        yield failed("operator", f"Deployment {OPERATOR} in {place} has no ready pod", fix)


def training(subject: Subject) -> Iterator[Check]:
    """Whether the API server and the operator's webhook take a training as we make it."""
    _try(subject, subject.training(_name()))
    yield ok("dry run: PyTorchJob", "the server and the operator's webhook take our training")


def batch(subject: Subject) -> Iterator[Check]:
    """Whether the API server takes a batch Job as we make it."""
    _try(subject, subject.report(_name()))
    yield ok("dry run: Job", "the server takes our batch jobs")


def pod(subject: Subject) -> Iterator[Check]:
    """Whether the namespace lets a training's pod in; jobs are let in whatever their pods are."""
    name = "dry run: pod"
    try:
        subject.cluster.create(POD, _pod(subject), dry_run=True)
    except DeniedError as error:
        yield unknown(name, f"{error.message}, which is not needed: the operator makes them")
    except InvalidInput as error:
        if "exceeded quota" not in error.message:
            raise
        yield warning(name, f"{error.message}: it would wait", "see the quota above")
    else:
        yield ok(name, "the namespace lets a training's pod in")


def _try(subject: Subject, job: Manifest) -> None:
    subject.cluster.create(kind_of(job).resource, job, dry_run=True)


def _pod(subject: Subject) -> Manifest:
    name = _name()
    template, _ = pod_of(subject.training(name))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": name, "namespace": subject.cluster.namespace},
        "spec": template["spec"],
    }


def _name() -> str:
    return f"doctor-{uuid.uuid4().hex[:8]}"
