"""Removes pods that nobody will: of nodes that are gone, terminating ones that were never bound, too many finished."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Op, Plan, delete, patch
from portside.controllers.pods import PODS, created, is_finished, is_terminating

NODES: Resource = ("", "v1", "nodes")
QUARANTINE = 40.0  # seconds a node must be gone before its pods are removed
FINISHED_KEPT = 12500  # finished pods kept in the whole cluster
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


def removal(pod: Json, reason: str, now: float) -> list[Op]:
    """Marks the pod Failed with the reason of the disruption, then deletes it without grace."""
    steps: list[Op] = []
    if not is_finished(pod):
        target = cond.make("DisruptionTarget", "True", "DeletionByPodGC", f"PodGC: {reason}", now)
        body = {"status": {"phase": "Failed", "conditions": [target]}}
        steps.append(patch(PODS, pod, body, patch_type="strategic", subresource="status", ignore=frozenset({404})))
    return [*steps, delete(PODS, pod, grace=0)]


class PodCollector:
    """Remembers since when a node is missing."""

    def __init__(self) -> None:
        self._missing: dict[str, float] = {}

    def plan(self, view: View, key: str, now: float) -> Plan:
        """Key: a pod."""
        pod = view.get(PODS, *split_key(key))
        if pod is None:
            return NOTHING
        name = (pod.get("spec") or {}).get("nodeName")
        if not name:
            return Plan([delete(PODS, pod, grace=0)]) if is_terminating(pod) else NOTHING
        node = view.get(NODES, "", name)
        if node is None:
            since = self._missing.setdefault(name, now)
            if now - since < QUARANTINE:
                return Plan(again=since + QUARANTINE - now + 0.01)
            return Plan(removal(pod, "node no longer exists", now))
        self._missing.pop(name, None)
        taints = (node.get("spec") or {}).get("taints") or ()
        if is_terminating(pod) and any(t.get("key") == OUT_OF_SERVICE for t in taints):
            return Plan(removal(pod, "out-of-service", now))
        return NOTHING


def surplus(view: View, kept: int = FINISHED_KEPT) -> list[Json]:
    """The oldest finished pods beyond the number kept."""
    finished = sorted((p for p in view.all(PODS) if is_finished(p)), key=created)
    return finished[: max(len(finished) - kept, 0)]


def _pods(view: View, node: Json) -> Iterable[str]:
    found = view.by(PODS, "node", node["metadata"]["name"])
    return [f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in found]


def _same(old: Json | None, new: Json | None) -> bool:
    if old is None or new is None:
        return False
    bound = (old.get("spec") or {}).get("nodeName") == (new.get("spec") or {}).get("nodeName")
    return bound and is_terminating(old) == is_terminating(new)


def controller() -> Controller:
    """A controller with a memory of its own."""
    return Controller(
        "pod-garbage-collector-controller",
        PODS,
        PodCollector().plan,
        watches={NODES: _pods},
        relevant={NODES: lambda n: (n.get("spec") or {}).get("taints")},
        ignores=_same,
    )
