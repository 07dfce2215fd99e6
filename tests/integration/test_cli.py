"""The command line over runs whose steps are fakes, and over a real dataset."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hbseg.anatomy import BONES
from hbseg.config.specs import DatasetBlock, PrepareSpec, TrainSpec
from hbseg.data.dataset import Dataset, open_version
from hbseg.data.prepare import prepare
from hbseg.data.synth import write_raw_set
from hbseg.runs.backend import Phase
from hbseg.runs.results import Flag, FlaggedImage, FlagKind, Flags
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.markers import sha256_of, write_marker
from hbseg.storage.opening import open_store
from hbseg.submission import Image, header, rows
from tests.conftest import S3Place
from tests.integration.conftest import STATE_SECONDS, Local, until


def hbseg(local: Local, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments), env=environment(local), capture_output=True, text=True
    )


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hbseg_cli", *arguments]


def environment(local: Local) -> dict[str, str]:
    return {
        **os.environ,
        "HBSEG_BACKEND": "local",
        "HBSEG_RUNS": str(local.folder / "runs"),
        "HBSEG_DATA": local.data.url,
        "XDG_CONFIG_HOME": str(local.folder),
    }


def test_a_followed_log_ends_with_its_step(local: Local) -> None:
    gate = local.folder / "gate"
    local.fake(compile=[f"gate {gate}"])
    local.submit(local.task())
    local.run.summarise(steps={"engine/abc": "running"})
    with subprocess.Popen(
        command("logs", "first", "-f"), env=environment(local), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "acts: gate" in process.stdout.readline()
        assert process.poll() is None
        gate.touch()
        assert "to stderr 손" in process.stdout.read()
        assert process.wait(STATE_SECONDS) == 0


def test_status_and_cancel_see_what_runs(local: Local) -> None:
    local.fake(compile=["wait"])
    local.submit(local.task())
    local.run.summarise(steps={"engine/abc": "running"})
    local.until_log(local.task(), "acts: wait")

    assert "running" in hbseg(local, "status", "first").stdout
    refused = hbseg(local, "delete", "first", "-y")
    assert refused.returncode == 5
    assert "hbseg cancel first" in refused.stderr
    assert hbseg(local, "cancel", "first", "-y").returncode == 0
    assert "cancelled" in hbseg(local, "status", "first").stdout
    assert local.backend.state(local.run, "engine-abc").phase == Phase.CANCELLED
    assert "nothing of run first is running" in hbseg(local, "cancel", "first", "-y").stderr
    assert hbseg(local, "delete", "first", "-y").returncode == 0
    assert not local.backend.folder(local.run).exists()


WAIT = """
import sys
from hbseg.runs.steps import Step
for step in Step:
    step.row = step.row._replace(module="tests.integration.fakes.fake_step")
from hbseg_cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture
def waiting(local: Local) -> "subprocess.Popen[str]":
    """A `submit-infer --wait` whose step, a fake one, waits for ever."""
    engine = local.run.folder.folder("engine/abc")
    stage = local.run.folder.folder("stage2")
    spec = TrainSpec(stage=2, dataset=DatasetBlock(version="0123456789abcdef"))
    stage.put("spec.yaml", spec.to_yaml().encode())
    marker = write_marker(stage, step="stage2", spec_hash="x", inputs={}, outputs={})
    engine.put("engine.json", b'{"batch_size": 8}')
    inputs = {"checkpoint": marker.digest}
    write_marker(engine, step="compile", spec_hash="x", inputs=inputs, outputs={})
    local.fake(infer=["wait"])
    arguments = ("submit-infer", "first", "--wait")
    return subprocess.Popen(
        [sys.executable, "-c", WAIT, *arguments],
        env=environment(local),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_a_step_outlives_the_command_that_waits_for_it(
    local: Local, waiting: "subprocess.Popen[str]", signum: signal.Signals
) -> None:
    with waiting:
        until(lambda: local.backend.state(local.run, "infer").attempt == 1, "infer runs")
        local.until_log(local.task(Step.INFER), "acts: wait")
        waiting.send_signal(signum)
        _, errors = waiting.communicate(timeout=STATE_SECONDS)

    if signum == signal.SIGINT:
        assert waiting.returncode == 130
        assert "infer keeps running" in errors
    assert local.backend.state(local.run, "infer").phase == Phase.RUNNING
    assert local.backend.cancel(local.run, "infer")


def test_a_waited_for_step_that_is_cancelled_is_exit_103(
    local: Local, waiting: "subprocess.Popen[str]"
) -> None:
    with waiting:
        until(lambda: local.backend.state(local.run, "infer").attempt == 1, "infer runs")
        local.until_log(local.task(Step.INFER), "acts: wait")
        local.backend.cancel(local.run, "infer")
        _, errors = waiting.communicate(timeout=STATE_SECONDS)

    assert waiting.returncode == 103
    assert "error: infer of run first was cancelled; see: hbseg logs first --step infer" in errors


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("dataset")
    write_raw_set(folder / "raw", hands=4, test_hands=2, seed=1, workers=2)
    data = open_store(folder / "data")
    prepare(folder / "raw", data, PrepareSpec(folds=2))
    return open_version(data)


def submitted(runs: str, dataset: Dataset, text: str, flags: bytes | None = None) -> Run:
    """Return a run whose infer step left `text` as its submission, and flags."""
    run = Run(open_store(runs), "first")
    run.claim(data=dataset.folder.url.rpartition("/versions/")[0])
    stage = run.folder.folder("stage2")
    spec = TrainSpec(stage=2, dataset=DatasetBlock(version=dataset.version))
    stage.put("spec.yaml", spec.to_yaml().encode())
    write_marker(stage, step="stage2", spec_hash="x", inputs={}, outputs={})
    infer = run.folder.folder("infer")
    infer.put("submission.csv", text.encode())
    outputs = {"submission.csv": sha256_of(text.encode())}
    if flags is not None:
        infer.put("flags.json", flags)
        outputs["flags.json"] = sha256_of(flags)
    write_marker(infer, step="infer", spec_hash="x", inputs={}, outputs=outputs)
    return run


def expected(dataset: Dataset) -> str:
    images = [Image(s.path, s.height, s.width) for s in dataset.samples("test")]
    return header() + "".join(rows(image, ["1 2"] * len(BONES)) for image in images)


def test_a_valid_submission_is_put_in_place(local: Local, dataset: Dataset, tmp_path: Path) -> None:
    submitted(str(tmp_path / "other"), dataset, expected(dataset))
    target = tmp_path / "out" / "submission.csv"

    arguments = ("--runs", str(tmp_path / "other"), "--to", str(target))
    outcome = hbseg(local, "fetch-submission", "first", *arguments)

    # the run's own claim says where its data are; HBSEG_DATA leads elsewhere here
    assert outcome.returncode == 5
    assert f"not {local.data.url}; give --data " in outcome.stderr
    environment_data = dataset.folder.url.rpartition("/versions/")[0]
    outcome = hbseg(local, "fetch-submission", "first", *arguments, "--data", environment_data)
    assert outcome.returncode == 0, outcome.stderr
    assert target.read_text() == expected(dataset)
    assert os.listdir(target.parent) == ["submission.csv"]


def test_the_flags_are_beside_the_submission_and_their_number_is_told(
    local: Local, dataset: Dataset, tmp_path: Path
) -> None:
    flag = Flag(kind=FlagKind.MISSING, bone="Ulna", severity=1.0, text="Ulna has an empty mask")
    flags = Flags(images=2, flagged=(FlaggedImage(image="b.png", flags=(flag,)),))
    submitted(str(tmp_path / "other"), dataset, expected(dataset), flags.to_json())
    target = tmp_path / "out" / "masks.v2.csv"
    data = dataset.folder.url.rpartition("/versions/")[0]
    arguments = ("--runs", str(tmp_path / "other"), "--to", str(target), "--data", data)

    outcome = hbseg(local, "fetch-submission", "first", *arguments, "-o", "json")

    sidecar = tmp_path / "out" / "masks.v2.flags.json"
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout)["flags"] == str(sidecar)
    assert Flags.from_text(sidecar.read_bytes(), source="flags") == flags
    assert outcome.stderr.splitlines() == [
        f"wrote {target}",
        "1 of 2 images are flagged; the first: b.png: Ulna has an empty mask",
    ]


def test_damaged_flags_are_refused(local: Local, dataset: Dataset, tmp_path: Path) -> None:
    run = submitted(str(tmp_path / "other"), dataset, expected(dataset), Flags(images=2).to_json())
    run.folder.put("infer/flags.json", b"{}")
    target = tmp_path / "masks.csv"
    data = dataset.folder.url.rpartition("/versions/")[0]
    arguments = ("--runs", str(tmp_path / "other"), "--to", str(target), "--data", data)

    outcome = hbseg(local, "fetch-submission", "first", *arguments)

    assert outcome.returncode == 5
    assert "infer/flags.json is damaged: sha256 is" in outcome.stderr
    assert not target.exists()
    assert not (tmp_path / "masks.flags.json").exists()


@pytest.mark.parametrize(
    ("damage", "row"),
    [
        (lambda lines: lines[:-1], 59),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], 5),
        (lambda lines: [*lines[:3], lines[3].replace("1 2", "2 1 1 1"), *lines[4:]], 4),
        (lambda lines: [*lines[:9], lines[9].replace("1 2", f"{2048 * 2048} 2"), *lines[10:]], 10),
        (lambda lines: ["image,class,rle\n", *lines[1:]], 1),
    ],
)
def test_an_invalid_submission_names_its_first_wrong_row_and_changes_nothing(
    local: Local, dataset: Dataset, tmp_path: Path, s3: S3Place, damage: object, row: int
) -> None:
    lines = expected(dataset).splitlines(keepends=True)
    assert callable(damage)
    submitted(f"{s3.url}/runs", dataset, "".join(damage(lines)))
    target = tmp_path / "submission.csv"
    target.write_text("the old one")

    data = dataset.folder.url.rpartition("/versions/")[0]
    arguments = ("--runs", f"{s3.url}/runs", "--to", str(target), "--data", data)
    outcome = hbseg(local, "fetch-submission", "first", *arguments)

    assert outcome.returncode == 5
    assert f"row {row}" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert target.read_text() == "the old one"


def test_wrong_keys_and_missing_buckets_have_their_codes(local: Local, s3: S3Place) -> None:
    missing = hbseg(local, "list", "--runs", "s3://there-is-no-such-bucket/runs")
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "no such bucket" in missing.stderr
    local.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert hbseg(local, "list", "--runs", s3.url).returncode == 4
    local.monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    down = hbseg(local, "list", "--runs", s3.url)
    assert down.returncode == 4
    assert "AWS_ENDPOINT_URL" in down.stderr


def test_data_are_made_checked_and_prepared(local: Local, tmp_path: Path) -> None:
    raw, data = str(tmp_path / "손 raw"), str(tmp_path / "data2")

    made = hbseg(local, "data", "synth", raw, "--hands", "4", "--test-hands", "2", "-o", "name")
    assert (made.returncode, made.stdout) == (0, f"{raw}\n")
    assert hbseg(local, "data", "check", raw).returncode == 0
    first = hbseg(local, "data", "prepare", raw, data, "--set", "folds=2", "-o", "name")
    second = hbseg(local, "data", "prepare", raw, data, "--set", "folds=2", "-o", "name")
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout

    next(Path(raw).glob("train/outputs_json/*/*.json")).unlink()
    found = hbseg(local, "data", "check", raw, "-o", "json")
    assert found.returncode == 5
    assert '"kind": "CheckReport"' in found.stdout
    refused = hbseg(local, "data", "prepare", raw, data, "--set", "folds=2")
    assert refused.returncode == 5
    assert "error: " in refused.stderr
