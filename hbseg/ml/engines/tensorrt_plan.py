"""A TensorRT plan as a file: what its first bytes tell, without torch and without TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from hbseg.errors import ContractError
from hbseg.ml.engines.card import CARD, EngineCard, Flavour, compile_again, made_again

HEADER_BYTES = 32
"""Bytes of a plan that its header takes."""

_TAGS: Final[dict[bytes, Flavour]] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}


class PlanHeader(NamedTuple):
    """Which library wrote a plan."""

    flavour: Flavour
    version: str
    """Four numbers, e.g. `11.1.0.106`."""

    def __str__(self) -> str:
        return f"{self.flavour} {self.version}"


def plan_header(data: bytes) -> PlanHeader:
    """Return what the first `HEADER_BYTES` of a plan tell.

    Tag, format number 0 and the version at byte 24 are what NVIDIA's `trtexec --getPlanVersionOnly`
    reads. TensorRT-RTX 1.6 writes them to the same places, with another tag.

    Raises:
        ContractError: it is no plan of a known format.
    """
    flavour = _TAGS.get(data[:4])
    if len(data) < HEADER_BYTES or flavour is None or data[4:8] != bytes(4):
        raise ContractError(
            "the model file is no TensorRT engine", compile_again("--engine", "tensorrt", "--again")
        )
    return PlanHeader(flavour, ".".join(map(str, data[24:28])))


def check_plan(path: Path, card: EngineCard) -> None:
    """Compare a plan's header with the card.

    Raises:
        ContractError: it is no plan, or not of the flavour and version that the card names.
    """
    with path.open("rb") as file:
        found = plan_header(file.read(HEADER_BYTES))
    if found != (card.flavour, card.versions["tensorrt"]):
        raise ContractError(
            f"{card.model} was written by {found}, {CARD} says {card.flavour} "
            f"{card.versions['tensorrt']}",
            made_again(card),
        )
