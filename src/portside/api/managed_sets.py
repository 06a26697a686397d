"""Sets of fields in the form managedFields stores them (FieldsV1), so that nothing is converted on the hot path.

A node is a dict from path element (``f:name``, ``k:{…}``, ``v:…``) to node. An empty node is a member without children; a
member with children has the key ``.``; a node with children and no ``.`` is not itself a member. The top is no member:
there, an empty dict is the empty set. Nodes are shared freely and never changed after they are made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

Fields = dict[str, Any]
LEAF: Fields = {}
_ORDER = {"f": 0, "k": 1, "v": 2, "i": 3}
_GOOD = re.compile(r"(f:.*|k:\{.*\}|v:.+|i:-?\d+|\.)\Z", re.DOTALL)


def is_member(node: Fields) -> bool:
    return not node or "." in node


def join(a: Fields, b: Fields) -> Fields:
    """Union of two nodes that exist."""
    if not a:
        return b if is_member(b) else {".": LEAF, **b}
    if not b:
        return a if is_member(a) else {".": LEAF, **a}
    return union(a, b)


def union(a: Fields, b: Fields) -> Fields:
    """Union of two tops."""
    out = dict(a)
    for key, node in b.items():
        out[key] = join(out[key], node) if key in out else node
    return out


def _node(member: bool, children: Fields) -> Fields | None:
    if not children:
        return LEAF if member else None
    return {".": LEAF, **children} if member else children


def _minus(a: Fields, b: Fields) -> Fields | None:
    children = difference(a, b)
    return _node(is_member(a) and not is_member(b), children)


def difference(a: Fields, b: Fields) -> Fields:
    """What is in ``a`` and not, as exactly that path, in ``b``."""
    out: Fields = {}
    for key, node in a.items():
        if key == ".":
            continue
        if key not in b:
            out[key] = node
            continue
        left = _minus(node, b[key])
        if left is not None:
            out[key] = left
    return out


def _common(a: Fields, b: Fields) -> Fields | None:
    return _node(is_member(a) and is_member(b), intersection(a, b))


def intersection(a: Fields, b: Fields) -> Fields:
    out: Fields = {}
    for key, node in a.items():
        if key == "." or key not in b:
            continue
        both = _common(node, b[key])
        if both is not None:
            out[key] = both
    return out


def without(a: Fields, roots: Fields) -> Fields:
    """``a`` without the members of ``roots`` and all that is below them."""
    out: Fields = {}
    for key, node in a.items():
        if key not in roots:
            out[key] = node
        elif key != "." and not is_member(roots[key]):
            left = _node(is_member(node), without({k: v for k, v in node.items() if k != "."}, roots[key]))
            if left is not None:
                out[key] = left
    return out


def only(a: Fields, patterns: list[tuple[str, ...]]) -> Fields:
    """The part of ``a`` at or below one of the patterns (``*`` stands for any element)."""
    out: Fields = {}
    for key, node in a.items():
        rest = [p[1:] for p in patterns if p and (p[0] == key or (p[0] == "*" and key != "."))]
        if not rest:
            continue
        if any(not p for p in rest):
            out[key] = node
            continue
        inner = only(node, rest)
        if inner:
            out[key] = inner
    return out


def _sort_key(element: str) -> tuple[int, Any]:
    return (_ORDER.get(element[0], 4), element[2:])


def ordered(node: Fields) -> Fields:
    """A copy with the elements in the order in which upstream writes them: some clients compare the bytes. Elements of one node
    are of one sort nearly always, and ``.`` comes before every letter."""
    made: Fields = orjson.loads(orjson.dumps(node, option=orjson.OPT_SORT_KEYS))
    return made


def paths(fields: Fields, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member, as upstream walks a set: members of a node first, in order, then what is below each child."""
    keys = sorted((k for k in fields if k != "."), key=_sort_key)
    for key in keys:
        if is_member(fields[key]):
            yield (*prefix, key)
    for key in keys:
        if fields[key]:
            yield from paths(fields[key], (*prefix, key))


def shown(path: tuple[str, ...]) -> str:
    """``.spec.containers[name="c"].image``: a path in upstream's words."""
    return "".join(map(shown_element, path))


def shown_element(element: str) -> str:
    kind, text = element[0], element[2:]
    if kind == "f":
        return "." + text
    if kind == "k":
        found = json.loads(text)
        return "[" + ",".join(f"{k}={_word(v)}" for k, v in sorted(found.items())) + "]"
    return f"[={text}]" if kind == "v" else f"[{text}]"


def _word(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def well_formed(fields: Any) -> bool:
    """Whether a client's fieldsV1 can be read."""
    return isinstance(fields, dict) and all(
        isinstance(k, str) and _GOOD.match(k) is not None and well_formed(v) for k, v in fields.items()
    )
