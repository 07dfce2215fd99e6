from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hbseg.anatomy import BONES
from hbseg.errors import ContractError, SpecError, VersionError
from hbseg.ml.engines.card import Agreement, EngineCard, Images, check_card, padded
from tests.engines import BATCH, SIZE, engine_card, grey

EARLIER = Path(__file__).parent
"""Where a card is as the first version wrote it, when each named torch, onnx and onnxruntime."""
L4 = {"backend": "tensorrt", "device": "NVIDIA L4"}
MADE_AGAIN = " --engine onnx --batch-size-eval 4 --again"
SWAPPED = [*BONES[:27], "Ulna", "Radius"]


def images(number: int, size: int = SIZE) -> Images:
    return np.stack([grey(seed, size, size) for seed in range(number)])


def test_a_card_of_an_earlier_version_is_read_and_written_the_same() -> None:
    data = (EARLIER / "earlier_engine.json").read_bytes()
    found = EngineCard.from_text(data, source="engine.json")
    assert found.versions == {"torch": "2.9.1+cpu", "onnx": "1.19.1", "onnxruntime": "1.23.2"}
    written = json.loads(found.to_json())
    assert written | json.loads(data) == written


def test_a_card_names_the_versions_of_any_libraries() -> None:
    versions = {"tensorrt": "11.1.0.106", "torch": "2.14.1", "cuda": "13.0"}
    card = engine_card(versions=versions)
    assert EngineCard.from_text(card.to_json(), source="engine.json").versions == versions


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"versions": {}}, "versions: dictionary should have at least 1 item"),
        ({"versions": {"torch": 2}}, "versions.torch: input should be a valid string, found 2"),
        ({"batch_size": 0}, "batch_size: input should be greater than or equal to 1, found 0"),
        ({"fold": -1}, "fold: input should be greater than or equal to 0, found -1"),
        ({"model": "../model.onnx"}, "model: string should match pattern"),
        ({"model": "_SUCCESS"}, "model: string should match pattern"),
        ({"model_sha256": "abc"}, "model_sha256: string should match pattern"),
        ({"kind": "Motor"}, "kind: input should be 'Engine', found 'Motor'"),
    ],
)
def test_a_card_that_is_not_valid_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(SpecError) as raised:
        engine_card(**changes)
    assert str(raised.value).startswith(f"engine.json: {sentence}")


def test_a_card_with_a_key_of_a_newer_version_says_so() -> None:
    with pytest.raises(VersionError, match=r"engine\.json has the key cylinders, .* a newer hbseg"):
        engine_card(cylinders=6)


@pytest.mark.parametrize(
    ("promised", "asked"),
    [
        ({}, {}),
        ({}, {"checkpoint_sha256": "a" * 64}),
        ({}, {"kind": "onnx"}),
        ({}, {"precision": "fp32", "size": SIZE}),
        ({}, {"kind": "onnx", "device": "cpu"}),
        (L4, {}),
        (L4, {"kind": "tensorrt"}),
        (L4, {"kind": "tensorrt", "device": "NVIDIA L4", "checkpoint_sha256": "a" * 64}),
    ],
)
def test_an_engine_that_is_what_is_asked_for_passes(
    promised: dict[str, object], asked: dict[str, object]
) -> None:
    check_card(engine_card(**promised), batch_size=BATCH, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("promised", "asked", "sentence", "options"),
    [
        (
            {},
            {"batch_size": 8},
            "engine was compiled for batch size 4, asked for 8",
            " --batch-size-eval 8",
        ),
        (
            {},
            {"kind": "tensorrt"},
            "engine was compiled for onnx, asked for tensorrt",
            " --engine tensorrt --batch-size-eval 4",
        ),
        (
            {},
            {"kind": "tensorrt", "device": "NVIDIA L4", "batch_size": 1},
            "engine was compiled for onnx, asked for tensorrt",
            " --engine tensorrt --tensorrt-device 'NVIDIA L4' --batch-size-eval 1",
        ),
        (
            L4,
            {"kind": "onnx", "device": "cpu"},
            "engine was compiled for tensorrt, asked for onnx",
            " --engine onnx --batch-size-eval 4",
        ),
        (
            L4,
            {"kind": "tensorrt", "device": "NVIDIA H200"},
            "engine was compiled for device NVIDIA L4, asked for NVIDIA H200",
            " --engine tensorrt --tensorrt-device 'NVIDIA H200' --batch-size-eval 4",
        ),
        (
            L4,
            {"kind": "tensorrt", "device": "NVIDIA L4", "batch_size": 8},
            "engine was compiled for batch size 4, asked for 8",
            " --engine tensorrt --tensorrt-device 'NVIDIA L4' --batch-size-eval 8",
        ),
        (
            {},
            {"checkpoint_sha256": "b" * 64},
            "engine was compiled from weights aaaaaaaaaaaa, asked for bbbbbbbbbbbb",
            "",
        ),
        ({"classes": SWAPPED}, {}, "engine has Ulna as class 27, expected Radius", MADE_AGAIN),
        ({"classes": BONES[:28]}, {}, "engine has 28 classes, expected 29", MADE_AGAIN),
        (
            {"channels": 3},
            {},
            "engine takes 3 x 64 x 64 values, expected one channel and a square",
            MADE_AGAIN,
        ),
        (
            {"width": 96},
            {},
            "engine takes 1 x 64 x 96 values, expected one channel and a square",
            MADE_AGAIN,
        ),
        (
            {"input": {"name": "images", "shape": [4, 1, 96, 96], "dtype": "float32"}},
            {},
            "engine takes images float32 4 x 1 x 96 x 96, its card promises images float32 "
            "4 x 1 x 64 x 64",
            MADE_AGAIN,
        ),
        (
            {},
            {"precision": "bf16", "kind": "onnx"},
            "engine was compiled with precision fp32, asked for bf16",
            " --engine onnx --batch-size-eval 4 --precision bf16",
        ),
        (
            {},
            {"size": 128},
            "engine was compiled for input size 64, asked for 128",
            " --batch-size-eval 4",
        ),
    ],
)
def test_an_engine_that_is_something_else_is_refused_with_the_command(
    promised: dict[str, object], asked: dict[str, object], sentence: str, options: str
) -> None:
    with pytest.raises(ContractError) as raised:
        check_card(engine_card(**promised), **{"batch_size": BATCH, **asked})  # type: ignore[arg-type]
    assert str(raised.value) == f"{sentence}; run: hbseg submit-compile RUN{options}"
    assert raised.value.step_exit_code == 76


def test_a_device_is_asked_for_together_with_its_kind() -> None:
    with pytest.raises(ValueError, match="device NVIDIA L4 is asked for without its kind of eng"):
        check_card(engine_card(**L4), batch_size=BATCH, device="NVIDIA L4")


def test_a_partial_batch_is_padded_with_zeros() -> None:
    batch = padded(images(3), engine_card())
    assert batch.shape == (BATCH, 1, SIZE, SIZE)
    assert batch.dtype == np.float32
    assert np.array_equal(batch[:3, 0], images(3))
    assert not batch[3].any()
    assert np.array_equal(padded(images(BATCH), engine_card())[:, 0], images(BATCH))


@pytest.mark.parametrize(
    "wrong",
    [
        images(BATCH + 1),
        images(1)[:0],
        images(2, SIZE + 32),
        images(2).astype(np.float32),
    ],
)
def test_images_that_do_not_fit_are_a_bug(wrong: Images) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(1 to 4, 64, 64\)"):
        padded(wrong, engine_card())


def test_the_marker_gets_figures_once_they_are_measured() -> None:
    assert engine_card().figures() == {}
    agreement = Agreement(
        pictures=4,
        largest_difference=0.25,
        mean_difference=0.01,
        largest_near_decision=0.125,
        bone="Ulna",
        flipped_pixels=3,
        flipped_share=0.001,
        dice_by_bone={"Ulna": 0.5, "Radius": 1.0},
    )
    assert engine_card(agreement=agreement).figures() == {
        "largest_near_decision": 0.125,
        "flipped_share": 0.001,
        "dice": 0.75,
        "smallest_dice": 0.5,
    }
