"""Whether pods can reach the storage that is named here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from hbseg.config.profile import UNSEEN_FOLDER_HINT, ClusterProfile
from hbseg.doctor.check import Check, failed, ok
from hbseg.doctor.network import pods_endpoint
from hbseg.doctor.storage import endpoint
from hbseg.doctor.subject import Subject

_HERE: Final = re.compile(r"https?://(localhost|127\.\d+\.\d+\.\d+|\[::1\]|0\.0\.0\.0)([:/]|$)")
_CLOUD: Final = re.compile(r"https://[^/]*\.amazonaws\.com(\.cn)?([:/]|$)")
NAME: Final = "storage of pods"


def pods_storage(subject: Subject) -> Iterator[Check]:
    """Whether folders are mounted into pods, and whether the endpoint means the same there."""
    for name, url in subject.folders.items():
        if steps := subject.steps_by(partial(ClusterProfile.sees, url=url)).get(False):
            text = f"{name} is the folder {url}, which the pods of {steps} do not see"
            yield failed(NAME, text, UNSEEN_FOLDER_HINT)
    if any(url.startswith("s3://") for url in subject.folders.values()):
        for there, steps in subject.steps_by(pods_endpoint).items():
            yield _endpoint(there, steps)


def _endpoint(there: str | None, steps: str) -> Check:
    here = endpoint()
    if there is not None and _HERE.match(there):
        text = f"the S3 endpoint of the pods of {steps} is {there}, which there is the pod itself"
        return failed(NAME, text, "set cluster.s3_endpoint to the address that pods reach")
    if there is None and not _CLOUD.match(here):
        text = f"here S3 is {here}, and the pods of {steps} are told of no endpoint: they ask AWS"
        return failed(NAME, text, "set cluster.s3_endpoint in hbseg.yaml")
    asked = there or "AWS"
    return ok(NAME, f"the pods of {steps} ask {asked}, here it is {here}; --in-cluster tries it")
