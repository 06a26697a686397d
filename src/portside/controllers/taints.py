"""Taints and tolerations, and whether a node fits a pod's selector and affinity."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.news import Fact
from portside.client.protocol import Json

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
TAINTS = Fact(lambda node: (node.get("spec") or {}).get("taints"), "spec")


def taints_of(node: Json, *effects: str) -> list[Json]:
    return [t for t in (node.get("spec") or {}).get("taints") or () if t.get("effect") in effects]


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def tolerates(toleration: Json, taint: Json) -> bool:
    """One toleration against one taint: equal, exists, and the numeric Lt and Gt."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    value, wanted = str(taint.get("value") or ""), str(toleration.get("value") or "")
    if operator == "Equal":
        return bool(toleration.get("key")) and value == wanted
    left, right = _number(value), _number(wanted)
    if left is None or right is None:
        return False
    return left < right if operator == "Lt" else left > right if operator == "Gt" else False


def untolerated(taints: Iterable[Json], tolerations: Iterable[Json]) -> Json | None:
    """The first taint that nothing tolerates."""
    listed = list(tolerations)
    return next((t for t in taints if not any(tolerates(x, t) for x in listed)), None)


def _requirement(expression: Json, labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    have, operator = labels.get(key), expression["operator"]
    if operator == "In":
        return have in values
    if operator == "NotIn":
        return have not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    number, bound = _number(have or ""), _number(values[0] if values else "")
    if number is None or bound is None:
        return False
    return number > bound if operator == "Gt" else number < bound


def fits_affinity(spec: Json, node: Json) -> bool:
    """The node selector and the required node affinity."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(k) != v for k, v in (spec.get("nodeSelector") or {}).items()):
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not required:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    for term in required.get("nodeSelectorTerms") or ():
        expressions, matches = term.get("matchExpressions") or (), term.get("matchFields") or ()
        if not expressions and not matches:
            continue
        if all(_requirement(e, labels) for e in expressions) and all(_requirement(m, fields) for m in matches):
            return True
    return False
