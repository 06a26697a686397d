"""The place of CEL rules (x-kubernetes-validations) in the validation of custom resources and of their definitions.

``compile_rules`` is called once per schema, ``validate_rules`` after every other check of an object, ``check_rules`` after
every other check of a definition's schema. The expression language is imported by the first schema that has a rule.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from portside.api.field import FieldError

Json = dict[str, Any]
Errors = list[FieldError]


def has_rules(schema: Any) -> bool:
    """Whether a schema or anything in it has rules."""
    if not isinstance(schema, dict):
        return False
    if schema.get("x-kubernetes-validations"):
        return True
    children = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    junctors = [s for key in ("allOf", "anyOf", "oneOf") for s in schema.get(key) or ()]
    return any(has_rules(child) for child in (*children, *junctors, schema.get("not")))


def compile_rules(schema: Json) -> Any:
    """The rules of a schema, ready to run; None when it has none."""
    if not has_rules(schema):
        return None
    from portside.api.schema_rules import compile_rules as compiled

    return compiled(schema)


def validate_rules(compiled: Any, new: Json, old: Json | None, path: str) -> tuple[Errors, list[str]]:
    """What the rules say of an object: errors, and warnings for those that an unchanged value is spared."""
    from portside.api.rule_evaluation import validate_rules as validate

    return validate(compiled, new, old, path)


def validate_default(schema: Json, default: Any, path: str, *, root: bool) -> Errors:
    """What the rules say of a default value: it is held to transitions too, as its own old value."""
    if not has_rules(schema):
        return []
    from portside.api.rule_evaluation import validate_rules as validate
    from portside.api.schema_rules import compile_rules as compiled

    place = compiled(schema, root=root)
    return validate(place, default, default, path, ratchet=False)[0] if place is not None else []


def check_rules(schema: Json, path: str, broken: Collection[str]) -> Errors:
    """What is wrong with the rules of a definition's schema; ``broken`` are the places that have other errors."""
    if not has_rules(schema):
        return []
    from portside.api.rules.crd_expressions import check_rules as check

    return check(schema, path, broken)
