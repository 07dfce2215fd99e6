"""The launcher's process before its modules are there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

PAUSE_AT_IMPORT = """
import signal, sys
class Pause:
    def find_spec(self, name, path=None, target=None):
        if name == "hbseg.launcher.main":
            print("gc_paused", flush=True)
            signal.pause()
sys.meta_path.insert(0, Pause())
"""


def test_sigterm_while_modules_load_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(PAUSE_AT_IMPORT)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "hbseg_jobs.launch"]

    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"gc_paused\n"
        process.send_signal(signal.SIGTERM)

    assert process.returncode == 143
