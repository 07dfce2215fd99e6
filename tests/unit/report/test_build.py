"""Reports of a real run's storage: a real dataset, real markers, figures made up."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from hbseg import submission
from hbseg.anatomy import BONES
from hbseg.config.specs import ModelBlock, PrepareSpec, ReportSpec, TrainSpec
from hbseg.data.dataset import open_version
from hbseg.data.prepare import prepare
from hbseg.data.shards import Sample
from hbseg.data.synth.raw_set import write_raw_set
from hbseg.errors import ContractError, NotFoundError
from hbseg.report.build import INPUTS, build_report, gather, render
from hbseg.report.gallery import Gallery, chosen_test_hands, ends, name_of
from hbseg.report.hands import draw_hand, share_of_page
from hbseg.rle import Runs, encode, runs_of
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import read_marker, sha256_of, write_marker
from hbseg.storage.store import Store
from tests.efficiency import measured_at
from tests.unit.report.conftest import evaluation, flags

EFFICIENCY = measured_at(10)

TEST_HANDS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A dataset with one finished version."""
    place = tmp_path_factory.mktemp("data")
    write_raw_set(place / "raw", hands=4, test_hands=TEST_HANDS, seed=3)
    store = FolderStore(place / "data")
    prepare(place / "raw", store, PrepareSpec(folds=2), skip_bad=True)
    return store


@dataclass
class RunFolders:
    """A finished run."""

    data: Store
    work: Path
    inputs: dict[str, Store]

    def report(self, pictures: int = 1) -> bytes:
        return build_report("hand-1", self.inputs, self.data, self.work, pictures=pictures)


def finish(folder: Store, step: str, **files: bytes) -> Store:
    named = {".".join(key.rsplit("_", 1)): content for key, content in files.items()}
    for key, content in named.items():
        folder.put(key, content)
    outputs = {key: sha256_of(content) for key, content in named.items()}
    write_marker(folder, step=step, spec_hash="5" * 64, inputs={}, outputs=outputs)
    return folder


def metrics(*dice: float | None) -> bytes:
    lines = []
    for number, value in enumerate(dice, start=1):
        line = {"epoch": number, "step": 9 * number, "loss": 1 / number, "dice": value}
        lines.append(json.dumps(line | {"dice_per_bone": dict.fromkeys(BONES, value)}))
    return "\n".join(lines).encode()


@pytest.fixture
def run(data: Store, tmp_path: Path) -> RunFolders:
    store = FolderStore(tmp_path / "runs/hand-1")
    dataset = open_version(data)
    codes = [encode(square(place)) for place in range(len(BONES))]
    validated = [*dataset.samples("train"), *dataset.samples("validation")]
    spec = TrainSpec(model=ModelBlock()).to_yaml().encode()
    inputs = {
        "dataset": dataset.folder,
        "stage1": finish(
            store.folder("stage1"), "stage1", metrics_jsonl=metrics(0.25, None, 0.5), spec_yaml=spec
        ),
        "stage2": finish(store.folder("stage2"), "stage2", metrics_jsonl=metrics(0.625)),
        "valid": finish(
            store.folder("valid"),
            "infer",
            submission_csv=table(validated, codes),
            evaluation_csv=scores(validated),
            evaluation_json=evaluation().to_json(),
        ),
        "infer": finish(
            store.folder("infer"),
            "infer",
            submission_csv=table(dataset.samples("test"), codes),
            flags_json=flags(name_of(dataset.samples("test")[2])).to_json(),
        ),
        "efficiency": finish(
            store.folder("efficiency/ab"), "efficiency", efficiency_json=EFFICIENCY.to_json()
        ),
    }
    work = tmp_path / "work"
    work.mkdir()
    return RunFolders(data, work, inputs)


def table(samples: list[Sample], codes: list[str]) -> bytes:
    images = [submission.Image(s.path, s.height, s.width) for s in samples]
    rows = (submission.rows(image, codes) for image in images)
    return (submission.header() + "".join(rows)).encode()


def scores(samples: list[Sample]) -> bytes:
    """Dice of .75, .77, ... for the hands in order."""
    header = "image_name,class,dice,hd95_px,surface_dice_1px,surface_dice_2px\n"
    rows = (
        f"{name_of(sample)},{bone},{0.75 + 0.02 * place},,,\n"
        for place, sample in enumerate(samples)
        for bone in BONES
    )
    return (header + "".join(rows)).encode()


def square(place: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    mask = np.zeros((2048, 2048), dtype=bool)
    if BONES[place] != "Pisiform":
        mask[60 * place : 60 * place + 90, 100 : 60 * place + 300] = True
    return mask


def test_a_report_gathers_what_all_steps_left(run: RunFolders) -> None:
    found = gather("hand-1", run.inputs, run.data, run.work, pictures=2)
    assert [stage.dice for stage in found.stages] == [0.5, 0.625]
    assert "kind: TrainSpec" in found.stages[0].spec
    assert set(found.validation.values()) == {0.75, 0.77, 0.79, 0.81}
    assert found.evaluation == evaluation()
    assert found.flags is not None
    assert found.num_test_images == TEST_HANDS
    assert found.efficiency == EFFICIENCY
    assert [version.step for version in found.versions] == [
        "dataset", "stage1", "stage2", "valid (infer)", "infer", "efficiency",
    ]  # fmt: skip
    assert found.dataset == open_version(run.data).version
    assert [hand.missing for hand in found.hands] == [("Pisiform",)] * 2


def test_pictures_of_test_hands_are_in_the_page_at_reduced_size(run: RunFolders) -> None:
    page = run.report(pictures=2).decode()
    names = [sample.path.rpartition("/")[2] for sample in open_version(run.data).samples("test")]
    assert [name in page for name in names] == [True, False, True, False]  # the third has flags
    pictures = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) == 2 + 2
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0]), np.uint8), -1)
    assert shown is not None
    assert shown.shape == (1600, 1600)
    assert list(run.work.iterdir()) == []


def test_the_worst_and_the_best_validation_hands_are_drawn_with_their_truth(
    run: RunFolders,
) -> None:
    found = gather("hand-1", run.inputs, run.data, run.work, pictures=3)
    assert [hand.dice for hand in found.worst] == pytest.approx([0.75, 0.77])
    assert [hand.dice for hand in found.best] == pytest.approx([0.81])
    for hand in (*found.worst, *found.best):
        ulna = hand.shapes[-1]
        assert ulna.truth
        assert ulna.missed
        assert ulna.dice is not None
    assert not any(shape.truth for hand in found.hands for shape in hand.shapes)


def test_a_flagged_test_hand_comes_first_with_its_reasons(run: RunFolders) -> None:
    found = gather("hand-1", run.inputs, run.data, run.work, pictures=3)
    assert [bool(hand.flags) for hand in found.hands] == [True, False, False]
    assert found.hands[0].name == name_of(open_version(run.data).samples("test")[2])
    assert found.hands[0].flags[0] == "Pisiform: the mask is empty"


@pytest.mark.parametrize(("name", "key"), [("infer", "flags"), ("valid", "evaluation")])
def test_documents_that_earlier_steps_did_not_leave_may_be_missing(
    run: RunFolders, name: str, key: str
) -> None:
    files = {"submission_csv": run.inputs[name].get("submission.csv")}
    run.inputs[name].delete(f"{key}.json")
    finish(run.inputs[name], "infer", **files)
    found = gather("hand-1", run.inputs, run.data, run.work, pictures=1)
    assert getattr(found, key) is None


def test_a_document_that_lacks_a_key_is_refused(run: RunFolders) -> None:
    finish(run.inputs["infer"], "infer", flags_json=b'{"kind": "Flags"}')
    with pytest.raises(ContractError, match=r"infer/flags\.json: images"):
        run.report()


def test_no_number_of_noisy_pictures_makes_a_page_larger_than_15_mb(
    run: RunFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700), dtype=np.uint8)
    runs: list[Runs] = [runs_of(noise[place] > 127) for place in range(len(BONES))]
    limit = share_of_page(200)
    judged = draw_hand("a.png", noise, runs, limit=limit, truth=runs[::-1])
    drawn = draw_hand("a.png", noise, runs, limit=limit)
    monkeypatch.setattr(Gallery, "extremes", lambda *_: ((judged,) * 50, (judged,) * 50))
    monkeypatch.setattr(Gallery, "tested", lambda *_: ((drawn,) * 100, 100))
    found = gather("hand-1", run.inputs, run.data, run.work, pictures=100)
    page = render(found)
    assert len(page) <= 15_000_000
    shown = [len(found.worst), len(found.best), len(found.hands)]
    assert min(shown) > 0
    assert max(shown) - min(shown) <= 1
    assert page.count(b"data:image/jpeg") == sum(shown)
    assert f"{200 - sum(shown)} of 200 pictures are not shown".encode() in page


def test_only_validation_hands_are_called_held_out(run: RunFolders) -> None:
    assert "held out" in run.report(pictures=2).decode()
    del run.inputs["valid"]
    page = run.report(pictures=2).decode()
    assert "held out" not in page
    assert "not shown" not in page


def test_a_report_without_pictures_has_no_pixel_and_names_no_image(run: RunFolders) -> None:
    page = run.report(pictures=0).decode()
    dataset = open_version(run.data)
    samples = [s for part in ("test", "train", "validation") for s in dataset.samples(part)]
    assert "data:image" not in page
    assert not any(name_of(sample) in page for sample in samples)
    assert "This report has no pictures." in page


def test_equal_inputs_give_equal_bytes(run: RunFolders) -> None:
    assert run.report() == run.report()


@pytest.mark.parametrize("name", INPUTS)
def test_each_input_may_be_missing(run: RunFolders, name: str) -> None:
    del run.inputs[name]
    assert run.report(pictures=1).endswith(b"</html>\n")


def from_checkpoint(run: RunFolders, url: str) -> None:
    """Makes stage 2 one that started from `url`, in a run without stage 1."""
    del run.inputs["stage1"]
    spec = TrainSpec(stage=2, init_from=url).to_yaml().encode()
    finish(run.inputs["stage2"], "stage2", metrics_jsonl=metrics(0.625), spec_yaml=spec)


ABSENT = {
    "stage1": "Stage 1 is not part of this run: stage 2 started from s3://team/old/stage2.",
    "valid": "The run has no validation of the engine: hbseg submit-infer --mode valid.",
    "efficiency": "Efficiency was not measured.",
    "infer": "The run has no masks of the test images: hbseg submit-infer.",
}


@pytest.mark.parametrize("names", [(), *((name,) for name in ABSENT), tuple(ABSENT)])
def test_the_page_of_a_run_from_a_checkpoint_says_what_it_lacks(
    run: RunFolders, names: tuple[str, ...]
) -> None:
    for name in names:
        if name == "stage1":
            from_checkpoint(run, "s3://team/old/stage2")
        else:
            del run.inputs[name]
    page = run.report(pictures=1).decode()
    assert [name for name, sentence in ABSENT.items() if sentence in page] == list(names)
    assert ("Stage 1" in page.replace(ABSENT["stage1"], "")) == ("stage1" not in names)


def test_a_spec_that_is_not_yaml_is_refused(run: RunFolders) -> None:
    finish(run.inputs["stage2"], "stage2", spec_yaml=b"a: [")
    with pytest.raises(ContractError, match=r"stage2/spec\.yaml: not readable as YAML"):
        run.report()


def test_an_input_without_marker_is_refused(run: RunFolders) -> None:
    run.inputs["stage2"].delete("_SUCCESS")
    with pytest.raises(NotFoundError, match="_SUCCESS"):
        run.report()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("stage1", "metrics.jsonl"),
        ("valid", "evaluation.csv"),
        ("valid", "submission.csv"),
        ("infer", "flags.json"),
        ("infer", "submission.csv"),
        ("efficiency", "efficiency.json"),
    ],
)
def test_a_file_that_is_not_the_one_of_its_marker_is_refused(
    run: RunFolders, name: str, key: str
) -> None:
    run.inputs[name].put(key, run.inputs[name].get(key) + b"\n")
    with pytest.raises(ContractError, match=f"{key} is damaged"):
        run.report()
    run.inputs[name].delete(key)
    with pytest.raises(NotFoundError, match=key):
        run.report()


def test_a_code_that_leaves_its_picture_is_refused_with_the_image(run: RunFolders) -> None:
    sample = open_version(run.data).samples("test")[0]
    rows = submission.rows(submission.Image(sample.path), ["4194304 2"] * len(BONES))
    finish(run.inputs["infer"], "infer", submission_csv=(submission.header() + rows).encode())
    with pytest.raises(ContractError, match=r"image\d+\.png: run 4194304 2 leaves the picture"):
        run.report()


def test_hands_are_spread_over_the_test_split() -> None:
    names = list("abcde")
    assert chosen_test_hands(names, [], 2) == ["a", "e"]
    assert chosen_test_hands(names, [], 99) == names
    assert chosen_test_hands(names, [], 1) == ["a"]
    assert chosen_test_hands([], ["x"], 3) == []
    assert chosen_test_hands(names, ["d", "x", "b", "c"], 4) == ["d", "b", "a", "e"]


def test_the_worst_hands_are_one_more_where_the_number_is_odd() -> None:
    means = {"a": 0.5, "b": 0.1, "c": 0.9, "d": 0.5}
    assert ends(means, 3) == (["b", "a"], ["c"])
    assert ends(means, 9) == (["b", "a"], ["c", "d"])
    assert ends(means, 0) == ([], [])
    assert ends({}, 3) == ([], [])


def test_the_step_writes_the_page_and_a_marker_that_lists_it_as_a_record(
    run: RunFolders, tmp_path: Path
) -> None:
    spec = ReportSpec(pictures=1)
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    arguments = [
        *("--step", "report", "--spec", str(tmp_path / "spec.yaml")),
        *("--spec-hash", spec.digest(), "--run-name", "hand-1", "--runs", str(tmp_path / "runs")),
        *("--data", run.data.url, "--prefix", "report", "--work", str(run.work)),
        *(f"--input={name}={folder.url}" for name, folder in run.inputs.items()),
    ]
    command = [sys.executable, "-m", "hbseg_jobs.report", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    folder = FolderStore(tmp_path / "runs/hand-1/report")
    marker = read_marker(folder)
    assert marker.records == {"report.html": sha256_of(folder.get("report.html"))}
    assert marker.outputs == {}
    assert set(marker.inputs) == set(INPUTS)
    assert b"hand-1" in folder.get("report.html")


def test_the_report_never_imports_torch() -> None:
    code = "import sys, hbseg.report.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
