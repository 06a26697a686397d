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
from portside.server.watchcache import Filter, expired
from portside.server.watchstream import BUFFER, Start, WatchStream, error_event
from portside.store.backend import Compacted

if TYPE_CHECKING:
    from portside.server.custom.resource import CustomResource

Json = dict[str, Any]
Matches = Callable[[Json], bool]
NEWS = ("ADDED", "MODIFIED", "DELETED")


class Selected:
    """What a watch with a field selector has been told of: by namespace and name, the object as it last matched.

    The selector looks at converted objects, so the watch cache can't tell what entered the selection or left it.
    """

    def __init__(self, resource: CustomResource, where: Filter, matches: Matches, after: int | None) -> None:
        self._resource = resource
        self._where = where
        self._matches = matches
        self._after = after
        self._held: dict[tuple[str, str], bytes] = {}

    async def begin(self) -> None:
        """Reads what matched when the watch begins. Raises ApiError when that state can't be read or converted."""
        if self._after is None:
            return  # the initial events say it
        try:
            page = await self._resource.cache.list_at(self._where, revision=self._after)
        except Compacted as error:
            raise expired(self._after, error.revision) from None
        for obj in await self._resource.views(page.objects):
            if self._matches(obj):
                self._held[_key(obj)] = orjson.dumps(obj)

    def told(self, event: Json) -> bool:
        """Whether the event is one of the selection's; its type and object become what the selection saw."""
        obj = event["object"]
        key = _key(obj)
        before = self._held.pop(key, None)
        if event["type"] != "DELETED" and self._matches(obj):
            self._held[key] = orjson.dumps(obj)
            event["type"] = "ADDED" if before is None else "MODIFIED"
            return True
        if before is None:
            return False
        event["type"] = "DELETED"
        event["object"] = orjson.loads(before)
        event["object"]["metadata"]["resourceVersion"] = obj["metadata"]["resourceVersion"]
        return True


def _key(obj: Json) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


class Conversion:
    """Turns lines of events as stored into lines in the wanted form, and of a selection if there is one."""

    def __init__(self, resource: CustomResource, wanted: Wanted, include: str, selected: Selected | None) -> None:
        self._resource = resource
        self._wanted = wanted
        self._include = include
        self._selected = selected

    async def begin(self) -> None:
        """Before the first lines. Raises ApiError."""
        if self._selected is not None:
            await self._selected.begin()

    async def lines(self, data: bytes) -> bytes:
        """Whole lines to whole lines. Raises ApiError when conversion fails."""
        events: list[Json] = [orjson.loads(line) for line in data.splitlines() if line]
        objects = [e["object"] for e in events if e["type"] in NEWS]
        done = iter(await self._resource.read_all(objects))
        out: list[bytes] = []
        for event in events:
            if event["type"] in NEWS:
                event["object"] = next(done)
                if self._selected is not None and not self._selected.told(event):
                    continue
            if event["type"] != "ERROR":
                event["object"] = self._form(event["object"])
            out.append(orjson.dumps(event) + b"\n")
        return b"".join(out)

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
        try:
            await self._conversion.begin()
        except ApiError as error:
            self._inner.close()
            write(error_event(error))
            self.ended = True
            done()
            return
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
