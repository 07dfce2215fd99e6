"""What is wrong with the pod in a job's manifest, whatever the job's kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from hbseg.cluster.objects import Manifest
from hbseg.cluster.pods.quantity import amount
from hbseg.config.secrets import is_secret

MAX_LABEL: Final = 63
"""Characters of a Service's or a pod's host name, and of a label's value."""


def host_name_problems(host: str) -> Iterator[str]:
    """Yield that a pod's name is too long for a host, if it is."""
    if len(host) > MAX_LABEL:
        yield f"pod name {host} has {len(host)} characters, expected at most {MAX_LABEL}"


def pod_problems(pod: Manifest, *, container: str) -> Iterator[str]:
    """Yield what is wrong with a pod's spec, whose container is called `container`."""
    names = [item.get("name") for item in pod.get("containers", ())]
    if names[:1] != [container] or names.count(container) != 1:
        yield f"containers are {names}, expected the first to be called {container}"
    for item in (*pod.get("initContainers", ()), *pod.get("containers", ())):
        if not (item.get("image") or "").strip():
            yield f"image of the container {item.get('name')} is empty"
        yield from _environment(item.get("env", ()))
        yield from _mounts(item, pod)
        yield from _memory(item, pod)


def _environment(variables: Any) -> Iterator[str]:
    seen: set[str] = set()
    for variable in variables:
        name, value = variable["name"], variable.get("value")
        if name in seen:
            yield f"environment variable {name} stands twice"
        seen.add(name)
        if value is None:
            continue
        if not isinstance(value, str):
            yield f"environment variable {name} is {value!r:.40}, expected text in quotes"
        elif is_secret(name, value):
            yield f"environment variable {name} looks like a secret, expected a secretKeyRef"


def _mounts(container: Manifest, pod: Manifest) -> Iterator[str]:
    volumes = {volume["name"] for volume in pod.get("volumes", ())}
    seen: set[str] = set()
    for mount in container.get("volumeMounts", ()):
        path = mount["mountPath"].rstrip("/")
        if path in seen:
            yield f"two volumes are mounted at {path}"
        seen.add(path)
        if mount["name"] not in volumes:
            yield f"volume {mount['name']} is mounted at {path} and not there"


def _memory(container: Manifest, pod: Manifest) -> Iterator[str]:
    limit = container.get("resources", {}).get("limits", {}).get("memory")
    for volume in pod.get("volumes", ()):
        directory = volume.get("emptyDir") or {}
        size = directory.get("sizeLimit")
        if directory.get("medium") != "Memory" or limit is None:
            continue
        if size is None or amount(size) >= amount(limit):
            yield (
                f"volume {volume['name']} may take {size or 'all'} of the memory, whose limit is "
                f"{limit}: filling it ends the pod"
            )
