"""A page of a list: the objects of a state that a filter wants, looked for a slice at a time."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Generator, Mapping, Sequence
from typing import NamedTuple

from portside.server.watchcache_filter import Filter
from portside.server.watchcache_index import SLICE, SLICE_PARSED, Index
from portside.server.watchcache_object import CachedObject


class Listing(NamedTuple):
    """A page as of ``revision``. ``next`` is where the next page starts, relative to the listed scope, "" at the end;
    ``remaining`` how many follow, None when a selector makes that unknown. ``pieces`` encodes objects."""

    objects: list[CachedObject]
    revision: int
    next: str
    remaining: int | None


class State(NamedTuple):
    """The objects of a resource at one moment."""

    keys: list[str]
    objects: Mapping[str, CachedObject]


class Wanted(NamedTuple):
    """What is looked for below ``prefix``: from ``start`` on, at most ``limit`` objects (0: all)."""

    prefix: str
    where: Filter
    limit: int
    start: str

    @property
    def scope(self) -> str:
        return self.prefix + self.where.namespace + "/" if self.where.namespace else self.prefix


def look(wanted: Wanted, state: State, index: Index | None, revision: int) -> Generator[None, None, Listing]:
    """The page of ``state``, which is the one at ``revision``; stops after every slice."""
    where, scope, limit = wanted.where, wanted.scope, wanted.limit
    found: list[CachedObject] = []
    keys, low, high = _candidates(wanted, state, index)
    objects = state.objects
    if limit <= 0 or limit >= high - low:
        limit = 0
    if not where.selects:
        stop = low + limit if limit else high
        for begin in range(low, stop, SLICE):
            if begin > low:
                yield
            found += [objects[key] for key in keys[begin : min(begin + SLICE, stop)]]
        rest = high - stop
        return Listing(found, revision, found[-1].key[len(scope) :] + "\0" if rest else "", rest)
    name, selected = where.name, where.selected
    step = SLICE if where.fields is None else SLICE_PARSED
    for begin in range(low, high, step):
        if begin > low:
            yield
        for key in keys[begin : min(begin + step, high)]:
            obj = objects[key]
            if (not name or obj.name == name) and selected(obj):
                if limit and len(found) == limit:
                    return Listing(found, revision, found[-1].key[len(scope) :] + "\0", None)
                found.append(obj)
    return Listing(found, revision, "", None)


def _candidates(wanted: Wanted, state: State, index: Index | None) -> tuple[Sequence[str], int, int]:
    """Keys in order and the part of them that may match."""
    where, scope = wanted.where, wanted.scope
    keys: Sequence[str] = state.keys
    if where.name and (where.namespace or scope + where.name in state.objects):
        keys = [scope + where.name] if scope + where.name in state.objects else []
    elif index is not None and (hits := index.find(where, state.objects)) is not None:
        keys = sorted(hits)
    low = bisect_left(keys, scope + wanted.start)
    high = bisect_left(keys, scope[:-1] + "0") if where.namespace else len(keys)
    return keys, low, high


def at_once(steps: Generator[None, None, Listing]) -> Listing:
    """The page, with everybody else waiting."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: Listing = done.value
            return found


async def in_turns(steps: Generator[None, None, Listing]) -> Listing:
    """The page; others get their turns between two slices."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: Listing = done.value
            return found
        await asyncio.sleep(0)
