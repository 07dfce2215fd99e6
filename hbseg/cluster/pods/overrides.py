"""A team's own changes of the pod template (`pod_overrides`), merged as Kubernetes merges patches.

They reach what the profile has no key for. What hbseg needs as it is stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hbseg.cluster.objects import Manifest
from hbseg.cluster.pods.restricted import restricted_problems
from hbseg.config.kubernetes_types import OUR_LABELS, OUR_PREFIXES
from hbseg.config.profile import ClusterProfile
from hbseg.documents import nearest
from hbseg.errors import SpecError

MAIN: Final = "main"
"""What overrides call the container of the step, whose name depends on the kind of its job."""
KEY: Final = "cluster.pod_overrides"

_MERGE_KEYS: Final = {
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
_OURS: Final = ("restartPolicy", "automountServiceAccountToken", "serviceAccountName")
_OURS_OF_MAIN: Final = ("image", "command", "args", "resources", "terminationMessagePath")
_OWN_LISTS: Final = {"env": "name", "volumeMounts": "mountPath"}


def with_overrides(template: Manifest, profile: ClusterProfile) -> None:
    """Merge the overrides of a pod's profile into its template.

    Raises:
        SpecError: they change what is hbseg's, or break the `restricted` standard without leave.
    """
    if not profile.pod_overrides:
        return
    main = template["spec"]["containers"][0]
    overrides = _named(profile.pod_overrides, main["name"])
    for problem in _refused(overrides, template):
        raise SpecError(f"{KEY}: {problem}", "take it out of the profile")
    merged = _merged(template, overrides)
    if not profile.unrestricted:
        for problem in restricted_problems(merged["spec"]):
            raise SpecError(
                f"{KEY}: {problem}, which the restricted standard refuses",
                "take it out, or set cluster.unrestricted: true",
            )
    template |= merged


def override_lines(profile: ClusterProfile) -> list[str]:
    """Return what the overrides change, `spec.hostNetwork: true` for each value."""
    overrides = profile.pod_overrides
    return [f"{path}: {_told(value)}" for path, value in _values(overrides, "") if overrides]


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:80]


def _values(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _values(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and (name := _MERGE_KEYS.get(path.rpartition(".")[2])):
        for item in value:
            rest = {key: inner for key, inner in item.items() if key != name}
            yield from _values(rest, f"{path}[{item.get(name)}]")
    else:
        yield path, value


def _named(overrides: Mapping[str, Any], main: str) -> Manifest:
    """Return the overrides with the main container called as in the template."""
    spec = overrides.get("spec")
    if not isinstance(spec, Mapping) or not isinstance(spec.get("containers"), list):
        return dict(overrides)
    containers = [
        {**item, "name": main} if isinstance(item, Mapping) and item.get("name") == MAIN else item
        for item in spec["containers"]
    ]
    return {**overrides, "spec": {**spec, "containers": containers}}


def _refused(overrides: Mapping[str, Any], template: Manifest) -> Iterator[str]:
    """Yield what overrides may not change."""
    for part in overrides:
        if part not in _PARTS:
            yield f"unknown part {part}; {nearest(str(part), _PARTS)}"
    yield from _malformed(overrides, template, "")
    metadata, spec = overrides.get("metadata") or {}, overrides.get("spec") or {}
    for part, values in metadata.items():
        if part not in _METADATA:
            yield f"unknown part metadata.{part}; {nearest(str(part), _METADATA)}"
        for key in values or ():
            if key.startswith(OUR_PREFIXES) or key in OUR_LABELS:
                yield f"metadata.{part}.{key} is set by hbseg or a controller"
    for key in _OURS:
        if key in spec:
            yield f"spec.{key} is decided by hbseg"
    own = {volume["name"] for volume in template["spec"]["volumes"]}
    for volume in spec.get("volumes") or ():
        if volume.get("name") in own:
            yield f"spec.volumes: {volume['name']} is a volume of hbseg"
    main = template["spec"]["containers"][0]
    for container in spec.get("containers") or ():
        if container.get("name") == main["name"]:
            yield from _refused_of_main(container, main)


def _refused_of_main(container: Manifest, main: Manifest) -> Iterator[str]:
    for key in _OURS_OF_MAIN:
        if key in container:
            yield f"{key} of the container {MAIN} is decided by hbseg; use the profile's own keys"
    for part, name in _OWN_LISTS.items():
        own = {item[name] for item in main.get(part, ())}
        for item in container.get(part) or ():
            if item.get(name) in own:
                yield f"{part} of the container {MAIN}: {item[name]} is set by hbseg"


def _malformed(over: Mapping[str, Any], base: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield where overrides have another form than the template, so that they cannot be merged."""
    for key, value in over.items():
        here, old = f"{path}{key}", base.get(key)
        if str(key).startswith("$"):
            yield f"{here}: directives of patches are not known"
        elif key in _MERGE_KEYS and isinstance(value, list):
            name = _MERGE_KEYS[key]
            if not all(isinstance(item, Mapping) and name in item for item in value):
                yield f"{here}: expected items with a {name}"
        elif key in _MERGE_KEYS and (value is not None or key in ("containers", "volumes")):
            yield f"{here}: expected a list, found {value!r:.40}"
        elif isinstance(old, Mapping) and not isinstance(value, Mapping | None):
            yield f"{here}: expected keys and values, found {value!r:.40}"
        elif isinstance(value, Mapping):
            yield from _malformed(value, old if isinstance(old, Mapping) else {}, f"{here}.")
        elif value is None and key in ("spec", "securityContext", "metadata"):
            yield f"{here}: cannot be taken out"


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Manifest:
    """Return the strategic merge: mappings by key, known lists by identity; null removes."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            result[key] = _merged(old if isinstance(old, Mapping) else {}, value)
        elif isinstance(value, list) and key in _MERGE_KEYS:
            result[key] = _merged_list(old or [], value, _MERGE_KEYS[key])
        else:
            result[key] = value
    return result


def _merged_list(base: list[Any], over: list[Any], name: str) -> list[Any]:
    items = {item[name]: item for item in base}
    for item in over:
        items[item[name]] = _merged(items.get(item[name], {}), item)
    return list(items.values())
