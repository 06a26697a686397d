"""Validation of what places a pod: affinity, tolerations, spread constraints, selectors. Upstream's order and words."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from portside.api.meta import validate_labels

Json = dict[str, Any]
Errors = list[FieldError]

_VALUES_NEEDED = "must be specified when `operator` is 'In' or 'NotIn'"
_VALUES_BANNED = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
_OPERATOR = "not a valid selector operator"
_POLICIES = ("Honor", "Ignore")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def validate_label_name(key: str, path: str) -> Errors:
    return [invalid_value(path, key, p) for p in names.qualified_name(key)]


def validate_label_selector(selector: Json | None, path: str) -> Errors:
    """A metav1.LabelSelector; values of expressions must be label values."""
    if not selector:
        return []
    errors = validate_labels(selector.get("matchLabels"), f"{path}.matchLabels")
    for i, expression in enumerate(selector.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{i}]"
        operator, values = expression.get("operator") or "", expression.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(required(f"{where}.values", _VALUES_NEEDED))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                errors.append(forbidden_field(f"{where}.values", _VALUES_BANNED))
        else:
            errors.append(invalid_value(f"{where}.operator", operator, _OPERATOR))
        errors += validate_label_name(expression.get("key") or "", f"{where}.key")
        for v, value in enumerate(values):
            errors += [invalid_value(f"{where}.values[{v}]", value, p) for p in names.label_value(value)]
    return errors


def _node_requirement(item: Json, path: str) -> Errors:
    errors: Errors = []
    operator, values = item.get("operator") or "", item.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(f"{path}.values", _VALUES_NEEDED))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            errors.append(forbidden_field(f"{path}.values", _VALUES_BANNED))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{path}.values", text))
    else:
        errors.append(invalid_value(f"{path}.operator", operator, _OPERATOR))
    errors += validate_label_name(item.get("key") or "", f"{path}.key")
    for v, value in enumerate(values):
        errors += [invalid_value(f"{path}.values[{v}]", value, p) for p in names.label_value(value)]
    return errors


def _field_requirement(item: Json, path: str) -> Errors:
    errors: Errors = []
    operator, values, key = item.get("operator") or "", item.get("values") or [], item.get("key") or ""
    if operator in ("In", "NotIn"):
        if len(values) != 1:
            text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errors.append(required(f"{path}.values", text))
    else:
        errors.append(invalid_value(f"{path}.operator", operator, _OPERATOR))
    if key != "metadata.name":
        errors.append(invalid_value(f"{path}.key", key, "not a valid field selector key"))
        return errors
    for v, value in enumerate(values):
        errors += [invalid_value(f"{path}.values[{v}]", value, p) for p in names.is_subdomain(value)]
    return errors


def validate_node_term(term: Json, path: str) -> Errors:
    errors: Errors = []
    for i, item in enumerate(term.get("matchExpressions") or ()):
        errors += _node_requirement(item, f"{path}.matchExpressions[{i}]")
    for i, item in enumerate(term.get("matchFields") or ()):
        errors += _field_requirement(item, f"{path}.matchFields[{i}]")
    return errors


def validate_node_selector(selector: Json, path: str) -> Errors:
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        return [required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    errors: Errors = []
    for i, term in enumerate(terms):
        errors += validate_node_term(term, f"{path}.nodeSelectorTerms[{i}]")
    return errors


def _weight(weight: int, path: str) -> Errors:
    return [] if 1 <= weight <= 100 else [invalid_value(path, weight, "must be in the range 1-100")]


def _match_label_keys(term: Json, path: str) -> Errors:
    keys, mismatch = term.get("matchLabelKeys") or [], term.get("mismatchLabelKeys") or []
    errors: Errors = []
    text = "must not be specified when labelSelector is not set"
    selector = term.get("labelSelector")
    for name, values in (("matchLabelKeys", keys), ("mismatchLabelKeys", mismatch)):
        if not values:
            continue
        if selector is None:
            errors.append(forbidden_field(f"{path}.{name}", text))
        for i, key in enumerate(values):
            errors += validate_label_name(key, f"{path}.{name}[{i}]")
    for i, key in enumerate(keys):
        if key in mismatch:
            text = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(invalid_value(f"{path}.matchLabelKeys[{i}]", key, text))
    return errors


def _pod_term(term: Json, path: str) -> Errors:
    errors = validate_label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    errors += validate_label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for name in term.get("namespaces") or ():
        errors += [invalid_value(f"{path}.namespace", name, p) for p in names.is_label(name)]
    errors += _match_label_keys(term, path)
    key = term.get("topologyKey") or ""
    if not key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    return errors + validate_label_name(key, f"{path}.topologyKey")


def _pod_affinity(affinity: Json, path: str) -> Errors:
    errors: Errors = []
    for i, term in enumerate(affinity.get(_REQUIRED) or ()):
        errors += _pod_term(term, f"{path}.{_REQUIRED}[{i}]")
    for i, weighted in enumerate(affinity.get(_PREFERRED) or ()):
        where = f"{path}.{_PREFERRED}[{i}]"
        errors += _weight(weighted.get("weight") or 0, f"{where}.weight")
        errors += _pod_term(weighted.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm")
    return errors


def validate_affinity(affinity: Json, path: str) -> Errors:
    errors: Errors = []
    node = affinity.get("nodeAffinity")
    if node is not None:
        where = f"{path}.nodeAffinity"
        if node.get(_REQUIRED) is not None:
            errors += validate_node_selector(node[_REQUIRED], f"{where}.{_REQUIRED}")
        for i, weighted in enumerate(node.get(_PREFERRED) or ()):
            item = f"{where}.{_PREFERRED}[{i}]"
            errors += _weight(weighted.get("weight") or 0, f"{item}.weight")
            errors += validate_node_term(weighted.get("preference") or {}, f"{item}.preference")
    if affinity.get("podAffinity") is not None:
        errors += _pod_affinity(affinity["podAffinity"], f"{path}.podAffinity")
    if affinity.get("podAntiAffinity") is not None:
        errors += _pod_affinity(affinity["podAntiAffinity"], f"{path}.podAntiAffinity")
    return errors


def validate_tolerations(tolerations: list[Json], path: str) -> Errors:
    """Numeric operators (Lt, Gt) belong to a feature that is off: refused although listed."""
    errors: Errors = []
    for i, item in enumerate(tolerations):
        where = f"{path}[{i}]"
        key, operator = item.get("key") or "", item.get("operator") or ""
        value, effect = item.get("value") or "", item.get("effect") or ""
        if key:
            errors += validate_label_name(key, f"{where}.key")
        if not key and operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(invalid_value(f"{where}.operator", operator, text))
        if item.get("tolerationSeconds") is not None and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid_value(f"{where}.effect", effect, text))
        if operator in ("Equal", ""):
            errors += [invalid_value(f"{where}.operator", value, p) for p in names.label_value(value)]
        elif operator == "Exists":
            if value:
                text = "value must be empty when `operator` is 'Exists'"
                errors.append(invalid_value(f"{where}.operator", value, text))
        elif operator in ("Lt", "Gt"):
            errors.append(not_supported(f"{where}.operator", operator, ("Equal", "Exists", "Lt", "Gt")))
        else:
            errors.append(not_supported(f"{where}.operator", operator, ("Equal", "Exists")))
        if effect and effect not in _EFFECTS:
            errors.append(not_supported(f"{where}.effect", effect, _EFFECTS))
    return errors


def _spread_keys(constraint: Json, path: str) -> Errors:
    keys = constraint.get("matchLabelKeys") or []
    if not keys:
        return []
    selector = constraint.get("labelSelector")
    errors: Errors = []
    if selector is None:
        errors.append(forbidden_field(path, "must not be specified when labelSelector is not set"))
    for i, key in enumerate(keys):
        errors += validate_label_name(key, f"{path}[{i}]")
    return errors


def validate_spread(constraints: list[Json], path: str) -> Errors:
    errors: Errors = []
    for i, item in enumerate(constraints):
        where = f"{path}[{i}]"
        skew, domains = item.get("maxSkew") or 0, item.get("minDomains")
        action, key = item.get("whenUnsatisfiable") or "", item.get("topologyKey") or ""
        if skew <= 0:
            errors.append(invalid_value(f"{where}.maxSkew", skew, "must be greater than zero"))
        if not key:
            errors.append(required(f"{where}.topologyKey", "can not be empty"))
        if action not in _ACTIONS:
            errors.append(not_supported(f"{where}.whenUnsatisfiable", action, _ACTIONS))
        pair = f"{{{key}, {action}}}"
        for other in constraints[i + 1 :]:
            if (other.get("topologyKey") or "") == key and (other.get("whenUnsatisfiable") or "") == action:
                errors.append(duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", pair))
                break
        if domains is not None:
            if domains <= 0:
                errors.append(invalid_value(f"{where}.minDomains", domains, "must be greater than zero"))
            if action != "DoNotSchedule":
                text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                errors.append(invalid_value(f"{where}.minDomains", domains, text))
        for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            policy = item.get(name)
            if policy is not None and policy not in _POLICIES:
                errors.append(not_supported(f"{where}.{name}", policy, _POLICIES))
        errors += _spread_keys(item, f"{where}.matchLabelKeys")
        errors += validate_label_selector(item.get("labelSelector"), f"{where}.labelSelector")
    return errors


def merge_label_keys(spec: Json, labels: Json) -> None:
    """On creation: matchLabelKeys and mismatchLabelKeys become expressions of the term's selector, with the pod's values."""
    affinity = spec.get("affinity") or {}
    terms: list[Json] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        part = affinity.get(kind) or {}
        terms += part.get(_REQUIRED) or []
        terms += [w.get("podAffinityTerm") or {} for w in part.get(_PREFERRED) or ()]
    for term in terms:
        _merge(term.get("labelSelector"), term.get("matchLabelKeys"), labels, "In")
        _merge(term.get("labelSelector"), term.get("mismatchLabelKeys"), labels, "NotIn")
    for constraint in spec.get("topologySpreadConstraints") or ():
        _merge(constraint.get("labelSelector"), constraint.get("matchLabelKeys"), labels, "In")


def _merge(selector: Json | None, keys: list[str] | None, labels: Json, operator: str) -> None:
    if selector is None or not keys:
        return
    for key in keys:
        if key in labels:
            expression = {"key": key, "operator": operator, "values": [labels[key]]}
            selector.setdefault("matchExpressions", []).append(expression)
