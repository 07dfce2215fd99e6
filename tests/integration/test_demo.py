"""The demo with the real steps, made tiny: 64 pixels, two epochs."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hbseg.errors import ConflictError
from tests.integration.conftest import processes_of, until

DEMO = """
import json, sys
from pathlib import Path
from hbseg.demo import Listener, run_demo
from hbseg.chain import ChainSpecs
from hbseg.specs import *

model = ModelBlock(encoder="tu-test_resnet", decoder_channels=(16, 16, 8, 8, 8))
run = RunBlock(epochs=2, global_batch_size=2, precision="fp32", keep_checkpoints=1)
def stage(number, size, model):
    data = DatasetBlock(image_size=size)
    return TrainSpec(stage=number, model=model, dataset=data, run=run)
specs = ChainSpecs(
    stage1=stage(1, 64, model),
    stage2=stage(2, 96, None),
    compile=CompileSpec(largest_difference=1.0),
    infer=InferSpec(batch_size=1),
    efficiency=EfficiencySpec(warmup=1, iterations=2),
    report=ReportSpec(pictures=1),
)
def say(text):
    print(text, flush=True)
def on_event(event):
    print(event.happening, event.task.prefix, flush=True)
folder, images = Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else None
result = run_demo(
    folder, specs, PrepareSpec(folds=2, images_per_shard=2),
    Listener(say, on_event, lambda what, done, total: None),
    hands=4, test_hands=2, images=images,
)
print("RESULT", json.dumps({"dice": result.dice, "bones": len(result.dice_by_bone)}))
"""


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    # HBSEG_STATE and the like must not matter: the folder holds all
    return subprocess.Popen(
        [sys.executable, "-c", DEMO, str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "AWS_PROFILE": "none"},
    )


def finish(process: "subprocess.Popen[str]") -> str:
    with process:
        output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "한 demo"
    output = finish(start(folder))
    result = json.loads(output.rpartition("RESULT ")[2])
    assert 0 <= result["dice"] <= 1
    assert result["bones"] == 29
    return folder


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_demo_leaves_submission_and_report_and_no_process(undisturbed: Path) -> None:
    assert (undisturbed / "submission.csv").read_text().count("\n") == 2 * 29 + 1
    assert "<html" in (undisturbed / "report.html").read_text()[:500]
    assert not processes_of(undisturbed)


def test_the_same_command_skips_all_and_draws_the_users_pictures(
    undisturbed: Path, tmp_path: Path
) -> None:
    pictures = sorted((undisturbed / "raw" / "test").rglob("*.png"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "왼 손.png").write_bytes(pictures[0].read_bytes())
    before = digest(undisturbed / "submission.csv")

    output = finish(start(undisturbed, str(tmp_path / "mine")))

    happened = [line.split() for line in output.splitlines()]
    assert [words[1].partition("/")[0] for words in happened if words[0] == "started"] == ["images"]
    assert sum(words[0] == "skipped" for words in happened) == 7
    assert digest(undisturbed / "submission.csv") == before
    assert (undisturbed / "images.csv").read_text().count("\n") == 29 + 1
    assert [path.name for path in (undisturbed / "overlays").iterdir()] == ["왼 손.png"]


@pytest.mark.slow  # kills of a whole chain are in tests/chain; this adds those of the demo itself
def test_a_demo_that_is_ended_leaves_no_process_and_goes_on_to_the_same_csv(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "demo"
    ends = {"started stage1": signal.SIGKILL, "started stage2": signal.SIGINT}
    for line, signum in ends.items():
        with start(folder) as process:
            assert process.stdout is not None
            assert any(line in said for said in process.stdout)
            process.send_signal(signum)
            process.communicate(timeout=120)
        assert process.returncode != 0
        until(lambda: not processes_of(folder), "all processes end")

    finish(start(folder))

    assert digest(folder / "submission.csv") == digest(undisturbed / "submission.csv")


def test_a_second_demo_in_the_folder_is_refused(tmp_path: Path) -> None:
    from hbseg.demo import _alone_in

    with (
        _alone_in(tmp_path),
        pytest.raises(ConflictError, match="another demo"),
        _alone_in(tmp_path),
    ):
        pass
