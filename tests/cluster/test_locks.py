"""Whose turn it is on the node."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from tests.cluster.cluster import until
from tests.cluster.node.locks import opened, try_exclusive, turn_of


def test_who_waits_to_be_alone_is_let_in_before_those_who_come_later(tmp_path: Path) -> None:
    order = []

    def take(*, alone: bool) -> None:
        with turn_of(tmp_path, alone=alone):
            order.append(alone)

    drill = threading.Thread(target=take, kwargs={"alone": True})
    later = threading.Thread(target=take, kwargs={"alone": False})
    with turn_of(tmp_path, alone=False):
        drill.start()
        until(lambda: not is_free(tmp_path / "door.lock"), "the drill waits at the door")
        later.start()
        later.join(0.2)  # it would come in at once, were it let in
    drill.join()
    later.join()

    assert order == [True, False]


def test_those_who_share_the_node_have_it_together(tmp_path: Path) -> None:
    with turn_of(tmp_path, alone=False), turn_of(tmp_path, alone=False):
        assert not is_free(tmp_path / "drill.lock")
    with turn_of(tmp_path, alone=True):
        assert is_free(tmp_path / "door.lock")


def is_free(path: Path) -> bool:
    descriptor = opened(path)
    try:
        return try_exclusive(descriptor)
    finally:
        os.close(descriptor)
