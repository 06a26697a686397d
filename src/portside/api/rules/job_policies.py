"""A Job's pod failure policy and success policy, and the texts of index lists."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, invalid_value, not_supported, required
from portside.api.rules.pod_shape import go_json

Json = dict[str, Any]
Errors = list[FieldError]

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_STATUSES = ("False", "True", "Unknown")
_MAX_RULES, _MAX_VALUES, _MAX_PATTERNS = 20, 255, 20


def _plain_invalid(path: str, text: str) -> FieldError:
    """Upstream's Invalid with the omit-value marker: no value in the text."""
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {text}")


def shown_failure_policy(policy: Json | None) -> Any:
    """As upstream's internal type encodes it."""
    if policy is None:
        return None
    rules = []
    for rule in policy.get("rules") or ():
        codes, patterns = rule.get("onExitCodes"), rule.get("onPodConditions")
        shown_codes = None
        if codes is not None:
            shown_codes = {
                "ContainerName": codes.get("containerName"),
                "Operator": codes.get("operator", ""),
                "Values": codes.get("values"),
            }
        shown = [{"Type": p.get("type", ""), "Status": p.get("status", "")} for p in patterns or ()] or None
        rules.append({"Action": rule.get("action", ""), "OnExitCodes": shown_codes, "OnPodConditions": shown})
    return {"Rules": rules or None}


def shown_success_policy(policy: Json | None) -> Any:
    if policy is None:
        return None
    rules = [
        {"SucceededIndexes": r.get("succeededIndexes"), "SucceededCount": r.get("succeededCount")}
        for r in policy.get("rules") or ()
    ]
    return {"Rules": rules or None}


def _exit_codes(codes: Json, spec: Json, path: str) -> Errors:
    errors: Errors = []
    operator, values, name = codes.get("operator") or "", codes.get("values") or [], codes.get("containerName")
    if operator not in ("In", "NotIn"):
        errors.append(not_supported(f"{path}.operator", operator, ("In", "NotIn")))
    pod = (spec.get("template") or {}).get("spec") or {}
    known = {c.get("name") for k in ("containers", "initContainers") for c in pod.get(k) or ()}
    if name is not None and name not in known:
        text = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid_value(f"{path}.containerName", name, text))
    if not values:
        errors.append(invalid_value(f"{path}.values", values, "at least one value is required"))
    elif len(values) > _MAX_VALUES:
        text = f"Too many: {len(values)}: must have at most {_MAX_VALUES} items"
        errors.append(FieldError(f"{path}.values", "FieldValueTooMany", text))
    seen: set[int] = set()
    ordered = True
    for i, value in enumerate(values):
        if operator == "In" and value == 0:
            text = "must not be 0 for the In operator"
            errors.append(invalid_value(f"{path}.values[{i}]", value, text))
        if value in seen:
            errors.append(duplicate(f"{path}.values[{i}]", value))
        seen.add(value)
        ordered = ordered and (i == 0 or values[i - 1] <= value)
    if not ordered:
        errors.append(invalid_value(f"{path}.values", values, "must be ordered"))
    return errors


def _rule(rule: Json, spec: Json, path: str) -> Errors:
    errors: Errors = []
    action = rule.get("action") or ""
    if not action:
        errors.append(required(f"{path}.action"))
    elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
        text = "requires the backoffLimitPerIndex to be set"
        errors.append(invalid_value(f"{path}.action", action, text))
    elif action not in _ACTIONS:
        errors.append(not_supported(f"{path}.action", action, _ACTIONS))
    codes, patterns = rule.get("onExitCodes"), rule.get("onPodConditions") or []
    if codes is not None:
        errors += _exit_codes(codes, spec, f"{path}.onExitCodes")
    if len(patterns) > _MAX_PATTERNS:
        text = f"Too many: {len(patterns)}: must have at most {_MAX_PATTERNS} items"
        errors.append(FieldError(f"{path}.onPodConditions", "FieldValueTooMany", text))
    for i, pattern in enumerate(patterns):
        where = f"{path}.onPodConditions[{i}]"
        kind, status = pattern.get("type") or "", pattern.get("status") or ""
        errors += [invalid_value(f"{where}.type", kind, p) for p in names.qualified_name(kind)]
        if not status:
            errors.append(required(f"{where}.status"))
        elif status not in _STATUSES:
            errors.append(not_supported(f"{where}.status", status, _STATUSES))
    if codes is not None and patterns:
        text = "specifying both OnExitCodes and OnPodConditions is not supported"
        errors.append(_plain_invalid(path, text))
    if codes is None and not patterns:
        text = "specifying one of OnExitCodes and OnPodConditions is required"
        errors.append(_plain_invalid(path, text))
    return errors


def validate_failure_policy(spec: Json, path: str) -> Errors:
    rules = spec["podFailurePolicy"].get("rules") or []
    errors: Errors = []
    if len(rules) > _MAX_RULES:
        text = f"Too many: {len(rules)}: must have at most {_MAX_RULES} items"
        errors.append(FieldError(f"{path}.rules", "FieldValueTooMany", text))
    for i, rule in enumerate(rules):
        errors += _rule(rule, spec, f"{path}.rules[{i}]")
    return errors


def index_problem(text: str, completions: int) -> tuple[str, int]:
    """Why ``text`` is no list of indexes (``0-2,4``), empty if it is one; and how many it names."""
    if not text:
        return "", 0
    previous, count = -1, 0
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2:
            return (
                f"the fragment \"{part}\" violates the requirement that an index interval can have at most two parts separated by '-'",
                0,
            )
        numbers: list[int] = []
        for end in ends:
            if not (end.isdigit() or (end[:1] in "+-" and end[1:].isdigit())):
                return f'cannot convert string to integer for index: "{end}"', 0
            number = int(end)
            if number >= completions:
                return f'too large index: "{end}"', 0
            numbers.append(number)
        first, last = numbers[0], numbers[-1]
        if first <= previous:
            return f"non-increasing order, previous: {previous}, current: {first}", 0
        if len(numbers) == 2 and last <= first:
            return f"non-increasing order, previous: {first}, current: {last}", 0
        count += last - first + 1
        previous = last
    return "", count


def _success_rule(rule: Json, completions: int, path: str) -> Errors:
    errors: Errors = []
    indexes, count = rule.get("succeededIndexes"), rule.get("succeededCount")
    if count is None and indexes is None:
        text = "at least one of succeededCount or succeededIndexes must be specified"
        return [required(path, text)]
    named = 0
    if indexes is not None:
        problem, named = index_problem(indexes, completions)
        if len(indexes) > 64 * 1024:
            text = "Too long: may not be more than 65536 bytes"
            errors.append(FieldError(f"{path}.succeededIndexes", "FieldValueTooLong", text))
        if problem:
            text = f"error parsing succeededIndexes: {problem}"
            errors.append(invalid_value(f"{path}.succeededIndexes", indexes, text))
    if count is not None:
        where = f"{path}.succeededCount"
        if count < 0:
            errors.append(invalid_value(where, count, "must be greater than or equal to 0"))
        if count > completions:
            text = f"must be less than or equal to {completions} (the number of specified completions)"
            errors.append(invalid_value(where, count, text))
        if indexes is not None and count > named:
            text = (
                f"must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
            )
            errors.append(invalid_value(where, count, text))
    return errors


def validate_success_policy(spec: Json, path: str) -> Errors:
    policy = spec["successPolicy"]
    if spec.get("completionMode") != "Indexed":
        shown = shown_success_policy(policy)
        return [
            FieldError(path, "FieldValueInvalid", f"Invalid value: {go_json(shown)}: requires indexed completion mode")
        ]
    rules = policy.get("rules") or []
    if not rules:
        text = "at least one rules must be specified when the successPolicy is specified"
        return [required(f"{path}.rules", text)]
    errors: Errors = []
    if len(rules) > _MAX_RULES:
        text = f"Too many: {len(rules)}: must have at most {_MAX_RULES} items"
        errors.append(FieldError(f"{path}.rules", "FieldValueTooMany", text))
    for i, rule in enumerate(rules):
        errors += _success_rule(rule, spec.get("completions") or 0, f"{path}.rules[{i}]")
    return errors
