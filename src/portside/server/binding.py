"""What binding does to a pod: the node's name, the PodScheduled condition, labels of the Binding and the node's zone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


def bind(pod: Json, said: Json, held: Mapping[str, str], now: str) -> str:
    """Changes ``pod``; ``held``: the node's labels. Answers why it can't be bound, "" when it is."""
    meta, spec = pod["metadata"], pod["spec"]
    target = said["target"]["name"]
    if meta.get("deletionTimestamp"):
        return f"pod {meta['name']} is being deleted, cannot be assigned to a host"
    if spec.get("nodeName"):
        return f'pod {meta["name"]} is already assigned to node "{spec["nodeName"]}"'
    if spec.get("schedulingGates"):
        return f"pod {meta['name']} has non-empty .spec.schedulingGates"
    spec["nodeName"] = target
    more = said["metadata"]
    if more.get("annotations"):
        meta["annotations"] = (meta.get("annotations") or {}) | more["annotations"]
    labels = dict(more.get("labels") or {})
    for key in TOPOLOGY:
        if key in held:
            labels.setdefault(key, held[key])
    if labels:
        meta["labels"] = (meta.get("labels") or {}) | labels
    status = pod.setdefault("status", {})
    status.pop("nominatedNodeName", None)  # it has a node now: the wish has done its work
    conditions = [c for c in status.get("conditions") or [] if c.get("type") != "PodScheduled"]
    status["conditions"] = [
        *conditions,
        {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now},
    ]
    return ""
