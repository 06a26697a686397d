"""Schemas of custom resources: the structural schema of a definition as the same Schema type, and pruning by it.

Pruning drops what the schema does not name, keeps nulls and empty values, and checks no types: values are validated later,
against the published schema. Numbers become what Go's JSON writes: whole ones without a fraction.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from portside.api.schema_strict import go_word
from portside.api.schema_tree import META, Schema, definition
from portside.api.status import bad_request

Json = dict[str, Any]
INT64 = 2**63 - 1
_FORMS = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}
_HEAD: Json = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}


def schema_from_crd(published: Json, *, status_apart: bool = False) -> Schema:
    """The Schema of a custom resource from its openAPIV3Schema. apiVersion, kind and metadata are always part of it;
    ``status_apart`` says that status is written through its own subresource."""
    made = _node({**published, "type": "object", "properties": {**(published.get("properties") or {}), **_HEAD}})
    made.form = "crd"
    made.preserve_unknown = bool(published.get("x-kubernetes-preserve-unknown-fields"))
    made.status_apart = status_apart
    made._fields = {**made.fields, "metadata": definition(META + "ObjectMeta")}
    return made


def _node(published: Json) -> Schema:
    kind = published.get("type") or ""
    spec: Json = {
        "lt": published.get("x-kubernetes-list-type", ""),
        "lk": published.get("x-kubernetes-list-map-keys") or (),
        "mt": published.get("x-kubernetes-map-type", ""),
        "f": published.get("format", ""),
    }
    properties = published.get("properties") or {}
    additional = published.get("additionalProperties")
    preserve = bool(published.get("x-kubernetes-preserve-unknown-fields"))
    embedded = bool(published.get("x-kubernetes-embedded-resource"))
    if published.get("x-kubernetes-int-or-string"):
        form = "intstr"
    elif kind == "object":
        form = "map" if isinstance(additional, dict) else "struct" if properties or embedded or not preserve else "any"
        if additional is True:
            form = "any"
    else:
        form = "array" if kind == "array" else _FORMS.get(kind, "any")
    made = Schema("", spec, form)
    made.preserve_unknown = preserve
    made.required = tuple(published.get("required") or ())
    made._fields = {name: _node(child) for name, child in properties.items()} if form == "struct" else {}
    if embedded and form == "struct":
        made._fields |= {name: _node(child) for name, child in _HEAD.items() if name not in made._fields}
        made._fields["metadata"] = definition(META + "ObjectMeta")
    if form == "map" and isinstance(additional, dict):
        made._values = _node(additional)
    if form == "array" and isinstance(published.get("items"), dict):
        made._items = _node(published["items"])
        named = published["items"].get("properties") or {}
        made.key_defaults = {
            k: named[k]["default"] for k in made.list_keys if (named.get(k) or {}).get("default") is not None
        }
    return made


def prune(schema: Schema, obj: Json) -> list[str]:
    """Drops in place what the schema does not name. Returns ``unknown field "spec.x"`` for each: those of the object's
    own metadata, then all others by path, then those of embedded metadata by path."""
    pruned: list[str] = []
    embedded: list[str] = []
    own: list[str] = []
    if obj.get("metadata") is not None and not isinstance(obj["metadata"], dict):
        raise bad_request(f"json: cannot unmarshal {go_word(obj['metadata'])} into Go value of type v1.ObjectMeta")
    if isinstance(obj.get("metadata"), dict):
        own = [f"metadata.{_path(text)}" for text in schema.fields["metadata"].decode(obj["metadata"])]
    _prune(schema, obj, "", pruned, embedded)
    return [f'unknown field "{path}"' for path in (*own, *sorted(pruned), *sorted(embedded))]


def prune_value(published: Json, value: Any, *, root: bool) -> Any:
    """``value`` without what a schema does not name; ``root``: it is a whole resource."""
    return _prune(schema_from_crd(published) if root else _node(published), value, "", [], [])


def _prune(schema: Schema | None, value: Any, path: str, found: list[str], embedded: list[str]) -> Any:
    """``schema`` None: everything below is kept."""
    if isinstance(value, float):
        return whole(value)
    if value.__class__ is int and not -INT64 - 1 <= value <= INT64:
        return whole(float(value))
    if isinstance(value, list):
        item = schema.items if schema is not None and schema.form == "array" else None
        for index, entry in enumerate(value):
            value[index] = _prune(item, entry, f"{path}[{index}]", found, embedded)
    elif isinstance(value, dict):
        _prune_map(schema, value, path, found, embedded)
    return value


def _prune_map(schema: Schema | None, value: Json, path: str, found: list[str], embedded: list[str]) -> None:
    form = schema.form if schema is not None else "any"
    for key in list(value):
        here = f"{path}.{key}" if path else key
        if schema is None or form == "any":
            value[key] = _prune(None, value[key], here, found, embedded)
        elif form == "map":
            value[key] = _prune(schema.values, value[key], here, found, embedded)
        elif form in ("struct", "crd") and key in schema.fields:
            child = schema.fields[key]
            if child.name == META + "ObjectMeta":
                if path and isinstance(value[key], dict):
                    embedded += [f"{here}.{_path(text)}" for text in child.decode(value[key])]
            else:
                value[key] = _prune(child, value[key], here, found, embedded)
        elif schema.preserve_unknown:
            value[key] = _prune(None, value[key], here, found, embedded)
        else:
            found.append(here)
            del value[key]


def _path(text: str) -> str:
    return text[len('unknown field "') : -1]


def whole(number: float) -> int | float:
    """The number Go's JSON would write and read again: whole ones without a fraction, -0.0 as 0; the largest stay as
    they are, which is the same number in other digits."""
    if not number.is_integer() or not -INT64 - 1 <= number < 2**64:
        return number
    return int(Decimal(repr(number)))
