"""What webhooks and admission policies share: rules, matching, parameters."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from portside.api.selector import validate_object

Json = dict[str, Any]
Errors = list[FieldError]
OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
SCOPES = ("*", "Cluster", "Namespaced")
FAILURES = ("Fail", "Ignore")
MATCHES = ("Equivalent", "Exact")
REINVOCATIONS = ("IfNeeded", "Never")


def default_rules(rules: list[Json] | None) -> None:
    for rule in rules or ():
        rule.setdefault("scope", "*")


def default_match(match: Json | None) -> None:
    """matchConstraints and matchResources say everything they leave out."""
    if match is None:
        return
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for field in ("resourceRules", "excludeResourceRules"):
        default_rules(match.get(field))


def _listed(rule: Json, field: str, at: str, what: str) -> Errors:
    values, path = rule.get(field) or [], f"{at}.{field}"
    if not values:
        return [required(path)]
    if "*" in values and len(values) > 1:
        return [invalid_value(path, values, f"if '*' is present, must not specify other {what}")]
    return [required(f"{path}[{i}]") for i, v in enumerate(values) if not v and field == "apiVersions"]


def _resources(values: list[str], path: str) -> Errors:
    if not values:
        return [required(path)]
    if "*/*" in values and len(values) > 1:
        return [invalid_value(path, values, "if '*/*' is present, must not specify other resources")]
    errors: Errors = []
    whole, parts = {v for v in values if v.endswith("/*")}, {v for v in values if v.startswith("*/")}
    for i, value in enumerate(values):
        name, slash, sub = value.partition("/")
        at = f"{path}[{i}]"
        if not value:
            errors.append(required(at))
        if slash and sub != "*" and f"{name}/*" in whole:
            errors.append(invalid_value(at, value, f"if '{name}/*' is present, must not specify {value}"))
        if slash and name != "*" and f"*/{sub}" in parts:
            errors.append(invalid_value(at, value, f"if '*/{sub}' is present, must not specify {value}"))
    if "*" in values and any("/" not in v and v != "*" for v in values):
        text = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid_value(path, values, text))
    return errors


def rule_problems(rule: Json, at: str) -> Errors:
    operations = rule.get("operations") or []
    errors: Errors = []
    if not operations:
        errors.append(required(f"{at}.operations"))
    if "*" in operations and len(operations) > 1:
        text = "if '*' is present, must not specify other operations"
        errors.append(invalid_value(f"{at}.operations", operations, text))
    for i, operation in enumerate(operations):
        if operation not in OPERATIONS:
            errors.append(not_supported(f"{at}.operations[{i}]", operation, OPERATIONS))
    errors += _listed(rule, "apiGroups", at, "API groups") + _listed(rule, "apiVersions", at, "API versions")
    errors += _resources(rule.get("resources") or [], f"{at}.resources")
    scope = rule.get("scope")
    if scope is not None and scope not in SCOPES:
        errors.append(not_supported(f"{at}.scope", scope, SCOPES))
    return errors


def one_of(value: Any, known: tuple[str, ...], path: str) -> Errors:
    return [] if value is None or value in known else [not_supported(path, value, known)]


def match_problems(match: Json, at: str) -> Errors:
    """matchConstraints or matchResources."""
    errors = one_of(match.get("matchPolicy"), MATCHES, f"{at}.matchPolicy")
    for field in ("namespaceSelector", "objectSelector"):
        errors += validate_object(match.get(field), f"{at}.{field}")
    for field in ("resourceRules", "excludeResourceRules"):
        for i, rule in enumerate(match.get(field) or ()):
            path = f"{at}.{field}[{i}]"
            for j, name in enumerate(rule.get("resourceNames") or ()):
                errors += [invalid_value(f"{path}.resourceNames[{j}]", name, p) for p in names.path_segment(name)]
                if name in rule["resourceNames"][:j]:
                    errors.append(duplicate(f"{path}.resourceNames[{j}]", name))
            errors += rule_problems(rule, path)
    return errors


def param_kind(kind: Json | None, at: str) -> Errors:
    if kind is None:
        return []
    said, errors = kind.get("apiVersion") or "", []
    path = f"{at}.apiVersion"
    if not said:
        errors.append(required(path))
    elif said.count("/") > 1:
        errors.append(invalid_value(path, said, f"unexpected GroupVersion string: {said}"))
    else:
        group, _, version = said.rpartition("/")
        if group and (found := names.is_subdomain(group)):
            errors.append(invalid_value(path, group, ",".join(found)))
        if not version:
            errors.append(invalid_value(path, said, "version must be specified"))
        elif found := names.is_label_1035(version):
            errors.append(invalid_value(path, version, ",".join(found)))
    name = kind.get("kind") or ""
    if not name:
        errors.append(required(f"{at}.kind"))
    elif found := names.is_label_1035(name.lower()):
        text = f"may have mixed case, but should otherwise match: {','.join(found)}"
        errors.append(invalid_value(f"{at}.kind", name, text))
    return errors


def param_ref(ref: Json | None, at: str) -> Errors:
    if ref is None:
        return []
    name, selector, action = ref.get("name") or "", ref.get("selector"), ref.get("parameterNotFoundAction")
    exclusive = "name and selector are mutually exclusive"
    errors: Errors = []
    if name:
        errors += [invalid_value(f"{at}.name", name, p) for p in names.path_segment(name)]
        if selector is not None:
            errors.append(forbidden_field(f"{at}.name", exclusive))
    if selector is not None:
        errors += validate_object(selector, f"{at}.selector")
        if name:
            errors.append(forbidden_field(f"{at}.selector", exclusive))
    if not name and selector is None:
        errors.append(required(at, "one of name or selector must be specified"))
    path = f"{at}.parameterNotFoundAction"
    if not action:
        return [*errors, required(path)]
    return errors + one_of(action, ("Deny", "Allow"), path)
