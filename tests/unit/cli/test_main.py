"""The command line builds the commands that it is asked for."""

from typing import Any

import pytest
import typer.main

from hbseg_cli.main import MODULES, application


def commands(*words: str) -> set[str]:
    """Return the names of the commands that are built for these words."""
    group: Any = typer.main.get_command(application(words))
    return set(group.commands)


def test_the_whole_command_line_is_what_the_table_of_modules_says() -> None:
    assert commands() == set(MODULES)


@pytest.mark.parametrize("command", MODULES)
def test_a_command_is_built_with_its_neighbours_alone(command: str) -> None:
    neighbours = {name for name, module in MODULES.items() if module == MODULES[command]}

    assert commands(command, "--help") == neighbours
    assert commands("-v", "-q", "--verbose", "--quiet", command) == neighbours


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--help",),
        ("--help", "list"),
        ("--profile", "list", "status"),
        ("--profile=list", "status"),
        ("submit-trian", "list"),
        ("", "list"),
    ],
)
def test_where_the_command_is_not_certain_all_are_built(words: tuple[str, ...]) -> None:
    assert commands(*words) == set(MODULES)
