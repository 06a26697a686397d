"""Records Events as client-go's recorder does: repeats are counted, similar ones combined, floods cut.

Figures (10 similar in 600 s, burst of 25, one per 300 s after) are client-go's defaults.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from portside.api.status import ApiError
from portside.base.clock import Clock, rfc3339
from portside.client.protocol import Client, Json

log = logging.getLogger(__name__)
EVENTS = ("", "v1", "events")
REMEMBERED = 4096
QUEUE = 2000
SIMILAR, SIMILAR_SECONDS = 10, 600.0
BURST, REFILL_PER_SECOND = 25.0, 1 / 300
COMBINED = "(combined from similar events): "
MAX_MESSAGE = 1024


def reference(obj: Json) -> Json:
    """The ObjectReference of an object, as events carry it."""
    meta = obj["metadata"]
    found = {
        "kind": obj.get("kind", ""),
        "namespace": meta.get("namespace", ""),
        "name": meta.get("name", ""),
        "uid": meta.get("uid", ""),
        "apiVersion": obj.get("apiVersion", ""),
        "resourceVersion": meta.get("resourceVersion", ""),
    }
    if "fieldPath" in obj:
        found["fieldPath"] = obj["fieldPath"]
    return {k: v for k, v in found.items() if v}


@dataclass(slots=True)
class _Similar:
    messages: set[str] = field(default_factory=set)
    last: float = 0.0


class EventCorrelator:
    """Decides, per event, whether to create, patch or drop. Pure but for its memory."""

    def __init__(self) -> None:
        self._similar: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
        self._seen: OrderedDict[tuple[str, ...], Json] = OrderedDict()
        self._tokens: OrderedDict[tuple[str, ...], tuple[float, float]] = OrderedDict()

    def place(
        self, involved: Json, kind: str, reason: str, message: str, component: str, host: str, now: float
    ) -> tuple[str, Json, tuple[str, ...]] | None:
        """("create" | "patch", the event, its memory key), None when it is one too many."""
        who = tuple(str(involved.get(f, "")) for f in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath"))
        source = (component, host, *who)
        if not self._allowed(source, now):
            return None
        group = (*source, kind, reason)
        similar = self._similar.setdefault(group, _Similar())
        self._trim(self._similar, group)
        if now - similar.last > SIMILAR_SECONDS:
            similar.messages.clear()
        similar.last = now
        similar.messages.add(message)
        key = (*group, message)
        if len(similar.messages) > SIMILAR:
            similar.messages.discard(next(iter(similar.messages)))
            key, message = group, COMBINED + message
        held = self._seen.get(key)
        if held is not None:
            held["count"] += 1
            held["lastTimestamp"] = rfc3339(now)
            held["message"] = message
            return "patch", held, key
        event = self._build(involved, kind, reason, message, component, host, now)
        self._seen[key] = event
        self._trim(self._seen, key)
        return "create", event, key

    def forget(self, key: tuple[str, ...]) -> None:
        """The event is no longer on the server; the next one is created."""
        self._seen.pop(key, None)

    def _allowed(self, source: tuple[str, ...], now: float) -> bool:
        tokens, at = self._tokens.get(source, (BURST, now))
        tokens = min(BURST, tokens + (now - at) * REFILL_PER_SECOND)
        allowed = tokens >= 1
        self._tokens[source] = (tokens - 1 if allowed else tokens, now)
        self._trim(self._tokens, source)
        return allowed

    @staticmethod
    def _trim(memory: OrderedDict[tuple[str, ...], Any], key: tuple[str, ...]) -> None:
        memory.move_to_end(key)
        while len(memory) > REMEMBERED:
            memory.popitem(last=False)

    @staticmethod
    def _build(involved: Json, kind: str, reason: str, message: str, component: str, host: str, now: float) -> Json:
        stamp = rfc3339(now)
        source = {"component": component}
        if host:
            source["host"] = host
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{involved.get('name', '')}.{int(now * 1e9):x}",
                "namespace": involved.get("namespace") or "default",
            },
            "involvedObject": involved,
            "reason": reason,
            "message": message[:MAX_MESSAGE],
            "source": source,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "type": kind,
            "eventTime": None,
            "reportingComponent": component,
            "reportingInstance": host,
        }


class EventRecorder:
    """Takes events without waiting; ``run`` writes them, one after the other. A full queue drops the newest."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._correlator = EventCorrelator()
        self._queue: asyncio.Queue[tuple[str, Json, tuple[str, ...]]] = asyncio.Queue(QUEUE)
        self._last = 0.0
        self.dropped = 0

    def emit(self, obj: Json, kind: str, reason: str, message: str, component: str, host: str = "") -> None:
        """``kind`` is Normal or Warning; ``obj`` the object, or an ObjectReference-like object. Floods are cut here, so
        that they fill no queue."""
        now = self._last = max(self._clock.now(), self._last + 1e-6)  # names are made from the time: keep them distinct
        placed = self._correlator.place(reference(obj), kind, reason, message, component, host, now)
        if placed is None:
            return
        action, event, key = placed
        try:
            self._queue.put_nowait((action, {**event}, key))
        except asyncio.QueueFull:
            self._correlator.forget(key)
            self.dropped += 1
            if self.dropped % 1000 == 1:
                log.warning("%d events dropped so far: more than %d wait to be written", self.dropped, QUEUE)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            action, event, key = await self._queue.get()
            try:
                await self._write(action, event)
            except (ApiError, OSError, TimeoutError) as error:
                self._correlator.forget(key)
                log.debug("event %s not recorded: %s", event["reason"], error)

    async def _write(self, action: str, event: Json) -> None:
        namespace = event["metadata"]["namespace"]
        if action == "patch":
            body = {f: event[f] for f in ("count", "lastTimestamp", "message")}
            try:
                await self._client.patch(
                    EVENTS, event["metadata"]["name"], body, namespace=namespace, patch_type="merge"
                )
                return
            except ApiError as error:
                if error.code != 404:
                    raise
            event["count"] = 1
            event["firstTimestamp"] = event["lastTimestamp"]
        await self._client.create(EVENTS, event, namespace=namespace)
