"""ConfigMaps and Secrets that volumes show, followed by a watch each, so that a change is in the files within a second.

One watch per object whatever the number of pods; immutable objects are read once. Above ``WATCHES`` objects the rest is
left to the periodic reading of every pod's worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from portside.api.status import ApiError
from portside.base.clock import SYSTEM, Clock
from portside.client.protocol import Client, Resource

Json = dict[str, Any]
Key = tuple[Resource, str, str]  # resource, namespace, name
log = logging.getLogger(__name__)
WATCHES = 256  # objects followed at once
SETTLED = 1.0  # seconds after a pod's volumes were made; its start shall not share the processor with the watch's
WATCH_SECONDS = 1800
ENDED = 0.2  # seconds after a watch ended, before the next one
FIRST_RETRY, LAST_RETRY = 1.0, 30.0  # seconds


def revision(obj: Json | None) -> str:
    """The resourceVersion, "" of nothing."""
    return str((obj or {}).get("metadata", {}).get("resourceVersion", ""))


@dataclass(slots=True)
class _Followed:
    followers: dict[str, Callable[[], None]] = field(default_factory=dict)
    seen: str = ""  # the revision the followers' files were made from
    value: Json | None = None
    synced: bool = False
    task: asyncio.Task[None] | None = None


class Following:
    """Watches on behalf of pods, told apart by uid."""

    def __init__(self, client: Client, *, clock: Clock = SYSTEM) -> None:
        self._client = client
        self._clock = clock
        self._objects: dict[Key, _Followed] = {}
        self._wants: dict[str, set[Key]] = {}

    def known(self, key: Key) -> tuple[bool, Json | None]:
        """(whether the watch speaks for it, the object or None)."""
        found = self._objects.get(key)
        return (True, found.value) if found is not None and found.synced else (False, None)

    def follow(self, uid: str, seen: Mapping[Key, str], changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever one of the objects is no longer the revision ``seen`` ("": absent)."""
        if uid in self._wants:
            return
        wants = self._wants[uid] = set()
        for key, version in seen.items():
            entry = self._objects.get(key)
            if entry is None:
                if len(self._objects) >= WATCHES:
                    continue
                entry = self._objects[key] = _Followed(seen=version)
                entry.task = asyncio.create_task(self._watch(key, entry), name=f"follow {key[1]}/{key[2]}")
            elif entry.synced and revision(entry.value) != version:
                changed()
            wants.add(key)
            entry.followers[uid] = changed

    def forget(self, uid: str) -> None:
        """The pod is gone; objects nobody wants any more are no longer watched."""
        for key in self._wants.pop(uid, ()):
            entry = self._objects[key]
            entry.followers.pop(uid, None)
            if not entry.followers:
                del self._objects[key]
                if entry.task is not None:
                    entry.task.cancel()

    def close(self) -> None:
        for uid in list(self._wants):
            self.forget(uid)

    async def _watch(self, key: Key, entry: _Followed) -> None:
        delay = FIRST_RETRY
        await self._clock.sleep(SETTLED)
        while True:
            try:
                if await self._listen(key, entry):
                    return
                delay = FIRST_RETRY
                await self._clock.sleep(ENDED)
            except (ApiError, OSError, TimeoutError) as problem:
                entry.synced = False
                log.debug("following %s/%s: %s", key[1], key[2], problem)
                await self._clock.sleep(delay)
                delay = min(LAST_RETRY, delay * 2)

    async def _listen(self, key: Key, entry: _Followed) -> bool:
        """One watch until it ends. True when the object is immutable, so that nothing more can come."""
        resource, namespace, name = key
        events = self._client.watch(
            resource,
            namespace=namespace,
            field_selector=f"metadata.name={name}",
            send_initial_events=True,
            timeout_seconds=WATCH_SECONDS,
        )
        found: Json | None = None
        begun = False
        async with contextlib.aclosing(events) as stream:  # type: ignore[type-var]
            async for event in stream:
                if event.type != "BOOKMARK":
                    found = None if event.type == "DELETED" else event.object
                elif not begun:
                    begun = entry.synced = True
                else:
                    continue
                if begun:
                    self._take(entry, found)
                    if found is not None and found.get("immutable"):
                        return True
        return False

    @staticmethod
    def _take(entry: _Followed, value: Json | None) -> None:
        entry.value = value
        if revision(value) != entry.seen:
            entry.seen = revision(value)
            for changed in list(entry.followers.values()):
                changed()
