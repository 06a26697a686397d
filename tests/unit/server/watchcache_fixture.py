"""A store with its watch caches, and clients that keep what a watch told them."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import orjson

from portside.api.status import ApiError
from portside.server.watchcache import JsonForm, WatchCache
from portside.server.watchcache_feed import WatchCaches
from portside.store.backend import Committed, Write
from portside.store.memory import MemoryBackend

POD = JsonForm("v1", "Pod", b',"spec":{"containers":null},"status":{}')


def pod(name: str, namespace: str = "default", labels: dict | None = None, node: str = "", **spec: Any) -> bytes:
    meta: dict = {"name": name, "namespace": namespace}
    if labels is not None:
        meta["labels"] = labels
    if node:
        spec["nodeName"] = node
    return orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})


class Cluster:
    """A store with its caches and short words for writing."""

    def __init__(self) -> None:
        self.backend: Any = MemoryBackend()
        self.now = 1000.0

    async def start(self) -> "Cluster":
        await self.backend.open()
        self.caches = WatchCaches(self.backend, clock=lambda: self.now, rng=random.Random(1))
        await self.caches.start()
        return self

    @property
    def pods(self) -> WatchCache:
        return self.caches.of("", "pods")

    async def put(self, name: str, namespace: str = "default", **more: Any) -> int:
        done = await self.backend.write(Write(f"/core/pods/{namespace}/{name}", pod(name, namespace, **more)))
        assert isinstance(done, Committed)
        return done.revision

    async def drop(self, name: str, namespace: str = "default") -> int:
        done = await self.backend.write(Write(f"/core/pods/{namespace}/{name}", None))
        assert isinstance(done, Committed)
        return done.revision


class Client:
    """Reads a watch; keeps what it was told and the state that follows from it."""

    def __init__(self, cache: WatchCache, *, start: bool = True, **options: Any) -> None:
        self.raw: list[bytes] = []
        self.ended: list[ApiError | None] = []
        self.on_data: Callable[[], None] = lambda: None
        options.setdefault("form", POD)
        self.watch = cache.watch(self._take, self.ended.append, **options)
        if start:
            self.watch.resume()

    def _take(self, data: bytes) -> None:
        self.raw.append(data)
        self.on_data()

    @property
    def events(self) -> list[dict]:
        return [orjson.loads(line) for line in b"".join(self.raw).splitlines()]

    @property
    def told(self) -> list[tuple[str, str, int]]:
        return [
            (e["type"], e["object"]["metadata"].get("name", ""), int(e["object"]["metadata"]["resourceVersion"]))
            for e in self.events
        ]

    @property
    def state(self) -> dict[str, dict]:
        """What an informer would hold; asserts that every event fits what came before."""
        state: dict[str, dict] = {}
        for event in self.events:
            obj = event["object"]
            key = f"{obj['metadata'].get('namespace')}/{obj['metadata'].get('name')}"
            if event["type"] == "ADDED":
                assert key not in state
                state[key] = obj
            elif event["type"] == "MODIFIED":
                assert int(state[key]["metadata"]["resourceVersion"]) < int(obj["metadata"]["resourceVersion"])
                state[key] = obj
            elif event["type"] == "DELETED":
                del state[key]
        return state


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
