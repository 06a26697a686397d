"""Watches of custom resources whose other versions a webhook converts: events are taken as they are stored, converted
together, and written in the wanted form. A resource that converts without asking needs none of this."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from portside.api.status import ApiError
from portside.server import forms
from portside.server.negotiate import Wanted
from portside.server.watchstream import BUFFER, Start, WatchStream, error_event

if TYPE_CHECKING:
    from portside.server.custom.resource import CustomResource

Json = dict[str, Any]
Matches = Callable[[Json], bool]
NEWS = ("ADDED", "MODIFIED", "DELETED")


class Conversion:
    """Turns lines of events as stored into lines in the wanted form. ``matches`` is the field selector, which looks at
    converted objects: what no longer matches is told as DELETED, as it would be to one that had seen it."""

    def __init__(self, resource: CustomResource, wanted: Wanted, include: str, matches: Matches | None) -> None:
        self._resource = resource
        self._wanted = wanted
        self._include = include
        self._matches = matches

    async def lines(self, data: bytes) -> bytes:
        """Whole lines to whole lines. Raises ApiError when conversion fails."""
        events: list[Json] = [orjson.loads(line) for line in data.splitlines() if line]
        objects = [e["object"] for e in events if e["type"] in NEWS]
        done = iter(await self._resource.read_all(objects))
        out: list[bytes] = []
        for event in events:
            if event["type"] in NEWS:
                event["object"] = next(done)
                if not self._kept(event):
                    continue
            if event["type"] != "ERROR":
                event["object"] = self._form(event["object"])
            out.append(orjson.dumps(event) + b"\n")
        return b"".join(out)

    def _kept(self, event: Json) -> bool:
        if self._matches is None or self._matches(event["object"]):
            return True
        if event["type"] == "MODIFIED":
            event["type"] = "DELETED"
        return bool(event["type"] == "DELETED")

    def _form(self, obj: Json) -> Json:
        wanted = self._wanted
        if wanted.form == "Table":
            meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return forms.table(self._resource.kind, [obj], meta, wanted.version, self._include)
        return forms.partial(obj, wanted.version) if wanted.form else obj


class ConvertedStream(WatchStream):
    """A watch whose events pass through a Conversion, in order."""

    def __init__(self, start: Start, seconds: float, conversion: Conversion) -> None:
        super().__init__(start, seconds)
        self._inner = WatchStream(start, seconds)
        self._conversion = conversion
        self._pending: list[bytes] = []
        self._size = 0
        self._news = asyncio.Event()
        self._go = asyncio.Event()
        self._go.set()
        self._task: asyncio.Task[None] | None = None

    def open(self, write: Callable[[bytes], None], done: Callable[[], None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._pump(write, done))
        self._inner.open(self._collect, self._news.set)

    def _collect(self, data: bytes) -> None:
        self._pending.append(data)
        self._size += len(data)
        if self._size > BUFFER:
            self._inner.pause()
        self._news.set()

    async def _pump(self, write: Callable[[bytes], None], done: Callable[[], None]) -> None:
        while self._pending or not self._inner.ended:
            await self._news.wait()
            self._news.clear()
            await self._go.wait()
            data, self._size = b"".join(self._pending), 0
            self._pending.clear()
            try:
                made = await self._conversion.lines(data)
            except ApiError as error:
                self._inner.close()
                write(error_event(error))
                break
            if made:
                write(made)
            self._inner.resume()
        self.ended = True
        done()

    def finish(self) -> None:
        self._inner.finish()

    def pause(self) -> None:
        self._go.clear()

    def resume(self) -> None:
        self._go.set()

    def close(self) -> None:
        self.ended = True
        self._inner.close()
        if self._task is not None:
            self._task.cancel()
