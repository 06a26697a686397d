"""The flow schemas and priority levels that every cluster has and nobody may change, and how upstream shows a spec that does."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, invalid_value

Json = dict[str, Any]
_ALL_RESOURCES = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
_ALL_PATHS = {"verbs": ["*"], "nonResourceURLs": ["*"]}


def _schema(level: str, precedence: int, groups: tuple[str, ...], method: str = "") -> Json:
    subjects = [{"kind": "Group", "group": {"name": name}} for name in groups]
    rule = {"subjects": subjects, "resourceRules": [_ALL_RESOURCES], "nonResourceRules": [_ALL_PATHS]}
    spec = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule]}
    return spec | ({"distinguisherMethod": {"type": method}} if method else {})


SCHEMAS: dict[str, Json] = {
    "exempt": _schema("exempt", 1, ("system:masters",)),
    "catch-all": _schema("catch-all", 10000, ("system:unauthenticated", "system:authenticated"), "ByUser"),
}
LEVELS: dict[str, Json] = {
    "exempt": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}},
    "catch-all": {
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}},
    },
}


def fixed_schema(name: str, spec: Json) -> list[FieldError]:
    """The error of a mandatory FlowSchema that is not as it has to be."""
    fixed = SCHEMAS.get(name)
    if fixed is None or _same(spec, fixed):
        return []
    return [invalid_value("spec", _shown_schema(spec), f"spec of '{name}' must equal the fixed value")]


def fixed_level(name: str, spec: Json) -> list[FieldError]:
    """The same for a PriorityLevelConfiguration; shares of the exempt one may be changed."""
    fixed = LEVELS.get(name)
    if fixed is None:
        return []
    except_for = ""
    compared = spec
    if name == "exempt":
        except_for, compared = " except the 'spec.exempt' field", spec | {"exempt": fixed["exempt"]}
    if _same(compared, fixed):
        return []
    return [invalid_value("spec", _shown_level(spec), f"spec of '{name}'{except_for} must equal the fixed value")]


def _same(one: Any, other: Any) -> bool:
    """Equal, an absent member being as good as an empty one."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_same(one.get(k), other.get(k)) for k in one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other or (not one and not other)


def _shown_schema(spec: Json) -> Json:
    method = spec.get("distinguisherMethod")
    return {
        "PriorityLevelConfiguration": {"Name": (spec.get("priorityLevelConfiguration") or {}).get("name") or ""},
        "MatchingPrecedence": spec.get("matchingPrecedence") or 0,
        "DistinguisherMethod": None if method is None else {"Type": method.get("type") or ""},
        "Rules": _each(spec.get("rules"), _shown_rule),
    }


def _each(items: Any, shown: Any) -> Any:
    return None if items is None else [shown(item) for item in items]


def _shown_rule(rule: Json) -> Json:
    return {
        "Subjects": _each(rule.get("subjects"), _shown_subject),
        "ResourceRules": _each(rule.get("resourceRules"), _shown_resources),
        "NonResourceRules": _each(
            rule.get("nonResourceRules"),
            lambda r: {"Verbs": r.get("verbs"), "NonResourceURLs": r.get("nonResourceURLs")},
        ),
    }


def _shown_subject(subject: Json) -> Json:
    user, group, account = (subject.get(k) for k in ("user", "group", "serviceAccount"))
    return {
        "Kind": subject.get("kind") or "",
        "User": None if user is None else {"Name": user.get("name") or ""},
        "Group": None if group is None else {"Name": group.get("name") or ""},
        "ServiceAccount": None
        if account is None
        else {"Namespace": account.get("namespace") or "", "Name": account.get("name") or ""},
    }


def _shown_resources(rule: Json) -> Json:
    return {
        "Verbs": rule.get("verbs"),
        "APIGroups": rule.get("apiGroups"),
        "Resources": rule.get("resources"),
        "ClusterScope": bool(rule.get("clusterScope")),
        "Namespaces": rule.get("namespaces"),
    }


def _shown_level(spec: Json) -> Json:
    limited, exempt = spec.get("limited"), spec.get("exempt")
    return {
        "Type": spec.get("type") or "",
        "Limited": None if limited is None else _shown_limited(limited),
        "Exempt": None
        if exempt is None
        else {
            "NominalConcurrencyShares": exempt.get("nominalConcurrencyShares"),
            "LendablePercent": exempt.get("lendablePercent"),
        },
    }


def _shown_limited(limited: Json) -> Json:
    response = limited.get("limitResponse") or {}
    queuing = response.get("queuing")
    shown = None
    if queuing is not None:
        shown = {
            name[0].upper() + name[1:]: queuing.get(name) or 0 for name in ("queues", "handSize", "queueLengthLimit")
        }
    return {
        "NominalConcurrencyShares": limited.get("nominalConcurrencyShares") or 0,
        "LimitResponse": {"Type": response.get("type") or "", "Queuing": shown},
        "LendablePercent": limited.get("lendablePercent"),
        "BorrowingLimitPercent": limited.get("borrowingLimitPercent"),
    }
