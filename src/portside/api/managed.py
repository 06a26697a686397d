"""Who owns which field: tracking of plain updates, and server-side apply.

Upstream's order of work: read the entries, compare, take what changed from the other managers, give it to this one, drop
what nobody may own, write the entries. A schema that walks values by keys stands behind all of it (managed_tree).
"""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

from portside.api import managed_entries as entries
from portside.api import managed_sets as sets
from portside.api.managed_entries import APPLY, UPDATE, Entry, Managers
from portside.api.managed_kubectl import allowed_conflicts, refresh_last_applied
from portside.api.managed_merge import merge, problems, remove, with_named
from portside.api.managed_reset import reset
from portside.api.managed_sets import Fields
from portside.api.managed_tree import ABSENT, Change, Shape, compare, held, shape
from portside.api.schema_tree import Schema, zero
from portside.api.status import ApiError, bad_request
from portside.base.remembered import Remembered

Json = dict[str, Any]
BEFORE_FIRST_APPLY = "before-first-apply"
_NEVER = ("name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields")
STRIPPED: Fields = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {".": {}, **{f"f:{name}": {} for name in (*_NEVER, "resourceVersion")}},
}
_NOTHING: Json = {}
_HEAD = frozenset(("apiVersion", "kind"))
BUILT_IN = "io.k8s."
"""How the schemas begin that never change."""
LARGEST_FIELDS = 16_384
"""Bytes of encoded fields beyond which they are not remembered."""
_FIRST: Remembered[bytes, bytes] = Remembered(256)


@lru_cache(maxsize=512)
def _empty(schema: Schema) -> Json:
    """The object before anything is set. Shared: never changed."""
    made = zero(schema)
    return made if isinstance(made, dict) else {}


def _is_reset(given: Any) -> bool:
    """An empty list, or a list of one empty entry, asks to forget all managers."""
    return isinstance(given, list) and (not given or (len(given) == 1 and not given[0]))


def _bare(obj: Json) -> Json:
    """The object with a metadata of its own, without managedFields."""
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or "managedFields" not in meta:
        return obj
    return {**obj, "metadata": {k: v for k, v in meta.items() if k != "managedFields"}}


def _change(schema: Schema, before: Json, after: Json, sub: str) -> Change:
    """What changed, apart from what a write through ``sub`` can't change."""
    change = compare(shape(schema), before, after, _HEAD)
    for name in ("added", "modified", "removed"):
        fields = getattr(change, name)
        if fields:
            setattr(change, name, reset(schema, fields, after, sub))
    return change


def _outline(before: Json, after: Json) -> list[Any] | None:
    """All that decides about who owns what of a flat object, such as an Event: which fields it has, and which of them are as they
    are when nothing is set. None for an object with lists, or with maps in maps."""
    out: list[Any] = []
    for key, value in after.items():
        unset = before.get(key, ABSENT)
        if value.__class__ is dict:
            parts = unset if unset.__class__ is dict else _NOTHING
            for name, part in value.items():
                if part.__class__ is dict or part.__class__ is list:
                    return None
                out.append(name)
                if name in parts:
                    out.append(parts[name] == part)
        elif value.__class__ is list:
            return None
        out += (key, unset == value)
    return out


def _alike(before: Json, after: Json) -> Any:
    """Equal for objects of which the first writer owns the same: the outline of flat objects, all but the identity of those of a
    template. None: such objects have little in common."""
    outline = _outline(before, after)
    if outline is None and "spec" in after:
        return {**after, "metadata": {k: v for k, v in after["metadata"].items() if k not in _NEVER}}
    return outline


def _first(schema: Schema, before: Json, after: Json, sub: str, alike: Any) -> Fields:
    """What the first writer owns of an object of a built-in kind, in order; remembered for those that are ``alike``."""
    digest = blake2b(orjson.dumps((schema.name, sub, alike)), digest_size=16).digest()
    known = _FIRST.get(digest)
    if known is None:
        change = _change(schema, before, after, sub)
        own = sets.union(change.modified, change.added) if change.modified else change.added
        known = orjson.dumps(sets.difference(own, STRIPPED), option=orjson.OPT_SORT_KEYS)
        if len(known) <= LARGEST_FIELDS:
            _FIRST.put(digest, known)
    fields: Fields = orjson.loads(known)
    return fields


def _taken(
    managers: Managers, change: Change, mine: tuple[str, str, str, str] | None, force: bool
) -> list[tuple[Entry, Fields]]:
    """Takes what changed from every manager but ``mine``. Without ``force``: only where there is no conflict, else nothing is
    taken and the conflicts are returned."""
    touched = sets.union(change.modified, change.added)
    conflicts = [
        (entry, both)
        for key, entry in managers.items()
        if not force and key != mine and (both := sets.intersection(entry.fields, touched))
    ]
    if conflicts:
        return conflicts
    for key, entry in list(managers.items()):
        if key == mine or (entry.fields.keys().isdisjoint(touched) and entry.fields.keys().isdisjoint(change.removed)):
            continue
        left = sets.difference(entry.fields, touched)
        if change.removed:
            left = sets.difference(left, change.removed)
        if not left:
            del managers[key]
        elif left != entry.fields:
            managers[key] = Entry(
                entry.manager, entry.operation, entry.api_version, entry.subresource, entry.time, left
            )
    return conflicts


def _updated(schema: Schema, before: Json, after: Json, managers: Managers, who: Entry, now: str, sub: str) -> None:
    """Gives ``who`` what changed; ``managers`` is changed in place."""
    if not managers and before is _empty(schema) and schema.name.startswith(BUILT_IN):
        alike = _alike(before, after)
        if alike is not None:
            if own := _first(schema, before, after, sub, alike):
                entry = Entry(who.manager, UPDATE, who.api_version, who.subresource, now, own)
                entry.stored = entries.form(entry, own)
                managers[who.key] = entry
            return
    change = _change(schema, before, after, sub)
    if managers:
        previous = managers.get(who.key)
        _taken(managers, change, None, True)
    else:
        previous = None
    own = sets.union(change.modified, change.added) if change.modified else change.added
    own = sets.difference(own, STRIPPED)
    if own:
        if previous is not None:
            own = sets.union(sets.difference(previous.fields, change.removed), own)
        managers[who.key] = Entry(who.manager, UPDATE, who.api_version, who.subresource, now, own)
    elif previous is not None:
        kept = sets.difference(previous.fields, change.removed)
        managers.pop(who.key, None)
        if kept:
            managers[who.key] = Entry(who.manager, UPDATE, who.api_version, who.subresource, previous.time, kept)


def after_update(
    old: Json | None,
    new: Json,
    *,
    manager: str,
    api_version: str,
    subresource: str,
    now: str,
    schema: Schema,
) -> None:
    """Sets ``new["metadata"]["managedFields"]`` after a create (``old`` None) or an update by ``manager``.

    An update that changes nothing keeps the times, so that it can be recognised as one that changes nothing.
    """
    meta = new["metadata"]
    given = meta.pop("managedFields", None)
    who = Entry(manager, UPDATE, api_version, subresource, now, {})
    if old is None:
        managers: Managers = {}
        if given and not _is_reset(given):
            managers = entries.read(given) or {}
        _updated(schema, _empty(schema), new, managers, who, now, subresource)
    else:
        live = old["metadata"].get("managedFields")
        if not subresource and _is_reset(given):
            return
        known = schema.name.startswith(BUILT_IN)  # what a conversion webhook answers is not
        managers = (entries.read(given) if given and not subresource else None) or entries.read(live, known=known) or {}
        if not managers:
            return
        before = _bare(old)
        if given == live and before == new:
            meta["managedFields"] = live
            return
        _updated(schema, before, new, managers, who, now, subresource)
        entries.cap(managers)
    written = entries.write(managers)
    if written:
        meta["managedFields"] = written


def typed_error(applied: Json, api_version: str, found: list[str]) -> ApiError:
    """500: the applied object is not what its schema says."""
    meta = applied.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    group, _, version = api_version.rpartition("/")
    place = f"{meta.get('namespace') or ''}/{meta.get('name') or ''}; {group}/{version}, Kind={applied.get('kind', '')}"
    text = found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {line}" for line in found)
    return ApiError(500, "", f"failed to create typed patch object ({place}): {text}")


def conflict_error(conflicts: list[tuple[Entry, Fields]]) -> ApiError:
    """409 with a cause per path and manager."""
    told = sorted(((entry.shown(), [sets.shown(p) for p in sets.paths(fields)]) for entry, fields in conflicts))
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": path}
        for who, paths in told
        for path in paths
    ]
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        blocks = "\n".join(f"conflicts with {who}:\n" + "\n".join(f"- {p}" for p in paths) for who, paths in told)
        text = f"Apply failed with {len(causes)} conflicts: {blocks}"
    return ApiError(409, "Conflict", text, details={"causes": causes})


def _pruned(top: Shape, merged: Json, managers: Managers, last: Fields) -> Json:
    """``merged`` without what this manager applied before and neither it nor anybody else holds now."""
    last = with_named(top, last)
    less = remove(top, merged, last) or {}
    whole = with_named(top, held(top, merged) or {})
    owned: Fields = {}
    for entry in managers.values():
        owned = sets.union(owned, entry.fields)
    kept = sets.union(with_named(top, held(top, less) or {}), with_named(top, owned))
    less = remove(top, merged, sets.difference(whole, kept)) or {}
    left = with_named(top, held(top, less) or {})
    return remove(top, merged, sets.intersection(sets.difference(whole, left), last)) or {}


def _applied(
    schema: Schema, live: Json, patch: Json, managers: Managers, who: Entry, force: bool
) -> tuple[Json, list[tuple[Entry, Fields]]]:
    """The merged object and the conflicts; ``managers`` is changed in place."""
    top = shape(schema)
    merged = merge(top, live, patch)
    own = reset(schema, held(top, patch) or {}, patch, who.subresource)
    previous = managers.get(who.key)
    managers[who.key] = Entry(
        who.manager, APPLY, who.api_version, who.subresource, previous.time if previous else "", own
    )
    if previous is not None and previous.fields:
        merged = _pruned(top, merged, managers, previous.fields)
    conflicts = _taken(managers, _change(schema, live, merged, who.subresource), who.key, force)
    own = sets.difference(own, STRIPPED)
    if own:
        managers[who.key].fields = own
    else:
        managers.pop(who.key, None)
    return merged, conflicts


def apply(
    live: Json | None,
    applied: Json,
    *,
    manager: str,
    force: bool,
    api_version: str,
    subresource: str,
    now: str,
    schema: Schema,
) -> Json:
    """The object after ``manager`` applied ``applied``, with its managedFields. ``live`` None creates it.

    Raises ApiError 400 (wrong version, managedFields given), 500 (not what the schema says), 409 (conflicts).
    """
    meta = applied.get("metadata") or {}
    if isinstance(meta, dict) and meta.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    if applied.get("apiVersion") != api_version:
        raise bad_request(
            f"Incorrect version specified in apply patch. Specified patch version: {applied.get('apiVersion', '')}, "
            f"expected: {api_version}"
        )
    patch = _bare(applied)
    found = problems(shape(schema), patch)
    if found:
        raise typed_error(applied, api_version, found)
    before = _bare(live) if live is not None else _empty(schema)
    managers = (entries.read(live["metadata"].get("managedFields")) if live is not None else None) or {}
    if live is not None and not managers:
        first = Entry(BEFORE_FIRST_APPLY, UPDATE, api_version, "", now, {})
        _updated(schema, _empty(schema), before, managers, first, now, "")
    who = Entry(manager, APPLY, api_version, subresource, "", {})
    attempt = dict(managers)
    merged, conflicts = _applied(schema, before, patch, attempt, who, force)
    if conflicts and not force:
        left = allowed_conflicts(manager, before, conflicts, schema)
        if left:
            raise conflict_error(left)
        attempt = dict(managers)
        merged, _ = _applied(schema, before, patch, attempt, who, True)
    changed = live is None or merged != before
    head = {key: merged[key] for key in ("apiVersion", "kind", "metadata") if key in merged}
    merged = deepcopy(head | merged)
    schema.decode(merged)
    if not isinstance(merged.get("metadata"), dict):
        merged["metadata"] = {}
    if changed:
        if who.key in attempt:
            attempt[who.key].time = now
        refresh_last_applied(manager, merged, applied)
    entries.cap(attempt)
    written = entries.write(attempt)
    if written:
        merged["metadata"]["managedFields"] = written
    return merged
