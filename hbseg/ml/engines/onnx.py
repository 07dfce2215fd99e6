"""ONNX Runtime as an engine, on any CPU; it needs no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from hbseg.errors import ContractError
from hbseg.ml.engines.card import (
    CARD,
    INPUT,
    OUTPUT,
    EngineCard,
    Images,
    Logits,
    made_again,
    padded,
)

_REFUSALS = (  # errors of ONNX Runtime share no base class of their own
    runtime_errors.EPFail,
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidProtobuf,
    runtime_errors.NoModel,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)


class OnnxEngine:
    """An ONNX model run by ONNX Runtime on CPUs; bit-equal results for equal `threads`."""

    def __init__(self, path: Path, card: EngineCard, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3  # errors; they are raised as well
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except _REFUSALS as error:
            raise ContractError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load {card.model}: "
                f"{str(error).splitlines()[0]}",
                made_again(card),
            ) from None
        self._card = card
        self._check_shapes()

    @property
    def card(self) -> EngineCard:
        """What the engine promises."""
        return self._card

    def logits(self, images_bhw: Images) -> Logits:
        """Return logits, see `Engine.logits`."""
        (logits,) = self._session.run([OUTPUT], {INPUT: padded(images_bhw, self._card)})
        return np.asarray(logits[: len(images_bhw)], dtype=np.float32)

    def _check_shapes(self) -> None:
        card = self._card
        found = {v.name: tuple(v.shape) for v in self._session.get_inputs()}
        expected = (card.batch_size, card.channels, card.height, card.width)
        if found != {INPUT: expected}:
            raise ContractError(
                f"{card.model} takes {found}, {CARD} says {INPUT}: {expected}", made_again(card)
            )
        results = {v.name: tuple(v.shape) for v in self._session.get_outputs()}
        if results.get(OUTPUT, ())[:2] != (card.batch_size, len(card.classes)):
            raise ContractError(
                f"{card.model} gives {results}, {CARD} says {OUTPUT}: "
                f"{card.batch_size} x {len(card.classes)} planes",
                made_again(card),
            )
