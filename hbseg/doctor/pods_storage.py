"""Whether pods can reach the storage that is named here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from hbseg.config.profile import UNSEEN_FOLDER_HINT
from hbseg.doctor.check import Check, failed, ok
from hbseg.doctor.storage import endpoint
from hbseg.doctor.subject import Subject

_HERE: Final = re.compile(r"https?://(localhost|127\.\d+\.\d+\.\d+|\[::1\]|0\.0\.0\.0)([:/]|$)")
_CLOUD: Final = re.compile(r"https://[^/]*\.amazonaws\.com(\.cn)?([:/]|$)")
NAME: Final = "storage of pods"


def pods_storage(subject: Subject) -> Iterator[Check]:
    """Whether folders are mounted into pods, and whether the endpoint means the same there."""
    for name, url in subject.folders.items():
        if not subject.profile.sees(url):
            text = f"{name} is the folder {url}, which pods do not see"
            yield failed(NAME, text, UNSEEN_FOLDER_HINT)
    if any(url.startswith("s3://") for url in subject.folders.values()):
        yield _endpoint(subject)


def _endpoint(subject: Subject) -> Check:
    here = endpoint()
    there = subject.profile.s3_endpoint or subject.profile.environment.get("AWS_ENDPOINT_URL")
    if there is not None and _HERE.match(there):
        text = f"cluster.s3_endpoint is {there}, which in a pod is the pod itself"
        return failed(NAME, text, "give the address by which pods reach the server")
    if there is None and not _CLOUD.match(here):
        text = f"here S3 is {here}, and pods are told of no endpoint: they ask AWS"
        return failed(NAME, text, "set cluster.s3_endpoint in hbseg.yaml")
    return ok(NAME, f"pods ask {there or 'AWS'}, here it is {here}; --in-cluster tries it")
