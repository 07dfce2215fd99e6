import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hbseg_cli.main import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Cli:
    """Run the command line in an empty folder, with the local backend and no user's settings."""
    for name in list(os.environ):
        if name.startswith("HBSEG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HBSEG_BACKEND", "local")
    monkeypatch.setenv("HBSEG_IMAGE", "images.example/hbseg-train:1")
    monkeypatch.setenv("HBSEG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HBSEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HBSEG_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str) -> Outcome:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        captured = capfdbinary.readouterr()
        code = end.value.code
        assert isinstance(code, int)
        return Outcome(code, captured.out.decode(), captured.err.decode())

    return run
