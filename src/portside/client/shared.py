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

from portside.base.remembered import Remembered
from portside.client.protocol import Json, WatchEvent

OBJECT = b'"object":'
DELETED = b'{"type":"DELETED"'
REVISION = b'"metadata":{"resourceVersion":"'


POOLED_PARTS = 4096
"""Parts remembered in each of two generations; those that are met again stay."""
LARGEST_PART = 4096
"""Bytes of a part, encoded, beyond which it is taken for singular."""


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
        self._known: Remembered[bytes, Any] = Remembered(POOLED_PARTS)

    def one(self, part: Any) -> Any:
        """``part``, or an equal one that was met before."""
        key = orjson.dumps(part)
        found = self._known.get(key)
        if found is None and len(key) <= LARGEST_PART:
            self._known.put(key, part)
        return part if found is None else found

    def values(self, obj: Any) -> None:
        """Share the lists and maps that an object consists of."""
        if isinstance(obj, dict):
            for name, value in obj.items():
                if value and isinstance(value, (dict, list)):
                    obj[name] = self.one(value)

    def share(self, obj: Json) -> None:
        """Share what objects of one template have in common: labels, annotations, owners, the parts of a specification, and
        conditions that changed together."""
        self.values(obj["metadata"])
        self.values(obj.get("spec"))
        status = obj.get("status")
        if isinstance(status, dict) and (conditions := status.get("conditions")):
            status["conditions"] = self.one(conditions)


class SharedObjects:
    """Decodes the lines of watches. An object's version, apiVersion, kind and revision stand first in its bytes, and
    no two states of the store share a revision: that head is the key under which the parsed object is found again."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[bytes, Shared] = WeakValueDictionary()
        self._parts = Parts()

    def event(self, line: bytes) -> WatchEvent:
        """The event of a line; ADDED, MODIFIED and DELETED share their objects with earlier readers. An object that is gone
        shares no parts: it is soon let go."""
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
            if not line.startswith(DELETED):
                self._parts.share(obj)
            found = self._held[key] = Shared(obj)
        return WatchEvent(line[9 : line.index(b'"', 9)].decode(), found)
