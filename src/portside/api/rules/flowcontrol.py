"""FlowSchema and PriorityLevelConfiguration."""

from __future__ import annotations

import math
from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules.flowcontrol_fixed import fixed_level, fixed_schema
from portside.api.rules.registry import STATUS_ONLY, Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]
GROUP = "flowcontrol.apiserver.k8s.io"
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_SUBJECTS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}
_DISTINGUISHERS = ("ByNamespace", "ByUser")
_QUEUING = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}
_SHARES, _PRECEDENCE, _HIGHEST = 30, 1000, 10000
_MOST_QUEUES, _ENTROPY = 10_000_000, 60


def default_schema(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("priorityLevelConfiguration", {}).setdefault("name", "")
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = _PRECEDENCE
    obj.setdefault("status", {})


def default_level(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    obj.setdefault("status", {})
    exempt, limited = spec.get("exempt"), spec.get("limited")
    if spec.get("type") == "Exempt" and exempt is None and obj.get("metadata", {}).get("name") == "exempt":
        exempt = spec["exempt"] = {}
    if exempt is not None:
        exempt.setdefault("nominalConcurrencyShares", 0)
        exempt.setdefault("lendablePercent", 0)
    if limited is not None:
        if limited.get("nominalConcurrencyShares") is None:
            limited["nominalConcurrencyShares"] = _SHARES
        limited.setdefault("lendablePercent", 0)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for field, value in _QUEUING.items():
                if not queuing.get(field):
                    queuing[field] = value


def _clear(obj: Json, ctx: Context) -> None:
    obj["status"] = {}


def _keep(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {}


def _subject(subject: Json, at: str) -> Errors:
    kind = subject.get("kind") or ""
    part = _SUBJECTS.get(kind)
    if part is None:
        return [not_supported(f"{at}.kind", kind, tuple(_SUBJECTS))]
    body, errors = subject.get(part), []
    if body is None:
        text = f"{part} is required when subject kind is '{kind}'"
        errors.append(required(f"{at}.{part}", text))
    else:
        name = body.get("name") or ""
        if not name:
            errors.append(required(f"{at}.{part}.name"))
        elif part == "serviceAccount" and name != "*":
            errors += [invalid_value(f"{at}.{part}.name", name, p) for p in names.dns_subdomain(name)]
        if part == "serviceAccount":
            errors += _namespace(body.get("namespace") or "", f"{at}.{part}.namespace")
    others = (p for p in ("serviceAccount", "user", "group") if p != part and subject.get(p) is not None)
    return errors + [
        forbidden_field(f"{at}.{p}", f"{p} is forbidden when subject kind is not '{_kind_of(p)}'") for p in others
    ]


def _kind_of(part: str) -> str:
    return part[0].upper() + part[1:]


def _namespace(name: str, at: str) -> Errors:
    if not name:
        return [required(at, "must specify namespace for service account")]
    return [invalid_value(at, name, p) for p in names.dns_label(name)]


def _wildcard(values: list[str], at: str, what: str) -> Errors:
    if "*" in values and len(values) > 1:
        return [invalid_value(at, values, f"if '*' is present, must not specify other {what}")]
    return []


def _verbs(verbs: list[str], at: str) -> Errors:
    if not verbs:
        return [required(at, "verbs must contain at least one value")]
    if "*" in verbs:
        return _wildcard(verbs, at, "verbs")
    return [] if set(verbs) <= set(VERBS) else [not_supported(at, verbs, VERBS)]


def _resource_rule(rule: Json, at: str) -> Errors:
    groups, kinds, namespaces = (rule.get(f) or [] for f in ("apiGroups", "resources", "namespaces"))
    errors = _verbs(rule.get("verbs") or [], f"{at}.verbs")
    if not groups:
        errors.append(required(f"{at}.apiGroups", "resource rules must supply at least one api group"))
    errors += _wildcard(groups, f"{at}.apiGroups", "api groups")
    if not kinds:
        errors.append(required(f"{at}.resources", "resource rules must supply at least one resource"))
    errors += _wildcard(kinds, f"{at}.resources", "resources")
    if not namespaces and not rule.get("clusterScope"):
        text = "resource rules that are not cluster scoped must supply at least one namespace"
        errors.append(required(f"{at}.namespaces", text))
    elif "*" in namespaces:
        errors += _wildcard(namespaces, f"{at}.namespaces", "namespaces")
    else:
        for i, name in enumerate(namespaces):
            errors += [invalid_value(f"{at}.namespaces[{i}]", name, p) for p in names.dns_label(name)]
    return errors


def _url(url: str, at: str) -> Errors:
    if not url.startswith("/"):
        return [invalid_value(at, url, "must start with slash")]
    if " " in url:
        return [invalid_value(at, url, "must not contain white-space")]
    if "//" in url:
        return [invalid_value(at, url, "must not contain double slash")]
    if "*" in url[:-1] or (url.endswith("*") and not url.endswith("/*")):
        return [invalid_value(at, url, "wildcard can only do suffix matching")]
    return []


def _path_rule(rule: Json, at: str) -> Errors:
    urls, errors = rule.get("nonResourceURLs") or [], _verbs(rule.get("verbs") or [], f"{at}.verbs")
    path = f"{at}.nonResourceURLs"
    if not urls:
        return [*errors, required(path, "nonResourceURLs must contain at least one value")]
    if "*" in urls:
        return errors + _wildcard(urls, path, "non-resource URLs")
    return errors + [e for i, url in enumerate(urls) for e in _url(url, f"{path}[{i}]")]


def _rule(rule: Json, at: str) -> Errors:
    subjects, errors = rule.get("subjects") or [], []
    if not subjects:
        errors.append(required(f"{at}.subjects", "subjects must contain at least one value"))
    errors += [e for i, s in enumerate(subjects) for e in _subject(s, f"{at}.subjects[{i}]")]
    kinds, paths = rule.get("resourceRules") or [], rule.get("nonResourceRules") or []
    if not kinds and not paths:
        errors.append(required(at, "at least one of resourceRules and nonResourceRules has to be non-empty"))
    errors += [e for i, r in enumerate(kinds) for e in _resource_rule(r, f"{at}.resourceRules[{i}]")]
    return errors + [e for i, r in enumerate(paths) for e in _path_rule(r, f"{at}.nonResourceRules[{i}]")]


def validate_schema(obj: Json, ctx: Context) -> Errors:
    spec, own = obj.get("spec") or {}, obj["metadata"].get("name")
    rank, errors = spec.get("matchingPrecedence") or 0, []
    path = "spec.matchingPrecedence"
    if rank <= 0:
        errors.append(invalid_value(path, rank, "must be a positive value"))
    if rank > _HIGHEST:
        errors.append(invalid_value(path, rank, f"must not be greater than {_HIGHEST}"))
    if rank == 1 and own != "exempt":
        errors.append(invalid_value(path, rank, "only the schema named 'exempt' may have matchingPrecedence 1"))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in _DISTINGUISHERS:
        shown = {"Type": method.get("type") or ""}
        errors.append(not_supported("spec.distinguisherMethod.type", shown, _DISTINGUISHERS))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
    at = "spec.priorityLevelConfiguration.name"
    if level:
        errors += [invalid_value(at, level, p) for p in names.dns_subdomain(level)]
    else:
        errors.append(required(at, "must reference a priority level"))
    errors += [e for i, r in enumerate(spec.get("rules") or ()) for e in _rule(r, f"spec.rules[{i}]")]
    return errors + fixed_schema(str(own), spec)


def _queuing(queuing: Json, at: str) -> Errors:
    queues, hand, limit = (queuing.get(f) or 0 for f in ("queues", "handSize", "queueLengthLimit"))
    errors: Errors = []
    if limit <= 0:
        errors.append(invalid_value(f"{at}.queueLengthLimit", limit, "must be positive"))
    if queues <= 0:
        errors.append(invalid_value(f"{at}.queues", queues, "must be positive"))
    elif queues > _MOST_QUEUES:
        errors.append(invalid_value(f"{at}.queues", queues, f"must not be greater than {_MOST_QUEUES}"))
    if hand <= 0:
        errors.append(invalid_value(f"{at}.handSize", hand, "must be positive"))
    elif hand > queues:
        errors.append(invalid_value(f"{at}.handSize", hand, f"should not be greater than queues ({queues})"))
    elif sum(math.log2(queues - i) for i in range(hand)) > _ENTROPY:
        text = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {_ENTROPY}"
        errors.append(invalid_value(f"{at}.handSize", hand, text))
    return errors


def _limited(limited: Json, at: str) -> Errors:
    shares, response = limited.get("nominalConcurrencyShares"), limited.get("limitResponse") or {}
    errors: Errors = []
    if shares is not None and shares < 0:
        text = "must be a non-negative integer"
        errors.append(invalid_value(f"{at}.nominalConcurrencyShares", shares, text))
    type_, queuing = response.get("type") or "", response.get("queuing")
    path = f"{at}.limitResponse"
    stray = [forbidden_field(f"{path}.queuing")] if queuing is not None and type_ != "Queue" else []
    if not type_:
        errors += [*stray, required(f"{path}.type")]
    elif type_ == "Queue":
        errors += [required(f"{path}.queuing")] if queuing is None else _queuing(queuing, f"{path}.queuing")
    elif type_ == "Reject":
        errors += stray
    else:
        errors += [not_supported(f"{path}.type", type_, ("Queue", "Reject")), *stray]
    lend, borrow = limited.get("lendablePercent"), limited.get("borrowingLimitPercent")
    if lend is not None and not 0 <= lend <= 100:
        errors.append(invalid_value(f"{at}.lendablePercent", lend, "must be between 0 and 100, inclusive"))
    if borrow is not None and borrow < 0:
        text = "if specified, must be a non-negative integer"
        errors.append(invalid_value(f"{at}.borrowingLimitPercent", borrow, text))
    return errors


def _level_kind(spec: Json, name: str) -> Errors:
    type_, errors = spec.get("type") or "", []
    if type_ not in ("Exempt", "Limited"):
        parts = [forbidden_field(f"spec.{part}") for part in ("exempt", "limited") if spec.get(part) is not None]
        if not type_:
            return [*parts, required("spec.type")]
        return [not_supported("spec.type", type_, ("Exempt", "Limited")), *parts]
    if (type_ == "Exempt") != (name == "exempt"):
        errors.append(invalid_value("spec.type", type_, "must be 'Exempt' if and only if `name` is 'exempt'"))
    other = "limited" if type_ == "Exempt" else "exempt"
    if spec.get(other) is not None:
        errors.append(forbidden_field(f"spec.{other}"))
    if type_ == "Limited":
        limited = spec.get("limited")
        errors += [required("spec.limited")] if limited is None else _limited(limited, "spec.limited")
    return errors


def validate_level(obj: Json, ctx: Context) -> Errors:
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name") or ""
    return _level_kind(spec, name) + fixed_level(name, spec)


def _rules(kind: str, default: Any, validate: Any) -> Rules:
    return Rules(
        BY_KIND[GROUP, "v1", kind],
        default=default,
        prepare_create=_clear,
        prepare_update=_keep,
        validate=validate,
        validate_update=lambda obj, old, ctx: validate(obj, ctx),
        subresources={"status": STATUS_ONLY},
        generation=True,
    )


RULES = {
    ("v1", "FlowSchema"): _rules("FlowSchema", default_schema, validate_schema),
    ("v1", "PriorityLevelConfiguration"): _rules("PriorityLevelConfiguration", default_level, validate_level),
}
