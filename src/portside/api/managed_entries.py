"""metadata.managedFields: entries read, written, ordered and capped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from portside.api import managed_sets as sets
from portside.api.managed_sets import Fields, ordered

Json = dict[str, Any]
UPDATE, APPLY = "Update", "Apply"
MAXIMUM_UPDATES = 10
"""Entries of plain updates that are kept; older ones are folded into one (upstream's figure)."""
OLDEST = "ancient-changes"
Key = tuple[str, str, str, str]


@dataclass(slots=True)
class Entry:
    """One manager's fields. ``time`` is RFC 3339 or "" for none. ``stored`` is the entry as it was read: it is written like
    that again while its fields and its time are the same."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: Fields
    stored: Json | None = None

    @property
    def key(self) -> Key:
        """What tells entries apart: an applier keeps its entry over versions."""
        version = "" if self.operation == APPLY else self.api_version
        return (self.manager, self.operation, version, self.subresource)

    def shown(self) -> str:
        """The manager as a conflict names it."""
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


Managers = dict[Key, Entry]


def read(entries: Any, *, known: bool = False) -> Managers | None:
    """The entries of an object; None when one of them can't be read (then upstream takes none). ``known``: they were written
    here, so that there is nothing to check."""
    out: Managers = {}
    for entry in entries or ():
        operation = entry.get("operation", "")
        if operation not in (UPDATE, APPLY) or not entry.get("apiVersion"):
            return None
        fields = entry.get("fieldsV1") or {}
        if entry.get("fieldsType", "") != "FieldsV1" or not (known or sets.well_formed(fields)):
            return None
        made = Entry(
            entry.get("manager", ""),
            operation,
            entry["apiVersion"],
            entry.get("subresource", ""),
            entry.get("time") or "",
            fields,
            entry if known and fields else None,
        )
        out[made.key] = made
    return out


def _order(entry: Entry) -> tuple[str, str, str, str, str]:
    return (entry.operation, entry.time[:19], entry.manager, entry.api_version, entry.subresource)


def write(managers: Managers) -> list[Json]:
    """The entries in upstream's order: applies first, then by time, manager, version, subresource."""
    made = [e for e in managers.values() if e.fields]
    if len(made) > 1:
        made.sort(key=_order)
    return [_written(e) for e in made]


def _written(entry: Entry) -> Json:
    held = entry.stored
    if held is not None and held["fieldsV1"] is entry.fields and (held.get("time") or "") == entry.time:
        return held
    return form(entry, ordered(entry.fields))


def form(entry: Entry, fields: Fields) -> Json:
    """The entry as it is stored, with ``fields`` as they are."""
    out: Json = {
        "manager": entry.manager,
        "operation": entry.operation,
        "apiVersion": entry.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    if not entry.manager:
        del out["manager"]
    if entry.time:
        out["time"] = entry.time
    if entry.subresource:
        out["subresource"] = entry.subresource
    return out


def cap(managers: Managers) -> None:
    """Folds the oldest updates into one entry per version when there are too many."""
    updates = [e for e in managers.values() if e.operation == UPDATE]
    if len(updates) <= MAXIMUM_UPDATES:
        return
    updates.sort(key=_order)
    count = len(updates)
    for entry in updates:
        if count <= MAXIMUM_UPDATES:
            break
        if entry.manager == OLDEST:
            continue
        folded = replace(entry, manager=OLDEST, subresource="", stored=None)
        del managers[entry.key]
        known = managers.get(folded.key)
        if known is not None:
            folded.fields = sets.union(known.fields, entry.fields)
            folded.time = max(known.time, entry.time)
            count -= 1
        managers[folded.key] = folded
