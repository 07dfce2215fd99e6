from __future__ import annotations

from pathlib import Path

import pytest

from hbseg.control.fetch import download_csv, flags_beside
from hbseg.runs.results import Flags
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import sha256_of, write_marker


def finished(folder: FolderStore, **files: bytes) -> FolderStore:
    named = {key.replace("_", "."): data for key, data in files.items()}
    for key, data in named.items():
        folder.put(key, data)
    outputs = {key: sha256_of(data) for key, data in named.items()}
    write_marker(folder, step="infer", spec_hash="x", inputs={}, outputs=outputs)
    return folder


@pytest.mark.parametrize(
    ("csv", "flags"),
    [("images.csv", "images.flags.json"), ("v1.2", "v1.2.flags.json")],
)
def test_flags_have_the_name_of_their_csv(csv: str, flags: str) -> None:
    assert flags_beside(Path("out") / csv) == Path("out") / flags


def test_the_masks_of_pictures_come_with_their_flags(tmp_path: Path) -> None:
    flags = Flags(images=3)
    folder = finished(
        FolderStore(tmp_path / "masks"), submission_csv=b"masks", flags_json=flags.to_json()
    )
    download_csv(folder, tmp_path / "images.csv")
    assert (tmp_path / "images.csv").read_bytes() == b"masks"
    found = (tmp_path / "images.flags.json").read_bytes()
    assert Flags.from_text(found, source="flags") == flags


def test_a_run_without_flags_gives_its_masks_alone(tmp_path: Path) -> None:
    folder = finished(FolderStore(tmp_path / "masks"), submission_csv=b"masks")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images.flags.json").write_text("of an earlier CSV")
    download_csv(folder, tmp_path / "out" / "images.csv")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["images.csv"]
