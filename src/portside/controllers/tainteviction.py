"""Evicts pods from nodes with NoExecute taints that they do not tolerate, or no longer."""

from __future__ import annotations

from collections.abc import Iterable

from portside.base.clock import parse_time
from portside.client.cache import View, split_key
from portside.client.news import Fact
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Emit, Plan, delete, patch
from portside.controllers.pods import NODE, PODS, TERMINATING, is_terminating
from portside.controllers.taints import taints_of, tolerates

NODES: Resource = ("", "v1", "nodes")


def tolerated_for(pod: Json, taints: list[Json]) -> float | None:
    """Seconds the pod may stay with these taints: 0 not at all, None for ever."""
    tolerations = (pod.get("spec") or {}).get("tolerations") or ()
    used: list[Json] = []
    for taint in taints:
        found = [t for t in tolerations if tolerates(t, taint)]
        if not found:
            return 0.0
        used.append(found[0])
    limits = [max(float(t["tolerationSeconds"]), 0.0) for t in used if t.get("tolerationSeconds") is not None]
    return min(limits) if limits else None


class TaintEviction:
    """Remembers which pods are waiting for their eviction, since when."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def plan(self, view: View, key: str, now: float) -> Plan:
        """Key: a pod."""
        pod = view.get(PODS, *split_key(key))
        if pod is None or is_terminating(pod):
            self._since.pop(key, None)
            return NOTHING
        node = view.get(NODES, "", (pod.get("spec") or {}).get("nodeName") or "-")
        taints = taints_of(node, "NoExecute") if node is not None else []
        seconds = tolerated_for(pod, taints) if taints else None
        if seconds is None:
            if self._since.pop(key, None) is None:
                return NOTHING
            text = f"Cancelling deletion of Pod {key}"
            return Plan([Emit(pod, "Normal", "TaintManagerEviction", text)])
        added = [a for a in (parse_time(t.get("timeAdded")) for t in taints) if a is not None]
        since = self._since.setdefault(key, min([now, *added]))
        left = since + seconds - now
        if left > 0:
            return Plan(again=left + 0.01)
        self._since.pop(key, None)
        text = "Taint manager: deleting due to NoExecute taint"
        target = cond.make("DisruptionTarget", "True", "DeletionByTaintManager", text, now)
        body = {"status": {"conditions": [target]}}
        event = Emit(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {key}")
        return Plan(
            [
                event,
                patch(PODS, pod, body, patch_type="strategic", subresource="status", ignore=frozenset({404})),
                delete(PODS, pod),
            ]
        )


def _pods(view: View, node: Json) -> Iterable[str]:
    found = view.by(PODS, "node", node["metadata"]["name"])
    return [f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in found]


def controller() -> Controller:
    """A controller with a memory of its own."""
    return Controller(
        "taint-eviction-controller",
        PODS,
        TaintEviction().plan,
        watches={NODES: _pods},
        relevant={NODES: (Fact(lambda n: taints_of(n, "NoExecute"), "spec"),)},
        minds=(NODE, TERMINATING, Fact(lambda pod: (pod.get("spec") or {}).get("tolerations"), "spec")),
    )
