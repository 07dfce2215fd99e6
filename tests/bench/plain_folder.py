"""The plain way to read all claims: `plain_folder FOLDER`, one file after the other."""

from __future__ import annotations

import json
import os
import sys


def main(folder: str) -> None:
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name, "run.json"), "rb") as file:
            print(json.load(file)["name"])


if __name__ == "__main__":
    main(*sys.argv[1:])
