"""Validation rules in the schema of a CustomResourceDefinition: their words, whether they compile, and what they may cost.

Costs are worst cases: the estimate of a rule times how often its place can occur in one object. A rule, and all rules of a
schema together, have limits, so that no object can be made whose validation takes long.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from portside.api import cel
from portside.api.cel.declared import MAX_REQUEST, smallest
from portside.api.field import FieldError, forbidden_field, internal_error, invalid_value, not_supported, required
from portside.api.field_path import BadPath, normalized
from portside.api.schema_rules import OLD_SELF, CompiledRule, compile_rule, self_type

Json = dict[str, Any]
Errors = list[FieldError]
RULE_LIMIT = 10_000_000  # estimated cost units of one rule
SCHEMA_LIMIT = 100_000_000  # of all rules of a schema
MOST_EXPENSIVE = 4  # rules named when the sum is too large
REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_UINT64 = 2**64 - 1
_NO_TYPE = (
    "internal error: failed to construct type information for x-kubernetes-validations rules: "
    "unable to convert structural schema to CEL declarations"
)
_ADVICE = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"


@dataclass
class Costs:
    """Estimated costs of all rules of a schema so far."""

    total: int = 0
    worst: list[tuple[int, str]] = field(default_factory=list)

    def add(self, cost: int, path: str) -> None:
        self.total = min(self.total + cost, _UINT64)
        if cost < SCHEMA_LIMIT // 100:
            return
        self.worst = sorted([*self.worst, (cost, path)], key=lambda pair: -pair[0])[:MOST_EXPENSIVE]


@dataclass(frozen=True)
class Surroundings:
    """What the schemas around a place say: how often it can occur (None: unbounded), and the list that hides old values."""

    times: int | None = 1
    uncorrelated: str = ""
    root: bool = True

    def field(self, schema: Json) -> Surroundings:
        return Surroundings(self.times, self.uncorrelated, _embedded(schema))

    def items(self, parent: Json, path: str) -> Surroundings:
        hidden = self.uncorrelated
        if not hidden and parent.get("x-kubernetes-list-type") != "map":
            hidden = path
        return Surroundings(self._times(parent.get("maxItems")), hidden, _embedded(parent.get("items")))

    def values(self, parent: Json) -> Surroundings:
        inner = _embedded(parent.get("additionalProperties"))
        return Surroundings(self._times(parent.get("maxProperties")), self.uncorrelated, inner)

    def _times(self, most: int | None) -> int | None:
        return None if self.times is None or most is None else min(self.times * max(most, 0), _UINT64)


def _embedded(schema: Any) -> bool:
    return isinstance(schema, dict) and bool(schema.get("x-kubernetes-embedded-resource"))


def words(schema: Json, path: str) -> Errors:
    """What is wrong with the rules of one node before anything is compiled."""
    errors: Errors = []
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        errors += _words(rule, schema, f"{path}.x-kubernetes-validations[{index}]")
    return errors


def _words(rule: Json, schema: Json, at: str) -> Errors:
    errors: Errors = []
    text, message = (rule.get("rule") or "").strip(), rule.get("message") or ""
    if not text:
        errors.append(required(f"{at}.rule", "rule is not specified"))
    elif message and not message.strip():
        errors.append(invalid_value(f"{at}.message", message, "must be non-empty if specified"))
    elif "\n" in message.strip():
        errors.append(invalid_value(f"{at}.message", message, "must not contain line breaks"))
    elif "\n" in text and not message.strip():
        errors.append(required(f"{at}.message", "message must be specified if rule contains line breaks"))
    if rule.get("messageExpression") and not rule["messageExpression"].strip():
        errors.append(required(f"{at}.messageExpression", "messageExpression must be non-empty if specified"))
    if rule.get("reason") is not None and rule["reason"] not in REASONS:
        errors.append(not_supported(f"{at}.reason", rule["reason"], REASONS))
    path = rule.get("fieldPath") or ""
    if path and not path.strip():
        errors.append(invalid_value(f"{at}.fieldPath", path, "must be non-empty if specified"))
    if "\n" in path:
        errors.append(invalid_value(f"{at}.fieldPath", path, "must not contain line breaks"))
    if path:
        try:
            normalized(path, schema)
        except BadPath:
            errors.append(invalid_value(f"{at}.fieldPath", path, "must be a valid path"))
    return errors


def _shown(rule: Json) -> Json:
    """A rule as its internal struct is printed."""
    return {
        "Rule": rule.get("rule") or "",
        "Message": rule.get("message") or "",
        "MessageExpression": rule.get("messageExpression") or "",
        "Reason": rule.get("reason"),
        "FieldPath": rule.get("fieldPath") or "",
        "OptionalOldSelf": rule.get("optionalOldSelf"),
    }


def expressions(schema: Json, path: str, around: Surroundings, costs: Costs) -> Errors:
    """Whether the rules of one node compile and are cheap enough. Only for nodes without errors at or below them."""
    rules = schema.get("x-kubernetes-validations") or ()
    if not rules:
        return []
    type_ = self_type(schema, root=around.root)
    if type_ is None:
        return [internal_error(f"{path}.x-kubernetes-validations", _NO_TYPE)]
    errors: Errors = []
    for index, rule in enumerate(rules):
        compiled = compile_rule(rule, schema, type_)
        at = f"{path}.x-kubernetes-validations[{index}]"
        errors += _judged(compiled, at, _occurrences(schema, around), costs)
        if compiled.uses_old:
            if around.uncorrelated:
                text = (
                    f"oldSelf cannot be used on the uncorrelatable portion of the schema within {around.uncorrelated}"
                )
                errors.append(invalid_value(f"{at}.rule", rule.get("rule") or "", text))
        elif rule.get("optionalOldSelf") is not None:
            text = "may not be set if oldSelf is not used in rule"
            errors.append(invalid_value(f"{at}.optionalOldSelf", rule["optionalOldSelf"], text))
    return errors


def _occurrences(schema: Json, around: Surroundings) -> int:
    if around.times is not None:
        return around.times
    return MAX_REQUEST // (smallest(schema, root=around.root) + 1)


def _judged(compiled: CompiledRule, at: str, times: int, costs: Costs) -> Errors:
    errors: Errors = []
    most = _most(compiled.program)
    cost = min(most * times, _UINT64)
    if cost > RULE_LIMIT:
        errors.append(forbidden_field(f"{at}.rule", too_expensive("estimated rule cost", cost, RULE_LIMIT)))
    costs.add(cost, f"{at}.rule")
    if compiled.error:
        errors.append(invalid_value(f"{at}.rule", _shown(compiled.rule), compiled.error))
    if compiled.message_error:
        shown = _shown(compiled.rule)
        errors.append(invalid_value(f"{at}.messageExpression", shown, compiled.message_error))
    elif compiled.message is not None:
        cost = _most(compiled.message)
        if cost > RULE_LIMIT:
            text = too_expensive("estimated messageExpression cost", cost, RULE_LIMIT)
            errors.append(forbidden_field(f"{at}.messageExpression", text))
        costs.add(cost, f"{at}.messageExpression")
    return errors


def _most(program: cel.Program | None) -> int:
    return program.estimate()[1] if program is not None else 0


def too_expensive(what: str, cost: int, limit: int) -> str:
    """By how much a cost exceeds its limit, and what to do."""
    factor = cost / limit
    if factor > 100:
        shown = "more than 100x"
    elif factor < 1.5:
        shown = f"{factor:f}x"
    else:
        shown = f"{factor:.1f}x"
    return f"{what} exceeds budget by factor of {shown} {_ADVICE}"


def total(costs: Costs, path: str) -> Errors:
    """Whether all rules of a schema together are cheap enough."""
    if costs.total <= SCHEMA_LIMIT:
        return []
    text = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
    errors = [forbidden_field(where, text) for _, where in costs.worst]
    what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
    return [*errors, forbidden_field(path, too_expensive(what, costs.total, SCHEMA_LIMIT))]


def check_rules(schema: Json, path: str, broken: Collection[str] = ()) -> Errors:
    """All that is wrong with the rules of a whole schema, children before their parents, and their sum.

    ``broken`` are places with other errors: nothing at them or around them is compiled, since it would only confuse.
    """
    walk = _Walk(broken)
    walk.visit(schema, path, Surroundings())
    return walk.errors + total(walk.costs, path)


class _Walk:
    def __init__(self, broken: Collection[str]) -> None:
        self.broken = list(broken)
        self.costs = Costs()
        self.errors: Errors = []

    def visit(self, schema: Any, path: str, around: Surroundings) -> None:
        if not isinstance(schema, dict):
            return
        self.visit(schema.get("additionalProperties"), f"{path}.additionalProperties", around.values(schema))
        for name, child in sorted((schema.get("properties") or {}).items()):
            if isinstance(child, dict):
                self.visit(child, f"{path}.properties[{name}]", around.field(child))
        self.visit(schema.get("items"), f"{path}.items", around.items(schema, path))
        wrong = words(schema, path)
        if wrong:
            self.errors += wrong
            self.broken.append(path)
        elif not any(place.startswith(path) for place in self.broken):
            self.errors += expressions(schema, path, around, self.costs)


__all__ = ["OLD_SELF", "Costs", "Surroundings", "check_rules", "expressions", "total", "words"]
