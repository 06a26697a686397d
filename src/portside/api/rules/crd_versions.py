"""Parts of a CustomResourceDefinition's version beside its schema: subresources, printer columns, selectable fields and
the warning of a deprecated version."""

from __future__ import annotations

import re
from typing import Any

from portside.api.field import FieldError, duplicate, invalid_value, required, too_many

Json = dict[str, Any]
Errors = list[FieldError]
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
WARNING_CHARS = 256
SELECTABLE_FIELDS = 8
_FIELD_PATH = re.compile(r"(?:\.[A-Za-z_][A-Za-z0-9_]*|\['(?:[^'\\]|\\.)+'\])")


def deprecation(version: Json, path: str) -> Errors:
    text = version.get("deprecationWarning")
    if text is None:
        return []
    problems: list[str] = []
    if not version.get("deprecated"):
        problems.append("can only be set for deprecated versions")
    if not text:
        problems.append("cannot be empty, omit to use the default warning")
    if len(text) > WARNING_CHARS:
        problems.append(f"must be <= {WARNING_CHARS} characters in length")
    if (at := next((i for i, c in enumerate(text) if not c.isprintable()), -1)) >= 0:
        problems.append(f"must only contain printable UTF-8 characters; non-printable character found at index {at}")
    return [invalid_value(path, text, p) for p in problems]


def columns(given: list[Json], path: str) -> Errors:
    errors: Errors = []
    for i, column in enumerate(given):
        at, type_, format_ = f"{path}[{i}]", column.get("type") or "", column.get("format") or ""
        if not column.get("name"):
            errors.append(required(f"{at}.name"))
        if not type_:
            errors.append(required(f"{at}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
        elif type_ not in _COLUMN_TYPES:
            errors.append(invalid_value(f"{at}.type", type_, f"must be one of {','.join(_COLUMN_TYPES)}"))
        if format_ and format_ not in _COLUMN_FORMATS:
            errors.append(invalid_value(f"{at}.format", format_, f"must be one of {','.join(_COLUMN_FORMATS)}"))
        if not column.get("jsonPath"):
            errors.append(required(f"{at}.JSONPath"))
    return errors


def _simple_path(text: str, path: str, under: tuple[str, ...], told: str) -> Errors:
    if not text.startswith("."):
        return [invalid_value(path, text, "must be a simple json path starting with .")]
    return [] if text.startswith(under) else [invalid_value(path, text, f"should be a json path under {told}")]


def subresources(given: Json, path: str) -> Errors:
    scale = given.get("scale")
    if scale is None:
        return []
    errors: Errors = []
    for field, under in (("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")):
        at = f"{path}.scale.{field}"
        text = scale.get(field) or ""
        errors += _simple_path(text, at, (under + ".",), under) if text else [required(at)]
    selector = scale.get("labelSelectorPath")
    if selector:
        told = "either .spec or .status"
        errors += _simple_path(selector, f"{path}.scale.labelSelectorPath", (".spec.", ".status."), told)
    return errors


def selectable(given: list[Json], schema: Any, path: str) -> Errors:
    errors: Errors = []
    if given and not isinstance(schema, dict):
        return [invalid_value(path, "", "may only be set when openAPIV3Schema is not included")]
    if len(given) > SELECTABLE_FIELDS:
        errors.append(too_many(path, len(given), SELECTABLE_FIELDS))
    seen: set[str] = set()
    for i, entry in enumerate(given):
        at, text = f"{path}[{i}]", entry.get("jsonPath") or ""
        if not text:
            errors.append(required(f"{at}.jsonPath"))
            continue
        found, problem = _at(schema, text)
        if problem:
            errors.append(invalid_value(f"{at}.jsonPath", text, f"is an invalid path: {problem}"))
            continue
        if text.startswith(".metadata"):
            errors.append(invalid_value(at, text, "must not point to fields in metadata"))
        if found.get("type") not in ("string", "boolean", "integer"):
            told = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are "
                "allowed."
            )
            errors.append(invalid_value(at, text, told))
        if text in seen:
            errors.append(duplicate(at, text))
        seen.add(text)
    return errors


def _at(schema: Json, text: str) -> tuple[Json, str]:
    """The schema at a path of fields, or why there is none."""
    pieces = _FIELD_PATH.findall(text)
    if "".join(pieces) != text:
        return {}, "expected [ or . but got: " + text[len("".join(pieces)) :][:1]
    node: Any = schema
    for piece in pieces:
        name = piece[1:] if piece[0] == "." else piece[2:-2]
        if name == "metadata" and node is schema:
            return {"type": "string"}, ""
        child = (node.get("properties") or {}).get(name)
        if child is None and isinstance(node.get("additionalProperties"), dict):
            child = node["additionalProperties"]
        if not isinstance(child, dict):
            return {}, "does not refer to a valid field"
        node = child
    return node, ""
