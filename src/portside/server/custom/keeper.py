"""Keeps the conditions of definitions, and takes the instances of a definition away before it goes.

One task, woken by changes; each turn looks at the present state alone, so that it goes on after a restart where it was.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import orjson

from portside.api.customkind import CLEANUP
from portside.server.custom.table import GROUP, PLURAL, PREFIX
from portside.server.resource import encode
from portside.store.backend import Committed, Durability, StoreError, Write

if TYPE_CHECKING:
    from portside.server.app import ApiServer

log = logging.getLogger(__name__)
Json = dict[str, Any]
AGAIN_SECONDS = 1.0
"""Between looks at instances that hold on, and after a failed write."""


class Keeper:
    """``start()`` after the table; ``stop()`` before the store closes."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._due: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._server.custom.on_change(self.touch)
        for obj in self._server.caches.of(GROUP, PLURAL).list().objects:
            self.touch(obj.name)

    def touch(self, name: str) -> None:
        """Look at a definition soon. The task is made with the first one."""
        self._due[name] = None
        self._wake.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="definitions")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            due, self._due = list(self._due), {}
            for name in due:
                await asyncio.sleep(0)  # many definitions at a start must not hold up answers
                try:
                    await self._keep(name)
                except StoreError as error:
                    log.warning("definition %s is looked at again: %s", name, error)
                    self._later(name)
                except Exception:
                    log.exception("definition %s could not be kept; it is looked at again with its next change", name)

    def _later(self, name: str) -> None:
        asyncio.get_running_loop().call_later(AGAIN_SECONDS, self.touch, name)

    async def _keep(self, name: str) -> None:
        from portside.api.rules.crd_status import Taken, plan

        cached = self._server.caches.of(GROUP, PLURAL).at(PREFIX + name)
        if cached is None:
            self._reconsider(name.partition(".")[2], name)
            return
        crd: Json = orjson.loads(cached.full)
        if crd["metadata"].get("deletionTimestamp"):
            await self._end(name, crd, cached.revision)
            return
        group = crd["spec"]["group"]
        others = [names for of, names in self._server.custom.names.values() if of == group]
        status = plan(crd, Taken(others), self._server.now())
        if status is None:
            return
        if not await self._write(crd | {"status": status}, cached.revision):
            self.touch(name)
        elif _released(crd, status):
            self._reconsider(group, name)

    def _reconsider(self, group: str, name: str) -> None:
        """Names have become free or taken: the others of the group may be accepted now, or no more."""
        for other, (of, _) in self._server.custom.names.items():
            if other != name and of == group:
                self.touch(other)

    async def _write(self, crd: Json, expected: int) -> bool:
        key = PREFIX + crd["metadata"]["name"]
        result = await self._server.backend.write(Write(key, encode(crd), expected, Durability.HISTORY))
        return isinstance(result, Committed)

    # --- the end of a definition -------------------------------------------------------------------------------------

    async def _end(self, name: str, crd: Json, revision: int) -> None:
        """Instances first, then the finalizer."""
        from portside.api.rules.crd_status import find, set_condition

        finalizers = crd["metadata"].get("finalizers") or []
        if CLEANUP not in finalizers:
            return
        status = crd.get("status") or {}
        served = (find(status, "Established") or {}).get("status") == "True"
        if served and await self._remove_instances(crd):
            self._later(name)
            return
        now = self._server.now()
        status = dict(status)
        if served:
            set_condition(status, "Terminating", "False", "InstanceDeletionCompleted", "removed all instances", now)
        else:
            set_condition(status, "Terminating", "False", "NeverEstablished", "resource was never established", now)
        left = [f for f in finalizers if f != CLEANUP]
        meta = {k: v for k, v in crd["metadata"].items() if k != "finalizers"}
        if left:
            meta["finalizers"] = left
        key = PREFIX + name
        made = crd | {"metadata": meta, "status": status}
        write = Write(key, encode(made) if left else None, revision, Durability.HISTORY)
        if not isinstance(await self._server.backend.write(write), Committed):
            self.touch(name)

    async def _remove_instances(self, crd: Json) -> int:
        """Delete what is left of the instances; how many hold on by finalizers of their own."""
        cache = self._server.caches.of(crd["spec"]["group"], crd["spec"]["names"]["plural"])
        held = 0
        for obj in cache.list().objects:
            instance: Json = orjson.loads(obj.full)
            meta = instance["metadata"]
            if not meta.get("finalizers"):
                await self._server.backend.write(Write(obj.key, None, obj.revision, Durability.HISTORY))
                continue
            held += 1
            if not meta.get("deletionTimestamp"):
                meta["deletionTimestamp"] = self._server.now()
                meta["deletionGracePeriodSeconds"] = 0
                meta["generation"] = int(meta.get("generation") or 0) + 1
                await self._server.backend.write(Write(obj.key, encode(instance), obj.revision, Durability.HISTORY))
        return held or len(cache)


def _released(crd: Json, status: Json) -> bool:
    """Whether names that were accepted before are accepted no more."""
    before = (crd.get("status") or {}).get("acceptedNames") or {}
    after = status["acceptedNames"]
    return any(value and value != after.get(field) for field, value in before.items() if field != "categories")
