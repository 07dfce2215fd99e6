"""What is wrong with a manifest that the cluster takes, and then breaks on.

The training operator's webhook refuses some mistakes and lets others through (design: its
version 1.9.4): a job with too long a name never gets its Services, one with an unknown policy
waits for ever. The rules here know both kinds, so that a mistake shows before a GPU is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from hbseg.cluster.names import LONGEST_JOB, LONGEST_PYTORCH_JOB
from hbseg.cluster.quantity import amount

Manifest = dict[str, Any]

LONGEST_LABEL = 63
"""Characters of a Service's or a pod's host name, and of a label's value."""
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_SECRET_NAME = re.compile(
    r"(secret|password|passwd|token(?!izers)|credential|private_?key|access_?key)(?!.*_file$)", re.I
)
_SECRET_VALUE = re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|://[^/\s:@]+:[^/\s@]+@|-----BEGIN")
_RESTART = ("Always", "OnFailure", "Never", "ExitCode")
_CLEAN = ("None", "Running", "All")


def problems(manifest: Manifest) -> list[str]:
    """Return what is wrong, a sentence each; nothing where the manifest is good.

    Kinds that hbseg does not render are only looked at for their names and labels.
    """
    kinds: dict[str, Callable[[Manifest], Iterator[str]]] = {
        "PyTorchJob": _pytorch_job,
        "Job": _batch_job,
    }
    found = list(_metadata(manifest.get("metadata", {})))
    if rule := kinds.get(manifest.get("kind", "")):
        found += rule(manifest)
    return found


def _metadata(metadata: Manifest) -> Iterator[str]:
    name = metadata.get("name") or ""
    if not _DNS_1035.fullmatch(name):
        yield f"name {name!r:.80} is not a letter, then a-z, 0-9 and -"
    for label, value in metadata.get("labels", {}).items():
        if not isinstance(value, str) or len(value) > LONGEST_LABEL or not _LABEL.fullmatch(value):
            expected = f"at most {LONGEST_LABEL} of a-z, 0-9, - and ."
            yield f"label {label} is {value!r:.80}, expected {expected}"


def _pytorch_job(job: Manifest) -> Iterator[str]:
    name, spec = job["metadata"].get("name") or "", job["spec"]
    policy, replicas = spec.get("runPolicy") or {}, spec.get("pytorchReplicaSpecs") or {}
    if len(name) > LONGEST_PYTORCH_JOB:
        yield f"name has {len(name)} characters, a PyTorchJob may have {LONGEST_PYTORCH_JOB}"
    nproc = spec.get("nprocPerNode")
    if not isinstance(nproc, str) or not re.fullmatch(r"[1-9]\d*", nproc):
        yield f"nprocPerNode is {nproc!r}, expected a number in quotes; auto is one for each core"
    if policy.get("cleanPodPolicy") not in _CLEAN[1:]:
        found = policy.get("cleanPodPolicy")
        yield f"cleanPodPolicy is {found!r}, expected Running: else pods keep GPUs after a failure"
    yield from _roles(replicas, elastic="elasticPolicy" in spec)
    for role, replica in replicas.items():
        yield from _replica(role, replica, name, policy, elastic="elasticPolicy" in spec)


def _roles(replicas: Manifest, *, elastic: bool) -> Iterator[str]:
    unknown = set(replicas) - {"Master", "Worker"}
    if unknown or not replicas:
        yield f"replicas are {sorted(replicas)}, expected Master or Worker"
    if set(replicas) == {"Master", "Worker"}:
        yield (
            "Master and Worker together: the operator's init container is refused by the "
            "restricted standard; use workers with an elasticPolicy"
        )
    if "Master" in replicas and replicas["Master"].get("replicas") != 1:
        yield f"Master has {replicas['Master'].get('replicas')} replicas, expected an explicit 1"
    if "Master" not in replicas and not elastic:
        yield "workers without a master need an elasticPolicy, or they do not find each other"


def _replica(
    role: str, replica: Manifest, name: str, policy: Manifest, *, elastic: bool
) -> Iterator[str]:
    count, restart = replica.get("replicas") or 0, replica.get("restartPolicy")
    if count < 1:
        yield f"{role} has {count} replicas, expected at least 1"
    host = f"{name}-{role.lower()}-{max(count - 1, 0)}"
    if len(host) > LONGEST_LABEL:
        yield f"pod name {host} has {len(host)} characters, expected at most {LONGEST_LABEL}"
    if restart not in _RESTART:
        yield f"restartPolicy of {role} is {restart!r}, expected one of {', '.join(_RESTART)}"
    if restart == "ExitCode":
        yield from _ignored_with_exit_code(policy)
    pod = replica["template"]["spec"]
    yield from _pod(pod, container="pytorch")
    if elastic and any("readinessProbe" in item for item in pod["containers"]):
        yield "readinessProbe in an elastic job: workers would wait for each other's names"


def _ignored_with_exit_code(policy: Manifest) -> Iterator[str]:
    if policy.get("backoffLimit"):
        yield "backoffLimit with ExitCode is ignored: restarts would never end"
    if "ttlSecondsAfterFinished" in policy:
        yield "ttlSecondsAfterFinished with ExitCode breaks: the job would never be removed"
    if "activeDeadlineSeconds" in policy:
        yield "activeDeadlineSeconds is not kept on time by the operator"


def _batch_job(job: Manifest) -> Iterator[str]:
    name, spec = job["metadata"].get("name") or "", job["spec"]
    if len(name) > LONGEST_JOB:
        yield f"name has {len(name)} characters, a batch Job may have {LONGEST_JOB}"
    if spec.get("completionMode") == "Indexed":
        host = f"{name}-{spec.get('completions', 1) - 1}"
        if len(host) > LONGEST_LABEL:
            yield f"pod name {host} has {len(host)} characters, expected at most {LONGEST_LABEL}"
    pod = spec["template"]["spec"]
    if pod.get("restartPolicy") != "Never":
        yield f"restartPolicy is {pod.get('restartPolicy')!r}, podFailurePolicy needs Never"
    for rule in (spec.get("podFailurePolicy") or {}).get("rules", ()):
        of = rule.get("onExitCodes", {}).get("containerName")
        if of is not None and of not in [item["name"] for item in pod["containers"]]:
            yield f"podFailurePolicy looks at the container {of}, which the pod does not have"
    yield from _pod(pod, container="step")


def _pod(pod: Manifest, *, container: str) -> Iterator[str]:
    names = [item.get("name") for item in pod.get("containers", ())]
    if names != [container]:
        yield f"containers are {names}, expected one called {container}"
    for item in pod.get("containers", ()):
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
        elif _SECRET_NAME.search(name) or _SECRET_VALUE.search(value):
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
