"""The node by hand: `python -m tests.cluster.node up|down|build|wipe`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cluster.node import inside
from tests.cluster.node.build import Build, ensured
from tests.cluster.node.lease import end, keep
from tests.cluster.node.paths import NodeError, State, cache_folder
from tests.cluster.node.supervisor import Supervisor


def up() -> None:
    """Start the node where none runs, and leave it running."""
    node = keep()
    print(f"KUBECONFIG={node.kubeconfig}")


def down() -> None:
    """End the node, whoever uses it; the build and the logs stay."""
    print("ended" if end() else "no node ran")


def build() -> None:
    """Build what the node runs, where it is not built yet."""
    print(ensured().folder)


def wipe() -> None:
    """End the node, and remove all builds and logs."""
    end()
    shutil.rmtree(cache_folder(), ignore_errors=True)


COMMANDS: dict[str, Callable[[], None]] = {"up": up, "down": down, "build": build, "wipe": wipe}


def main(arguments: list[str]) -> None:
    """Run one command of a person's, or be one of the node's own processes."""
    try:
        match arguments:
            case ["supervise", cache, folder]:
                Supervisor(State(Path(cache)), Build(Path(folder))).run()
            case ["inside", cache, folder]:
                inside.run(State(Path(cache)), Build(Path(folder)))
            case [command] if command in COMMANDS:
                COMMANDS[command]()
            case _:
                sys.exit(f"usage: python -m tests.cluster.node {'|'.join(COMMANDS)}")
    except NodeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
