"""Stream through the eager engine in a folder, with pinned buffers and two streams of the GPU.

torch's sanitizer (TORCH_CUDA_SANITIZER=1) raises where two streams use a buffer at the same time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch.cuda import _sanitizer as sanitizer

from hbseg.ml.engines.card import CARD, DeviceEngine, EngineCard
from hbseg.ml.engines.opening import open_engine
from hbseg.storage.opening import open_store
from tests.engines import grey

BATCHES = 9


def main(url: str) -> None:
    if not sanitizer.cuda_sanitizer.enabled:
        raise RuntimeError("set TORCH_CUDA_SANITIZER=1")
    folder = open_store(url)
    card = EngineCard.from_text(folder.get(CARD), source=CARD)
    with TemporaryDirectory() as work:
        engine = open_engine(folder, Path(work), batch_size=card.batch_size)
        assert isinstance(engine, DeviceEngine)
        image = grey(0, card.height, card.width)
        batches = [np.stack([image] * card.batch_size)] * BATCHES
        sums = [float(logits.sum()) for logits in engine.stream(batches)]
    assert len(set(sums)) == 1, sums


if __name__ == "__main__":
    main(sys.argv[1])
