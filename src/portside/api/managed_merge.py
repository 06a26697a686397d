"""Server-side apply on values: check an applied object against its schema, merge it, take fields out again."""

from __future__ import annotations

import json
from typing import Any

from portside.api.managed_sets import Fields, is_member, shown_element
from portside.api.managed_tree import Shape, element
from portside.api.patch_strategic import go_map
from portside.api.schema_tree import Schema

Json = dict[str, Any]
_SCALARS = {"string": "string", "time": "string", "microtime": "string", "byte": "string"}
ABSENT: Any = object()


def _verbose(value: Any) -> str:
    """A value as Go's ``%#v`` prints the wrapper around it."""
    return f"&value.valueUnstructured{{Value:{_literal(value)}}}"


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(k)}:{_literal(v)}" for k, v in sorted(value.items()))
        return "map[string]interface {}{" + inner + "}"
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(map(_literal, value)) + "}"
    return json.dumps(value, ensure_ascii=False)


def problems(at: Shape, value: Any, path: str = "") -> list[str]:
    """What of an applied value the schema does not allow, in upstream's words."""
    schema = at.schema
    if schema is None or value is None or schema.form in ("any", "intstr", "quantity"):
        return []
    if schema.form in ("struct", "map", "crd"):
        return _map_problems(at, schema, value, path)
    if schema.form == "array":
        return _list_problems(at, value, path)
    wanted = _SCALARS.get(schema.form)
    if wanted and not isinstance(value, str):
        return [f"{path}: expected string, got {_verbose(value)}"]
    if schema.form == "boolean" and not isinstance(value, bool):
        return [f"{path}: expected boolean, got {_verbose(value)}"]
    if schema.form in ("integer", "number") and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return [f"{path}: expected numeric (int or float), got {_verbose(value)}"]
    return []


def _map_problems(at: Shape, schema: Schema, value: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: expected map, got &{{{go_map(value)}}}"]
    out: list[str] = []
    for key in sorted(value):
        if schema.form == "map" or (schema.form == "crd" and not schema.fields):
            out += problems(at.value(), value[key], f"{path}.{key}")
            continue
        known = at.field(key)
        if known is None:
            out.append(f"{path}.{key}: field not declared in schema")
        else:
            out += problems(known[1], value[key], f"{path}.{key}")
    return out


def _list_problems(at: Shape, value: Any, path: str) -> list[str]:
    if not isinstance(value, list):
        return [f"{path}: expected list, got &{{{go_map(value)}}}"]
    out: list[str] = []
    seen: set[str] = set()
    for index, entry in enumerate(value):
        where = f"{path}[{index}]"
        if at.kind in ("keyed", "set"):
            name = element(at, entry)
            where = path + shown_element(name)
            if name in seen:
                out.append(f"{path}: duplicate entries for key {shown_element(name)}")
            seen.add(name)
        out += problems(at.item(), entry, where)
    return out


def merge(at: Shape, live: Any, applied: Any) -> Any:
    """``applied`` on top of ``live``: leaves and atomic values are taken whole, the rest is merged."""
    if applied is ABSENT:
        return live
    if live is ABSENT:
        live = None
    kind = at.kind
    if kind == "free":
        kind = "map" if isinstance(applied, dict) and isinstance(live, (dict, type(None))) else "leaf"
    if kind == "leaf" or (not live and not applied):
        return applied
    if kind in ("struct", "map"):
        if applied is None:
            return live
        out = dict(live or {})
        for key, value in applied.items():
            child = (at.field(key) or ("", FREE_SHAPE))[1] if kind == "struct" else at.value()
            out[key] = merge(child, out.get(key, ABSENT), value)
        return out
    return _merge_list(at, live or [], applied or [])


FREE_SHAPE = Shape(None)


def _merge_list(at: Shape, live: list[Any], applied: list[Any]) -> list[Any]:
    """Upstream's order: the applied items in their order, the others where they stood relative to shared ones."""
    left, right = [element(at, e) for e in live], [element(at, e) for e in applied]
    by_left = {name: entry for name, entry in reversed(list(zip(left, live, strict=True)))}
    by_right = dict(zip(right, applied, strict=True))
    shared = [name for name in right if name in by_left]
    child, out, done = at.item(), [], set()
    li = ri = 0
    while li < len(left) or ri < len(right):
        if li < len(left) and ri < len(right):
            name = left[li]
            if name == right[ri]:
                done.add(name)
                out.append(merge(child, by_left[name], by_right[name]))
                li, ri, shared = li + 1, ri + 1, shared[1:]
                continue
            if name in by_right and shared and shared[0] != name:
                li += 1
                continue
        if li < len(left):
            name = left[li]
            if name not in by_right:
                out.append(live[li])
                li += 1
                continue
            if name in done:
                li += 1
        if ri < len(right):
            name = right[ri]
            done.add(name)
            out.append(merge(child, by_left.get(name, ABSENT), by_right[name]))
            ri += 1
            if shared and shared[0] == name:
                shared = shared[1:]
    return out


def remove(at: Shape, value: Any, gone: Fields) -> Any:
    """``value`` without the members of ``gone``; what becomes empty becomes None."""
    kind = at.kind
    if kind == "free":
        kind = "map" if isinstance(value, dict) else "leaf"
    if kind in ("struct", "map") and isinstance(value, dict) and value:
        kept: Json = {}
        for key, entry in value.items():
            node = gone.get("f:" + key)
            if node is not None:
                if is_member(node):
                    continue
                child = (at.field(key) or ("", FREE_SHAPE))[1] if kind == "struct" else at.value()
                entry = remove(child, entry, node)
            kept[key] = entry
        return kept or None
    if kind in ("keyed", "set") and isinstance(value, list) and value:
        items: list[Any] = []
        for entry in value:
            node = gone.get(element(at, entry))
            if node is not None:
                if is_member(node):
                    continue
                entry = remove(at.item(), entry, node)
            items.append(entry)
        return items or None
    return value


def with_named(at: Shape, fields: Fields) -> Fields:
    """The set with every struct field on the way to a member made a member too."""
    out: Fields = {}
    for key, node in fields.items():
        if key == ".":
            out[key] = node
            continue
        child, named = FREE_SHAPE, False
        if key[0] == "f":
            if at.kind == "struct":
                known = at.field(key[2:])
                child, named = (known[1], True) if known else (FREE_SHAPE, False)
            elif at.kind == "map":
                child = at.value()
        elif at.kind in ("keyed", "set"):
            child = at.item()
        inner = with_named(child, node)
        if named and inner and "." not in inner:
            inner = {".": {}, **inner}
        out[key] = inner
    return out
