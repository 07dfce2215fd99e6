"""What a process does without in order to start and end faster, and what it goes on doing."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hbseg.system.startup import gc_paused


class Node:
    """Something that keeps itself alive."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def living() -> int:
    return sum(isinstance(thing, Node) for thing in gc.get_objects())


def test_what_is_loaded_is_not_searched_and_what_comes_later_is() -> None:
    before = gc.get_freeze_count()
    with gc_paused():
        assert not gc.isenabled()
        kept = [Node() for _ in range(10)]
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    assert living() == 0  # of what is searched
    assert len(kept) == 10

    Node()
    assert living() == 1
    gc.collect()
    assert living() == 0


def test_a_failed_import_leaves_the_search_on() -> None:
    with pytest.raises(ModuleNotFoundError), gc_paused():
        import hbseg.no_such_module  # type: ignore[import-not-found] # noqa: F401
    assert gc.isenabled()


def test_a_search_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("line", "ends"), [("", "at exit, searched"), ("skip_gc_at_exit()", "at exit")]
)
def test_a_process_ends_without_a_last_search(line: str, ends: str) -> None:
    code = f"""
import atexit, sys
from hbseg.system.startup import skip_gc_at_exit
class Node:
    def __init__(self): self.me = self
    def __del__(self, write=sys.stdout.write): write(", searched")
atexit.register(print, "at exit", end="")
{line}
node = Node()
del node
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ends


PROGRAMS = {
    "the command line": """
from hbseg_cli.__main__ import program as end
sys.argv = ["hbseg", "--version"]
""",
    "a step": """
from types import SimpleNamespace
from hbseg_jobs import entry
heartbeat = SimpleNamespace(flush=lambda: None)
entry.context_of = lambda arguments: SimpleNamespace(heartbeat=heartbeat)
end = lambda: entry.run_step(lambda context: None)
""",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_of_ours_leave_their_garbage(program: str) -> None:
    code = f"""
import gc, sys
gc.disable()
{PROGRAMS[program]}
class Node:
    def __init__(self): self.me = self
    def __del__(self, write=sys.stderr.write): write("searched")
node = Node()
del node
end()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
