from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_reference_is_what_the_parser_says(tmp_path: Path) -> None:
    """`make docs` writes it again."""
    target = tmp_path / "cli.md"
    command = [sys.executable, "-m", "typer", "hbseg_cli.main", "utils", "docs"]
    subprocess.run(
        [*command, "--name", "hbseg", "--output", target], check=True, capture_output=True
    )
    assert (ROOT / "docs" / "cli.md").read_text() == target.read_text()
