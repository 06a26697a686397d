"""Defaults in a CustomResourceDefinition's schema: each must be a value of its own schema, with nothing in it that
pruning would drop."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from portside.api.custom_embedded import embedded, head_errors
from portside.api.custom_old import same
from portside.api.custom_rules import validate_default
from portside.api.custom_values import Validator
from portside.api.field import FieldError, invalid_value

Json = dict[str, Any]
Errors = list[FieldError]


def validate_defaults(schema: Json, path: str, *, root: bool = True) -> Errors:
    """What is wrong with the defaults of a structural schema."""
    errors: Errors = []
    default = schema.get("default")
    if default is not None:
        errors += _default(schema, default, f"{path}.default", root)
    if isinstance(schema.get("items"), dict):
        errors += validate_defaults(schema["items"], f"{path}.items", root=False)
    resource = root or schema.get("x-kubernetes-embedded-resource")
    for name, child in sorted((schema.get("properties") or {}).items()):
        if resource and name == "metadata":
            continue  # defaults are refused there altogether
        errors += validate_defaults(child, f"{path}.properties[{name}]", root=False)
    if isinstance(more := schema.get("additionalProperties"), dict):
        errors += validate_defaults(more, f"{path}.additionalProperties", root=False)
    return errors


def _default(schema: Json, default: Any, path: str, root: bool) -> Errors:
    from portside.api.schema_custom import prune_value

    errors: Errors = []
    pruned = prune_value(schema, deepcopy(default), root=root)
    if not same(pruned, default):
        errors.append(invalid_value(path, default, "must not have unknown fields"))
    if isinstance(default, dict) and (root or schema.get("x-kubernetes-embedded-resource")):
        errors += head_errors(default, path)
    errors += embedded(schema, default, path)
    errors += Validator(schema).errors(default, None, path)
    return errors or validate_default(schema, default, path, root=root)
