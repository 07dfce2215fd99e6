from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.bench.costs import Command, cost_of, medians
from tests.bench.figures import Figure, written


def test_figures_become_a_table_and_the_documented_json(tmp_path: Path) -> None:
    figures = [Figure("listing", "s", 1.25, 2.5, 0.333333), Figure("alone", "MiB", 3.0)]

    table = written(figures, tmp_path / "bench.json")

    assert [line.split() for line in table.splitlines()] == [
        ["NAME", "UNIT", "OURS", "BASELINE", "RATIO", "FLOOR"],
        ["listing", "s", "1.2500", "2.5000", "2.0000", "0.3333"],
        ["alone", "MiB", "3.0000", "-", "-", "-"],
    ]
    first, second = json.loads((tmp_path / "bench.json").read_text())
    assert first == {
        "name": "listing",
        "unit": "s",
        "ours": 1.25,
        "baseline": 2.5,
        "ratio": 2.0,
        "floor": 0.3333,
    }
    assert (second["baseline"], second["ratio"], second["floor"]) == (None, None, None)


def test_cpu_time_counts_the_work_of_children_and_no_waiting() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(10**7))'])"
    codes = {"waits": "import time; time.sleep(1)", "works in a child": child}

    costs = medians(
        {name: Command([sys.executable, "-c", code]) for name, code in codes.items()}, times=1
    )

    assert costs["waits"].wall > 1
    assert costs["waits"].cpu < costs["works in a child"].cpu


def test_commands_run_in_turn(tmp_path: Path) -> None:
    words = ("open(sys.argv[1], 'a').write(sys.argv[2])", str(tmp_path / "order"))
    commands = {
        name: Command([sys.executable, "-c", f"import sys; {words[0]}", words[1], name])
        for name in ("a", "b")
    }

    medians(commands, times=2)

    assert (tmp_path / "order").read_text() == "ababab"


def test_a_command_that_fails_is_no_figure() -> None:
    with pytest.raises(RuntimeError, match="no good"):
        cost_of(Command([sys.executable, "-c", "import sys; sys.exit('no good')"]))
