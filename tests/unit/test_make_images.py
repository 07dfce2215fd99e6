"""`make images`: which builder it takes, what it prints, and what it refuses.

Stand-ins for the builders write down what they are called with. What buildah really makes is in
tests/cluster/test_images.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hbseg import __version__

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("bash", "cat", "dirname", "env", "git", "grep", "head", "make", "mktemp", "rm", "sed")
STAND_IN = """\
#!/usr/bin/env bash
echo "{name} $*" >>{calls}
for word in {fails}; do [ "$1" != "$word" ] || exit 1; done
while [ $# -gt 0 ]; do
  if [ "$1" = --digestfile ]; then echo -n sha256:0a >"$2"; fi
  shift
done
for digest in {digests}; do echo $digest; done
"""


class Machine:
    """A machine with some builders on its PATH."""

    def __init__(self, folder: Path) -> None:
        self._bin = folder / "bin"
        self._bin.mkdir()
        self._calls = folder / "calls"
        self._calls.touch()
        for name in NEEDED:
            (self._bin / name).symlink_to(shutil.which(name) or name)

    def has(self, name: str, *, fails: str = "", digests: str = "") -> None:
        """Put a builder on the PATH; `fails` are its commands that do."""
        text = STAND_IN.format(name=name, calls=self._calls, fails=fails, digests=digests)
        (self._bin / name).write_text(text)
        (self._bin / name).chmod(0o755)

    def make(self, *variables: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        others = {n: v for n, v in os.environ.items() if not n.startswith(("PIP_", "MAKE"))}
        done = subprocess.run(
            ["make", "--silent", "images", *variables],
            cwd=ROOT,
            env={**others, "PATH": str(self._bin)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == (code != 0), done.stderr
        return done

    def refusal(self, *variables: str) -> str:
        """Return the script's line, which comes before the one of make."""
        lines = self.make(*variables, code=1).stderr.splitlines()
        assert [line.split(":")[0] for line in lines] == ["images", "make"]
        return lines[0]

    def calls(self, command: str) -> list[list[str]]:
        """Return the words of each call of a builder's command."""
        called = [line.split() for line in self._calls.read_text().splitlines()]
        return [words for words in called if words[1] == command]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_a_registry_it_says_how_to_name_one(machine: Machine) -> None:
    machine.has("podman")
    told = "images: REGISTRY is not set; run: make images REGISTRY=registry.example/team"
    assert machine.refusal() == told


def test_an_image_that_is_not_there_is_named_with_those_that_are(machine: Machine) -> None:
    machine.has("podman")
    told = machine.refusal("REGISTRY=here", "IMAGES=control other")

    assert told.endswith("there is no image 'other'; expected some of: control train tensorrt")
    assert not machine.calls("build")


def test_without_a_builder_it_says_what_to_install(machine: Machine) -> None:
    assert machine.refusal("REGISTRY=here") == (
        "images: no builder; install docker, podman or buildah"
    )
    machine.has("docker", fails="info")
    assert machine.refusal("REGISTRY=here").endswith('docker is installed, but "docker info" fails')


def test_a_docker_without_its_daemon_leaves_the_work_to_the_next_builder(machine: Machine) -> None:
    machine.has("docker", fails="info")
    machine.has("podman")
    machine.has("buildah")

    done = machine.make("REGISTRY=here/team")

    assert {words[0] for words in machine.calls("build")} == {"podman"}
    assert yaml.safe_load(done.stdout) == {
        "profile": {
            "control_image": f"here/team/hbseg-control:{__version__}",
            "image": f"here/team/hbseg-train:{__version__}",
            "tensorrt_image": f"here/team/hbseg-tensorrt:{__version__}",
        }
    }
    assert "PUSH=1" in done.stderr
    assert not machine.calls("push")


def test_an_image_that_cannot_be_built_is_named_and_nothing_is_printed(machine: Machine) -> None:
    machine.has("buildah", fails="build")
    done = machine.make("REGISTRY=here", "IMAGES=train", code=1)

    assert done.stderr.startswith("images: train: the build failed, see above\n")
    assert done.stdout == ""


@pytest.mark.parametrize("builder", ["docker", "podman"])
def test_an_image_that_cannot_be_pushed_is_named(machine: Machine, builder: str) -> None:
    machine.has(builder, fails="push")
    told = machine.refusal("REGISTRY=here", "IMAGES=control", "PUSH=1")

    assert told == f"images: control: here/hbseg-control:{__version__} cannot be pushed, see above"


@pytest.mark.parametrize("builder", ["docker", "podman"])
def test_what_is_pushed_is_printed_by_its_digest(machine: Machine, builder: str) -> None:
    machine.has(builder, digests="other/hbseg-control@sha256:0b here/hbseg-control@sha256:0a")

    done = machine.make("REGISTRY=here/", "IMAGES=control", "PUSH=1")

    assert yaml.safe_load(done.stdout)["profile"] == {
        "control_image": "here/hbseg-control@sha256:0a"
    }


def test_a_base_and_pips_settings_reach_the_builder(machine: Machine, tmp_path: Path) -> None:
    machine.has("podman")
    for name in ("pip.conf", "ca.crt"):
        (tmp_path / name).touch()
    given = (f"PIP_CONFIG_FILE={tmp_path}/pip.conf", f"CA_BUNDLE={tmp_path}/ca.crt")

    machine.make("REGISTRY=r", "IMAGES=control", "BASE=b@sha256:1", *given, "BUILD_FLAGS=--a --b")

    [words] = machine.calls("build")
    for flag in (
        "--build-arg BASE=b@sha256:1",
        f"--build-arg VERSION={__version__}",
        f"--secret id=pip.conf,src={tmp_path}/pip.conf",
        f"--secret id=ca.crt,src={tmp_path}/ca.crt",
        "--file images/control.Dockerfile",
        "--a --b .",
    ):
        assert flag in " ".join(words)
