"""Fields of typed values: what a value holds, and what changed between two. Compiled once per schema.

The rules are those of upstream's structured merge: structs and maps are walked unless atomic, lists are atomic unless their
schema names keys or calls them a set.
"""

from __future__ import annotations

import json
from typing import Any

from portside.api.managed_sets import LEAF, Fields, join
from portside.api.schema_tree import Schema

Json = dict[str, Any]
KEY_DEFAULTS: dict[str, Any] = {"protocol": "TCP"}
"""Defaults of list keys in the published schemas (ports of containers and services)."""
NAMELESS = "io.k8s.api.core.v1.LocalObjectReference"
"""A reference whose absent name is published as empty, and so is a key like any other."""
ABSENT: Any = object()
_WRITE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Shape:
    """How a type is owned. ``kind``: leaf, struct, map, keyed, set, or free (untyped: whatever the value is)."""

    __slots__ = ("defaults", "fields", "items", "keys", "kind", "schema", "values")

    def __init__(self, schema: Schema | None) -> None:
        self.schema = schema
        self.kind, self.keys = _kind(schema)
        own = schema.key_defaults if schema is not None else None
        self.defaults = KEY_DEFAULTS if own is None else own
        self.fields: dict[str, tuple[str, Shape]] = {}
        self.items: Shape | None = None
        self.values: Shape | None = None

    def field(self, name: str) -> tuple[str, Shape] | None:
        """The path element and Shape of a field; None when there is none."""
        known = self.fields.get(name)
        if known is None and self.schema is not None:
            child = self.schema.child(name)
            if child is None:
                return ("f:" + name, FREE) if self.schema.preserve_unknown else None
            known = self.fields[name] = ("f:" + name, shape(child))
        return known

    def item(self) -> Shape:
        if self.items is None:
            child = self.schema.items if self.schema is not None else None
            self.items = shape(child) if child is not None else FREE
        return self.items

    def value(self) -> Shape:
        if self.values is None:
            child = self.schema.values if self.schema is not None else None
            self.values = shape(child) if child is not None else FREE
        return self.values


def _kind(schema: Schema | None) -> tuple[str, tuple[str, ...]]:
    if schema is None:
        return "free", ()
    form = schema.form
    if form == "any":
        return ("leaf" if schema.map_type == "atomic" or schema.name.endswith(".JSON") else "free"), ()
    if form in ("struct", "map", "crd"):
        if schema.map_type == "atomic":
            return "leaf", ()
        return ("struct" if schema.fields or form == "struct" else "map"), ()
    if form != "array":
        return "leaf", ()
    if schema.list_type == "map":
        return "keyed", schema.list_keys
    if schema.list_type == "set":
        return "set", ()
    if not schema.list_type and schema.patch_strategy == "merge":
        return ("keyed", (schema.merge_key,)) if schema.merge_key else ("set", ())
    return "leaf", ()


FREE = Shape(None)


def shape(schema: Schema) -> Shape:
    """The Shape of a schema, made once."""
    found: Shape | None = schema.ownership
    if found is None:
        found = schema.ownership = Shape(schema)
    return found


def element(at: Shape, item: Any) -> str:
    """The path element of a list's item."""
    if at.kind == "set":
        return "v:" + _WRITE(item)
    keys = at.keys
    if not isinstance(item, dict):
        return "k:{}"
    if len(keys) == 1:
        value = item.get(keys[0], ABSENT)
        if value.__class__ is str and '"' not in value and "\\" not in value and value.isprintable():
            return f'k:{{"{keys[0]}":"{value}"}}'
    named: Json = {}
    for key in sorted(keys):
        if key in item:
            named[key] = item[key]
        elif key in at.defaults:
            named[key] = at.defaults[key]
        elif (own := at.item().schema) is not None and own.name == NAMELESS:
            named[key] = ""
    return "k:" + _WRITE(named)


def _free(value: Any) -> str:
    return "map" if isinstance(value, dict) else "leaf"


def _child(at: Shape, kind: str, key: str) -> tuple[str, Shape]:
    if kind == "struct":
        return at.field(key) or ("f:" + key, FREE)
    return "f:" + key, at.value()


def added(at: Shape, value: Any) -> Fields:
    """The node of a value where nothing was: every path down to the leaves is a member."""
    kind = at.kind
    if kind == "free":
        kind = _free(value)
    if kind == "leaf" or not value:
        return LEAF
    out: Fields = {".": LEAF}
    if value.__class__ is dict:
        if kind == "struct":
            fields = at.fields
            for key, entry in value.items():
                name, child = fields.get(key) or _child(at, kind, key)
                out[name] = LEAF if child.kind == "leaf" else added(child, entry)
        else:
            child = at.value()
            if child.kind == "leaf":
                for key in value:
                    out["f:" + key] = LEAF
            else:
                for key, entry in value.items():
                    out["f:" + key] = added(child, entry)
        return out
    if value.__class__ is list:
        child = at.item()
        for entry in value:
            name = element(at, entry)
            # Of what stands there twice nobody can tell whose parts are whose.
            out[name] = LEAF if name in out else added(child, entry)
        return out
    return LEAF


def held(at: Shape, value: Any) -> Fields | None:
    """The node of an applied value: leaves, empty maps and items of lists and maps are members. None: nothing."""
    kind = at.kind
    if kind == "free":
        kind = _free(value)
    if kind == "leaf" or value is None:
        return LEAF
    out: Fields = {}
    if isinstance(value, dict):
        if not value:
            return LEAF
        for key, entry in value.items():
            name, child = _child(at, kind, key)
            node = held(child, entry)
            if kind == "map":
                node = LEAF if node is None else join(node, LEAF)
            if node is not None:
                out[name] = node
    elif isinstance(value, list):
        child = at.item()
        for entry in value:
            name = element(at, entry)
            node = held(child, entry)
            node = LEAF if node is None else join(node, LEAF)
            out[name] = join(out[name], node) if name in out else node
    else:
        return LEAF
    return out or None


class Change:
    """What differs between two values, as three sets."""

    __slots__ = ("added", "modified", "removed")

    def __init__(self) -> None:
        self.added: Fields = {}
        self.modified: Fields = {}
        self.removed: Fields = {}


def compare(at: Shape, before: Json, after: Json, skip: frozenset[str] = frozenset()) -> Change:
    """What changed from ``before`` to ``after`` (two structs); fields named in ``skip`` are left out at the top."""
    out = Change()
    for key in before.keys() | after.keys():
        old, new = before.get(key, ABSENT), after.get(key, ABSENT)
        if old is not new and key not in skip:
            _pair(*_child(at, "struct", key), old, new, out)
    return out


def _pair(name: str, at: Shape, old: Any, new: Any, out: Change) -> None:
    if old is ABSENT:
        out.added[name] = added(at, new)
    elif new is ABSENT:
        out.removed[name] = added(at, old)
    elif old is not new and (old.__class__ is not new.__class__ or old != new):
        _differs(name, at, old, new, out)


def _differs(name: str, at: Shape, old: Any, new: Any, out: Change) -> None:
    kind = at.kind
    if kind == "free":
        kind = "map" if isinstance(old, dict) and isinstance(new, dict) else "leaf"
    if kind == "leaf" or (not old and not new) or not _walkable(kind, old, new):
        out.modified[name] = LEAF
        return
    inner = Change()
    if kind in ("struct", "map"):
        before, after = old or {}, new or {}
        for key in {**before, **after}:
            _pair(*_child(at, kind, key), before.get(key, ABSENT), after.get(key, ABSENT), inner)
    else:
        _items(at, old or [], new or [], inner)
    if inner.added:
        out.added[name] = inner.added
    if inner.modified:
        out.modified[name] = inner.modified
    if inner.removed:
        out.removed[name] = inner.removed


def _walkable(kind: str, old: Any, new: Any) -> bool:
    wanted = dict if kind in ("struct", "map") else list
    return (old is None or isinstance(old, wanted)) and (new is None or isinstance(new, wanted))


def _grouped(at: Shape, items: list[Any]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for item in items:
        out.setdefault(element(at, item), []).append(item)
    return out


def _items(at: Shape, old: list[Any], new: list[Any], out: Change) -> None:
    before, after = _grouped(at, old), _grouped(at, new)
    child = at.item()
    for name in {**before, **after}:
        was, now = before.get(name, []), after.get(name, [])
        if len(was) > 1 or len(now) > 1:
            if was != now:
                into = out.modified if was and now else out.added if now else out.removed
                into[name] = LEAF
            continue
        _pair(name, child, was[0] if was else ABSENT, now[0] if now else ABSENT, out)
