"""Watch events of one server, parsed once for all clients in the process.

Controllers, the scheduler and the simulation each keep caches of the same resources. In one process they may hold the
same parsed object: what an informer caches is never changed (``cache.py``), so parsing it once per client would only
cost time, and a copy of every pod for each of them. managedFields, a third of a parsed object, are left out: no component reads
them, and an update that does not name them leaves them as they are. Parts that are equal in many objects (what the pods of
one template have in common) are held once for all of them: a parsed pod takes a third of what it would alone.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import orjson

from portside.client.protocol import Json, WatchEvent

OBJECT = b'"object":'
REVISION = b'"metadata":{"resourceVersion":"'


POOLED_PARTS = 4096
"""Parts remembered in each of two generations; those that are met again stay."""
LARGEST_PART = 4096
"""Bytes of a part, encoded, beyond which it is taken for singular."""
NAMED_ITEMS = frozenset(("containers", "initContainers", "volumes"))
"""Lists whose items have names of their own, so that not the items but their values are equal."""


class Shared(dict[str, Any]):
    """A parsed object that lives as long as somebody holds it. Never changed."""

    __slots__ = ("__weakref__",)


def parsed(line: bytes) -> WatchEvent:
    """A watch event for one reader."""
    event = orjson.loads(line)
    return WatchEvent(event["type"], event["object"])


class Parts:
    """Equal parts of objects, held once. Nothing here is ever changed."""

    def __init__(self) -> None:
        self._young: dict[bytes, Any] = {}
        self._old: dict[bytes, Any] = {}

    def one(self, part: Any) -> Any:
        """``part``, or an equal one that was met before."""
        key = orjson.dumps(part)
        found = self._young.get(key)
        if found is not None:
            return found
        if len(key) > LARGEST_PART:
            return part
        found = self._old.get(key, part)
        if len(self._young) >= POOLED_PARTS:
            self._old, self._young = self._young, {}
        self._young[key] = found
        return found

    def values(self, obj: Any) -> None:
        """Share the values of an object that have parts of their own."""
        if isinstance(obj, dict):
            for name, value in obj.items():
                if value and isinstance(value, (dict, list)):
                    obj[name] = self.one(value)

    def share(self, obj: Json) -> None:
        """Share what objects of one template have in common: labels, annotations, owners, the parts of a specification, and
        conditions that changed together."""
        self.values(obj["metadata"])
        spec, status = obj.get("spec"), obj.get("status")
        if isinstance(spec, dict):
            for name, value in spec.items():
                if name in NAMED_ITEMS and isinstance(value, list):
                    for item in value:
                        self.values(item)
                elif value and isinstance(value, (dict, list)):
                    spec[name] = self.one(value)
        if isinstance(status, dict) and isinstance(conditions := status.get("conditions"), list):
            status["conditions"] = [self.one(condition) for condition in conditions]


class SharedObjects:
    """Decodes the lines of watches. An object's version, apiVersion, kind and revision stand first in its bytes, and
    no two states of the store share a revision: that head is the key under which the parsed object is found again."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[bytes, Shared] = WeakValueDictionary()
        self._parts = Parts()

    def event(self, line: bytes) -> WatchEvent:
        """The event of a line; ADDED, MODIFIED and DELETED share their objects with earlier readers."""
        start = line.find(OBJECT) + len(OBJECT)
        at = line.find(REVISION, start, start + 200)
        if at < 0 or line.startswith(b'{"type":"BOOKMARK"'):
            return parsed(line)
        end = line.index(b'"', at + len(REVISION))
        key = line[start:end]
        found = self._held.get(key)
        if found is None:
            obj: Json = orjson.loads(line[start : line.rindex(b"}")])
            obj["metadata"].pop("managedFields", None)
            self._parts.share(obj)
            found = self._held[key] = Shared(obj)
        return WatchEvent(line[9 : line.index(b'"', 9)].decode(), found)
