"""What the scheduler watches, and what of it matters to a decision."""

from __future__ import annotations

from collections.abc import Mapping

from portside.client.protocol import Json, Resource
from portside.scheduler.profile import DEFAULT

PODS: Resource = ("", "v1", "pods")
NODES: Resource = ("", "v1", "nodes")
NAMESPACES: Resource = ("", "v1", "namespaces")
BUDGETS: Resource = ("policy", "v1", "poddisruptionbudgets")
STORAGE: tuple[Resource, ...] = (
    ("", "v1", "persistentvolumeclaims"),
    ("", "v1", "persistentvolumes"),
    ("storage.k8s.io", "v1", "storageclasses"),
    ("storage.k8s.io", "v1", "csinodes"),
    ("storage.k8s.io", "v1", "csidrivers"),
    ("storage.k8s.io", "v1", "csistoragecapacities"),
)
SERVICES: Resource = ("", "v1", "services")
OWNERS: tuple[Resource, ...] = (
    SERVICES,
    ("", "v1", "replicationcontrollers"),
    ("apps", "v1", "replicasets"),
    ("apps", "v1", "statefulsets"),
)
CLAIMS: Resource = ("resource.k8s.io", "v1", "resourceclaims")
DEVICES: tuple[Resource, ...] = (
    CLAIMS,
    ("resource.k8s.io", "v1", "resourceslices"),
    ("resource.k8s.io", "v1", "deviceclasses"),
    ("resource.k8s.io", "v1", "devicetaintrules"),
)
BY_PLURAL = {resource[2]: resource for resource in (*STORAGE, *OWNERS, *DEVICES, BUDGETS)}
ENDED = ("Succeeded", "Failed")


def relevant(node: Json) -> tuple[object, ...]:
    """What of a node can change a decision; heartbeats are not in it."""
    status = node.get("status") or {}
    return node["metadata"].get("labels"), node.get("spec"), status.get("allocatable"), status.get("images")


def waits(pod: Json, names: Mapping[str, object] | frozenset[str]) -> bool:
    """Whether this pod is ours to place."""
    spec = pod["spec"]
    if spec.get("nodeName") or spec.get("schedulingGates") or pod["metadata"].get("deletionTimestamp"):
        return False
    return spec.get("schedulerName", DEFAULT.name) in names and (pod.get("status") or {}).get("phase") not in ENDED


def counts(pod: Json) -> bool:
    """Whether this pod takes room on its node."""
    return bool(pod["spec"].get("nodeName")) and (pod.get("status") or {}).get("phase") not in ENDED
