"""JSON patch (RFC 6902) with the liberties of the library upstream uses.

Replace of a missing member adds it, copy from a missing member writes null, test of null on a missing member holds; every
other failure is 422 with one fixed text.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import orjson

from portside.api.status import ApiError, bad_request

Json = dict[str, Any]
MAXIMUM_OPERATIONS = 10_000
MAXIMUM_COPIED = 3 << 20
"""Bytes that all copies of a patch may add: without it forty operations that double a value fill any memory."""
FAILED = "the server rejected our request due to an error in our request"
_KNOWN = {"op", "path", "from", "value"}
_MISSING = object()


class PatchFailure(Exception):
    """An operation can't be carried out; the text is the library's. ``test``: a test did not hold."""

    def __init__(self, text: str = "", *, test: bool = False) -> None:
        super().__init__(text)
        self.test = test


class CopiedTooMuch(PatchFailure):
    """The copies of one patch add more than ``MAXIMUM_COPIED``."""


_Fails = PatchFailure


def json_patch(obj: Json, ops: Any) -> Json:
    """``obj`` after every operation, as a new object. Raises ApiError: 400 no list of operations, 413 too many of them,
    422 an operation that fails."""
    if ops is None:
        ops = []
    if not isinstance(ops, list):
        raise bad_request(f"json: cannot unmarshal {_word(ops)} into Go value of type jsonpatch.Patch")
    if len(ops) > MAXIMUM_OPERATIONS:
        raise ApiError(
            413,
            "RequestEntityTooLarge",
            f"Request entity too large: The allowed maximum operations in a JSON patch is {MAXIMUM_OPERATIONS}, got {len(ops)}",
        )
    for op in ops:
        if op is not None and not isinstance(op, dict):
            raise bad_request(f"json: cannot unmarshal {_word(op)} into Go value of type jsonpatch.Operation")
    try:
        return apply_operations(obj, ops)
    except PatchFailure:
        raise ApiError(422, "Invalid", FAILED, details={}) from None


def apply_operations(obj: Json, ops: list[Any]) -> Json:
    """``obj`` after a list of operations, as a new object. Raises PatchFailure, which says which operation failed."""
    document: Any = deepcopy(obj)
    copied = 0
    for op in ops:
        if op and op.get("op") == "copy":
            copied += _copy_size(document, op)
            if copied > MAXIMUM_COPIED:
                raise CopiedTooMuch(
                    f"Unable to complete the copy, the accumulated size increase of copy is {copied}, "
                    f"exceeding the limit {MAXIMUM_COPIED}"
                )
        document = _told(document, op or {})
    if not isinstance(document, dict):
        raise PatchFailure("the document is not an object")
    try:
        return orjson.loads(orjson.dumps(document, option=orjson.OPT_SORT_KEYS))  # type: ignore[no-any-return]
    except TypeError:  # operations that each add a level
        raise PatchFailure("the document is nested too deeply") from None


def _copy_size(document: Any, op: Json) -> int:
    """The bytes a copy adds; 0 when it will fail anyway."""
    try:
        value = _found(document, _pointer(op.get("from")))
        return 0 if value is _MISSING else len(orjson.dumps(value))
    except (PatchFailure, TypeError):
        return 0


def unknown_members(ops: Any) -> list[str]:
    """``json patch unknown field "[0].comment"`` for members that no operation has."""
    if not isinstance(ops, list):
        return []
    return [
        f'json patch unknown field "[{at}].{name}"'
        for at, op in enumerate(ops)
        if isinstance(op, dict)
        for name in op
        if name not in _KNOWN
    ]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return "string" if isinstance(value, str) else "number"


def _pointer(path: Any) -> list[str]:
    if not isinstance(path, str) or (path and path[0] != "/"):
        raise _Fails
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _index(text: str, length: int) -> int:
    """A position in a list; negative ones count from its end, as the library allows."""
    try:
        at = int(text)
    except ValueError:
        raise _Fails from None
    if at < -length or at >= length:
        raise _Fails
    return at if at >= 0 else at + length


def _get(holder: Any, key: str) -> Any:
    if isinstance(holder, dict):
        return holder.get(key, _MISSING)
    if isinstance(holder, list):
        return holder[_index(key, len(holder))]
    raise _Fails


def _holder(document: Any, parts: list[str]) -> Any:
    for part in parts[:-1]:
        document = _get(document, part)
        if document is _MISSING or document is None:
            raise _Fails
    if not isinstance(document, (dict, list)):
        raise _Fails
    return document


def _add(document: Any, parts: list[str], value: Any) -> Any:
    if not parts:
        return value
    holder, key = _holder(document, parts), parts[-1]
    if isinstance(holder, dict):
        holder[key] = value
    elif key == "-":
        holder.append(value)
    else:
        try:
            at = int(key)
        except ValueError:
            raise _Fails from None
        if at < -len(holder) - 1 or at > len(holder):
            raise _Fails
        holder.insert(at if at >= 0 else at + len(holder) + 1, value)
    return document


def _remove(document: Any, parts: list[str]) -> Any:
    if not parts:
        raise _Fails
    holder, key = _holder(document, parts), parts[-1]
    if isinstance(holder, dict):
        if key not in holder:
            raise _Fails
        del holder[key]
    else:
        del holder[_index(key, len(holder))]
    return document


def _replace(document: Any, parts: list[str], value: Any) -> Any:
    if not parts:
        return value
    holder, key = _holder(document, parts), parts[-1]
    if isinstance(holder, dict):
        holder[key] = value
    else:
        holder[_index(key, len(holder))] = value
    return document


def _found(document: Any, parts: list[str]) -> Any:
    return _get(_holder(document, parts), parts[-1]) if parts else document


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _told(document: Any, op: Json) -> Any:
    """One operation; what it fails of is told in the library's words."""
    kind, path = op.get("op"), op.get("path")
    try:
        return _apply(document, op)
    except PatchFailure:
        if kind == "test":
            raise PatchFailure(f"testing value {path} failed: test failed", test=True) from None
        if kind in ("move", "copy"):
            text = f"{kind} operation does not apply: doc is missing from path: {op.get('from')}: missing value"
        elif kind in ("add", "remove", "replace"):
            text = f'{kind} operation does not apply: doc is missing path: "{path}": missing value'
        else:
            text = f"Unexpected kind: {kind}"
        raise PatchFailure(text) from None


def _apply(document: Any, op: Json) -> Any:
    kind, parts = op.get("op"), _pointer(op.get("path"))
    if kind == "add":
        return _add(document, parts, deepcopy(op.get("value")))
    if kind == "remove":
        return _remove(document, parts)
    if kind == "replace":
        return _replace(document, parts, deepcopy(op.get("value")))
    if kind == "test":
        value = _found(document, parts)
        if not _same(None if value is _MISSING else value, op.get("value")):
            raise _Fails
        return document
    if kind in ("move", "copy"):
        source = _pointer(op.get("from"))
        value = _found(document, source)
        if kind == "move":
            if value is _MISSING:
                raise _Fails
            return _add(_remove(document, source), parts, value)
        return _add(document, parts, None if value is _MISSING else deepcopy(value))
    raise _Fails
