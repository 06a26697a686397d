"""kubectl's way from client-side to server-side apply: no conflict over what its annotation says it had applied."""

from __future__ import annotations

from typing import Any

import orjson

from portside.api import managed_sets as sets
from portside.api.managed_entries import Entry
from portside.api.managed_sets import Fields
from portside.api.managed_tree import held, shape
from portside.api.schema_tree import Schema

Json = dict[str, Any]
ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
LIMIT = 262144  # upstream drops an annotation that would make all annotations larger


def _annotation(obj: Json) -> str | None:
    found = ((obj.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION)
    return found if isinstance(found, str) else None


def allowed_conflicts(
    manager: str, live: Json, conflicts: list[tuple[Entry, Fields]], schema: Schema
) -> list[tuple[Entry, Fields]]:
    """The conflicts that stay: for manager kubectl, those outside what the live object's annotation lists."""
    text = _annotation(live)
    if manager != "kubectl" or text is None:
        return conflicts
    try:
        last = orjson.loads(text)
    except orjson.JSONDecodeError:
        return conflicts
    if not isinstance(last, dict) or not last.get("kind"):
        return conflicts
    allowed = held(shape(schema), last) or {}
    return [(entry, left) for entry, fields in conflicts if (left := sets.difference(fields, allowed))]


def refresh_last_applied(manager: str, merged: Json, applied: Json) -> None:
    """Rewrites the annotation of an object that has one, when kubectl applies on the server."""
    if manager != "kubectl" or _annotation(merged) is None:
        return
    plain = {k: v for k, v in applied.items() if k != "metadata"}
    meta = {k: v for k, v in (applied.get("metadata") or {}).items() if k != "managedFields"}
    notes = {k: v for k, v in (meta.get("annotations") or {}).items() if k != ANNOTATION}
    if "annotations" in meta:
        meta["annotations"] = notes
    text = orjson.dumps({**plain, "metadata": meta}, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    kept = merged["metadata"]["annotations"]
    if sum(len(k) + len(v) for k, v in kept.items() if k != ANNOTATION) + len(text) + len(ANNOTATION) > LIMIT:
        del kept[ANNOTATION]
        return
    kept[ANNOTATION] = text
