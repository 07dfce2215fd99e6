"""What is wrong with a manifest that the cluster takes, and then breaks on.

The training operator's webhook refuses some mistakes and lets others through (design: its
version 1.9.4): a job with too long a name never gets its Services, one with an unknown policy
waits for ever. The rules here, and those of each kind of job, know both, so that a mistake shows
before a GPU is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hbseg.cluster.kinds import named_kind
from hbseg.cluster.kinds.job_kind import JobKind
from hbseg.cluster.objects import Manifest
from hbseg.cluster.pods.rules import MAX_LABEL

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


def problems(manifest: Manifest) -> list[str]:
    """Return what is wrong, a sentence each; nothing where the manifest is good.

    Kinds that hbseg does not render are only looked at for their names and labels.
    """
    found = list(_metadata(manifest.get("metadata", {})))
    if kind := named_kind(manifest.get("kind", "")):
        found += [*_name_length(manifest, kind), *kind.problems(manifest)]
    return found


def _metadata(metadata: Manifest) -> Iterator[str]:
    name = metadata.get("name") or ""
    if not _DNS_1035.fullmatch(name):
        yield f"name {name!r:.80} is not a letter, then a-z, 0-9 and -"
    for label, value in metadata.get("labels", {}).items():
        if not isinstance(value, str) or len(value) > MAX_LABEL or not _LABEL.fullmatch(value):
            expected = f"at most {MAX_LABEL} of a-z, 0-9, - and ."
            yield f"label {label} is {value!r:.80}, expected {expected}"


def _name_length(job: Manifest, kind: JobKind) -> Iterator[str]:
    length = len(job["metadata"].get("name") or "")
    if length > kind.longest_name:
        yield f"name has {length} characters, a {kind.noun} may have {kind.longest_name}"
