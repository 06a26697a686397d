"""Records the scheduler's Events as upstream's events.k8s.io recorder does: a repeat becomes part of a series.

They are written behind everything else, at the pace of upstream's event client: in a burst of pods an Event may come late,
a binding should not.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Any

from portside.api.status import ApiError
from portside.base.clock import Clock, rfc3339
from portside.client.protocol import Client, Json

log = logging.getLogger("portside.scheduler")
EVENTS = ("events.k8s.io", "v1", "events")
REMEMBERED = 4096  # series kept in mind; an older one starts anew
QUEUE = 20_000  # events waiting; the newest are dropped beyond, and counted
AT_ONCE = 8  # writes under way
SERIES_SECONDS = 360.0  # a running series is told to the API this often
MAX_NOTE = 1024
BURST, PER_SECOND = 100.0, 50.0  # events written: at once, then steadily; kube-scheduler's clientConnection


def micro(now: float) -> str:
    """A time with microseconds, as MicroTime fields have it."""
    whole = int(now)
    return f"{rfc3339(whole)[:-1]}.{int((now - whole) * 1e6):06d}Z"


class _Series:
    __slots__ = ("body", "count", "told")

    def __init__(self, body: Json, now: float) -> None:
        self.body = body
        self.count = 1
        self.told = now


class Recorder:
    """``emit`` never waits; ``run`` writes until cancelled."""

    def __init__(self, client: Client, clock: Clock, instance: str) -> None:
        self._client = client
        self._clock = clock
        self._instance = instance
        self._queue: asyncio.Queue[tuple[str, Json]] = asyncio.Queue(QUEUE)
        self._series: OrderedDict[tuple[str, ...], _Series] = OrderedDict()
        self._last = 0
        self._allowed, self._counted = BURST, clock.monotonic()
        self.dropped = 0

    def emit(
        self, pod: Json, kind: str, reason: str, action: str, note: str, source: str, related: Json | None = None
    ) -> None:
        """``kind`` is Normal or Warning; ``source`` the scheduler's name."""
        now = self._clock.now()
        meta = pod["metadata"]
        key = (kind, reason, action, source, meta.get("uid", ""), (related or {}).get("uid", ""))
        held = self._series.get(key)
        if held is not None:
            held.count += 1
            if held.count > 2 and now - held.told < SERIES_SECONDS:
                return
            held.told = now
            series = {"count": held.count, "lastObservedTime": micro(now)}
            self._put("patch", held.body | {"series": series})
            return
        body = self._body(pod, kind, reason, action, note, source, related, now)
        self._series[key] = _Series(body, now)
        if len(self._series) > REMEMBERED:
            self._series.popitem(last=False)
        self._put("create", body)

    def _put(self, verb: str, body: Json) -> None:
        try:
            self._queue.put_nowait((verb, body))
        except asyncio.QueueFull:
            self.dropped += 1
            if self.dropped % 1000 == 1:
                log.warning("%d events dropped so far: more than %d wait to be written", self.dropped, QUEUE)

    def _body(
        self, pod: Json, kind: str, reason: str, action: str, note: str, source: str, related: Json | None, now: float
    ) -> Json:
        meta = pod["metadata"]
        self._last = max(int(now * 1e9), self._last + 1)
        body: Json = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name']}.{self._last:x}", "namespace": meta.get("namespace") or "default"},
            "eventTime": micro(now),
            "reportingController": source,
            "reportingInstance": f"{source}-{self._instance}",
            "action": action,
            "reason": reason,
            "regarding": _reference(pod),
            "note": note if len(note) <= MAX_NOTE else note[: MAX_NOTE - 4] + " ...",
            "type": kind,
        }
        if related is not None:
            body["related"] = related
        return body

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            verb, body = await self._queue.get()
            await self._turn()
            try:
                await self._write(verb, body)
            except (ApiError, OSError, TimeoutError) as error:
                log.debug("event %s not recorded: %s", body["reason"], error)

    async def _turn(self) -> None:
        """Returns when one more event may be written."""
        now = self._clock.monotonic()
        self._allowed = min(self._allowed + (now - self._counted) * PER_SECOND, BURST) - 1
        self._counted = now
        if self._allowed < 0:
            await self._clock.sleep(-self._allowed / PER_SECOND)

    async def _write(self, verb: str, body: Json) -> None:
        meta = body["metadata"]
        if verb == "patch":
            try:
                await self._client.patch(
                    EVENTS, meta["name"], {"series": body["series"]}, patch_type="merge", namespace=meta["namespace"]
                )
                return
            except ApiError as error:
                if error.code != 404:
                    raise
        await self._client.create(EVENTS, body, namespace=meta["namespace"])


def _reference(pod: Json) -> Json:
    meta: dict[str, Any] = pod["metadata"]
    found = {
        "kind": "Pod",
        "namespace": meta.get("namespace", ""),
        "name": meta["name"],
        "uid": meta.get("uid", ""),
        "apiVersion": "v1",
        "resourceVersion": meta.get("resourceVersion", ""),
    }
    return {k: v for k, v in found.items() if v}


def reference(pod: Json) -> Json:
    """The ObjectReference of a pod."""
    return _reference(pod)
