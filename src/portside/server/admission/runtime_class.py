"""RuntimeClass: overhead, node selector and tolerations of the class a pod names."""

from __future__ import annotations

from typing import Any

from portside.api.quantity import equal
from portside.server.admission.review import Review

Json = dict[str, Any]


def mutate(review: Review) -> None:
    """Raises ApiError 403 for an unknown class or a contradiction to it."""
    spec = review.obj["spec"]
    found = _class(review)
    if found is None:
        return
    if overhead := (found.get("overhead") or {}).get("podFixed"):
        held = spec.get("overhead")
        if held and not _same(held, overhead):
            raise review.refuse("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
        spec["overhead"] = dict(overhead)
    scheduling = found.get("scheduling") or {}
    if selector := scheduling.get("nodeSelector"):
        own = spec.get("nodeSelector") or {}
        for key, value in sorted(selector.items()):
            if own.get(key, value) != value:
                raise review.refuse(
                    f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                    f"pod.spec.nodeSelector[{key}] = {own[key]}"
                )
        spec["nodeSelector"] = own | selector
    if tolerations := scheduling.get("tolerations"):
        own_tolerations = spec.get("tolerations") or []
        fresh = [dict(t) for t in tolerations if t not in own_tolerations]
        spec["tolerations"] = [*own_tolerations, *fresh]


def validate(review: Review) -> None:
    if review.obj["spec"].get("overhead") and (_class(review) or {}).get("overhead") is None:
        raise review.refuse("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")


def _class(review: Review) -> Json | None:
    name = review.obj["spec"].get("runtimeClassName")
    if not name:
        return None
    found = review.server.live.of("runtimeclasses", "node.k8s.io").get(name)
    if found is None:
        raise review.refuse(f'pod rejected: RuntimeClass "{name}" not found')
    return found


def _same(left: Json, right: Json) -> bool:
    return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
