"""What a simulated node says of itself and of its pods. Pure."""

from __future__ import annotations

from typing import Any

from portside.sim.lifecycle import FAILED, PENDING, READY, RUNNING, SILENT, SUCCEEDED, WAITING, Moment

Json = dict[str, Any]

FAKE = "kwok.x-k8s.io/node"
ATTACHED = "volumes.kubernetes.io/controller-managed-attach-detach"
CAPACITY = {"cpu": "32", "memory": "256Gi", "ephemeral-storage": "256Gi", "pods": "110"}
CONDITIONS = (
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


def node_object(name: str, index: int) -> Json:
    """A node made by the simulation itself."""
    labels = {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "type": "portside-simulated",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {FAKE: "fake", ATTACHED: "true"}},
    }


def managed(node: Json) -> bool:
    """Whether the simulation plays this node's agent: a node said to be silent has none."""
    said = node["metadata"].get("annotations") or {}
    return said.get(FAKE) == "fake" and said.get(SILENT) != "true"


def node_status(node: Json, address: str, now: str, version: str) -> Json | None:
    """The status patch a node needs to be Ready, None when it is. What the user gave as capacity stays."""
    status = node.get("status") or {}
    have = {c["type"]: c for c in status.get("conditions") or ()}
    if (have.get("Ready") or {}).get("status") == "True":
        return None
    conditions = []
    for kind, value, reason, message in CONDITIONS:
        same = (have.get(kind) or {}).get("status") == value
        since = have[kind]["lastTransitionTime"] if same else now
        conditions.append(
            {
                "type": kind,
                "status": value,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": since,
            }
        )
    patch: Json = {
        "conditions": conditions + [c for k, c in have.items() if k not in {t for t, *_ in CONDITIONS}],
        "phase": "Running",
    }
    if not status.get("addresses"):
        patch["addresses"] = [
            {"type": "InternalIP", "address": address},
            {"type": "Hostname", "address": node["metadata"]["name"]},
        ]
    for name in ("capacity", "allocatable"):
        if not status.get(name):
            patch[name] = status.get("capacity") or status.get("allocatable") or CAPACITY
    if not (status.get("nodeInfo") or {}).get("kubeletVersion"):
        empty = (
            "bootID",
            "containerRuntimeVersion",
            "kernelVersion",
            "kubeProxyVersion",
            "machineID",
            "osImage",
            "systemUUID",
        )
        patch["nodeInfo"] = dict.fromkeys(empty, "") | {
            "architecture": "amd64",
            "kubeletVersion": version,
            "operatingSystem": "linux",
        }
    return {"status": patch}


def runs_to_an_end(pod: Json) -> bool:
    """Pods of a Job complete; every other pod runs until it is deleted."""
    return any(o.get("kind") == "Job" for o in pod["metadata"].get("ownerReferences") or ())


def pod_status(pod: Json, host: str, address: str, now: str) -> Json | None:
    """The status patch a bound pod needs, None when it stands: Running and Ready at once, or Succeeded."""
    status = pod.get("status") or {}
    phase = status.get("phase")
    if phase in ("Succeeded", "Failed") or (phase == "Running" and not runs_to_an_end(pod)):
        return None
    done = runs_to_an_end(pod)
    spec = pod["spec"]
    ready = "False" if done else "True"
    more = {"reason": "PodCompleted"} if done else {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    for kind, value in (
        ("PodReadyToStartContainers", ready),
        ("Initialized", "True"),
        ("Ready", ready),
        ("ContainersReady", ready),
    ):
        conditions[kind] = {"type": kind, "status": value, "lastProbeTime": None, "lastTransitionTime": now} | (
            more if kind != "PodReadyToStartContainers" or done else {}
        )
    # A gate is the user's own condition: without it a pod is not ready.
    if any(
        (conditions.get(g["conditionType"]) or {}).get("status") != "True" for g in spec.get("readinessGates") or ()
    ):
        conditions["Ready"] |= {"status": "False", "reason": "ReadinessGatesNotReady"}
    patch: Json = {
        "conditions": list(conditions.values()),
        "containerStatuses": [_container(c, now, done=done) for c in spec.get("containers") or ()],
        "phase": "Succeeded" if done else "Running",
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "podIP": host if spec.get("hostNetwork") else address,
        "podIPs": [{"ip": host if spec.get("hostNetwork") else address}],
        "startTime": status.get("startTime") or now,
    }
    if spec.get("initContainers"):
        patch["initContainerStatuses"] = [
            _container(c, now, done=c.get("restartPolicy") != "Always" or done) for c in spec["initContainers"]
        ]
    return {"status": patch}


PHASES = {PENDING: "Pending", FAILED: "Failed", SUCCEEDED: "Succeeded"}


def status_at(pod: Json, host: str, address: str, now: str, moment: Moment) -> Json | None:
    """The status patch of a pod with a life of its own (lifecycle.py), None when it says that already."""
    status, spec = pod.get("status") or {}, pod["spec"]
    phase = PHASES.get(moment.stage, "Running")
    if status.get("phase") in ("Succeeded", "Failed"):
        return None
    containers = [_at(c, now, moment) for c in spec.get("containers") or ()]
    if phase == status.get("phase") and _shown(status.get("containerStatuses")) == _shown(containers):
        return None
    held = {c["type"]: c for c in status.get("conditions") or ()}
    ready = moment.stage == READY
    reason = "" if ready else "PodCompleted" if moment.stage == SUCCEEDED else "ContainersNotReady"
    for kind, value in (
        ("PodReadyToStartContainers", moment.stage not in (PENDING, FAILED, SUCCEEDED)),
        ("Initialized", True),
        ("Ready", ready),
        ("ContainersReady", ready),
    ):
        text = str(value)
        since = held[kind]["lastTransitionTime"] if held.get(kind, {}).get("status") == text else now
        held[kind] = {"type": kind, "status": text, "lastProbeTime": None, "lastTransitionTime": since}
        if reason and kind in ("Ready", "ContainersReady"):
            held[kind]["reason"] = reason
    patch: Json = {
        "conditions": list(held.values()),
        "containerStatuses": containers,
        "phase": phase,
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "startTime": status.get("startTime") or now,
    }
    if moment.stage != PENDING:
        own = host if spec.get("hostNetwork") else address
        patch |= {"podIP": own, "podIPs": [{"ip": own}]}
    return {"status": patch}


def _shown(containers: list[Json] | None) -> list[tuple[object, ...]]:
    return [(c.get("ready"), c.get("restartCount"), *(c.get("state") or {})) for c in containers or ()]


def _at(container: Json, now: str, moment: Moment) -> Json:
    """One container at a moment of its pod's life."""
    stage = moment.stage
    ended = {"exitCode": int(stage in (FAILED, WAITING)), "startedAt": now, "finishedAt": now}
    ended["reason"] = "Completed" if stage == SUCCEEDED else "Error"
    states: dict[str, Json] = {
        PENDING: {"waiting": {"reason": "ContainerCreating"}},
        WAITING: {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}},
        FAILED: {"terminated": ended},
        SUCCEEDED: {"terminated": ended},
    }
    made = _container(container, now, done=False) | {
        "ready": stage == READY,
        "started": stage in (RUNNING, READY),
        "restartCount": moment.restarts,
        "state": states.get(stage, {"running": {"startedAt": now}}),
    }
    if stage == WAITING or moment.restarts:
        made["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now}}
    return made


def _container(container: Json, now: str, *, done: bool) -> Json:
    state: Json = (
        {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
        if done
        else {"running": {"startedAt": now}}
    )
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": not done,
        "restartCount": 0,
        "started": not done,
        "state": state,
    }
