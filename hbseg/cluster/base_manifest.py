"""The plain YAML that every manifest starts from."""

from __future__ import annotations

from importlib import resources
from typing import Any

from hbseg.documents import load_yaml


def load_manifest(name: str) -> dict[str, Any]:
    """Return the content of `manifests/<name>`: a new one each time, to be completed."""
    text = resources.files("hbseg_manifests").joinpath(name).read_bytes()
    loaded: dict[str, Any] = load_yaml(text, source=f"manifests/{name}")
    return loaded
