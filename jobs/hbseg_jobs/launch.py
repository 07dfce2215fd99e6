"""The launcher: `python -m hbseg_jobs.launch --job DIR --module M --placement JSON -- STEP...`."""

import os
import signal
import sys

if __name__ == "__main__":
    # Process 1 of a container is deaf to signals that nobody handles, while modules load too: so
    # the handler comes before any import of ours, and 143 is `StepExit.TERMINATED`.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    from hbseg.launcher.main import main

    code = main()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdout.flush()
    sys.stderr.flush()
    # A copy of the logs may still hang in a request to storage that is down: leave without it.
    os._exit(code)
