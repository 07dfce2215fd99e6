"""What the images have in common, and the versions that are in their Dockerfiles alone."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

IMAGES = Path(__file__).resolve().parents[2] / "images"
PINS = dict(
    line.split("==")
    for line in (IMAGES.parent / "constraints.txt").read_text().split()
    if "==" in line
)
OWN = "FROM ${BASE} AS own"


def instructions(name: str) -> list[str]:
    """Return a Dockerfile's instructions, without comments, each on one line."""
    text = (IMAGES / f"{name}.Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", "").split("\n")


def of_our_own(name: str) -> list[str]:
    """Return the stage of our own packages, and the last one before it copies any."""
    found = instructions(name)
    copies = next(i for i, line in enumerate(found) if line.startswith("COPY --from="))
    return found[found.index(OWN) : copies]


def test_the_files_lay_our_own_packages_the_same_way() -> None:
    """Each of the three can be built alone, so they repeat some stages."""
    assert of_our_own("control") == of_our_own("train") == of_our_own("tensorrt")


def test_tensorrt_begins_as_train_does() -> None:
    train, tensorrt = instructions("train"), instructions("tensorrt")
    shared = train.index(OWN)

    assert tensorrt[:shared] == train[:shared]


def test_tensorrt_has_an_exact_version_of_each_package_and_goes_with_the_pinned_torch() -> None:
    [found] = re.findall(r'ARG TENSORRT="([^"]*)"', " ".join(instructions("tensorrt")))
    packages = [Requirement(text) for text in found.split()]

    assert all(str(package.specifier).startswith("==") for package in packages)
    [bridge] = [package for package in packages if package.name == "torch-tensorrt"]
    minor = Version(PINS["torch"]).release[:2]
    assert Version(str(bridge.specifier).removeprefix("==")).release[:2] == minor
