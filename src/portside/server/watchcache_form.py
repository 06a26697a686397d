"""How a watch event looks on the wire: a form encodes it once, all watches of that form share the bytes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from portside.server.watchcache_object import CachedObject

TYPES = {kind: b'{"type":"%s","object":' % kind.encode() for kind in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK")}


class Form(Protocol):
    """One way to write events. Tables, metadata-only and other API versions are forms of their own."""

    @property
    def key(self) -> Hashable:
        """Equal keys mean the same bytes."""

    @property
    def then(self) -> Form | None:
        """The form of all events after the first (a Table has its columns only once); None: the same."""

    def event(self, kind: str, obj: CachedObject) -> bytes:
        """ADDED, MODIFIED or DELETED with the object, ready to send."""

    def bookmark(self, revision: int, initial_end: bool) -> bytes:
        """A BOOKMARK at ``revision``; ``initial_end`` asks for the annotation that closes the initial events."""


class JsonForm:
    """Objects as they are stored, under their own apiVersion and kind.

    ``bookmark_rest`` is what upstream's empty object of the kind has behind metadata, such as ``,"spec":{"containers":null},
    "status":{}`` (without line breaks) for a Pod.
    """

    __slots__ = ("_bookmark", "_rest", "key", "then")

    def __init__(self, api_version: str, kind: str, bookmark_rest: bytes = b"") -> None:
        self.then: Form | None = None
        self.key: Hashable = ("json", api_version, kind)
        head = f'{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"'
        self._bookmark = TYPES["BOOKMARK"] + head.encode()
        self._rest = b"}" + bookmark_rest + b"}}\n"

    def event(self, kind: str, obj: CachedObject) -> bytes:
        return TYPES[kind] + obj.head + obj.tail + b"}\n"

    def bookmark(self, revision: int, initial_end: bool) -> bytes:
        annotation = b',"annotations":{"k8s.io/initial-events-end":"true"}' if initial_end else b""
        return self._bookmark + b'%d"' % revision + annotation + self._rest
