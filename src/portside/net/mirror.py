"""A copy of one resource's objects, kept true by a watch that starts with what is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from portside.api.status import ApiError
from portside.client.protocol import Client, Json, Resource

log = logging.getLogger("portside.net")
PAUSE = 0.5  # seconds before a watch that broke off is made again


class Mirror:
    """``objects`` by (namespace, name). ``listeners`` are called after each change, once the first look is complete."""

    def __init__(self, client: Client, resource: Resource, changed: Callable[[], None], selector: str = "") -> None:
        self.client, self.resource, self.selector = client, resource, selector
        self.listeners = [changed]
        self.objects: dict[tuple[str, str], Json] = {}
        self.synced = False
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._follow()
            except (ApiError, OSError, TimeoutError) as error:
                log.debug("watch of %s broke off: %s", self.resource[2], error)
            await asyncio.sleep(PAUSE)

    async def _follow(self) -> None:
        """One watch: what stands first replaces what was known as a whole."""
        fresh: dict[tuple[str, str], Json] | None = {}
        async for event in self.client.watch(self.resource, field_selector=self.selector, send_initial_events=True):
            meta = event.object.get("metadata") or {}
            if event.type == "BOOKMARK":
                initial = (meta.get("annotations") or {}).get("k8s.io/initial-events-end") == "true"
                if fresh is not None and initial:
                    self.objects, fresh, self.synced = fresh, None, True
                    self.ready.set()
                    self._tell()
                continue
            key = (meta.get("namespace", ""), meta["name"])
            target = self.objects if fresh is None else fresh
            if event.type == "DELETED":
                target.pop(key, None)
            else:
                target[key] = event.object
            if fresh is None:
                self._tell()

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()
