"""The pod's row: ready containers, the reason that says most about its state, restarts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portside.api.tables_format import age, name, since

Json = Mapping[str, Any]


@dataclass(slots=True)
class _Count:
    """Restarts so far and when the last one was (RFC 3339, "" if never)."""

    restarts: int = 0
    last: str = ""

    def add(self, status: Json) -> None:
        self.restarts += status.get("restartCount") or 0
        ended = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        self.last = max(self.last, ended)


def _condition(pod: Json, type_: str) -> Json:
    return next((c for c in (pod.get("status") or {}).get("conditions") or () if c.get("type") == type_), {})


def _ended(state: Json) -> str:
    ended = state["terminated"]
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _initialising(status: Json, index: int, total: int, sidecar: bool) -> tuple[bool, str]:
    """Whether this init container is what the pod waits for, and in which words."""
    state = status.get("state") or {}
    waiting = (state.get("waiting") or {}).get("reason")
    if state.get("terminated") is not None:
        if not state["terminated"].get("exitCode"):
            return False, ""
        if not (sidecar and status.get("started")):
            return True, "Init:" + _ended(state)
    if sidecar and status.get("started"):
        return False, ""
    if waiting and waiting != "PodInitializing":
        return True, f"Init:{waiting}"
    return True, f"Init:{index}/{total}"


def _main(pod: Json, reason: str, count: _Count) -> tuple[str, int]:
    ready, running = 0, False
    for container in reversed((pod.get("status") or {}).get("containerStatuses") or ()):
        count.add(container)
        state = container.get("state") or {}
        waiting = (state.get("waiting") or {}).get("reason")
        if waiting:
            reason = waiting
        elif state.get("terminated") is not None:
            reason = _ended(state)
        elif container.get("ready") and state.get("running") is not None:
            running, ready = True, ready + 1
    if reason == "Completed" and running:
        reason = "Running" if _condition(pod, "Ready").get("status") == "True" else "NotReady"
    return reason, ready


def pod_state(pod: Json) -> tuple[str, int, int, int, str]:
    """Reason, ready containers, containers, restarts, time of the last restart ("" if never)."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    phase = status.get("phase") or ""
    reason = status.get("reason") or phase
    if _condition(pod, "PodScheduled").get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    inits = spec.get("initContainers") or []
    sidecars = {c.get("name") for c in inits if c.get("restartPolicy") == "Always"}
    total, ready, initialising = len(spec.get("containers") or ()) + len(sidecars), 0, False
    count, side_count = _Count(), _Count()
    for i, container in enumerate(status.get("initContainerStatuses") or ()):
        sidecar = container.get("name") in sidecars
        count.add(container)
        if sidecar:
            side_count.add(container)
        initialising, words = _initialising(container, i, len(inits), sidecar)
        if initialising:
            reason = words
            break
        if sidecar and container.get("started") and container.get("ready"):
            ready += 1
    if not initialising or _condition(pod, "Initialized").get("status") == "True":
        count = side_count
        reason, more = _main(pod, reason, count)
        ready += more
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif phase not in ("Succeeded", "Failed"):
            reason = "Terminating"
    return reason, ready, total, count.restarts, count.last


def row_pod(pod: Json, now: float) -> list[Any]:
    reason, ready, total, restarts, last = pod_state(pod)
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    ips = status.get("podIPs")
    gates = spec.get("readinessGates") or []
    true = [c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"]
    met = sum(g.get("conditionType") in true for g in gates)
    return [
        name(pod),
        f"{ready}/{total}",
        reason,
        f"{restarts} ({since(last, now)} ago)" if restarts and last else str(restarts),
        age(pod, now),
        (ips[0].get("ip") if ips else status.get("podIP")) or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        f"{met}/{len(gates)}" if gates else "<none>",
    ]


ROWS = {"Pod": row_pod}
