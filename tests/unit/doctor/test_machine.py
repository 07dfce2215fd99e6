from __future__ import annotations

import sys
from pathlib import Path

from hbseg.doctor import machine
from hbseg.doctor.check import Status


def test_torch_is_tried_in_a_process_of_its_own() -> None:
    (good,) = machine.torch((sys.executable, "-c", "print('2.9.1+cpu', 0)"))
    (bad,) = machine.torch((sys.executable, "-c", "import no_such_torch"))

    assert (good.status, good.message) == (Status.OK, "2.9.1+cpu, 0 GPUs")
    assert (bad.status, "no_such_torch" in bad.message) == (Status.FAILED, True)


def test_a_disk_with_little_room_is_warned_of(tmp_path: Path) -> None:
    assert {check.status for check in machine.disk(tmp_path / "new", least=1)} == {Status.OK}
    assert {check.status for check in machine.disk(tmp_path, least=1 << 62)} == {Status.WARNING}
