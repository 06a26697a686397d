"""What a schema's extensions demand of values beside its own rules: members of sets and keyed lists come once, and
embedded resources say what they are and have sound metadata."""

from __future__ import annotations

from typing import Any

from portside.api import meta, names
from portside.api.custom_old import same
from portside.api.field import FieldError, duplicate, invalid_value, required

Json = dict[str, Any]
Errors = list[FieldError]


def _marked(schema: Json, *words: str) -> bool:
    """Whether the schema or anything in it has one of the extensions."""
    if any(schema.get(word) for word in words):
        return True
    children = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return any(isinstance(child, dict) and _marked(child, *words) for child in children)


def has_lists(schema: Json) -> bool:
    return _marked(schema, "x-kubernetes-list-type")


def has_embedded(schema: Json) -> bool:
    return _marked(schema, "x-kubernetes-embedded-resource")


def _walk(schema: Json, value: Any, path: str) -> list[tuple[Json, Any, str]]:
    """The values directly below, with their schemas and places; fields in order."""
    found: list[tuple[Json, Any, str]] = []
    if isinstance(value, dict):
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        for key in sorted(value):
            if key in properties:
                found.append((properties[key], value[key], f"{path}.{key}" if path else key))
            elif isinstance(more, dict):
                found.append((more, value[key], f"{path}[{key}]"))
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        found = [(schema["items"], entry, f"{path}[{at}]") for at, entry in enumerate(value)]
    return found


def duplicates(schema: Json, value: Any, path: str = "") -> Errors:
    """Members that come twice in lists of type set or map; each repeated value is told once."""
    errors: Errors = []
    kind = schema.get("x-kubernetes-list-type")
    if isinstance(value, list) and kind in ("set", "map"):
        entries = value if kind == "set" else [_key(schema, entry) for entry in value]
        told: list[Any] = []
        for at, entry in enumerate(entries):
            twice = any(same(entry, earlier) for earlier in entries[:at])
            if twice and not any(same(entry, t) for t in told):
                told.append(entry)
                errors.append(duplicate(f"{path}[{at}]", entry))
    for child, inner, place in _walk(schema, value, path):
        errors += duplicates(child, inner, place)
    return errors


def _key(schema: Json, entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    keys = sorted(schema.get("x-kubernetes-list-map-keys") or ())
    return {k: entry[k] for k in keys if k in entry}


def embedded(schema: Json, value: Any, path: str = "", *, root: bool = True) -> Errors:
    """What is wrong with embedded resources within ``value``; the object at the root is looked at elsewhere."""
    errors: Errors = []
    if not root and schema.get("x-kubernetes-embedded-resource") and isinstance(value, dict):
        errors += head_errors(value, path)
        if isinstance(value.get("metadata"), dict):
            errors += _meta_errors(value, f"{path}.metadata")
    for child, inner, place in _walk(schema, value, path):
        errors += embedded(child, inner, place, root=False)
    return errors


def head_errors(value: Json, path: str) -> Errors:
    """apiVersion and kind of an embedded resource."""
    errors: Errors = []
    version, kind = value.get("apiVersion"), value.get("kind")
    if not version:
        errors.append(required(f"{path}.apiVersion"))
    elif isinstance(version, str) and version.count("/") > 1:
        errors.append(invalid_value(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}"))
    if not kind:
        errors.append(required(f"{path}.kind"))
    elif isinstance(kind, str):
        errors += [invalid_value(f"{path}.kind", kind, p) for p in names.dns_label_1035(kind.lower())]
    return errors


def _meta_errors(value: Json, path: str) -> Errors:
    """Metadata of an embedded resource: any name goes, labels and the like must be sound."""
    return [
        e
        for e in meta.validate(value, bool(value["metadata"].get("namespace")), lambda name, prefix: [], path)
        if e.field != f"{path}.name"
    ]
