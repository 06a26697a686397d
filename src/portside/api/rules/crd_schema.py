"""Whether a CustomResourceDefinition's schema is structural: every field has one type, values are described inside it."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required

Json = dict[str, Any]
Errors = list[FieldError]
TYPES = ("array", "boolean", "integer", "number", "object", "string")
_JUNCTORS = ("allOf", "anyOf", "oneOf")
_FORBIDDEN = {
    "definitions": "definitions is not supported",
    "dependencies": "dependencies is not supported",
    "id": "id is not supported",
    "patternProperties": "patternProperties is not supported",
    "additionalItems": "additionalItems is not supported",
    "$ref": "$ref is not supported",
}
_QUADRATIC = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
_META_TEXT = "must not specify anything other than name and generateName, but metadata is implicitly specified"
_MAP_KEY = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"


def validate_schema(schema: Json, path: str) -> Errors:
    """All problems of a version's openAPIV3Schema."""
    type_ = schema.get("type")
    errors = _node(schema, path)
    if not type_:
        errors.append(required(f"{path}.type", "must not be empty at the root"))
    elif type_ != "object":
        errors.append(invalid_value(f"{path}.type", type_, "must be object at the root"))
    return errors + _meta(schema, path) + _types(schema, path, root=True)


def _children(schema: Json, path: str) -> list[tuple[Json, str, str]]:
    found: list[tuple[Json, str, str]] = []
    for name, child in sorted((schema.get("properties") or {}).items()):
        if isinstance(child, dict):
            found.append((child, f"{path}.properties[{name}]", name))
    items, more = schema.get("items"), schema.get("additionalProperties")
    if isinstance(items, dict):
        found.append((items, f"{path}.items", ""))
    if isinstance(more, dict):
        found.append((more, f"{path}.additionalProperties", ""))
    return found


def _node(schema: Json, path: str) -> Errors:
    errors: Errors = []
    if schema.get("uniqueItems"):
        errors.append(forbidden_field(f"{path}.uniqueItems", _QUADRATIC))
    errors += [forbidden_field(f"{path}.{f}", text) for f, text in _FORBIDDEN.items() if schema.get(f)]
    if schema.get("properties") and schema.get("additionalProperties") is not None:
        more = schema["additionalProperties"]
        if isinstance(more, dict) or more:
            text = "additionalProperties and properties are mutual exclusive"
            errors.append(forbidden_field(f"{path}.additionalProperties", text))
    if isinstance(schema.get("items"), list):
        errors.append(forbidden_field(f"{path}.items", "items must be a schema object and not an array"))
    errors += _extensions(schema, path)
    type_ = schema.get("type")
    if type_ and type_ not in TYPES:
        errors.append(not_supported(f"{path}.type", type_, TYPES))
    if type_ == "array" and not schema.get("items") and path.count("Of[") == 0:
        errors.append(required(f"{path}.items", "must be specified"))
    for child, at, _ in _children(schema, path):
        errors += _node(child, at)
    return errors


def _extensions(schema: Json, path: str) -> Errors:
    kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    errors: Errors = []
    if kind is not None and kind not in ("atomic", "map", "set"):
        errors.append(not_supported(f"{path}.x-kubernetes-list-type", kind, ("atomic", "map", "set")))
    if kind == "map" and not keys:
        text = "must not be empty if x-kubernetes-list-type is map"
        errors.append(required(f"{path}.x-kubernetes-list-map-keys", text))
    items = schema.get("items") if isinstance(schema.get("items"), dict) else {}
    if kind == "map" and isinstance(items, dict):
        for key in keys:
            child = (items.get("properties") or {}).get(key)
            if child is not None and "default" not in child and key not in (items.get("required") or ()):
                errors.append(required(f"{path}.items.properties[{key}].default", _MAP_KEY))
    kind = schema.get("x-kubernetes-map-type")
    if kind is not None and kind not in ("atomic", "granular"):
        errors.append(not_supported(f"{path}.x-kubernetes-map-type", kind, ("atomic", "granular")))
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        text = "must be true or undefined"
        errors.append(invalid_value(f"{path}.x-kubernetes-preserve-unknown-fields", False, text))
    return errors


def _meta(schema: Json, path: str) -> Errors:
    meta = (schema.get("properties") or {}).get("metadata")
    if not isinstance(meta, dict):
        return []
    own = {k for k, v in meta.items() if v not in (None, "", [], {})} - {"type", "description", "properties"}
    named = set(meta.get("properties") or ()) - {"name", "generateName"}
    return [forbidden_field(f"{path}.properties[metadata]", _META_TEXT)] if own or named else []


def _types(schema: Json, path: str, *, root: bool) -> Errors:
    errors: Errors = []
    free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not root and not schema.get("type") and not free:
        what = "specified array items" if path.endswith(".items") else "specified object fields"
        errors.append(required(f"{path}.type", f"must not be empty for {what}"))
    if schema.get("x-kubernetes-int-or-string") and schema.get("type"):
        text = "must be empty if x-kubernetes-int-or-string is true"
        errors.append(forbidden_field(f"{path}.type", text))
    for child, at, name in _children(schema, path):
        if not (root and name in ("apiVersion", "kind", "metadata")):
            errors += _types(child, at, root=False)
    return errors
