"""TaintNodesByCondition: a new node takes no pods until the node controller has seen it ready."""

from __future__ import annotations

from portside.server.admission.review import Review

TAINT = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


def mutate(review: Review) -> None:
    spec = review.obj.get("spec") or {}
    review.obj["spec"] = spec
    taints = spec.get("taints") or []
    if not any(t.get("key") == TAINT["key"] and t.get("effect") == TAINT["effect"] for t in taints):
        spec["taints"] = [*taints, dict(TAINT)]
