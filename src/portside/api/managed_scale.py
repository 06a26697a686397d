"""Who owns ``spec.replicas`` when it is written through /scale: entries of the object itself, named after the subresource.

As upstream, entries made this way carry no time, and a count of 0 is absent from a Scale, so applying it meets every owner.
"""

from __future__ import annotations

from typing import Any

from portside.api import managed_entries as entries
from portside.api import managed_sets as sets
from portside.api.managed import conflict_error, typed_error
from portside.api.managed_entries import APPLY, UPDATE, Entry, Managers
from portside.api.managed_merge import problems
from portside.api.managed_sets import Fields
from portside.api.managed_tree import shape
from portside.api.schema_tree import definition
from portside.api.status import bad_request

Json = dict[str, Any]
Path = tuple[str, ...]
REPLICAS: Path = ("spec", "replicas")
SCALE = "autoscaling/v1"


def _fields(path: Path) -> Fields:
    node: Fields = {}
    for name in reversed(path):
        node = {"f:" + name: node}
    return node


def _count(obj: Any, path: Path) -> int:
    for name in path:
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj if isinstance(obj, int) else 0


def _owners(managers: Managers, fields: Fields) -> list[Entry]:
    return [e for e in managers.values() if sets.intersection(e.fields, fields)]


def _write(new: Json, managers: Managers) -> None:
    meta = new["metadata"]
    meta.pop("managedFields", None)
    if written := entries.write(managers):
        meta["managedFields"] = written


def _take(managers: Managers, fields: Fields) -> None:
    for key, entry in list(managers.items()):
        left = sets.difference(entry.fields, fields)
        if left:
            managers[key] = Entry(
                entry.manager, entry.operation, entry.api_version, entry.subresource, entry.time, left
            )
        else:
            del managers[key]


def after_scale(old: Json, new: Json, *, manager: str, api_version: str, path: Path = REPLICAS) -> None:
    """Sets ``new``'s managedFields after a plain update of /scale; ``path`` is where the object keeps the count. Untracked
    when nobody owned the count before."""
    managers = entries.read(old["metadata"].get("managedFields")) or {}
    fields = _fields(path)
    if _count(old, path) != _count(new, path) and _owners(managers, fields):
        _take(managers, fields)
        who = Entry(manager, UPDATE, api_version, "scale", "", fields)
        managers[who.key] = who
    _write(new, managers)


def check_applied_scale(scale: Any) -> Json:
    """The applied Scale. Raises ApiError 400 for another kind or managedFields, 500 for what its schema refuses."""
    if scale is None:
        scale = {}
    if not isinstance(scale, dict):
        raise bad_request("error decoding YAML: the document is not an object")
    if scale.get("apiVersion") != SCALE or scale.get("kind") != "Scale":
        group, _, version = str(scale.get("apiVersion") or "").rpartition("/")
        raise bad_request(f"invalid object type: {group}/{version}, Kind={scale.get('kind') or ''}")
    if (scale.get("metadata") or {}).get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    if found := problems(shape(definition("io.k8s.api.autoscaling.v1.Scale")), scale):
        raise typed_error(scale, SCALE, found)
    return scale


def after_scale_applied(
    old: Json, new: Json, scale: Json, *, manager: str, api_version: str, force: bool, path: Path = REPLICAS
) -> None:
    """Sets ``new``'s managedFields after ``scale`` was applied at /scale. Raises ApiError 409 with the conflicts."""
    managers = entries.read(old["metadata"].get("managedFields")) or {}
    fields = _fields(path)
    who = Entry(manager, APPLY, api_version, "scale", "", fields)
    if (scale.get("spec") or {}).get("replicas") is None:
        managers.pop(who.key, None)
        _write(new, managers)
        return
    if _count(old, path) != _count(new, path) or _count(old, path) == 0:
        others = [(e, fields) for e in _owners(managers, fields) if e.key != who.key]
        if others and not force:
            raise conflict_error(others)
        _take(managers, fields)
    managers[who.key] = who
    _write(new, managers)
