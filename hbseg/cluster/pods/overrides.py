"""A team's own changes of the pod template, put into it. What hbseg needs as it is stays so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hbseg.cluster.objects import Manifest
from hbseg.cluster.pods.restricted import restricted_problems
from hbseg.config.kubernetes_types import check_mount_path, is_our_key, is_our_variable
from hbseg.config.pod_overrides import MAIN, MERGE_KEYS, strategic_merge
from hbseg.config.profile import ClusterProfile
from hbseg.errors import SpecError

KEY: Final = "cluster.pod_overrides"

_OURS: Final = (
    *("restartPolicy", "automountServiceAccountToken", "serviceAccountName", "serviceAccount"),
    *("terminationGracePeriodSeconds", "activeDeadlineSeconds"),
)
"""Keys of a pod that overrides may not change; the profile has keys for some of them."""
_OURS_OF_MAIN: Final = (
    *("name", "image", "command", "args", "workingDir", "resources"),
    *("terminationMessagePath", "terminationMessagePolicy"),
)


def with_overrides(template: Manifest, profile: ClusterProfile) -> None:
    """Merge the overrides of a pod's profile into its template.

    Raises:
        SpecError: they change what is hbseg's, or break the `restricted` standard without leave.
    """
    if not profile.pod_overrides:
        return
    main = template["spec"]["containers"][0]["name"]
    merged = strategic_merge(template, _named(profile.pod_overrides, main))
    for problem in _changed(template, merged):
        raise SpecError(f"{KEY}: {problem}", "take it out of the profile")
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
    elif isinstance(value, list) and value and (name := MERGE_KEYS.get(path.rpartition(".")[2])):
        for item in value:
            rest = {key: inner for key, inner in item.items() if key != name}
            yield from _values(rest, f"{path}[{item.get(name)}]")
    else:
        yield path, value


def _named(overrides: Mapping[str, Any], main: str) -> Manifest:
    """Return the overrides with the main container called as in the template."""
    spec = overrides.get("spec") or {}
    if not spec.get("containers"):
        return dict(overrides)
    containers = [
        {**item, "name": main} if item["name"] == MAIN else item for item in spec["containers"]
    ]
    return {**overrides, "spec": {**spec, "containers": containers}}


def _changed(before: Manifest, after: Manifest) -> Iterator[str]:
    """Yield what of hbseg's own is not any more as it was."""
    yield from _changed_metadata(before.get("metadata") or {}, after.get("metadata") or {})
    if not isinstance(after.get("spec"), Mapping):
        yield "spec is decided by hbseg"
        return
    pod, merged = before["spec"], after["spec"]
    yield from (f"spec.{k} is decided by hbseg" for k in _OURS if pod.get(k) != merged.get(k))
    yield from _lost(pod, merged, "volumes", "name", "spec.volumes")
    containers = merged.get("containers") or [{}]
    yield from _changed_main(pod["containers"][0], containers[0])
    for volume in merged.get("volumes") or ():
        if _gives_token(volume):
            yield f"volume {volume['name']} has a token for the cluster; give it an audience"


def _changed_metadata(before: Manifest, after: Manifest) -> Iterator[str]:
    for part in ("labels", "annotations"):
        old, new = before.get(part) or {}, after.get(part) or {}
        for key in dict.fromkeys([*old, *new]):
            if is_our_key(key) and old.get(key) != new.get(key):
                yield f"metadata.{part}.{key} is set by hbseg or a controller"


def _changed_main(before: Manifest, after: Manifest) -> Iterator[str]:
    of = f"of the container {MAIN}"
    for key in _OURS_OF_MAIN:
        if before.get(key) != after.get(key):
            yield f"{key} {of} is decided by hbseg; use the profile's own keys"
    yield from _lost(before, after, "env", "name", f"env {of}")
    yield from _lost(before, after, "volumeMounts", "mountPath", f"volumeMounts {of}")
    own = {variable["name"] for variable in before["env"]}
    for variable in after.get("env") or ():
        if variable["name"] not in own and is_our_variable(variable["name"]):
            yield f"env {of}: {variable['name']} is set for the launcher and torchrun"
    mounted = {mount["mountPath"] for mount in before["volumeMounts"]}
    for mount in after.get("volumeMounts") or ():
        if mount["mountPath"] not in mounted:
            yield from _hidden(mount["mountPath"])


def _hidden(path: str) -> Iterator[str]:
    try:
        check_mount_path(path)
    except ValueError as error:
        yield f"volumeMounts of the container {MAIN}: {error}"


def _lost(before: Manifest, after: Manifest, part: str, name: str, told: str) -> Iterator[str]:
    """Yield the items of a list of ours that were changed or taken out."""
    kept = {item[name]: item for item in after.get(part) or ()}
    for item in before.get(part) or ():
        if kept.get(item[name]) != item:
            yield f"{told}: {item[name]} is set by hbseg"


def _gives_token(volume: Manifest) -> bool:
    sources = (volume.get("projected") or {}).get("sources") or ()
    tokens = [
        source["serviceAccountToken"] for source in sources if "serviceAccountToken" in source
    ]
    return any(not (token or {}).get("audience") for token in tokens)
