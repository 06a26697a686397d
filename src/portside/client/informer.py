"""Keeps a cache equal to the server: watch-list, or list and watch; resumes without gap or repeat; relists after 410.

Writers tell the informer the answer of their own writes (``observe``, ``forget``), so a reader of the cache always sees
what it wrote itself. That replaces upstream's expectations: a planner can't create a thing twice from a stale cache.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from portside.api.status import ApiError
from portside.client.cache import (
    PODS,
    Index,
    ObjectCache,
    View,
    by_claim,
    by_node,
    by_pool,
    key_of,
    standing,
    trimmed,
)
from portside.client.news import Fact, Handler, News
from portside.client.protocol import Client, Json, Resource, WatchEvent

log = logging.getLogger(__name__)

INITIAL_END = "k8s.io/initial-events-end"
FIRST_DELAY = 0.2  # seconds before the first retry after a failure; doubles
LAST_DELAY = 3.0  # a node must not miss its pods for long after the API is back
AT_ONCE = 100  # objects of a list taken in before others get a turn
WATCH_SECONDS = 1800  # the server ends a watch after this; we resume
BREATH = 32  # events handled before others get their turn: handlers of one take up to half a millisecond
REFUSED_WATCH_LIST = (400, 404, 405, 406, 422, 504)


def revision_of(obj: Json) -> int:
    """The resourceVersion as a number, 0 when there is none."""
    text = (obj.get("metadata") or {}).get("resourceVersion") or "0"
    return int(text) if text.isdigit() else 0


class Informer:
    """One resource, all namespaces. Handlers run inside the loop, must be quick, and get (old, new)."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        indexes: Mapping[str, Index] | None = None,
        metadata_only: bool = False,
        field_selector: str = "",
        keep: Callable[[Json], Json] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.resource = resource
        self.metadata_only = metadata_only
        self.cache = ObjectCache(indexes, standing if resource == PODS and not metadata_only else None)
        self.synced = asyncio.Event()
        self.revision = 0
        self._client = client
        self._field_selector = field_selector
        self._keep = trimmed if metadata_only else keep
        self._news = News()
        self._resume = ""
        self._gone: set[str] = set()
        self._rng = rng or random.Random()

    @property
    def has_synced(self) -> bool:
        return self.synced.is_set()

    def add_handler(
        self, handler: Handler, facts: Sequence[Fact] | None = None, owner: tuple[str, str] | None = None
    ) -> None:
        """Objects already here are announced at once. ``facts``, ``owner``: what the handler minds (news.py)."""
        self._news.listen(handler, facts, owner)
        for obj in list(self.cache.objects.values()):
            handler(None, obj)

    # -- what writers report ------------------------------------------------------------------------------------------

    def observe(self, obj: Json) -> None:
        """The answer of a write. Kept when newer than all the watch delivered."""
        if (revision := revision_of(obj)) > self.revision:
            self._store(obj, revision)

    def forget(self, obj: Json) -> None:
        """A delete that took effect at once; events of the object still under way are ignored."""
        key, uid = key_of(obj), obj["metadata"].get("uid", "")
        held = self.cache.objects.get(key)
        if held is not None and held["metadata"].get("uid", "") == uid:
            self._gone.add(uid)
            self.cache.remove(key)
            self._news.tell(held, None)

    # -- the stream ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        delay = FIRST_DELAY
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                if self._resume:
                    await self._follow(self._watch(self._resume))
                else:
                    await self._start()
                if loop.time() - began > 1:  # else the server is closing: retry with care
                    delay = FIRST_DELAY
                    continue
            except ApiError as error:
                if error.code == 410:
                    self._resume = ""
                    if delay == FIRST_DELAY:
                        delay *= 2
                        continue
                log.debug("%s: %s", self.resource, error)
            except (ConnectionError, TimeoutError, OSError) as error:
                log.debug("%s: %s", self.resource, error)
            await asyncio.sleep(delay * (0.5 + self._rng.random()))
            delay = min(delay * 2, LAST_DELAY)

    def _watch(self, resource_version: str, initial: bool = False) -> Any:
        more: dict[str, Any] = {"metadata_only": True} if self.metadata_only else {}
        seconds = int(WATCH_SECONDS * (1 + self._rng.random()))
        return self._client.watch(
            self.resource,
            resource_version=resource_version,
            send_initial_events=initial,
            field_selector=self._field_selector,
            timeout_seconds=seconds,
            **more,
        )

    async def _start(self) -> None:
        found: dict[str, Json] = {}
        stream = self._watch("", initial=True)
        try:
            async for event in stream:
                if event.type == "BOOKMARK":
                    annotations = event.object["metadata"].get("annotations") or {}
                    if annotations.get(INITIAL_END) == "true":
                        await self._replace(found, str(event.object["metadata"]["resourceVersion"]))
                        await self._follow(stream)
                        return
                elif event.type == "DELETED":
                    found.pop(key_of(event.object), None)
                else:
                    found[key_of(event.object)] = event.object
        except ApiError as error:
            if error.code not in REFUSED_WATCH_LIST or self._resume:
                raise
            await self._list()
            await self._follow(self._watch(self._resume))
        finally:
            await stream.aclose()

    async def _list(self) -> None:
        more: dict[str, Any] = {"metadata_only": True} if self.metadata_only else {}
        listed = await self._client.list(self.resource, field_selector=self._field_selector, **more)
        await self._replace({key_of(item): item for item in listed.items}, listed.resource_version)

    async def _follow(self, stream: Any) -> None:
        handled = 0
        try:
            async for event in stream:
                self._event(event)
                handled += 1
                if not handled % BREATH:
                    await asyncio.sleep(0)
        finally:
            await stream.aclose()

    def _event(self, event: WatchEvent) -> None:
        obj, revision = event.object, revision_of(event.object)
        if event.type == "DELETED":
            key, uid = key_of(obj), obj["metadata"].get("uid", "")
            self._gone.discard(uid)
            held = self.cache.objects.get(key)
            if held is not None and held["metadata"].get("uid", "") == uid:
                self.cache.remove(key)
                self._news.tell(self._kept(obj), None)
        elif event.type != "BOOKMARK":
            self._store(obj, revision)
        if version := obj["metadata"].get("resourceVersion"):
            self._resume = version
            self.revision = max(self.revision, revision)

    def _kept(self, obj: Json) -> Json:
        return self._keep(obj) if self._keep is not None else obj

    def _store(self, obj: Json, revision: int) -> None:
        if self._gone and obj["metadata"].get("uid", "") in self._gone:
            return
        key = key_of(obj)
        held = self.cache.objects.get(key)
        if held is not None and 0 < revision <= revision_of(held):
            return
        obj = self._kept(obj)
        if held is not None and held["metadata"].get("uid") != obj["metadata"].get("uid"):
            self.cache.remove(key)
            self._news.tell(held, None)
        self._news.tell(self.cache.put(key, obj), obj)

    async def _replace(self, found: dict[str, Json], version: str) -> None:
        """The state is now ``found``. Others get their turns in between: handlers of many objects take seconds."""
        at = int(version) if version.isdigit() else 0
        for key, held in list(self.cache.objects.items()):
            if key not in found and revision_of(held) <= at:
                self.cache.remove(key)
                self._news.tell(held, None)
        self._gone.clear()
        for number, obj in enumerate(found.values(), 1):
            self._store(obj, revision_of(obj))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._resume = version
        self.revision = max(self.revision, at)
        self.synced.set()


INDEXES: Mapping[Resource, Mapping[str, Index]] = {
    ("", "v1", "pods"): {"node": by_node},
    ("", "v1", "persistentvolumes"): {"claim": by_claim},
    ("resource.k8s.io", "v1", "resourceslices"): {"pool": by_pool},
    ("resource.k8s.io", "v1", "resourceclaims"): {"pool": by_pool},
}


READ_CONFIGMAPS = (
    "kube-root-ca.crt",
    "cluster-info",
    "kube-apiserver-legacy-service-account-token-tracking",
)
READ_SECRETS = ("bootstrap.kubernetes.io/token", "kubernetes.io/service-account-token")


def _configmap(obj: Json) -> Json:
    """Contents of ConfigMaps can be large, and only these are read."""
    return obj if obj["metadata"]["name"] in READ_CONFIGMAPS else trimmed(obj)


def _secret(obj: Json) -> Json:
    """Of Secrets only those of these types are read."""
    return obj if obj.get("type") in READ_SECRETS else trimmed(obj)


KEEP: Mapping[Resource, Callable[[Json], Json]] = {
    ("", "v1", "configmaps"): _configmap,
    ("", "v1", "secrets"): _secret,
}


class InformerSet:
    """One informer per resource for the whole process, however many controllers read it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.informers: dict[Resource, Informer] = {}
        self.caches: dict[Resource, ObjectCache] = {}
        self.view = View(self.caches)
        self._tasks: dict[Resource, asyncio.Task[None]] = {}
        self._started = False

    def informer(self, resource: Resource, *, metadata_only: bool = False) -> Informer:
        """The shared informer; ``metadata_only`` counts only for the first who asks, so ask for whole objects first."""
        found = self.informers.get(resource)
        if found is None:
            found = Informer(
                self.client,
                resource,
                indexes=INDEXES.get(resource),
                metadata_only=metadata_only,
                keep=KEEP.get(resource),
            )
            self.informers[resource] = found
            self.caches[resource] = found.cache
            if self._started:
                self._launch(found)
        return found

    def _launch(self, informer: Informer) -> None:
        name = "informer " + "/".join(informer.resource)
        self._tasks[informer.resource] = asyncio.create_task(informer.run(), name=name)

    def start(self) -> None:
        """Starts all that were asked for; later ones start at once."""
        self._started = True
        for informer in self.informers.values():
            if informer.resource not in self._tasks:
                self._launch(informer)

    async def wait_synced(self, resources: list[Resource] | None = None) -> None:
        for resource in list(self.informers) if resources is None else resources:
            await self.informers[resource].synced.wait()

    def drop(self, resource: Resource) -> None:
        """Stops watching a resource that is no longer served."""
        task = self._tasks.pop(resource, None)
        if task is not None:
            task.cancel()
        self.informers.pop(resource, None)
        self.caches.pop(resource, None)

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
