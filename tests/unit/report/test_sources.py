from __future__ import annotations

import json

import pytest

from hbseg.errors import ContractError
from hbseg.report import sources
from tests.efficiency import measured_at


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def test_epochs_are_read_in_order_and_the_last_line_of_an_epoch_counts() -> None:
    text = lines(
        {"epoch": 2, "loss": 0.5},
        {"epoch": 1, "loss": 0.9, "dice": 0.1, "dice_per_bone": {"Ulna": 0.1}},
        {"epoch": 2, "step": 9, "loss": 0.4, "lr": 1e-3, "dice": 0.7},
    )
    first, second = sources.epochs(text)
    assert (first.epoch, first.dice, first.dice_per_bone) == (1, 0.1, {"Ulna": 0.1})
    assert (second.epoch, second.loss, second.dice) == (2, 0.4, 0.7)


def test_figures_that_are_no_finite_numbers_count_as_not_measured() -> None:
    text = b'{"epoch": 1, "loss": NaN, "dice": Infinity, "dice_per_bone": {"Ulna": NaN}}\n'
    (epoch,) = sources.epochs(text)
    assert (epoch.loss, epoch.dice, epoch.dice_per_bone) == (None, None, {})


@pytest.mark.parametrize(
    "broken", [b"", b"\n\n", b'{"epoch": 3, "lo', b"[1, 2]\n", b"\xff\xfe\n", b'{"loss": 1}\n']
)
def test_lines_that_cannot_be_read_are_passed_over(broken: bytes) -> None:
    assert [epoch.epoch for epoch in sources.epochs(lines({"epoch": 1}) + broken)] == [1]


HEADER = b"image_name,class,dice,hd95_px,surface_dice_1px,surface_dice_2px\n"


def test_dice_of_images_and_bones_is_read() -> None:
    rows = b'a.png,Ulna,0.5,3.5,0.4,0.6\n"b,c.png",Radius,nan,,,\na.png,Tibia,0.1,,,\n'
    found = sources.validation(HEADER + rows, source="evaluation.csv")
    assert found == {("a.png", "Ulna"): 0.5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "header is None, expected image_name,class,dice,hd95_px"),
        (b"image_name,class,dice\n", "header is"),
        (HEADER + b"a.png,Ulna,0.5\n", "evaluation.csv, line 2: not image, bone and scores"),
        (HEADER + b"a.png,Ulna,good,,,\n", "line 2"),
    ],
)
def test_a_table_that_is_no_evaluation_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        sources.validation(text, source="evaluation.csv")


def test_the_efficiency_document_is_read_and_another_one_refused() -> None:
    found = measured_at(10)
    assert sources.efficiency(found.to_json(), source="efficiency.json") == found
    with pytest.raises(
        ContractError, match=r"efficiency\.json: image_size: missing; run: hbseg submit"
    ):
        sources.efficiency(b'{"kind": "Efficiency", "engines": {}}', source="efficiency.json")
