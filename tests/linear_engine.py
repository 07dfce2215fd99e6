"""A second kind of engine, as small as one can be: logits are a line through each grey level.

It compiles and runs in a millisecond, for one GPU model as TensorRT does, and needs NumPy alone.
A test makes it known by one row: `monkeypatch.setitem(KINDS, "tensorrt", linear_engine.KIND)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hbseg.config.specs import CompileSpec
from hbseg.errors import ContractError, SpecError
from hbseg.ml.engines.card import EngineCard, Images, Logits, compile_again, padded
from hbseg.ml.engines.kinds import Compiled, EngineKind

if TYPE_CHECKING:
    from hbseg.ml.checkpoint import LoadedModel

GPU = "NVIDIA L4"
CAPABILITY = "8.9"
ERROR = 0.001
"""What the engine adds to its network's logits of one bone, as reduced precision would."""
WRONG_BONE = 19


def compile_linear(spec: CompileSpec, loaded: LoadedModel, path: Path) -> Compiled:
    """Write slope and offset of each bone."""
    if spec.precision != "fp32":
        raise SpecError(f"precision {spec.precision}: linear engines are fp32")
    lines = np.stack([value.numpy() for value in loaded.model.state_dict().values()])
    lines[1, WRONG_BONE] += ERROR
    path.write_bytes(lines.tobytes())
    return Compiled({"numpy": np.__version__}, device=GPU, compute_capability=CAPABILITY)


class LinearEngine:
    """Runs on one GPU model alone; this machine plays it."""

    def __init__(self, path: Path, card: EngineCard, threads: int) -> None:
        if card.device != GPU:
            raise ContractError(
                f"engine was compiled for {card.device}, here is {GPU}",
                compile_again("--engine", "tensorrt", "--tensorrt-device", GPU),
            )
        self.card = card
        self.threads = threads
        lines = np.frombuffer(path.read_bytes(), dtype=np.float32)
        self._slope, self._offset = lines.reshape(2, len(card.classes), 1, 1)

    def logits(self, images_bhw: Images) -> Logits:
        batch = padded(images_bhw, self.card)[: len(images_bhw)]
        return np.asarray(self._slope * batch + self._offset, dtype=np.float32)


KIND = EngineKind(
    model_file="model.lines",
    libraries=("numpy",),
    load_compiler=lambda: compile_linear,
    load_opener=lambda: LinearEngine,
)
