"""One version of one object as the watch cache holds it: encoded bytes first, everything parsed only when asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from sys import intern
from typing import Any

import orjson

from portside.server.pieces import bracketed

Json = dict[str, Any]

META = b'"metadata":{'
_LABELS = b'"labels":{'
_MANAGERS = b'"managedFields":[{'
_AFTER_MANAGERS = b'}]},"'
_EMPTY: Mapping[str, str] = {}

PIECE_BYTES = 128 * 1024
"""What a list is joined and sent by: large enough to cost little, small enough to stay in the processor's cache."""


class ViewPool:
    """Keeps the most recently parsed views, and no more: a parsed pod takes five times its bytes."""

    __slots__ = ("_limit", "_ring")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ring: deque[CachedObject] = deque()

    def keep(self, obj: CachedObject) -> None:
        self._ring.append(obj)
        if len(self._ring) > self._limit:
            self._ring.popleft().forget()


class CachedObject:
    """An immutable version. ``head`` is ``{"apiVersion":…,"kind":…,`` and ``tail`` the rest from ``"metadata":{`` on,
    with resourceVersion spliced in: ``head + tail`` is the whole object, ``b"{" + tail`` an item of a built-in's list.
    """

    __slots__ = ("_labels", "_node", "_pool", "_view", "created", "head", "key", "revision", "tail")

    def __init__(self, key: str, head: bytes, tail: bytes, revision: int, created: int, pool: ViewPool) -> None:
        self.key = key
        self.head = head
        self.tail = tail
        self.revision = revision
        self.created = created
        self._pool = pool
        self._view: Json | None = None
        self._labels: Mapping[str, str] | None = None
        self._node: str | None = None

    @property
    def full(self) -> bytes:
        """The object ready to send."""
        return self.head + self.tail

    @property
    def name(self) -> str:
        return self.key[self.key.rindex("/") + 1 :]

    @property
    def namespace(self) -> str:
        parts = self.key.split("/")
        return parts[3] if len(parts) > 4 else ""

    @property
    def view(self) -> Json:
        """The parsed object. Shared: never change it. Kept only while it is among the latest parsed."""
        view = self._view
        if view is None:
            view = self._view = orjson.loads(self.head + self.tail)
            self._pool.keep(self)
        return view

    @property
    def labels(self) -> Mapping[str, str]:
        """metadata.labels, kept for good once asked for: selectors come back."""
        labels = self._labels
        if labels is None:
            found = _labels_in(self.tail)
            if found is None:
                found = self._parsed()["metadata"].get("labels")
            labels = {intern(k): intern(v) for k, v in found.items()} if found else _EMPTY
            self._labels = labels
        return labels

    @property
    def node(self) -> str:
        """spec.nodeName, "" without one. Kept like labels."""
        node = self._node
        if node is None:
            node = ""
            if b'"nodeName":"' in self.tail:
                spec = self._parsed().get("spec")
                node = intern(spec.get("nodeName") or "") if isinstance(spec, dict) else ""
            self._node = node
        return node

    def _parsed(self) -> Json:
        """The view if it is there, else parsed for this once."""
        return self._view or orjson.loads(self.head + self.tail)

    def at(self, revision: int) -> CachedObject:
        """The same state under another resourceVersion: what a DELETED event shows."""
        old = len(META) + len(b'"resourceVersion":"%d"' % self.revision)
        tail = META + b'"resourceVersion":"%d"' % revision + self.tail[old:]
        other = CachedObject(self.key, self.head, tail, revision, self.created, self._pool)
        other._labels, other._node = self._labels, self._node
        return other

    def forget(self) -> None:
        self._view = None

    def closed(self) -> Json:
        """The object parsed for one who writes it again and does not ask who owns which field: managedFields, which have more parts
        than all the rest, stay one piece of JSON. Only where they stand last in metadata, as they are stored."""
        tail = self.tail
        start = tail.find(_MANAGERS)
        end = tail.find(_AFTER_MANAGERS, start) if start >= 0 else -1
        # A list of objects without lists: the first such brackets end it, unless they are in a text. Then the quote behind would be
        # the text's last, and no letter could follow.
        if end >= 0 and tail.find(b"}]", start, end) < 0 and tail[end + 5 : end + 6].isalpha():
            try:
                meta = orjson.loads(tail[len(META) - 1 : start - 1] + b"}")
            except orjson.JSONDecodeError:  # they are not those of the object itself
                return self._anew()
            obj: Json = orjson.loads(self.head + tail[end + 4 :])
            meta["managedFields"] = orjson.Fragment(tail[start + len(_MANAGERS) - 2 : end + 2])
            obj["metadata"] = meta
            return obj
        return self._anew()

    def _anew(self) -> Json:
        parsed: Json = orjson.loads(self.head + self.tail)
        return parsed


def _labels_in(tail: bytes) -> Json | None:
    """metadata.labels found without parsing the whole object, None when it takes that.

    The raw bytes can't stand inside a JSON string, whose quotes are escaped. With no brace before them they are a direct
    member of metadata; label keys and values hold no brace, so the next one ends them.
    """
    at = tail.find(_LABELS)
    if at < 0:
        return {}
    if tail.find(b"{", len(META), at) >= 0 or tail.find(b"}", len(META), at) >= 0:
        return None
    start = at + len(_LABELS) - 1
    try:
        found: Json = orjson.loads(tail[start : tail.find(b"}", start) + 1])
    except orjson.JSONDecodeError:  # a brace within a value
        return None
    return found


def split(value: bytes, revision: int) -> tuple[bytes, bytes]:
    """Head and tail of a stored value, the resourceVersion spliced in behind ``"metadata":{``.

    Raises ValueError when the value does not have the stored form.
    """
    at = value.index(META)
    rest = value[at + len(META) :]
    comma = b"" if rest.startswith(b"}") else b","
    return value[:at], META + b'"resourceVersion":"%d"' % revision + comma + rest


def canonical(value: bytes) -> bytes:
    """Any JSON object in the stored form: apiVersion and kind first, metadata third, no resourceVersion."""
    obj: Json = orjson.loads(value)
    meta = {k: v for k, v in (obj.get("metadata") or {}).items() if k != "resourceVersion"}
    first = {"apiVersion": obj.get("apiVersion", ""), "kind": obj.get("kind", ""), "metadata": meta}
    return orjson.dumps(first | {k: v for k, v in obj.items() if k not in first})


def splice(value: bytes, revision: int) -> bytes:
    """A stored value as it is sent: with its resourceVersion."""
    head, tail = split(value, revision)
    return head + tail


def join_items(objects: Sequence[CachedObject]) -> bytes:
    """Items of a built-in kind's list: no apiVersion or kind, as upstream."""
    return b"{" + b",{".join([o.tail for o in objects]) if objects else b""


def join_full(objects: Sequence[CachedObject]) -> bytes:
    """Items of a custom resource's list: each a whole object."""
    return b",".join([o.head + o.tail for o in objects])


def slices(objects: Sequence[CachedObject]) -> Iterator[Sequence[CachedObject]]:
    """The objects in slices of about ``PIECE_BYTES``."""
    start, size = 0, 0
    for at, obj in enumerate(objects):
        size += len(obj.tail)
        if size >= PIECE_BYTES:
            yield objects[start : at + 1]
            start, size = at + 1, 0
    if start < len(objects):
        yield objects[start:]


def pieces(objects: Sequence[CachedObject], join: Callable[[Sequence[CachedObject]], bytes]) -> Iterator[bytes]:
    """All items as ``join`` writes them, brackets included, in pieces of about ``PIECE_BYTES``."""
    return bracketed(join(some) for some in slices(objects))
