"""What a simulated node says of itself and of its pods. Pure."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

FAKE = "kwok.x-k8s.io/node"
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
        "metadata": {"name": name, "labels": labels, "annotations": {FAKE: "fake"}},
    }


def managed(node: Json) -> bool:
    """Whether the simulation plays this node's agent."""
    return bool(((node["metadata"].get("annotations")) or {}).get(FAKE) == "fake")


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
