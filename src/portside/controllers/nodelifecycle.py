"""The node life cycle: silent nodes become Unknown, conditions become taints, pods of silent nodes are not ready.

A node's own time stamps are not trusted: what counts is when we last saw its status or its lease change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from portside.base.clock import SYSTEM, Clock, rfc3339
from portside.client.cache import View, trimmed
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.harness import Controller
from portside.controllers.nodezones import LOOK, Zones
from portside.controllers.plan import NOTHING, Draft, Emit, Plan, patch
from portside.controllers.pods import NODE, PODS, READY, condition, is_ready
from portside.controllers.taints import NOT_READY, UNREACHABLE, UNSCHEDULABLE

NODES: Resource = ("", "v1", "nodes")
LEASES: Resource = ("coordination.k8s.io", "v1", "leases")
LEASE_NAMESPACE = "kube-node-lease"
GRACE = 50.0  # seconds of silence until Unknown (upstream's node-monitor-grace-period)
STARTUP_GRACE = 60.0  # for a node that never reported
TOLD = 200  # nodes of a cluster whose nodes' coming and going is told as events
WORKERS = 64  # a new node can be used once its taint is gone: thousands that come together share commits
TTL = "node.alpha.kubernetes.io/ttl"
REPORTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
NO_SCHEDULE: dict[tuple[str, str], str] = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
OURS = frozenset(NO_SCHEDULE.values()) | {UNSCHEDULABLE}
OLD_LABELS = (("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch"))


class NodeLifecycle:
    """Remembers when each node was last heard of, by a clock that does not jump with the wall clock."""

    def __init__(self, monotonic: Callable[[], float] = SYSTEM.monotonic) -> None:
        self._monotonic = monotonic
        self._heard: dict[str, tuple[object, float]] = {}
        self._known: dict[str, Json] = {}
        self._zones = Zones()

    def plan(self, view: View, key: str, now: float) -> Plan:
        """Key: a node's name."""
        node = view.get(NODES, "", key)
        if node is None:
            self._heard.pop(key, None)
            gone = self._known.pop(key, None)
            if gone is None or not _few(view):
                return NOTHING
            return Plan([_told(gone, "RemovingNode", "Removing Node {} from Controller")])
        draft = Draft()
        if key not in self._known and _few(view):
            draft.add(_told(node, "RegisteredNode", "Registered Node {} in Controller"))
        self._known[key] = trimmed(node)
        silent = self._silent(view, node, draft)
        if silent:
            changed = _unknown(node, now)
            if changed:
                draft.add(
                    patch(
                        NODES, node, {"status": {"conditions": changed}}, patch_type="strategic", subresource="status"
                    )
                )
                text = f"Node {key} status is now: NodeNotReady"
                draft.add(Emit(node, "Normal", "NodeNotReady", text))
                return draft.plan()  # the answer brings us back for the taints
            self._pods(view, key, now, draft)
        self._taints(view, node, now, draft)
        return draft.plan()

    def _silent(self, view: View, node: Json, draft: Draft) -> bool:
        name, now = node["metadata"]["name"], self._monotonic()
        lease = view.get(LEASES, LEASE_NAMESPACE, name)
        conditions = (node.get("status") or {}).get("conditions") or ()
        ours = any(c.get("reason") in ("NodeStatusUnknown", "NodeStatusNeverUpdated") for c in conditions)
        beats = None if ours else [(c.get("type"), c.get("status"), c.get("lastHeartbeatTime")) for c in conditions]
        renewed = (lease or {}).get("spec", {}).get("renewTime")
        uid = node["metadata"].get("uid")
        held = self._heard.get(name)
        print_ = (uid, renewed, beats)
        if held is None and ours:
            self._heard[name] = held = (print_, now - GRACE)  # found silent: it stays so until it speaks
        elif held is None or not _same(held[0], print_):
            self._heard[name] = held = (print_, now)
        grace = GRACE if condition(node, "Ready") else STARTUP_GRACE
        left = held[1] + grace - now
        if left > 0:
            draft.look_again(left + 0.05)
            return False
        return True

    def _pods(self, view: View, node: str, now: float, draft: Draft) -> None:
        """Pods of a silent node are not ready, so that services leave them out."""
        for pod in view.by(PODS, "node", node):
            if is_ready(pod):
                ready = {"type": "Ready", "status": "False", "lastTransitionTime": rfc3339(now)}
                body = {"status": {"conditions": [ready]}}
                draft.add(
                    patch(PODS, pod, body, patch_type="strategic", subresource="status", ignore=frozenset({404})),
                    Emit(pod, "Warning", "NodeNotReady", "Node is not ready"),
                )

    def _paced(self, view: View, node: Json, wanted: list[Json], draft: Draft) -> list[Json]:
        """The wanted taints without those that would take pods away before the zone's turn."""
        if not any(_evicts(t) for t in wanted):
            return wanted
        steady = self._monotonic()
        self._zones.look(view.all(NODES), steady)
        old = (node.get("spec") or {}).get("taints") or ()
        left = LOOK if self._zones.all_lost else 0.0
        if not left and not any(_evicts(t) for t in old):
            left = self._zones.wait(node, steady)
        draft.look_again(left or LOOK)
        return [t for t in wanted if not _evicts(t)] if left else wanted

    def _taints(self, view: View, node: Json, now: float, draft: Draft) -> None:
        spec, meta = node.get("spec") or {}, node["metadata"]
        old = list(spec.get("taints") or ())
        new = self._paced(view, node, wanted_taints(node, now), draft)
        body: Json = {}
        if _bare(new) != _bare(old):
            body["spec"] = {"taints": new or None}
        labels = meta.get("labels") or {}
        renamed = {o: labels[n] for n, o in OLD_LABELS if labels.get(n) and labels.get(o) != labels[n]}
        if renamed:
            body.setdefault("metadata", {})["labels"] = renamed
        if TTL not in (meta.get("annotations") or {}):
            body.setdefault("metadata", {})["annotations"] = {TTL: "0"}
        if body:
            body.setdefault("metadata", {})["resourceVersion"] = meta["resourceVersion"]
            draft.add(patch(NODES, node, body))


def _few(view: View) -> bool:
    """Each node may be told as an event without crowding out others."""
    cache = view.cache(NODES)
    return cache is None or len(cache.objects) <= TOLD


def _evicts(taint: Json) -> bool:
    return taint.get("effect") == "NoExecute" and taint.get("key") in (NOT_READY, UNREACHABLE)


def _told(node: Json, reason: str, text: str) -> Emit:
    name = node["metadata"]["name"]
    about = {**node, "metadata": {k: v for k, v in node["metadata"].items() if k != "resourceVersion"}}
    return Emit(about, "Normal", reason, f"Node {name} event: {text.format(name)}")


def _same(held: object, seen: object) -> bool:
    """Equal, or differing only by the conditions that we ourselves wrote."""
    assert isinstance(held, tuple) and isinstance(seen, tuple)
    return held[:2] == seen[:2] and (seen[2] is None or held[2] == seen[2])


def _unknown(node: Json, now: float) -> list[Json]:
    """The conditions of a silent node that must change."""
    stamp = rfc3339(now)
    found: list[Json] = []
    for name in REPORTED:
        held = condition(node, name)
        if held is None:
            made = cond.make(name, "Unknown", "NodeStatusNeverUpdated", "Kubelet never posted node status.", now)
            made["lastHeartbeatTime"] = node["metadata"].get("creationTimestamp") or stamp
            found.append(made)
        elif held.get("status") != "Unknown":
            text = "Kubelet stopped posting node status."
            made = {**held, "status": "Unknown", "reason": "NodeStatusUnknown", "message": text}
            found.append({**made, "lastTransitionTime": stamp})
    return found


def wanted_taints(node: Json, now: float) -> list[Json]:
    """The node's taints as its conditions say; others stay. Times of standing ones stay too."""
    spec = node.get("spec") or {}
    old = list(spec.get("taints") or ())
    ready = condition(node, "Ready")
    if ready is None:
        return old  # as registered: not ready, until it reports
    wanted: list[tuple[str, str]] = []
    for found in (node.get("status") or {}).get("conditions") or ():
        key = NO_SCHEDULE.get((found.get("type"), found.get("status")))
        if key:
            wanted.append((key, "NoSchedule"))
    if spec.get("unschedulable"):
        wanted.append((UNSCHEDULABLE, "NoSchedule"))
    state = {"False": NOT_READY, "Unknown": UNREACHABLE}.get(ready.get("status", ""))
    if state:
        wanted.append((state, "NoExecute"))
    kept = [
        t
        for t in old
        if (
            not (t.get("effect") == "NoSchedule" and t.get("key") in OURS)
            and not (t.get("effect") == "NoExecute" and t.get("key") in (NOT_READY, UNREACHABLE))
        )
        or (t.get("key"), t.get("effect")) in wanted
    ]
    have = {(t.get("key"), t.get("effect")) for t in kept}
    stamp = rfc3339(now)
    return kept + [{"key": k, "effect": e, "timeAdded": stamp} for k, e in wanted if (k, e) not in have]


def _bare(taints: list[Json]) -> set[tuple[str, str, str]]:
    return {(t.get("key", ""), t.get("value") or "", t.get("effect", "")) for t in taints}


def _lease(view: View, lease: Json) -> Iterable[str]:
    meta = lease["metadata"]
    return (meta["name"],) if meta.get("namespace") == LEASE_NAMESPACE else ()


def _pod(view: View, pod: Json) -> Iterable[str]:
    """Only a pod that is ready on a node that is not."""
    name = (pod.get("spec") or {}).get("nodeName")
    if not name or not is_ready(pod):
        return ()
    node = view.get(NODES, "", name)
    ready = condition(node, "Ready") if node is not None else None
    return (name,) if ready is not None and ready.get("status") == "Unknown" else ()


def controller(clock: Clock = SYSTEM) -> Controller:
    """A controller with a memory of its own."""
    return Controller(
        "node-controller",
        NODES,
        NodeLifecycle(clock.monotonic).plan,
        watches={LEASES: _lease, PODS: _pod},
        relevant={PODS: (READY, NODE)},
        workers=WORKERS,
    )
