"""A team's own changes of the pod template (`pod_overrides`): their form, and how layers merge.

They are merged as Kubernetes merges strategic patches, so that lists have items with an identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator

from hbseg.config.secrets import is_secret
from hbseg.documents import nearest

MAIN: Final = "main"
"""What overrides call the container of the step, whose name depends on the kind of its job."""
MERGE_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists whose items have an identity, and the key that is it (Kubernetes' patchMergeKey); any
other list is replaced as a whole."""

_PARTS: Final = ("metadata", "spec")
_METADATA: Final = ("labels", "annotations")
_MAPPINGS: Final = frozenset(
    {
        *("metadata", "spec", "labels", "annotations", "securityContext", "seccompProfile"),
        *("appArmorProfile", "capabilities", "windowsOptions", "seLinuxOptions", "emptyDir"),
        *("resources", "limits", "requests", "projected", "lifecycle", "postStart", "preStop"),
        *("livenessProbe", "readinessProbe", "startupProbe", "httpGet", "tcpSocket"),
        *("affinity", "nodeSelector", "dnsConfig", "serviceAccountToken", "valueFrom"),
    }
)
_LISTS_OF_MAPPINGS: Final = frozenset({*MERGE_KEYS, "sysctls", "tolerations", "envFrom", "sources"})
_LISTS_OF_TEXT: Final = frozenset({"command", "args", "add", "drop"})


def strategic_merge(
    base: Mapping[str, Any], over: Mapping[str, Any], *, keep_null: bool = False
) -> dict[str, Any]:
    """Return `base` with `over` merged into it: mappings by key, known lists by identity.

    `null` takes a key out; with `keep_null` it stays, for a merge that follows.
    """
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if value is None and not keep_null:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            inner = old if isinstance(old, Mapping) else {}
            result[key] = strategic_merge(inner, value, keep_null=keep_null)
        elif isinstance(value, list) and key in MERGE_KEYS:
            result[key] = _merged_list(old or [], value, MERGE_KEYS[key], keep_null=keep_null)
        else:
            result[key] = value
    return result


def _merged_list(base: list[Any], over: list[Any], name: str, *, keep_null: bool) -> list[Any]:
    items = {item[name]: item for item in base}
    for item in over:
        items[item[name]] = strategic_merge(items.get(item[name], {}), item, keep_null=keep_null)
    return list(items.values())


def _checked(overrides: dict[str, Any]) -> dict[str, Any]:
    """Return overrides that can be merged. Raises ValueError."""
    for part in overrides:
        if part not in _PARTS:
            raise ValueError(f"unknown part {part}; {nearest(str(part), _PARTS)}")
    problem = next(_malformed(overrides, ""), None) or next(_metadata(overrides), None)
    problem = problem or next(_secrets(overrides), None)
    if problem:
        raise ValueError(problem)
    return overrides


PodOverrides = Annotated[dict[str, Any], AfterValidator(_checked)]
"""A strategic patch of a pod template, `metadata` and `spec`."""


def _metadata(overrides: Mapping[str, Any]) -> Iterator[str]:
    for part, values in (overrides.get("metadata") or {}).items():
        if part not in _METADATA:
            yield f"unknown part metadata.{part}; {nearest(str(part), _METADATA)}"
        for key, value in (values or {}).items():
            if not isinstance(value, str | None):
                yield f"metadata.{part}.{key} is {value!r:.40}, expected text in quotes"


def _malformed(value: Any, path: str) -> Iterator[str]:
    """Yield where a value has another form than Kubernetes gives its key."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            here = f"{path}.{key}" if path else str(key)
            yield from _misformed_key(key, inner, here)
            yield from _malformed(inner, here)
    elif isinstance(value, list):
        for item in value:
            yield from _malformed(item, f"{path}[]")


def _misformed_key(key: Any, value: Any, here: str) -> Iterator[str]:
    found = f"found {value!r:.40}"
    if not isinstance(key, str):
        yield f"{here}: expected text in quotes as a key"
    elif key.startswith("$"):
        yield f"{here}: directives of patches are not known"
    elif value is None:
        return
    elif key in _MAPPINGS and not isinstance(value, Mapping):
        yield f"{here}: expected keys and values, {found}"
    elif key in _LISTS_OF_MAPPINGS:
        identity = MERGE_KEYS.get(key)
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            yield f"{here}: expected a list of keys and values, {found}"
        elif identity and not all(isinstance(item.get(identity), str | int) for item in value):
            yield f"{here}: expected items with a {identity}"
    elif key in _LISTS_OF_TEXT and not (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    ):
        yield f"{here}: expected a list of text, {found}"


def _secrets(overrides: Mapping[str, Any]) -> Iterator[str]:
    spec = overrides.get("spec") or {}
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            for variable in container.get("env") or ():
                value = variable.get("value")
                if isinstance(value, str) and is_secret(str(variable["name"]), value):
                    yield (
                        f"{variable['name']} of container {container['name']} looks like a secret, "
                        "and manifests show it: use valueFrom.secretKeyRef"
                    )
