"""Print requirements of pyproject.toml, one a line: `python requirements.py dependencies ml`.

A name is `dependencies`, an extra or a dependency group. Only they are printed, without what
installs the project itself, so that an image has them in a layer below our code.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(names: list[str]) -> list[str]:
    """Return the requirements of the parts; a name that is not there is a `KeyError`."""
    file = tomllib.loads(Path("pyproject.toml").read_text())
    project = file["project"]
    parts = {
        "dependencies": project["dependencies"],
        **project["optional-dependencies"],
        **file["dependency-groups"],
    }
    return [requirement for name in names for requirement in parts[name]]


if __name__ == "__main__":
    print(*requirements(sys.argv[1:]), sep="\n")
