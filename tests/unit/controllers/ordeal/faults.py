"""Faults as values, and the client that brings them: one client per life of the controllers, one count of writes for all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from portside.api.status import ApiError, conflict
from portside.client.protocol import Client, Json, Resource, WatchEvent

Fault = Literal["die before", "die after", "conflict", "error", "busy", "unheard"]
DEATHS: tuple[Fault, ...] = ("die before", "die after")
REFUSALS: tuple[Fault, ...] = ("conflict", "error", "busy", "unheard")
WRITES = ("create", "update", "patch", "delete", "delete_collection")
UNCOUNTED = ("events",)


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong. Writes are counted from 1 over all lives.

    ``at``: a fault per write. ``always``: what befalls every write that has not had it, by the object it is about: each
    first attempt has the first fault, each second attempt the second. ``lag``: virtual seconds by which news is late at
    most. ``breaks``: every so many-th event ends its watch before it is told, in turn quietly and with 410.
    """

    at: Mapping[int, Fault] = field(default_factory=dict)
    always: tuple[Fault, ...] = ()
    lag: float = 0.0
    breaks: int = 0
    seed: int = 7


class Fate:
    """The faults as they come to pass over all lives."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.dice = random.Random(faults.seed)
        self.writes: list[str] = []
        self.struck: list[tuple[str, Fault]] = []
        self.events = 0
        self.off = False
        self._had: dict[str, int] = {}

    def next(self, verb: str, resource: Resource, name: str) -> Fault | None:
        """The fault that befalls this write, if any."""
        what = f"{verb} {resource[2]} {name}"
        self.writes.append(what)
        if self.off:
            return None
        fault = self.faults.at.get(len(self.writes))
        had = self._had.get(what, 0)
        if fault is None and had < len(self.faults.always):
            self._had[what] = had + 1
            fault = self.faults.always[had]
        if fault is not None:
            self.struck.append((what, fault))
        return fault

    def late(self) -> float:
        return self.dice.random() * self.faults.lag

    def break_now(self) -> Exception | None:
        """What ends a watch at this event; None when it goes on. A quiet end is a ConnectionError."""
        self.events += 1
        if self.off or not self.faults.breaks or self.events % self.faults.breaks:
            return None
        if (self.events // self.faults.breaks) % 2:
            return ConnectionError("the watch was cut")
        return ApiError(410, "Expired", "too old resource version")


class Life:
    """The client of one life: after its death nothing is answered any more."""

    def __init__(self, inner: Client, fate: Fate, metrics: Callable[..., Any] | None = None) -> None:
        self.inner, self.fate, self.metrics = inner, fate, metrics
        self.died = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name in WRITES:
            return self._write(name, found)
        if name == "request":
            return self.request
        return found if name in ("watch", "close") else self._read(found)

    async def _alive(self) -> None:
        if self.died.is_set():
            await asyncio.Event().wait()

    async def _die(self) -> None:
        self.died.set()
        await asyncio.Event().wait()

    async def request(self, method: str, path: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
        """The metrics API is part of the story."""
        await self._alive()
        return await (self.metrics or self.inner.request)(method, path, **more)

    def _read(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def read(*words: Any, **more: Any) -> Any:
            await self._alive()
            answer = await call(*words, **more)
            await self._alive()
            return answer

        return read

    def _write(self, verb: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def write(resource: Resource, *words: Any, **more: Any) -> Any:
            await self._alive()
            if resource[2] in UNCOUNTED:
                return await call(resource, *words, **more)
            fault = self.fate.next(verb, resource, _name(words))
            if fault == "die before":
                await self._die()
            elif fault == "conflict":
                raise conflict(resource[2], _name(words), "the object has been modified", resource[0])
            elif fault == "error":
                raise ApiError(500, "InternalError", "Internal error occurred: injected")
            elif fault == "busy":
                raise ApiError(429, "TooManyRequests", "too many requests", details={"retryAfterSeconds": 1})
            answer = await call(resource, *words, **more)
            if fault == "die after":
                await self._die()
            elif fault == "unheard":
                raise ConnectionError("the answer was lost")
            await self._alive()
            return answer

        return write

    async def watch(self, resource: Resource, **more: Any) -> AsyncIterator[WatchEvent]:
        """Events in order, late and cut as the fate wants."""
        await self._alive()
        stream = self.inner.watch(resource, **more)
        first = bool(more.get("send_initial_events"))
        try:
            async for event in stream:
                await self._alive()
                if not first:
                    if self.fate.faults.lag and not self.fate.off:
                        await asyncio.sleep(self.fate.late())
                    broken = self.fate.break_now()
                    if broken is not None:
                        raise broken
                first = first and event.type != "BOOKMARK"
                yield event
        finally:
            await stream.aclose()  # type: ignore[attr-defined]


def _name(words: tuple[Any, ...]) -> str:
    """The name a write is about; of objects whose name the server makes, its beginning."""
    body: Json | str = words[0] if words else ""
    if isinstance(body, str):
        return body
    meta = body["metadata"]
    return str(meta.get("name") or meta.get("generateName", ""))
