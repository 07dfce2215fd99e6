from __future__ import annotations

import os
from pathlib import Path

import pytest

from hbseg.errors import SpecError
from hbseg.system import cpu


def test_there_is_at_least_one_core() -> None:
    assert 1 <= cpu.usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("text", "threads"), [("3", 3), ("2,4", 2), (" 1 ", 1)])
def test_threads_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, threads: int
) -> None:
    monkeypatch.setattr(cpu, "usable_cores", lambda: 7)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert cpu.usable_threads() == threads
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cpu.usable_threads() == 7


@pytest.mark.parametrize("text", ["none", "0", "-1", "1.5", "²", "٣"])
def test_threads_that_are_no_number_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(SpecError, match=f"OMP_NUM_THREADS is '{text}', expected a number from 1"):
        cpu.usable_threads()


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ("model name\t: x\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("flags\t\t: fpu amx_bf16\n\nprocessor\t: 1\nflags\t\t: fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx2 avx512f\nvmx flags\t: avx512_bf16\n", False),
        ("model name\t: the bf16 of all\nflags\t\t: fpu avx2 not_bf16\n", False),
        ("", False),
    ],
)
def test_linux_tells_of_bfloat16(
    info: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(info)
    monkeypatch.setattr(cpu, "CPU_INFO", tmp_path / "cpuinfo")
    assert cpu.has_bf16() is expected


def test_where_nothing_tells_of_bfloat16_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "CPU_INFO", tmp_path / "none")
    assert not cpu.has_bf16()
