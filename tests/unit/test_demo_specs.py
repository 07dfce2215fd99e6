from __future__ import annotations

from pathlib import Path

import pytest

from hbseg.chain import ChainSpecs
from hbseg.demo import HANDS, fitted, overlay_names
from hbseg.errors import NotFoundError
from hbseg.specs import PrepareSpec
from hbseg_cli.session import chain_specs


@pytest.fixture
def specs() -> ChainSpecs:
    return chain_specs(variant="demo")


def test_the_demo_has_its_own_stages_and_the_common_rest(specs: ChainSpecs) -> None:
    assert specs.stage1.dataset.image_size < specs.stage2.dataset.image_size
    assert specs.stage2.model is None
    assert specs.infer == chain_specs().infer


def test_a_set_of_the_expected_size_changes_nothing(specs: ChainSpecs) -> None:
    assert fitted(specs, PrepareSpec(folds=10), hands=HANDS, raw=None) == (
        specs,
        PrepareSpec(folds=10),
    )


@pytest.mark.parametrize("hands", [20, 100, 800])
def test_a_set_of_another_size_takes_about_as_many_steps(specs: ChainSpecs, hands: int) -> None:
    other, prepare = fitted(specs, PrepareSpec(folds=10), hands=hands, raw=None)
    for before, after in ((specs.stage1, other.stage1), (specs.stage2, other.stage2)):
        steps = before.run.epochs * HANDS
        assert after.run.epochs * hands == pytest.approx(steps, rel=0.1)
        assert after.run.validate_every <= after.run.epochs
    assert prepare.folds == min(10, hands // 2)


def test_a_raw_set_that_is_not_there_is_refused_before_anything_starts(
    specs: ChainSpecs, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError):
        fitted(specs, PrepareSpec(), hands=HANDS, raw=tmp_path / "none")


def test_pictures_that_differ_in_their_ending_alone_have_overlays_of_their_own() -> None:
    assert overlay_names(["a.png", "a.jpg", "b.jpg"]) == {
        "a.png": "a.png.png",
        "a.jpg": "a.jpg.png",
        "b.jpg": "b.png",
    }
