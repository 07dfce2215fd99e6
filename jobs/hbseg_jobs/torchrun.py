"""torchrun, loaded and left faster: `python -m hbseg_jobs.torchrun REPORT ARGUMENT ...`."""

from __future__ import annotations

import sys
from pathlib import Path

from hbseg.system.startup import gc_paused, skip_gc_at_exit


def main() -> None:
    """Start the ranks of a step and wait for them.

    The first argument is the file that says why a rank or the rendezvous failed
    (`hbseg.runs.torchrun_report`); all others are torchrun's own. The exit code and what is printed
    are torchrun's, too.
    """
    skip_gc_at_exit()
    with gc_paused():
        from hbseg.ml.elastic import run_torchrun
    report, *arguments = sys.argv[1:]
    run_torchrun(Path(report), arguments)


if __name__ == "__main__":
    main()
