"""The components' processes, as the node's first process starts, ends and collects them."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.cluster.node.components import Component
from tests.cluster.node.paths import NodeError


class Processes:
    """The components by name, each started at most once at a time."""

    def __init__(self, logs: Path, components: dict[str, Component]) -> None:
        self._logs = logs
        self._components = components
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a component; do nothing where it runs.

        Raises:
            NodeError: there is no such component.
        """
        component = self._component(name)
        if name in self._running:
            return
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                component.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **component.environment},
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """End a component at once, as a crash would; do nothing where it does not run."""
        self._component(name)
        process = self._running.pop(name, None)
        if process:
            process.kill()
            process.wait()

    def running(self) -> list[str]:
        """Return the names of the components that run."""
        return sorted(self._running)

    def reap(self) -> list[str]:
        """Return the components that have ended; collect them, and what others left to us."""
        ended = []
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                del self._running[name]
                ended.append(name)
                print(f"{name} ended with status {process.returncode}", flush=True)
        self._collect_orphans()
        return ended

    def _collect_orphans(self) -> None:
        ours = {process.pid for process in self._running.values()}
        with suppress(ChildProcessError):
            while True:
                orphan = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if orphan is None or orphan.si_pid in ours:
                    return
                os.waitpid(orphan.si_pid, 0)

    def _component(self, name: str) -> Component:
        if name not in self._components:
            known = ", ".join(sorted(self._components))
            raise NodeError(f"the node has no component {name!r}; it has {known}")
        return self._components[name]
