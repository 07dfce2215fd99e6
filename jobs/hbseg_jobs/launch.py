"""The launcher: `python -m hbseg_jobs.launch --job DIR --module M --placement JSON -- STEP...`."""

import os
import sys

from hbseg.launcher.main import main

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A copy of the logs may still hang in a request to storage that is down: leave without it.
    os._exit(code)
