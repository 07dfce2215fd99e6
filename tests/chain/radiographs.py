"""Real radiographs of every size, depth and frame go through the chain; `test_chain.py` takes this
in where `HBSEG_TEST_RADIOGRAPHS` names a folder with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hbseg import rle, submission
from hbseg.anatomy import BONES
from hbseg.data.pictures import read_gray

if TYPE_CHECKING:
    from tests.chain.laptop import Laptop

FOLDER = Path(os.environ.get("HBSEG_TEST_RADIOGRAPHS", ""))
PICTURES = sorted(p for p in FOLDER.iterdir() if p.suffix in (".png", ".jpg", ".jpeg"))


def test_every_radiograph_gets_29_masks_at_its_own_size(
    laptop: Laptop, calm: str, tmp_path: Path
) -> None:
    assert len(PICTURES) == 34
    laptop.hbseg("submit-infer", calm, "--images", str(FOLDER), "--batch-size-eval", "4", "--wait")
    folder = laptop.run_folder(calm)
    for entry in folder.list("images/"):
        if entry.key.endswith("submission.csv"):
            (tmp_path / entry.key.split("/")[1]).write_bytes(folder.get(entry.key))
    rows = max((list(submission.read(path)) for path in tmp_path.iterdir()), key=len)
    assert len(rows) == 34 * len(BONES)
    sizes = {path.name: read_gray(path.read_bytes(), source=path.name).shape for path in PICTURES}
    for name, _, code in rows:
        rle.decode(code, sizes[name])
