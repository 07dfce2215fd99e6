"""Train and infer on a GPU as people do, and print figures; ends with 1 where something is wrong.

    python -m tests.gpu FOLDER [PART ...]

Parts are `steps`, `restart`, `engines` and `chain`; without any all are run. FOLDER must be new.
What was made and measured stays there: `figures.json`, runs, data.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.gpu.chain import chain
from tests.gpu.engines import engines
from tests.gpu.people import People
from tests.gpu.restart import restart
from tests.gpu.steps import steps

PARTS: dict[str, Callable[[People], dict[str, Any]]] = {
    "steps": steps,
    "restart": restart,
    "engines": engines,
    "chain": chain,
}


def main(folder: Path, parts: list[str]) -> int:
    if not torch.cuda.is_available():
        print("no NVIDIA GPU is visible here", file=sys.stderr)
        return 1
    if folder.exists():
        print(f"{folder} is there already; name a new folder", file=sys.stderr)
        return 1
    people = People(folder)
    figures: dict[str, Any] = {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }
    wrong = 0
    for part in parts or PARTS:
        try:
            figures[part] = PARTS[part](people)
        except Exception:
            traceback.print_exc()
            wrong += 1
        print(json.dumps({part: figures.get(part, "failed")}), flush=True)
        (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
