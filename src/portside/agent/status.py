"""A pod's status as the kubelet words it: phase, conditions, container statuses. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portside.agent.plan import init_repeats, is_sidecar, main_ended, restarts_of, starts_again
from portside.agent.record import PodRecord, View
from portside.agent.resize import IN_PROGRESS, PENDING
from portside.agent.resize import conditions as resize_conditions
from portside.agent.resources import qos_class
from portside.agent.runtime import Container, Identity, State
from portside.agent.stamps import stamp

Json = dict[str, Any]
OWNED = (PENDING, IN_PROGRESS, "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
DISRUPTION = "DisruptionTarget"  # controllers write it too
ENDED = ("Succeeded", "Failed")
LOST: Json = {
    "exitCode": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
    "startedAt": None,
    "finishedAt": None,
}


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a pod's status says about its node; ``runtime`` is containerd or memory."""

    ips: tuple[str, ...]
    runtime: str = "containerd"


def _terminated(container: Container, record: PodRecord, facts: NodeFacts) -> Json:
    code = container.exit_code
    reason = container.reason or ("Completed" if code == 0 else "Error")
    state: Json = {
        "exitCode": code,
        "reason": reason,
        "startedAt": stamp(container.started_at) if container.started_at else None,
        "finishedAt": stamp(container.finished_at) if container.finished_at else None,
        "containerID": f"{facts.runtime}://{container.id}",
    }
    if message := record.messages.get(container.id) or container.message:
        state["message"] = message
    return {"terminated": {k: v for k, v in state.items() if v is not None}}


def _identity(identity: Identity) -> Json:
    found: Json = {"uid": identity.user, "gid": identity.group}
    if identity.groups:
        found["supplementalGroups"] = list(identity.groups)
    return found


def _volume_mounts(container: Json) -> list[Json]:
    out = []
    for mount in container.get("volumeMounts") or ():
        entry = {"name": mount["name"], "mountPath": mount["mountPath"]}
        if mount.get("readOnly"):
            entry |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
        out.append(entry)
    return out


class _Statuses:
    def __init__(self, pod: Json, view: View, record: PodRecord, facts: NodeFacts, waiting: dict[str, tuple[str, str]]):
        self.pod, self.view, self.record, self.facts, self.waiting = pod, view, record, facts, waiting
        self.has_init = bool(pod["spec"].get("initContainers"))

    def _state(self, name: str, family: str, chain: Sequence[Container]) -> tuple[Json, Json]:
        current = chain[0] if chain else None
        reason = self.waiting.get(name) or self.record.waiting.get(name)
        before = _terminated(chain[1], self.record, self.facts) if len(chain) > 1 else {}
        if current is not None and current.state is State.RUNNING:
            return {"running": {"startedAt": stamp(current.started_at)}}, before
        if current is not None and current.state in (State.EXITED, State.UNKNOWN):
            ended = _terminated(current, self.record, self.facts)
            if reason and not self.record.killing and self._again(name, family, current):
                return self._wait(reason), ended
            return ended, before
        if reason is None:
            default = "PodInitializing" if self.has_init else "ContainerCreating"
            reason = (default, "")
        return self._wait(reason), before or self._reported(name)

    def _again(self, name: str, family: str, current: Container) -> bool:
        """Whether a container that ended is to be started again."""
        families = {"init": "initContainers", "main": "containers"}
        own = [c for c in self.pod["spec"].get(families.get(family, "")) or () if c["name"] == name]
        if not own:
            return False
        if family == "init" and not is_sidecar(own[0]):
            return init_repeats(self.pod, own[0], current.exit_code)
        return starts_again(self.pod, own[0], current, self.view)

    def _reported(self, name: str) -> Json:
        """The last state the API knows, when the runtime has forgotten the container."""
        for item in (self.pod.get("status") or {}).get("containerStatuses") or ():
            if item["name"] == name:
                if ended := (item.get("state") or {}).get("terminated"):
                    return {"terminated": ended}
                if "running" in (item.get("state") or {}):
                    return {"terminated": LOST | {"containerID": item.get("containerID", "")}}
                return dict(item.get("lastState") or {})
        return {}

    @staticmethod
    def _wait(reason: tuple[str, str]) -> Json:
        return {"waiting": {"reason": reason[0], **({"message": reason[1]} if reason[1] else {})}}

    def one(self, container: Json, family: str) -> Json:
        name = container["name"]
        chain = self.view.of(name)
        current = chain[0] if chain else None
        state, last = self._state(name, family, chain)
        started, ready = self._up(container, current, family)
        count = restarts_of(current) if current else self.record.lost.get(name, 0)
        status: Json = {
            "name": name,
            "state": state,
            "lastState": last,
            "ready": ready,
            "restartCount": count,
            "image": current.image if current else container["image"],
            "imageID": current.image_ref if current else "",
        }
        if current is not None:
            status["containerID"] = f"{self.facts.runtime}://{current.id}"
            if current.identity is not None:
                status["user"] = {"linux": _identity(current.identity)}
        if family != "ephemeral":
            status["started"] = started
        if mounts := _volume_mounts(container):
            status["volumeMounts"] = mounts
        allocated: Json = container.get("resources") or {}
        if current is not None and family != "ephemeral":
            if allocated.get("requests"):
                status["allocatedResources"] = allocated["requests"]
            applied: Json = (self.record.resize.applied or {}).get(current.id, allocated)
            shown: Json = applied if current.state is State.RUNNING else allocated
            status["resources"] = {k: shown[k] for k in ("limits", "requests") if shown.get(k)}
        return status

    def _up(self, container: Json, current: Container | None, family: str) -> tuple[bool, bool]:
        """(started, ready) of a container."""
        if current is None or family == "ephemeral":
            return False, False
        if family == "init" and not is_sidecar(container):
            return False, current.state is State.EXITED and current.exit_code == 0
        if current.state is not State.RUNNING:
            return False, False
        probe = self.record.probe(current.id)
        hook = (container.get("lifecycle") or {}).get("postStart")
        started = probe.started is True if container.get("startupProbe") else True
        if hook and current.id not in self.record.post_started:
            started = False
        if self.record.killing and not container.get("readinessProbe"):
            return started, started
        return started, started and (probe.ready is True if container.get("readinessProbe") else True)


def phase(pod: Json, view: View, main: Sequence[Json], init: Sequence[Json]) -> str:
    """The pod's phase, by the kubelet's counting of container states."""
    spec = pod["spec"]
    began = any("running" in s["state"] or "terminated" in s["state"] or s["lastState"] for s in main)
    for container, status in zip(spec.get("initContainers") or (), init, strict=True):
        ended = status["state"].get("terminated")
        if is_sidecar(container):
            if not status["started"] and not began:
                return "Pending"
        elif not began:
            if ended is None or init_repeats(pod, container, ended["exitCode"]):
                return "Pending"
            if ended["exitCode"]:
                return "Failed"
    running = waiting = stopped = succeeded = 0
    for status in main:
        state = status["state"]
        if "running" in state:
            running += 1
        elif ended := state.get("terminated"):
            stopped += 1
            succeeded += ended["exitCode"] == 0
        elif status["lastState"].get("terminated"):
            stopped += 1
        else:
            waiting += 1
    if waiting:
        return "Pending"
    if running or not main_ended(pod, view):
        return "Running"
    if any(is_sidecar(c) and view.latest(c["name"]) in list(view.running) for c in spec.get("initContainers") or ()):
        return "Running"
    return "Succeeded" if stopped == succeeded else "Failed"


def _names(statuses: Sequence[Json], key: str) -> str:
    return "[" + " ".join(s["name"] for s in statuses if not s[key]) + "]"


def _ready_conditions(pod: Json, main: Sequence[Json], sidecars: Sequence[Json], phase: str) -> tuple[Json, Json]:
    """(Ready, ContainersReady) without times."""
    if phase == "Succeeded":
        verdict: Json = {"status": "False", "reason": "PodCompleted"}
    elif phase == "Failed":
        verdict = {"status": "False", "reason": "PodFailed"}
    elif unready := [s for s in (*sidecars, *main) if not s["ready"]]:
        text = "[" + " ".join(s["name"] for s in unready) + "]"
        verdict = {
            "status": "False",
            "reason": "ContainersNotReady",
            "message": f"containers with unready status: {text}",
        }
    else:
        verdict = {"status": "True"}
    ready = dict(verdict)
    if verdict["status"] == "True":
        known = {c["type"]: c["status"] for c in (pod.get("status") or {}).get("conditions") or ()}
        problems = []
        for gate in pod["spec"].get("readinessGates") or ():
            kind = gate["conditionType"]
            if kind not in known:
                problems.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
            elif known[kind] != "True":
                problems.append(f'the status of pod readiness gate "{kind}" is not "True", but {known[kind]}')
        if problems:
            text = ", ".join(problems)
            ready = {
                "status": "False",
                "reason": "ReadinessGatesNotReady",
                "message": text if len(problems) == 1 else f"[{text}]",
            }
    return {"type": "Ready", **ready}, {"type": "ContainersReady", **verdict}


def _initialised(pod: Json, init: Sequence[Json], main: Sequence[Json], phase: str) -> Json:
    spec = pod["spec"]
    if phase == "Succeeded":
        return {"type": "Initialized", "status": "True", "reason": "PodCompleted"}
    began = any("running" in s["state"] or "terminated" in s["state"] for s in main)
    open_ones = [
        status["name"]
        for container, status in zip(spec.get("initContainers") or (), init, strict=True)
        if not (status["started"] if is_sidecar(container) else status["ready"])
    ]
    if open_ones and not began:
        text = f"containers with incomplete status: [{' '.join(open_ones)}]"
        return {"type": "Initialized", "status": "False", "reason": "ContainersNotInitialized", "message": text}
    return {"type": "Initialized", "status": "True"}


def _timed(conditions: list[Json], old: Sequence[Json], now: str, generation: int | None) -> list[Json]:
    """Give each condition its transition time: kept while its status stays; others' conditions stay as they are."""
    before = {c["type"]: c for c in old}
    result = []
    for condition in conditions:
        known = before.get(condition["type"])
        same = known is not None and known.get("status") == condition["status"]
        condition["lastProbeTime"] = None
        condition["lastTransitionTime"] = known["lastTransitionTime"] if same and known else now
        if generation is not None:
            condition.setdefault("observedGeneration", generation)
        result.append(condition)
    own = (*OWNED, *(c["type"] for c in conditions))
    return [*result, *(c for c in old if c["type"] not in own)]


def status(
    pod: Json, view: View, record: PodRecord, facts: NodeFacts, waiting: dict[str, tuple[str, str]], now: float
) -> Json:
    """The complete status to write. ``now`` in seconds since the epoch."""
    spec, old = pod["spec"], pod.get("status") or {}
    makers = _Statuses(pod, view, record, facts, waiting)
    init = [makers.one(c, "init") for c in spec.get("initContainers") or ()]
    main = [makers.one(c, "main") for c in spec["containers"]]
    extra = [makers.one(c, "ephemeral") for c in spec.get("ephemeralContainers") or ()]
    found = phase(pod, view, main, init)
    if record.failed[0]:
        found = "Failed"
    elif old.get("phase") in ENDED:
        found = old["phase"]
    if found in ENDED:
        for item in (*init, *main):
            item["ready"] = item["ready"] and item in init and "terminated" in item["state"]
            item["started"] = False
    sidecars = [s for c, s in zip(spec.get("initContainers") or (), init, strict=True) if is_sidecar(c)]
    ready, containers_ready = _ready_conditions(pod, main, sidecars, found)
    sandbox = view.sandbox
    network = sandbox is not None and sandbox.ready and bool(record.ips or spec.get("hostNetwork"))
    conditions = [
        *resize_conditions(record.resize),
        {"type": "PodReadyToStartContainers", "status": "True" if network else "False"},
        _initialised(pod, init, main, found),
        ready,
        containers_ready,
        {"type": "PodScheduled", "status": "True"},
    ]
    if record.disruption:
        conditions.append(
            {"type": DISRUPTION, "status": "True", "reason": "TerminationByKubelet", "message": record.disruption}
        )
    generation = pod["metadata"].get("generation")
    when = stamp(now * 1e9)
    result: Json = {
        "phase": found,
        "conditions": _timed(conditions, old.get("conditions") or (), when, generation),
        "hostIP": facts.ips[0],
        "hostIPs": [{"ip": ip} for ip in facts.ips],
        "startTime": old.get("startTime") or when,
        "qosClass": qos_class(pod),
        "containerStatuses": sorted(main, key=lambda s: s["name"]),
    }
    if record.rejected:
        del result["containerStatuses"]
        init, extra = [], []
    if generation is not None:
        result["observedGeneration"] = generation
    if own := spec.get("resources"):
        result |= {"resources": own, "allocatedResources": own.get("requests") or {}}
    if record.failed[0]:
        result |= {"reason": record.failed[0], "message": record.failed[1]}
    ips = facts.ips if spec.get("hostNetwork") and sandbox else record.ips
    ips = ips or tuple(item["ip"] for item in old.get("podIPs") or ())
    if ips:
        result |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    if init:
        result["initContainerStatuses"] = init
    if extra:
        result["ephemeralContainerStatuses"] = extra
    return result
