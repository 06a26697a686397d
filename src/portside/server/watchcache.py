"""The watch cache of one resource: current objects as bytes ready to send, recent events, running watches.

All methods belong to the event loop; objects come from ``watchcache_feed.WatchCaches``, which feeds every cache from one
subscription within the commit, so a read after an acknowledged write sees it.

    cache = caches.of("", "pods")
    obj = cache.get("default", "web")          # obj.full: bytes with resourceVersion; obj.view: parsed, read-only
    page = cache.list(Filter("default"), limit=500)
    watch = cache.watch(sink, on_end, where=Filter("default"), form=JsonForm("v1", "Pod"), after=page.revision)
    watch.resume()                             # starts; pause()/resume() follow the transport, close() when it is gone
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from portside.api.status import ApiError, internal
from portside.server.watchcache_channel import AT_ONCE, Channel
from portside.server.watchcache_filter import ALL, Filter
from portside.server.watchcache_form import Form, JsonForm
from portside.server.watchcache_history import Event, History
from portside.server.watchcache_index import FEW, FEW_CHOSEN, Index
from portside.server.watchcache_object import (
    META,
    CachedObject,
    canonical,
    join_full,
    join_items,
    pieces,
    splice,
    split,
)
from portside.server.watchcache_page import Listing, State, Wanted, at_once, in_turns, look
from portside.server.watchcache_watcher import Watcher
from portside.store.backend import Change, Compacted, Durability, Record, Unreadable

if TYPE_CHECKING:
    from portside.server.watchcache_feed import WatchCaches

__all__ = [
    "ALL",
    "CachedObject",
    "Filter",
    "Form",
    "JsonForm",
    "Listing",
    "WatchCache",
    "Watcher",
    "durability_of",
    "expired",
    "join_full",
    "join_items",
    "pieces",
    "splice",
    "too_large",
]

HISTORY_EVENTS = 16_384
HISTORY_BYTES = 32 * 1024 * 1024
HISTORY_LEAST = 1_000
"""Events that stay however old they are."""
SNAPSHOTS = 16
"""States kept for the later pages of chunked lists; older ones are read from the store until compacted."""

EPHEMERAL = frozenset({("coordination.k8s.io", "leases"), ("", "events")})
"""Resources that churn: the store keeps only the latest version of their objects."""


def durability_of(group: str, plural: str) -> Durability:
    """The store class to write a resource's objects with."""
    return Durability.EPHEMERAL if (group, plural) in EPHEMERAL else Durability.HISTORY


def expired(asked: int, oldest: int) -> ApiError:
    """410 for a revision whose history is gone, in upstream's words."""
    return ApiError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def too_large(asked: int, current: int) -> ApiError:
    """504 for a revision that did not come in time, in upstream's words."""
    return ApiError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {asked}, current: {current}",
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
        headers={"Retry-After": "1"},
    )


def _reason(record: Record) -> str:
    return record.value.why if isinstance(record.value, Unreadable) else ""


def raise_unreadable(records: Sequence[Record]) -> None:
    """Raises ApiError 500 for the first of objects that can't be decrypted, in upstream's words."""
    for record in records:
        raise internal(f'unable to transform key "/registry/{record.key[1:].removeprefix("core/")}": {_reason(record)}')


_HEAD = re.compile(rb'\{"apiVersion":"[^"]*","kind":"[^"]*",')
_Channels = list[Channel]  # inside the class ``list`` is a method


class WatchCache:
    """One resource. Made by ``WatchCaches.of``; ``prefix`` is its part of the store's keys, such as ``/core/pods/``."""

    def __init__(self, caches: WatchCaches, prefix: str, *, floor: int) -> None:
        self._caches = caches
        self.prefix = prefix
        self.ephemeral = prefix in caches.ephemeral
        self.history = History(floor, max_events=HISTORY_EVENTS, max_bytes=HISTORY_BYTES)
        self.changed = floor
        self.clock = caches.clock
        self.call_soon = caches.call_soon
        self.at_revision = caches.at_revision
        self.cancel = caches.cancel
        self.next_bookmark = caches.next_bookmark
        self._keys: list[str] = []
        self._objects: dict[str, CachedObject] = {}
        self._index = Index()
        self._heads: dict[bytes, bytes] = {}
        self._snapshots: dict[int, State] = {}
        self._snapshot_of = -1
        self._channels: dict[object, Channel] = {}
        self._by_name: dict[tuple[str, str], _Channels] = {}
        self._by_node: dict[str, _Channels] = {}
        self._by_namespace: dict[str, _Channels] = {}
        self._everywhere: _Channels = []
        self.watchers: dict[Watcher, None] = {}
        self.unreadable: dict[str, Record] = {}
        """Objects whose stored value can't be decrypted, by key: they are there, and nobody can see them."""

    # ---- reading ------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """The newest revision of the whole store: what a consistent list carries."""
        return self._caches.revision

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, namespace: str, name: str) -> CachedObject | None:
        """The current object; namespace "" for cluster-scoped ones. Raises ApiError 500 when it can't be decrypted."""
        key = f"{self.prefix}{namespace}/{name}" if namespace else self.prefix + name
        found = self._objects.get(key)
        if found is None and key in self.unreadable:
            raise internal(_reason(self.unreadable[key]))
        return found

    def at(self, key: str) -> CachedObject | None:
        """The current object of a store key."""
        return self._objects.get(key)

    def list(self, where: Filter = ALL, *, limit: int = 0, start: str = "") -> Listing:
        """The current state in key order, from ``start`` (a Listing's ``next``) on, at most ``limit`` objects (0: all).

        A page that is not the last keeps its state for ``list_at``.
        """
        wanted = Wanted(self.prefix, where, limit, start)
        listing = at_once(look(wanted, State(self._keys, self._objects), self._index, self.revision))
        if listing.next:
            self._keep_snapshot()
        return listing

    async def find(self, where: Filter = ALL, *, limit: int = 0, start: str = "") -> Listing:
        """``list`` for clients: where many objects have to be looked at, others get their turns in between. The answer is the
        state at the moment that the looking began."""
        few = FEW_CHOSEN if where.selects else FEW
        if len(self._objects) <= few or (limit and not where.selects):
            return self.list(where, limit=limit, start=start)
        for _ in self._index.build(where, self._objects):
            await asyncio.sleep(0)
        hits = self._index.find(where, self._objects)
        if hits is not None and len(hits) <= FEW_CHOSEN:
            return self.list(where, limit=limit, start=start)
        revision, changed = self.revision, self.changed
        state = State(self._keys.copy(), self._objects.copy())
        listing = await in_turns(look(Wanted(self.prefix, where, limit, start), state, self._index, revision))
        if listing.next:
            self._keep(revision, changed, state)
        return listing

    def check_readable(self, where: Filter = ALL) -> None:
        """Before a list for a client. Raises ApiError 500 when an object of the scope can't be decrypted."""
        if self.unreadable:
            scope = self.prefix + where.namespace + "/" if where.namespace else self.prefix
            raise_unreadable([r for r in self.unreadable.values() if r.key.startswith(scope)])

    async def list_at(self, where: Filter, *, revision: int, limit: int = 0, start: str = "") -> Listing:
        """The state as of exactly ``revision``. Raises Compacted when it is gone, ApiError 504 when it is to come."""
        if revision > self.revision:
            raise too_large(revision, self.revision)
        if revision >= self.changed:
            listing = await self.find(where, limit=limit, start=start)
            return listing._replace(revision=revision)
        state = self._snapshots.get(revision)
        if state is None:
            if self.ephemeral:
                raise Compacted(self.changed)
            state = await self._read_state(where, revision)
        return await in_turns(look(Wanted(self.prefix, where, limit, start), state, None, revision))

    async def wait_for(self, revision: int, timeout: float = 3.0) -> None:
        """Until the store has reached ``revision`` (resourceVersionMatch=NotOlderThan). Raises ApiError 504."""
        await self._caches.wait_for(revision, timeout)

    def _keep_snapshot(self) -> None:
        revision = self.revision
        if revision in self._snapshots:
            return
        if self._snapshot_of == self.changed:
            newest = next(reversed(self._snapshots.values()))
        else:
            newest = State(self._keys.copy(), self._objects.copy())
        self._keep(revision, self.changed, newest)

    def _keep(self, revision: int, changed: int, state: State) -> None:
        self._snapshots[revision] = state
        self._snapshot_of = changed
        while len(self._snapshots) > SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]

    async def _read_state(self, where: Filter, revision: int) -> State:
        scope = self.prefix + where.namespace + "/" if where.namespace else self.prefix
        page = await self._caches.backend.range(scope, revision=revision)
        raise_unreadable([r for r in page.records if isinstance(r.value, Unreadable)])
        objects = {r.key: self._made(r.key, r.value, r.revision, r.created) for r in page.records}
        return State([*objects], objects)

    # ---- watching -----------------------------------------------------------------------------------------------

    def watch(
        self,
        sink: Callable[[bytes], None],
        on_end: Callable[[ApiError | None], None],
        *,
        form: Form,
        where: Filter = ALL,
        after: int | None = None,
        listing: Listing | None = None,
        initial_end: bool = False,
        bookmarks: bool = False,
    ) -> Watcher:
        """A watch; call ``resume()`` on it to start.

        ``after`` None begins with the current objects, or those of ``listing``, as ADDED (closed by the annotated bookmark if ``initial_end``);
        a revision begins behind it and may lie in the future. ``bookmarks`` adds one about every minute.
        Raises ApiError 410 when history does not reach back to ``after``.
        """
        initial: Iterator[CachedObject] | None = None
        position = self.revision
        if after is None:
            self.check_readable(where)
            listing = listing or self.list(where)
            initial, position = iter(listing.objects), listing.revision
        else:
            position = after
            if after < self.history.floor:
                raise self.too_old(after)
        watcher = Watcher(
            self,
            sink,
            on_end,
            where,
            form,
            position=position,
            initial=initial,
            initial_end=initial_end,
            bookmarks=bookmarks,
        )
        self.watchers[watcher] = None
        return watcher

    def too_old(self, asked: int) -> ApiError:
        return expired(asked, self.history.floor)

    def in_scope(self, where: Filter, event: Event) -> bool:
        """Whether namespace and name of the filter fit the event's object."""
        if not where.namespace and not where.name:
            return True
        obj = event.obj or event.previous
        if obj is None or (where.name and obj.name != where.name):
            return False
        return not where.namespace or obj.namespace == where.namespace

    def join(self, watcher: Watcher) -> Channel:
        """Make a watch live."""
        where, form = watcher.where, watcher.form
        identity = (where.identity, form.key)
        channel = self._channels.get(identity)
        if channel is None:
            channel = self._channels[identity] = Channel(where, form)
            self._bucket(where).append(channel)
        channel.watchers[watcher] = None
        return channel

    def leave(self, watcher: Watcher, channel: Channel) -> None:
        """A watch is no longer live."""
        channel.watchers.pop(watcher, None)
        if not channel.watchers:
            del self._channels[(channel.where.identity, channel.form.key)]
            self._bucket(channel.where).remove(channel)

    def dropped(self, watcher: Watcher) -> None:
        """A watch is over."""
        self.watchers.pop(watcher, None)

    def _bucket(self, where: Filter) -> _Channels:
        """Where channels of that filter wait: by the most telling thing an event can be looked up by."""
        if where.name and where.namespace:
            return self._by_name.setdefault((where.namespace, where.name), [])
        if where.node is not None:
            return self._by_node.setdefault(where.node, [])
        if where.namespace:
            return self._by_namespace.setdefault(where.namespace, [])
        return self._everywhere

    # ---- feeding ------------------------------------------------------------------------------------------------

    def reset(self, floor: int) -> None:
        """Forget everything: the state at ``floor`` is about to be loaded."""
        self.changed = floor
        self.history.forget(floor)
        self._keys.clear()
        self._objects.clear()
        self._index = Index()
        self._snapshots.clear()
        self._snapshot_of = -1
        self.unreadable.clear()

    def load(self, key: str, value: bytes, revision: int, created: int) -> None:
        """Take in an object at start-up; keys come in order."""
        if isinstance(value, Unreadable):
            self.unreadable[key] = Record(key, value, revision, created)
            return
        self._objects[key] = self._made(key, value, revision, created)
        self._keys.append(key)

    def apply(self, change: Change) -> Event | None:
        """Bring the state up to a change and remember it. None when there is nothing to tell."""
        key = change.key
        previous = self._objects.get(key)
        self.changed = change.revision
        obj: CachedObject | None = None
        if self.unreadable:
            self.unreadable.pop(key, None)
        if change.value is None or isinstance(change.value, Unreadable):
            if change.value is not None:
                self.unreadable[key] = Record(key, change.value, change.revision, change.created)
            if previous is not None:
                del self._objects[key]
                del self._keys[bisect_left(self._keys, key)]
        else:
            obj = self._made(key, change.value, change.revision, change.created)
            if previous is None:
                at = bisect_left(self._keys, key)
                self._keys.insert(at, key)
            else:
                obj.key = previous.key
            self._objects[key] = obj
        self._index.update(previous, obj)
        if previous is None and change.created != change.revision:
            self.history.forget(change.revision)
            return None
        event = Event(change.revision, obj, previous)
        self.history.append(event)
        return event

    def restore(self, record: Record) -> CachedObject:
        """An object became readable. Since when is not known: watches begin anew."""
        del self.unreadable[record.key]
        obj = self._objects[record.key] = self._made(*record)
        self._keys.insert(bisect_left(self._keys, record.key), record.key)
        self._index.update(None, obj)
        self._snapshots.clear()
        self._snapshot_of = -1
        self.history.forget(self.revision)
        for watcher in tuple(self.watchers):
            watcher.end(self.too_old(watcher.position))
        return obj

    def deliver(self, events: Sequence[Event], before: int) -> None:
        """Hand events, already applied, to the live watches. ``before`` is the revision before the first of them."""
        parts: dict[Channel, list[bytes]] = {}
        for event in events:
            for channel in self._interested(event):
                made = parts.get(channel)
                data = channel.encode(event, not made)
                if data is None:
                    continue
                if made is None:
                    parts[channel] = [data]
                else:
                    made.append(data)
        at_once = 0
        targets: list[tuple[Channel, tuple[Watcher, ...], bytes]] = []
        for channel, made in parts.items():
            data = made[0] if len(made) == 1 else b"".join(made)
            at_once += len(channel.watchers)
            if channel.form.then is None and (at_once > AT_ONCE or channel.pending):
                channel.add(before, events[-1].revision, data)
                self._caches.fanout.add(channel)
            else:
                targets.append((channel, tuple(channel.watchers), data))
        for channel, watchers, data in targets:
            then = channel.form.then
            for watcher in watchers:
                if watcher.live:
                    watcher.send(data)
                    if then is not None:
                        watcher.switch(then)
                elif not watcher.closed:
                    watcher.position = before
        for event in events:
            event.settle()

    def tick(self, now: float, stalled: float, aged: int) -> None:
        """Send bookmarks that are due; end watches that stand still for longer than ``stalled`` seconds; let go of events
        up to the revision ``aged``."""
        self.history.shed(aged, HISTORY_LEAST)
        for watcher in tuple(self.watchers):
            if watcher.live:
                if watcher.bookmarks and now >= watcher.bookmark_due:
                    watcher.bookmark()
            elif watcher.paused and (now - watcher.paused_since > stalled or watcher.position < self.history.floor):
                watcher.end(self.too_old(watcher.position))

    def close(self) -> None:
        for watcher in tuple(self.watchers):
            watcher.end(None)

    def _interested(self, event: Event) -> Sequence[Channel]:
        obj = event.obj or event.previous
        if obj is None or not self._channels:
            return ()
        found = self._everywhere
        namespace = obj.namespace
        if namespace and self._by_namespace and (more := self._by_namespace.get(namespace)):
            found = found + more
        if self._by_name and (more := self._by_name.get((namespace, obj.name))):
            found = found + more
        if self._by_node:
            nodes = {o.node for o in (event.obj, event.previous) if o is not None}
            for node in nodes:
                found = found + [
                    c for c in self._by_node.get(node, ()) if not c.where.namespace or c.where.namespace == namespace
                ]
        return [c for c in found if not c.where.name or c.where.name == obj.name]

    def version(self, record: Record) -> CachedObject:
        """An earlier version, as the store has it."""
        return self._made(*record)

    def _made(self, key: str, value: bytes, revision: int, created: int) -> CachedObject:
        at = value.find(META)
        head = self._heads.get(value[:at])
        if head is None:
            if not _HEAD.fullmatch(value[:at]):  # written by something else than this server
                value = canonical(value)
            head, _ = split(value, revision)
            self._heads[head] = head
        _, tail = split(value, revision)
        return CachedObject(key, head, tail, revision, created, self._caches.views)
