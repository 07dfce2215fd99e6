from __future__ import annotations

import os
from pathlib import Path

import pytest

from hbseg.config.specs import EfficiencySpec, PrepareSpec, TrainSpec
from hbseg.control.specs import chain_specs
from hbseg.demo import (
    HANDS,
    Listener,
    _environment,
    fitted,
    run_demo,
)
from hbseg.errors import InvalidInput, NotFoundError
from hbseg.runs.chain import pictures_key
from hbseg.runs.chain_specs import ChainSpecs
from hbseg.runs.steps import Step
from hbseg.storage.folder import FolderStore


@pytest.fixture(params=["demo", "demo-bf16"])
def specs(request: pytest.FixtureRequest) -> ChainSpecs:
    return chain_specs(variant=request.param)


def test_the_demo_has_its_own_stages_and_the_common_rest(specs: ChainSpecs) -> None:
    stage1, stage2 = stages(specs)
    assert stage1.dataset.image_size < stage2.dataset.image_size
    assert stage2.model is None
    assert stage1.run.precision == stage2.run.precision
    assert {stage1.run.process_group, stage2.run.process_group} == {"gloo"}
    assert specs.by_step[Step.INFER] == chain_specs().by_step[Step.INFER]
    assert specs.get(Step.EFFICIENCY, EfficiencySpec).seconds <= 0.5


def stages(specs: ChainSpecs) -> tuple[TrainSpec, TrainSpec]:
    return specs.get(Step.STAGE1, TrainSpec), specs.get(Step.STAGE2, TrainSpec)


def test_a_set_of_the_expected_size_changes_nothing(specs: ChainSpecs) -> None:
    assert fitted(specs, PrepareSpec(folds=10), hands=HANDS, raw=None) == (
        specs,
        PrepareSpec(folds=10),
    )


@pytest.mark.parametrize("hands", [20, 100, 800])
def test_a_set_of_another_size_takes_about_as_many_steps(specs: ChainSpecs, hands: int) -> None:
    other, prepare = fitted(specs, PrepareSpec(folds=10), hands=hands, raw=None)
    for before, after in zip(stages(specs), stages(other), strict=True):
        steps = before.run.epochs * HANDS
        assert after.run.epochs * hands == pytest.approx(steps, rel=0.1)
        assert after.run.validate_every <= after.run.epochs
    assert prepare.folds == min(10, hands // 2)


def test_a_raw_set_that_is_not_there_is_refused_before_anything_starts(
    specs: ChainSpecs, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError):
        fitted(specs, PrepareSpec(), hands=HANDS, raw=tmp_path / "none")


def test_a_raw_set_without_test_pictures_is_refused_before_anything_starts(
    specs: ChainSpecs, tmp_path: Path
) -> None:
    picture = tmp_path / "train/DCM/ID001/a.png"
    picture.parent.mkdir(parents=True)
    picture.touch()
    with pytest.raises(InvalidInput, match=r"no test pictures in .*; expected test/DCM/<person>"):
        fitted(specs, PrepareSpec(), hands=HANDS, raw=tmp_path)


@pytest.mark.parametrize(
    ("folder", "images"), [("mine/demo", "mine"), ("demo", "demo/raw"), ("x", "x"), ("x", "link")]
)
def test_pictures_and_the_demo_s_folder_are_apart(
    specs: ChainSpecs, tmp_path: Path, folder: str, images: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    listener = Listener(lambda text: None, lambda event: None, lambda what, done, total: None)
    with pytest.raises(InvalidInput, match="lie in one another"):
        run_demo(tmp_path / folder, specs, PrepareSpec(), listener, images=tmp_path / images)
    assert not (tmp_path / folder).exists()


def test_a_folder_without_pictures_is_refused_before_anything_is_made(
    specs: ChainSpecs, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    listener = Listener(lambda text: None, lambda event: None, lambda what, done, total: None)
    for images in ("mine", "missing"):
        with pytest.raises(NotFoundError, match=f"no pictures in .*/{images}; correct --images"):
            run_demo(tmp_path / "x", specs, PrepareSpec(), listener, images=tmp_path / images)
    assert not (tmp_path / "x").exists()


def test_the_folder_of_masks_is_named_by_the_pictures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / "hand.PNG").write_bytes(b"pixels")
    before = pictures_key(store)
    for name in ("movie.mkv", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    read: list[str] = []

    def get(key: str) -> bytes:
        read.append(key)
        return b"pixels"

    monkeypatch.setattr(store, "get", get)
    assert pictures_key(store) == before
    assert read == ["hand.PNG"]
    (tmp_path / "hand.PNG").unlink()
    with pytest.raises(NotFoundError, match="no pictures in"):
        pictures_key(store)


def test_nothing_of_the_users_leads_past_the_embedded_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://elsewhere\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    before = dict(os.environ)
    with _environment({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}):
        assert os.environ["AWS_CONFIG_FILE"] == os.devnull
        assert os.environ["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
        assert "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" not in os.environ
    assert dict(os.environ) == before
