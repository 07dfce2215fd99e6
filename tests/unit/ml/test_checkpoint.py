from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from hbseg.config.specs import ModelBlock
from hbseg.errors import DiskFullError, VersionError
from hbseg.ml.checkpoint import CheckpointFolder
from hbseg.storage.folder import FolderStore


def test_a_full_disk_is_named_with_its_free_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path, metadata: object = None) -> None:
        path.write_bytes(b"a part")
        # As safetensors 0.5 says it on a full tmpfs.
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr("safetensors.torch.save_file", full)
    folder = CheckpointFolder(FolderStore(tmp_path / "stage"), "0" * 64, tmp_path / "work")
    with pytest.raises(
        DiskFullError, match=r"disk full .*work/upload.*\(\d+ bytes free\)"
    ) as error:
        folder.finish({"w": torch.zeros(1)}, ModelBlock(), 64, "whole")
    assert error.value.step_exit_code == 70
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_checkpoint_of_a_newer_version_is_refused_and_no_older_one_taken(tmp_path: Path) -> None:
    stage = FolderStore(tmp_path / "stage")
    stage.put("checkpoints/00000002/state.json", b'{"apiVersion": "hbseg/v2"}')
    stage.put("checkpoints/00000001/state.json", b"{")
    folder = CheckpointFolder(stage, "0" * 64, tmp_path / "work")
    with pytest.raises(VersionError, match=r"0+2/state\.json was written as hbseg/v2") as error:
        folder.newest_whole()
    assert error.value.step_exit_code == 76
