"""The control plane with the packages of its image alone: no numpy, no OpenCV, no `kubernetes`.

All other packages of the environment are hidden from the commands, as if they were not installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hbseg.config.specs import PrepareSpec
from hbseg.data.prepare import prepare
from hbseg.storage.opening import open_store
from tests.unit.cluster.fake_api import FakeApi, Reply
from tests.unit.cluster.pod import Authority, pod_environment, write_service_account
from tests.unit.data.conftest import write_hand
from tests.unit.requirements import BASE, CONTROL, closure

OWN = ("hbseg", "hbseg_cli", "hbseg_jobs", "hbseg_manifests")
S3 = ("--data", "s3://a/data", "--runs", "s3://a/runs")
RUN = """
import sys
from pathlib import Path
hidden, folder, *words = sys.argv[1:]
sys.modules.update(dict.fromkeys(hidden.split(",")))
from hbseg.cluster.requests import service_account
from hbseg_cli.main import main
service_account.FOLDER = Path(folder)
main(words)
"""
MODULES = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
for name in sys.argv[2:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), name + "."):
        importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def hidden() -> str:
    """Modules of all packages that the control image has not."""
    there = closure(CONTROL)
    return ",".join(
        module
        for module, owners in packages_distributions().items()
        if module not in OWN and not there & {canonicalize_name(owner) for owner in owners}
    )


def test_the_images_packages_are_of_the_base_and_leave_out_the_large_ones(hidden: str) -> None:
    left_out = {Requirement(text).name for text in set(BASE) - set(CONTROL)}

    assert set(CONTROL) <= set(BASE)
    of_pictures = {"jinja2", "numpy", "opencv-python-headless", "zstandard"}
    assert left_out == {*of_pictures, "kubernetes", "psutil"}
    assert {"kubernetes", "numpy", "cv2", "zstandard", "torch", "psutil"} <= set(hidden.split(","))


def test_every_module_of_the_control_plane_can_be_imported(hidden: str) -> None:
    control = ("cluster", "config", "control", "doctor", "launcher", "local", "runs", "storage")
    names = [f"hbseg.{name}" for name in (*control, "system")]

    command = [sys.executable, "-c", MODULES, hidden, *names, "hbseg_cli", "hbseg_jobs.launch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("server"))


@pytest.fixture
def api(authority: Authority) -> Iterator[FakeApi]:
    with authority.api() as server:
        yield server


class Pod:
    """A pod of the control image."""

    def __init__(self, home: Path, hidden: str, api: FakeApi, authority: Authority) -> None:
        self._hidden = hidden
        self._home = home
        self._account = write_service_account(home / "serviceaccount", authority)
        self._own = pod_environment(api, home) | {"XDG_CONFIG_HOME": str(home)}
        volumes = [{"claim": "sets", "path": str(home)}]
        settings = {"cluster": {"volumes": volumes, "image": "images.example/hbseg:1"}}
        (home / "hbseg.yaml").write_text(json.dumps(settings))

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("HBSEG_")}
        command = [sys.executable, "-c", RUN, self._hidden, str(self._account), *words]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=plain | self._own,
            cwd=self._home,
        )
        assert done.returncode == code, done.stderr
        return done


@pytest.fixture
def pod(tmp_path: Path, hidden: str, api: FakeApi, authority: Authority) -> Pod:
    return Pod(tmp_path, hidden, api, authority)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["config", "show"],
        ["submit-train", "--stage", "1", "--dry-run", *S3],
        ["submit-infer", "first", "--dry-run", *S3],
        ["render", "pipeline", *S3],
        ["list", "--runs", "runs", "-o", "json"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_command_needs_no_other_package(pod: Pod, words: list[str]) -> None:
    assert pod.run(*words).stdout


def test_the_doctor_of_a_machine_without_torch_says_so(
    pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the doctor loads torch in a process of its own
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('torch is not there')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = ("doctor", "--backend", "local", "--runs", "runs", "--data", "data", "-o", "json")

    found = {check["name"]: check for check in json.loads(pod.run(*words, code=5).stdout)["checks"]}
    assert found["torch"]["status"] == "failed"
    assert "torch is not there" in found["torch"]["message"]
    assert found["runs: write"]["status"] == "ok"


def test_a_pod_submits_a_training_and_looks_at_it(pod: Pod, api: FakeApi, tmp_path: Path) -> None:
    raw, data = tmp_path / "raw", tmp_path / "data"
    for number, split in enumerate(["train", "train", "test"]):
        write_hand(raw, split, f"ID00{number}", f"image16611308{number:02d}0.png", number)
    version = prepare(raw, open_store(data), PrepareSpec(folds=2), workers=1).version
    place = ("--data", str(data), "--runs", str(tmp_path / "runs"))

    pod.run("submit-train", "--stage", "1", "--run", "first", *place)

    spec = next(
        item for (plural, name), item in api.objects.items() if name.startswith("hbseg-spec")
    )
    assert version in json.dumps(spec)
    assert "stage1" in pod.run("status", "first", *place).stdout
    assert "first" in pod.run("list", *place[2:], "-o", "name").stdout
    pod.run("cancel", "first", "-y", *place[2:])
    assert ("pytorchjobs", "first-stage1") not in api.objects
    assert {request.headers["Authorization"] for request in api.requests} == {"Bearer first"}


@pytest.mark.parametrize("words", [["data", "synth", "out"], ["data", "check", "raw"], ["demo"]])
def test_a_command_on_pictures_says_what_it_lacks(
    pod: Pod, tmp_path: Path, words: list[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    done = pod.run(*words, code=2)

    assert "which this installation of hbseg lacks; run: pip install hbseg" in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_pod_runs_the_doctor_on_its_cluster(pod: Pod, api: FakeApi) -> None:
    api.plan("GET", "/version", Reply(body={"gitVersion": "v1.36.3"}))
    allowed = Reply(body={"status": {"allowed": True}})
    api.plan("POST", "selfsubjectaccessreviews", *[allowed] * 100)
    api.put("namespaces", {"metadata": {"name": "hands"}})
    done = pod.run("doctor", "--runs", "runs", "--data", "data", "-o", "json", code=5)

    told = {check["name"]: check["status"] for check in json.loads(done.stdout)["checks"]}
    assert told["api"] == told["clock"] == told["namespace"] == "ok"


def test_pictures_are_told_by_their_names_alone(hidden: str, tmp_path: Path) -> None:
    for name in ("a.PNG", "b.txt", ".c.png"):
        (tmp_path / name).write_bytes(b"")
    script = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[1].split(',')))\n"
        "from hbseg.data.picture_folder import picture_keys\n"
        "from hbseg.storage.opening import open_store\n"
        "print(picture_keys(open_store(sys.argv[2])))"
    )
    command = [sys.executable, "-c", script, hidden, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("['a.PNG']\n", "")
