"""The program `hbseg`, also `python -m hbseg_cli`: a process of our own, so it may start faster."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

from hbseg.system.startup import gc_paused, skip_gc_at_exit


def program() -> NoReturn:
    """Run the command line with this process's arguments."""
    # Without it pydantic searches every installed distribution for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(200_000)  # a command makes many objects and next to no garbage
    skip_gc_at_exit()
    with gc_paused():
        from hbseg_cli.main import main
    main(sys.argv[1:])


if __name__ == "__main__":
    program()
