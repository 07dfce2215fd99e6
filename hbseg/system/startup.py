"""Programs of ours start and end without a search for garbage.

Imports make objects that stay until the end, 0.6 million with segmentation-models-pytorch, and
Python's collector goes through them again and again, and once more at the end. What that takes
stands in docs/benchmarks.md.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Return a context for imports of large libraries, without a search for garbage.

    What is there at its end is never searched again, by any thread of this process. The imports'
    own garbage stays, too: 8 MiB of 713 with segmentation-models-pytorch.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def skip_gc_at_exit() -> None:
    """Have this process end without a last search for garbage: its memory goes back in one piece.

    For programs only, which close their files and take away what is temporary themselves: what
    keeps itself alive in a cycle is not finalised at the end.
    """
    atexit.register(gc.freeze)
