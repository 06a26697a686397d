"""What controllers ask about pods: ready, available, active; which go first; and a pod made from a template."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cmp_to_key
from typing import Any

from portside.base.clock import parse_time
from portside.client.protocol import Json, Resource

PODS: Resource = ("", "v1", "pods")
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def condition(obj: Json, name: str) -> Json | None:
    """The status condition of this type."""
    for found in (obj.get("status") or {}).get("conditions") or ():
        if found.get("type") == name:
            return dict(found)
    return None


def phase(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_terminating(obj: Json) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def is_finished(pod: Json) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Json) -> bool:
    return not is_finished(pod) and not is_terminating(pod)


def is_ready(pod: Json) -> bool:
    for found in (pod.get("status") or {}).get("conditions") or ():  # asked of thousands: no copies
        if found.get("type") == "Ready":
            return bool(found.get("status") == "True")
    return False


def ready_since(pod: Json) -> float | None:
    found = condition(pod, "Ready")
    if found is None or found.get("status") != "True":
        return None
    return parse_time(found.get("lastTransitionTime"))


def available_in(pod: Json, min_ready: int, now: float) -> float | None:
    """Seconds until the pod counts as available: 0 now, None while it is not ready."""
    if not is_ready(pod):
        return None
    if min_ready <= 0:
        return 0.0
    since = ready_since(pod)
    return 0.0 if since is None else max(0.0, since + min_ready - now)


def restarts(pod: Json) -> int:
    return max(
        (int(c.get("restartCount", 0)) for c in (pod.get("status") or {}).get("containerStatuses") or ()), default=0
    )


def created(obj: Json) -> float:
    return parse_time(obj["metadata"].get("creationTimestamp")) or 0.0


def _age_rank(at: float, now: float) -> int:
    """Ages are compared by their power of two, so that scaling down spreads over pods of like age."""
    return int(math.log2((now - at) * 1e9)) if now > at else -1


def _cost(pod: Json) -> int:
    try:
        return int((pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def _before(a: Json, b: Json, ranks: dict[str, int], now: float) -> int:
    """Negative when ``a`` is deleted before ``b``: the order of upstream's ActivePodsWithRanks."""
    checks: tuple[Callable[[Json], Any], ...] = (
        lambda p: bool(p.get("spec", {}).get("nodeName")),
        lambda p: _PHASES.get(phase(p), 2),
        is_ready,
        _cost,
        lambda p: -ranks.get(p["metadata"].get("uid", ""), 0),
    )
    for check in checks:
        left, right = check(a), check(b)
        if left != right:
            return -1 if left < right else 1
    by_uid = -1 if a["metadata"].get("uid", "") < b["metadata"].get("uid", "") else 1
    if is_ready(a) and is_ready(b):
        left, right = ready_since(a) or 0.0, ready_since(b) or 0.0
        if left != right:
            difference = _age_rank(left, now) - _age_rank(right, now)
            return difference or by_uid
    if restarts(a) != restarts(b):
        return -1 if restarts(a) > restarts(b) else 1
    left, right = created(a), created(b)
    if left != right:
        difference = _age_rank(left, now) - _age_rank(right, now)
        return difference or by_uid
    return 0


def deletion_order(pods: Iterable[Json], related: Iterable[Json], now: float) -> list[Json]:
    """Pods in the order in which scaling down deletes them; ``related`` pods crowd a node."""
    crowd: dict[str, int] = {}
    for pod in related:
        if is_active(pod):
            node = pod.get("spec", {}).get("nodeName", "")
            crowd[node] = crowd.get(node, 0) + 1
    listed = list(pods)
    ranks = {p["metadata"].get("uid", ""): crowd.get(p.get("spec", {}).get("nodeName", ""), 0) for p in listed}

    def compare(a: Json, b: Json) -> int:
        return _before(a, b, ranks, now)

    return sorted(listed, key=cmp_to_key(compare))


def owner_reference(owner: Json, api_version: str, kind: str) -> Json:
    """The controlling reference to an owner."""
    meta = owner["metadata"]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def from_template(owner: Json, template: Json, api_version: str, kind: str) -> Json:
    """A pod of a template, owned; named by the server from ``<owner>-``."""
    given = template.get("metadata") or {}
    meta: Json = {"generateName": f"{owner['metadata']['name']}-", "namespace": owner["metadata"]["namespace"]}
    for name in ("labels", "annotations"):
        if given.get(name):
            meta[name] = dict(given[name])
    if given.get("finalizers"):
        meta["finalizers"] = list(given["finalizers"])
    meta["ownerReferences"] = [owner_reference(owner, api_version, kind)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template.get("spec") or {}}
