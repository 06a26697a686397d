"""Conditions of a CustomResourceDefinition: are its names free, is it established, is its group's approval in order.

Pure: from a definition and the names that others of its group hold to the status it should have. Reasons and messages
are upstream's.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]
APPROVAL = "api-approved.kubernetes.io"
_ENHANCEMENTS = "https://github.com/kubernetes/enhancements/pull/1111"
_NAMED = (("plural", "PluralConflict"), ("singular", "SingularConflict"))
_KINDS = (("kind", "KindConflict"), ("listKind", "ListKindConflict"))


def protected(group: str) -> bool:
    """Groups of the project itself, whose definitions need an approval."""
    return group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))


def approval(annotations: Json | None) -> tuple[str, str]:
    """The state of a protected group's approval (missing, bypassed, approved, invalid) and its reason."""
    text = (annotations or {}).get(APPROVAL) or ""
    wanted = f'protected groups must have approval annotation "{APPROVAL}"'
    if not text:
        return "missing", f"{wanted}, see {_ENHANCEMENTS}"
    if text.startswith("unapproved"):
        return "bypassed", f'not approved: "{text}"'
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme and parts.netloc:
        return "approved", f"approved in {text}"
    return "invalid", f'{wanted} with either a URL or a reason starting with "unapproved", see {_ENHANCEMENTS}'


_APPROVALS = {
    "missing": ("False", "MissingAnnotation"),
    "bypassed": ("False", "UnapprovedAnnotation"),
    "approved": ("True", "ApprovedAnnotation"),
    "invalid": ("False", "InvalidAnnotation"),
}


def find(status: Json, type_: str) -> Json | None:
    return next((c for c in status.get("conditions") or () if c.get("type") == type_), None)


def set_condition(status: Json, type_: str, value: str, reason: str, message: str, now: str) -> None:
    """Set a condition; its transition time moves with its value only."""
    made = {"lastTransitionTime": now, "message": message, "reason": reason, "status": value, "type": type_}
    conditions = status["conditions"] = list(status.get("conditions") or ())
    for at, old in enumerate(conditions):
        if old.get("type") == type_:
            if old.get("status") == value:
                made["lastTransitionTime"] = old.get("lastTransitionTime", now)
            conditions[at] = made
            return
    conditions.append(made)


class Taken:
    """Names that the definitions of a group hold."""

    def __init__(self, accepted: Iterable[Json]) -> None:
        self.resources: set[str] = set()
        self.kinds: set[str] = set()
        for names in accepted:
            self.resources |= {names.get("plural", ""), names.get("singular", ""), *(names.get("shortNames") or ())}
            self.kinds |= {names.get("kind", ""), names.get("listKind", "")}


def _in_use(wanted: str, mine: str, taken: set[str]) -> str:
    return "" if wanted == mine or not wanted or wanted not in taken else f'"{wanted}" is already in use'


def accept(wanted: Json, accepted: Json, taken: Taken) -> tuple[Json, str, str]:
    """The names accepted now, and the reason and message of a conflict ("" for none). The last conflict is told."""
    made = dict(accepted)
    reason = message = ""
    for field, told in _NAMED:
        if problem := _in_use(wanted.get(field, ""), accepted.get(field, ""), taken.resources):
            reason, message = told, problem
        elif wanted.get(field):
            made[field] = wanted[field]
    short, mine = wanted.get("shortNames") or [], accepted.get("shortNames") or []
    if short != mine:
        problems = [p for name in short if name not in mine and (p := _in_use(name, "", taken.resources))]
        if problems:
            told_all = problems[0] if len(problems) == 1 else "[" + ", ".join(dict.fromkeys(problems)) + "]"
            reason, message = "ShortNamesConflict", told_all
        else:
            _put(made, "shortNames", short)
    for field, told in _KINDS:
        if problem := _in_use(wanted.get(field, ""), accepted.get(field, ""), taken.kinds):
            reason, message = told, problem
        elif wanted.get(field):
            made[field] = wanted[field]
    _put(made, "categories", wanted.get("categories") or [])
    return made, reason, message


def _put(names: Json, field: str, values: list[str]) -> None:
    if values:
        names[field] = list(values)
    else:
        names.pop(field, None)


def plan(crd: Json, taken: Taken, now: str) -> Json | None:
    """The status the definition should have, None when it has it."""
    old = crd.get("status") or {}
    status: Json = deepcopy(old)
    wanted, accepted = crd["spec"]["names"], old.get("acceptedNames") or {}
    made, reason, message = accept(wanted, accepted, taken)
    status["acceptedNames"] = made
    if reason:
        set_condition(status, "NamesAccepted", "False", reason, message, now)
        if find(status, "Established") is None:
            set_condition(status, "Established", "False", "NotAccepted", "not all names are accepted", now)
    else:
        set_condition(status, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now)
        if (find(status, "Established") or {}).get("status") != "True":
            told = "the initial names have been accepted"
            set_condition(status, "Established", "True", "InitialNamesAccepted", told, now)
    if protected(crd["spec"]["group"]):
        state, why = approval(crd["metadata"].get("annotations"))
        value, reason = _APPROVALS[state]
        set_condition(status, "KubernetesAPIApprovalPolicyConformant", value, reason, why, now)
    return None if status == old else status
