"""The words of states, which people and documents of older versions know."""

from pathlib import Path

import pytest

from hbseg.runs.backend import Phase
from hbseg.runs.run import AT_WORK, Run
from hbseg.runs.states import TaskState
from hbseg.runs.steps import TaskName
from hbseg.storage.folder import FolderStore


def test_the_words_of_states_are_those_of_older_documents() -> None:
    words = ["waiting", "pending", "running", "stalled", "done", "stale", "failed", "cancelled"]
    assert list(TaskState) == [*words, "unknown"]
    phases = ["absent", "pending", "running", "succeeded", "failed", "cancelled"]
    assert list(Phase) == [*phases, "unknown"]
    assert AT_WORK == ("pending", "running")


def test_a_phase_alone_says_a_state_but_never_that_a_task_is_done() -> None:
    states = [phase.task_state for phase in Phase]
    words = ["waiting", "pending", "running", "waiting", "failed", "cancelled", "unknown"]
    assert states == words


def test_a_summary_stores_the_plain_word(tmp_path: Path) -> None:
    run = Run(FolderStore(tmp_path), "main")
    run.claim(data="/data")

    run.summarise(steps={"engine/0a": TaskState.CANCELLED})

    assert b'"engine/0a": "cancelled"' in run.folder.get("run.json")


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("stage1", "stage1"),
        ("engine/0a1b2c3d4e5f", "engine-0a1b2c3d4e5f"),
        ("efficiency/0a1b2c3d4e5f", "efficiency-0a1b2c3d4e5f"),
    ],
)
def test_a_tasks_name_says_its_folder(prefix: str, name: str) -> None:
    assert str(TaskName(prefix)) == name
    assert TaskName.parse(name).prefix == prefix
