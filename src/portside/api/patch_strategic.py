"""Strategic merge patch: lists merge by the key their schema names, directives steer it, texts are upstream's.

Directives: ``$patch`` (replace, delete, merge) in maps and lists, ``$retainKeys``, ``$deleteFromPrimitiveList/<field>``,
``$setElementOrder/<field>``.
"""

from __future__ import annotations

from typing import Any

import orjson

from portside.api.schema_tree import Schema
from portside.api.status import ApiError, bad_request

Json = dict[str, Any]
DIRECTIVE, RETAIN = "$patch", "$retainKeys"
DELETE_FROM, ORDER = "$deleteFromPrimitiveList/", "$setElementOrder/"


def _error(text: str) -> ApiError:
    """A refusal that upstream answers as a plain 500."""
    return ApiError(500, "", text)


def go_map(value: Any) -> str:
    """A value as Go's ``%v`` prints it: ``map[a:1 b:[x y]]``."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{go_map(v)}" for k, v in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(go_map(v) for v in value) + "]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def strategic_merge(obj: Json, patch: Any, schema: Schema) -> Json:
    """``obj`` with ``patch`` merged in, as a new object. Raises ApiError with upstream's texts and codes."""
    if patch is None:
        raise bad_request("Invalid JSON Patch")
    if not isinstance(patch, dict):
        raise bad_request("Invalid JSON Patch")
    merged = _map(_copied(obj), _copied(patch), schema, patch)
    return orjson.loads(orjson.dumps(merged, option=orjson.OPT_SORT_KEYS))  # type: ignore[no-any-return]


def _copied(document: Json) -> Json:
    """A JSON document of its own, eight times as fast as copying node by node."""
    return orjson.loads(orjson.dumps(document))  # type: ignore[no-any-return]


def _retain(original: Json, patch: Json) -> None:
    """Drops from ``original`` what ``$retainKeys`` does not name."""
    keys = patch.pop(RETAIN, None)
    if keys is None:
        return
    if not isinstance(keys, list):
        raise bad_request("invalid patch format of retainKeys")
    named = set(map(str, keys))
    if any(key not in named for key in patch if not key.startswith("$")):
        raise bad_request("invalid patch format of retainKeys")
    for key in [k for k in original if k not in named]:
        del original[key]


def _directive(patch: Json) -> str | None:
    """The map's ``$patch``, taken out; refuses an unknown one."""
    if DIRECTIVE not in patch:
        return None
    value = patch[DIRECTIVE]
    if value not in ("replace", "delete", "merge"):
        raise _error(f"unknown patch type: {go_map(value)} in map: {go_map(patch)}")
    del patch[DIRECTIVE]
    return str(value)


def _map(original: Json, patch: Json, schema: Schema | None, root: Json) -> Json:
    directive = _directive(patch)
    if directive == "replace":
        return patch
    if directive == "delete":
        return {}
    _retain(original, patch)
    orders = {k[len(ORDER) :]: patch.pop(k) for k in list(patch) if k.startswith(ORDER)}
    deletions = {k[len(DELETE_FROM) :]: patch.pop(k) for k in list(patch) if k.startswith(DELETE_FROM)}
    for key, gone in deletions.items():
        if isinstance(original.get(key), list) and isinstance(gone, list):
            original[key] = [entry for entry in original[key] if entry not in gone]
    for key, value in patch.items():
        child = _child(schema, key)
        if value is None:
            original.pop(key, None)
            continue
        have = original.get(key)
        if isinstance(value, dict) and child is not None and child.form == "array":
            raise _refused(root, "cannot restore slice from map")
        if key not in original or have is None or type(have) is not type(value):
            original[key] = _fresh(value, child, root)
        elif isinstance(value, dict):
            replaced = child is not None and child.patch_strategy.partition(",")[0] == "replace"
            original[key] = value if replaced else _map(have, value, child, root)
        elif isinstance(value, list) and child is not None and "merge" in child.patch_strategy.split(","):
            original[key] = _list(have, value, child, orders.get(key), root)
        else:
            original[key] = value
    for key, order in orders.items():
        child = _child(schema, key)
        if key not in patch and isinstance(original.get(key), list) and isinstance(order, list) and child is not None:
            original[key] = _ordered(original[key], [], order, _merge_key(child), child)
    return original


def _child(schema: Schema | None, key: str) -> Schema | None:
    return schema.child(key) if schema is not None else None


def _refused(root: Json, why: str) -> ApiError:
    text = f'Invalid value: "{go_map(root)}": {why}'
    return ApiError(
        422,
        "Invalid",
        f' "" is invalid: patch: {text}',
        details={"causes": [{"reason": "FieldValueInvalid", "message": text, "field": "patch"}]},
    )


def _fresh(value: Any, schema: Schema | None, root: Json) -> Any:
    """A patch value where nothing was: merged into nothing, so that its directives act and go."""
    if isinstance(value, dict):
        had = DIRECTIVE in value
        if had and value[DIRECTIVE] == "replace":
            return {}
        return _map({}, value, schema, root)
    if isinstance(value, list) and schema is not None and "merge" in schema.patch_strategy.split(","):
        return _list([], value, schema, None, root)
    return value


def _merge_key(schema: Schema) -> str:
    """The field that tells elements apart; "" for a list of plain values."""
    return schema.merge_key


def _list(have: list[Any], patch: list[Any], schema: Schema, order: Any, root: Json) -> list[Any]:
    key = _merge_key(schema)
    item = schema.items
    if not key or (item is not None and item.form not in ("struct", "map", "any")):
        added = [entry for entry in patch if entry not in have]
        merged = have + [entry for at, entry in enumerate(added) if entry not in added[:at]]
        return _ordered(merged, patch, order, "", schema) if isinstance(order, list) else merged
    replace = False
    entries: list[Json] = []
    deleted: list[Any] = []
    for entry in patch:
        if not isinstance(entry, dict):
            raise _error(f"expected map, got {go_map(entry)}" if entry is not None else "invalid patch: null in a list")
        directive = entry.get(DIRECTIVE)
        if directive is None or directive == "merge":
            entries.append({k: v for k, v in entry.items() if k != DIRECTIVE})
        elif directive == "delete":
            if key not in entry:
                raise _error(f"map: {go_map(entry)} does not contain declared merge key: {key}")
            deleted.append(entry[key])
        elif directive == "replace":
            replace = True
        else:
            raise _error(f"unknown patch type: {go_map(directive)} in map: {go_map(entry)}")
    if replace:
        return entries
    merged_list = [entry for entry in have if not (isinstance(entry, dict) and entry.get(key) in deleted)]
    known = len(merged_list)
    for entry in entries:
        if key not in entry:
            raise _error(f"map: {go_map(entry)} does not contain declared merge key: {key}")
        at = next((i for i, e in enumerate(merged_list) if isinstance(e, dict) and e.get(key) == entry[key]), -1)
        if at >= 0:
            merged_list[at] = _map(merged_list[at], entry, item, root)
        else:
            merged_list.append(_map({}, entry, item, root))
    if isinstance(order, list):
        return _ordered(merged_list, entries, order, key, schema)
    return _patch_first(merged_list, known, [entry[key] for entry in entries], key)


def _same_key(entry: Any, key: str) -> Any:
    return entry.get(key) if key and isinstance(entry, dict) else entry


def _patch_first(merged: list[Any], known: int, named: list[Any], key: str) -> list[Any]:
    """Without a given order the patch's own elements keep their order, and the others theirs, each as early as it was."""
    patched = [next(e for e in merged if _same_key(e, key) == name) for name in dict.fromkeys(named)]
    others = [e for e in merged if _same_key(e, key) not in named]
    return _weave(patched, others, merged[:known])


def _weave(patched: list[Any], others: list[Any], live: list[Any]) -> list[Any]:
    place = {id(e): at for at, e in enumerate(live)}
    out: list[Any] = []
    left, right = 0, 0
    while left < len(patched) and right < len(others):
        mine = place.get(id(patched[left]))
        if mine is not None and place.get(id(others[right]), len(live)) < mine:
            out.append(others[right])
            right += 1
        else:
            out.append(patched[left])
            left += 1
    return out + patched[left:] + others[right:]


def _ordered(merged: list[Any], entries: list[Any], order: list[Any], key: str, schema: Schema) -> list[Any]:
    names = [_same_key(entry, key) for entry in order]
    given = [_same_key(entry, key) for entry in entries]
    if any(name not in names for name in given) or [n for n in names if n in given] != list(dict.fromkeys(given)):
        raise _error(
            f"The order in patch list:\n{go_map(entries)}\n doesn't match $setElementOrder list:\n{go_map(order)}\n"
        )
    by_name = [(name, e) for name in names for e in merged if _same_key(e, key) == name]
    others = [e for e in merged if _same_key(e, key) not in names]
    return _weave([e for _, e in by_name], others, merged)
