"""Whether a schema is structural: every field has one type, given outside of allOf, anyOf, oneOf and not, which may only
narrow values down. Errors come sorted by their text, as upstream sorts them."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value, required
from portside.api.goregexp import RegexpError, go_regexp

Json = dict[str, Any]
Errors = list[FieldError]
_UNTYPED = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}
_META = "must not specify anything other than name and generateName, but metadata is implicitly specified"
# What a schema within a junctor may not say, and how its absence is called.
_NARROWING = (
    ("type", "empty"),
    ("additionalProperties", "undefined"),
    ("default", "undefined"),
    ("title", "empty"),
    ("description", "empty"),
    ("nullable", "false"),
    ("x-kubernetes-preserve-unknown-fields", "false"),
    ("x-kubernetes-embedded-resource", "false"),
    ("x-kubernetes-int-or-string", "false"),
    ("x-kubernetes-list-map-keys", "empty"),
    ("x-kubernetes-list-type", "undefined"),
    ("x-kubernetes-map-type", "undefined"),
    ("x-kubernetes-validations", "empty"),
)


def validate_structure(schema: Json, path: str) -> Errors:
    """All that keeps a schema from being structural."""
    errors = _invariants(schema, path, "root") + _complete(schema, schema, path, path)
    return sorted(errors, key=str)


def _invariants(schema: Any, path: str, level: str) -> Errors:
    if not isinstance(schema, dict):
        return []
    errors = _invariants(schema.get("items"), f"{path}.items", "item")
    for name, child in (schema.get("properties") or {}).items():
        errors += _invariants(child, f"{path}.properties[{name}]", "field")
    more = schema.get("additionalProperties")
    if more is not None:
        if level == "root":
            errors.append(forbidden_field(f"{path}.additionalProperties", "must not be used at the root"))
        errors += _invariants(more, f"{path}.additionalProperties", "field")
    errors += _int_or_string(schema, path)
    errors += _values(schema, path, _any_pattern(schema), _all_pattern(schema))
    return errors + _shape(schema, path, level) + _head(schema, path, level)


def _int_or_string(schema: Json, path: str) -> Errors:
    if not schema.get("x-kubernetes-int-or-string"):
        return []
    text = "must be false if x-kubernetes-int-or-string is true"
    fields = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource")
    return [invalid_value(f"{path}.{f}", True, text) for f in fields if schema.get(f)]


def _shape(schema: Json, path: str, level: str) -> Errors:
    """Type, items, properties."""
    errors: Errors = []
    type_, keeps = schema.get("type") or "", schema.get("x-kubernetes-preserve-unknown-fields")
    embedded = schema.get("x-kubernetes-embedded-resource")
    if level == "root" and type_ and type_ != "object":
        errors.append(invalid_value(f"{path}.type", type_, "must be object at the root"))
    if embedded and type_ != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        errors.append(invalid_value(f"{path}.type", type_, text) if type_ else required(f"{path}.type", text))
    elif not type_ and (level == "root" or not (schema.get("x-kubernetes-int-or-string") or keeps)):
        errors.append(required(f"{path}.type", _UNTYPED[level]))
    if embedded and not keeps and not schema.get("properties"):
        text = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        errors.append(required(f"{path}.properties", text))
    if type_ == "array" and schema.get("items") is None:
        errors.append(required(f"{path}.items", "must be specified"))
    return errors


def _head(schema: Json, path: str, level: str) -> Errors:
    """apiVersion, kind and metadata of resources are what they are everywhere."""
    if level != "root" and not schema.get("x-kubernetes-embedded-resource"):
        return []
    errors: Errors = []
    properties = schema.get("properties") or {}
    for name, wanted in (("metadata", "object"), ("apiVersion", "string"), ("kind", "string")):
        if name in properties and (properties[name].get("type") or "") != wanted:
            said = properties[name].get("type") or ""
            errors.append(invalid_value(f"{path}.properties[{name}].type", said, f"must be {wanted}"))
    meta = properties.get("metadata")
    if meta is not None and level == "root":
        said = {k for k, v in meta.items() if v not in (None, "", [], {}, False)}
        named = set(meta.get("properties") or ()) - {"name", "generateName"}
        if said - {"type", "description", "default", "properties"} or named:
            errors.append(forbidden_field(f"{path}.properties[metadata]", _META))
    return errors


def _types_of(schemas: Any) -> list[Json]:
    return [s for s in schemas or () if isinstance(s, dict)]


def _int_then_string(schemas: list[Json]) -> bool:
    return len(schemas) == 2 and schemas[0] == {"type": "integer"} and schemas[1] == {"type": "string"}


def _any_pattern(schema: Json) -> bool:
    """anyOf integer and string beside the extension says the same twice, which is allowed."""
    return bool(schema.get("x-kubernetes-int-or-string")) and _int_then_string(_types_of(schema.get("anyOf")))


def _all_pattern(schema: Json) -> bool:
    every = _types_of(schema.get("allOf"))
    if not schema.get("x-kubernetes-int-or-string") or not every:
        return False
    return _int_then_string(_types_of(every[0].get("anyOf")))


def _values(schema: Json, path: str, skip_any: bool = False, skip_first: bool = False) -> Errors:
    """Junctors and the pattern."""
    errors: Errors = []
    if not skip_any:
        for at, child in enumerate(_types_of(schema.get("anyOf"))):
            errors += _narrowing(child, f"{path}.anyOf[{at}]")
    for at, child in enumerate(_types_of(schema.get("allOf"))):
        errors += _narrowing(child, f"{path}.allOf[{at}]", skip_any=skip_first and at == 0)
    for at, child in enumerate(_types_of(schema.get("oneOf"))):
        errors += _narrowing(child, f"{path}.oneOf[{at}]")
    if isinstance(schema.get("not"), dict):
        errors += _narrowing(schema["not"], f"{path}.not")
    pattern = schema.get("pattern")
    if pattern:
        try:
            go_regexp(pattern)
        except RegexpError as error:
            text = f"must be a valid regular expression, but isn't: {error}"
            errors.append(invalid_value(f"{path}.pattern", pattern, text))
    return errors


def _narrowing(schema: Json, path: str, *, skip_any: bool = False) -> Errors:
    """A schema within a junctor: limits only."""
    errors = _values(schema, path, skip_any)
    if isinstance(schema.get("items"), dict):
        errors += _narrowing(schema["items"], f"{path}.items")
    for name, child in (schema.get("properties") or {}).items():
        errors += _narrowing(child, f"{path}.properties[{name}]")
    for field, absent in _NARROWING:
        value = schema.get(field)
        if value is not None and (absent == "undefined" or value):
            errors.append(forbidden_field(f"{path}.{field}", f"must be {absent} to be structural"))
    if "metadata" in (schema.get("properties") or {}):
        text = "must not be specified in a nested context"
        errors.append(forbidden_field(f"{path}.properties[metadata]", text))
    return errors


def _complete(narrow: Json, schema: Any, path: str, at: str) -> Errors:
    """Whatever a junctor of the root names has a place outside of it."""
    errors: Errors = []
    nested = [(narrow["not"], f"{at}.not")] if isinstance(narrow.get("not"), dict) else []
    for field in ("allOf", "anyOf", "oneOf"):
        nested += [(child, f"{at}.{field}[{i}]") for i, child in enumerate(_types_of(narrow.get(field)))]
    for child, place in nested:
        errors += _has_place(child, schema, path, place)
    return errors


def _has_place(narrow: Json, schema: Any, path: str, at: str) -> Errors:
    if not isinstance(schema, dict):
        return [required(path, f"because it is defined in {at}")]
    errors = _complete(narrow, schema, path, at)
    if isinstance(narrow.get("items"), dict):
        errors += _has_place(narrow["items"], schema.get("items"), f"{path}.items", f"{at}.items")
    for name, child in (narrow.get("properties") or {}).items():
        known = (schema.get("properties") or {}).get(name)
        errors += _has_place(child, known, f"{path}.properties[{name}]", f"{at}.properties[{name}]")
    return errors
