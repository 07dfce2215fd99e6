"""Containers that a mesh adds to pods: before ours, in the spec as among the states."""

from __future__ import annotations

from typing import Any

RUNS: dict[str, Any] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
KILLED: dict[str, Any] = {"terminated": {"exitCode": 137, "reason": "Error"}}


def ended(code: int, **more: Any) -> dict[str, Any]:
    """Return the state of a container that has ended."""
    return {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed", **more}}


def add_sidecar(
    pod: Any,
    state: dict[str, Any],
    *,
    native: bool = False,
    name: str = "istio-proxy",
    image: str = "proxy:1",
    **status: Any,
) -> None:
    """Add a sidecar in this state; a native one is an init container that keeps running."""
    spec, found = ("initContainers", "initContainerStatuses") if native else _PLAIN
    policy = {"restartPolicy": "Always"} if native else {}
    pod["spec"].setdefault(spec, []).insert(0, {"name": name, "image": image, **policy})
    pod["status"].setdefault(found, []).insert(0, {"name": name, "state": state, **status})


_PLAIN = ("containers", "containerStatuses")


def set_main(pod: Any, state: dict[str, Any]) -> None:
    """Put the container that does the work into a state."""
    for item in pod["status"]["containerStatuses"]:
        if item["name"] in ("pytorch", "step"):
            item["state"] = state
