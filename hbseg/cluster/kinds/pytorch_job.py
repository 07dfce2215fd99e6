"""A training stage as a PyTorchJob of the Kubeflow training operator, v1."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from hbseg.cluster.base_manifest import load_manifest
from hbseg.cluster.kinds.job_kind import JobKind
from hbseg.cluster.names import MAIN_CONTAINERS
from hbseg.cluster.objects import Manifest, Object
from hbseg.cluster.pods.rules import host_name_problems, pod_problems
from hbseg.cluster.pods.template import complete_step, step_profile
from hbseg.cluster.requests.resources import PYTORCH_JOB
from hbseg.config.kubernetes_types import given
from hbseg.config.placement import Placement
from hbseg.config.pod_profile import Gang
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step

if TYPE_CHECKING:
    from hbseg.cluster.pods.states import Failure

_RESTART: Final = ("Always", "OnFailure", "Never", "ExitCode")
_CLEAN: Final = ("Running", "All")
_POD_ERROR: Final = (
    r"(?s)Error pod (?P<pod>\S+) container (?P<container>\S+) "
    r"exitCode: (?P<code>\d+) terminated message: (?P<message>.*)"
)


class PyTorchJob(JobKind):
    """A PyTorchJob: one master on one node, or as many elastic workers as there are nodes."""

    resource = PYTORCH_JOB
    noun = "PyTorchJob"
    controller = "the training operator"
    longest_name = 50
    """Its pods and Services add `-worker-999` to it, and a Service ends at 63. The operator's
    webhook does not check this."""
    is_gang = True
    replica_labels = (
        "training.kubeflow.org/replica-type",
        "training.kubeflow.org/replica-index",
    )
    succeeded = "Succeeded"

    def may_run(self, step: Step) -> bool:
        """Return whether torchrun starts the step."""
        return step.row.torchrun

    def render(self, call: StepCall, placement: Placement) -> Manifest:
        """Return the job, from the manifest for one node or for several."""
        several = placement.nodes > 1
        job = load_manifest("train-elastic.yaml" if several else "train.yaml")
        spec = job["spec"]
        spec["nprocPerNode"] = str(placement.processes_per_node)
        replicas = spec["pytorchReplicaSpecs"]["Worker" if several else "Master"]
        replicas["replicas"] = placement.nodes
        if several:
            nodes = {"minReplicas": placement.nodes, "maxReplicas": placement.nodes}
            spec["elasticPolicy"] |= nodes
            _set_join_timeout(spec["elasticPolicy"]["rdzvConf"], placement.pending_timeout)
        if gang := step_profile(placement.cluster, call.step).gang:
            spec["runPolicy"]["schedulingPolicy"] = _scheduling(gang, placement.nodes)
        complete_step(replicas["template"], call, placement)
        return job

    def problems(self, job: Manifest) -> Iterator[str]:
        """Yield what the operator would refuse, or take and break on."""
        name, spec = job["metadata"].get("name") or "", job["spec"]
        policy, replicas = spec.get("runPolicy") or {}, spec.get("pytorchReplicaSpecs") or {}
        nproc, clean = spec.get("nprocPerNode"), policy.get("cleanPodPolicy")
        if not isinstance(nproc, str) or not re.fullmatch(r"[1-9]\d*", nproc):
            expected = "a number in quotes; auto is one for each core"
            yield f"nprocPerNode is {nproc!r}, expected {expected}"
        if clean not in _CLEAN:
            expected = "Running: else pods keep GPUs after a failure"
            yield f"cleanPodPolicy is {clean!r}, expected {expected}"
        yield from _roles(replicas, elastic="elasticPolicy" in spec)
        for role, replica in replicas.items():
            yield from _replica(role, replica, name, policy, elastic="elasticPolicy" in spec)

    def pod_templates(self, job: Object) -> list[Object]:
        """Return the template of each role."""
        return [replica.get("template") or {} for replica in _replicas(job)]

    def num_pods(self, job: Object) -> int:
        """Return the replicas of all roles."""
        return sum(int(replica.get("replicas") or 1) for replica in _replicas(job))

    def num_ranks(self, job: Object) -> int:
        """Return the processes that torchrun starts in all pods."""
        text = str((job.get("spec") or {}).get("nprocPerNode") or "1")
        return self.num_pods(job) * (int(text) if text.isdigit() else 1)

    def is_suspended(self, job: Object) -> bool:
        """Return what its run policy says."""
        return bool(((job.get("spec") or {}).get("runPolicy") or {}).get("suspend"))

    def is_pod_name(self, words: Sequence[str]) -> bool:
        """Return whether it is a role and a number."""
        return len(words) == 2 and words[0] in ("master", "worker") and words[1].isdigit()

    def failure_in(self, event: Object) -> Failure | None:
        """Return the failure that the operator tells of a pod, which it deletes itself.

        It tells of sidecars, too, whose ends do not count.
        """
        from hbseg.cluster.pods.states import Failure, of_result, result_in
        from hbseg.cluster.requests.api_errors import one_line

        match = re.match(_POD_ERROR, str(event.get("message") or ""))
        if match is None or match["container"] not in MAIN_CONTAINERS:
            return None
        told = result_in(match["message"])
        if told is not None:
            return of_result(match["pod"], told)
        known = {"OOMKilled": "out of memory", "StartError": "its container cannot start: "}
        words = known.get(str(event.get("reason")), "") + one_line(match["message"])[-300:]
        return Failure(match["pod"], int(match["code"]), words or "no record", "")


def _replicas(job: Object) -> list[dict[str, Any]]:
    return list(((job.get("spec") or {}).get("pytorchReplicaSpecs") or {}).values())


def _scheduling(gang: Gang, pods: int) -> Manifest:
    named = {"queue": gang.queue, "priorityClass": gang.priority_class}
    return {"minAvailable": pods, **given(named)}


def _set_join_timeout(settings: list[Manifest], pending_timeout: float) -> None:
    """Let nodes that have started wait for the others as long as these may be pending."""
    for setting in settings:
        if setting["key"] == "join_timeout":
            setting["value"] = str(max(int(setting["value"]), math.ceil(pending_timeout)))


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
    yield from host_name_problems(f"{name}-{role.lower()}-{max(count - 1, 0)}")
    if restart not in _RESTART:
        yield f"restartPolicy of {role} is {restart!r}, expected one of {', '.join(_RESTART)}"
    if restart == "ExitCode":
        yield from _ignored_with_exit_code(policy)
    pod = replica["template"]["spec"]
    yield from pod_problems(pod, container="pytorch")
    if elastic and any("readinessProbe" in item for item in pod["containers"]):
        yield "readinessProbe in an elastic job: workers would wait for each other's names"


def _ignored_with_exit_code(policy: Manifest) -> Iterator[str]:
    if policy.get("backoffLimit"):
        yield "backoffLimit with ExitCode is ignored: restarts would never end"
    if "ttlSecondsAfterFinished" in policy:
        yield "ttlSecondsAfterFinished with ExitCode breaks: the job would never be removed"
    if "activeDeadlineSeconds" in policy:
        yield "activeDeadlineSeconds is not kept on time by the operator"
