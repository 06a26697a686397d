"""JSON merge patch (RFC 7386)."""

from __future__ import annotations

from typing import Any

import orjson

from portside.api.status import bad_request

Json = dict[str, Any]


def merge_patch(obj: Json, patch: Any) -> Json:
    """``obj`` with ``patch`` merged in, as a new object with sorted keys: the order in which upstream meets unknown fields.

    Raises ApiError 400 for a patch that is no object.
    """
    if patch is None:
        raise bad_request("Invalid JSON Patch")
    if not isinstance(patch, dict):
        raise bad_request("Invalid JSON Patch")
    merged: Json = orjson.loads(orjson.dumps(_merged(obj, patch), option=orjson.OPT_SORT_KEYS))
    return merged


def _merged(target: Any, patch: Any) -> Any:
    if isinstance(patch, list):
        # Within a list, members stay null; fields of its objects do not.
        return [_merged(None, entry) if isinstance(entry, (dict, list)) else entry for entry in patch]
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        elif value.__class__ is dict or value.__class__ is list:
            out[key] = _merged(out.get(key), value)
        else:
            out[key] = value
    return out
