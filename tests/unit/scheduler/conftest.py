"""An API server in this process with one node and the scheduler at work, for tests of what it writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from portside.base.clock import SYSTEM
from portside.base.pki import ensure_pki
from portside.client.inprocess import inprocess_client
from portside.scheduler.runner import Scheduler
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
PODS, NODES = ("", "v1", "pods"), ("", "v1", "nodes")
PATIENCE = 60.0  # seconds


@asynccontextmanager
async def scheduled(
    tmp_path: Path,
    nodes: Sequence[str] = ("n",),
    *,
    cordoned: Sequence[str] = (),
    offers: dict[str, str] | None = None,
    **more: Any,
) -> AsyncIterator[Any]:
    """A client of an API server with empty nodes, which offer something beside the usual, and a Scheduler made with ``more``."""
    pki = ensure_pki(tmp_path, ["127.0.0.1"])
    server = ApiServer(MemoryBackend(), pki)
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443, server.allocator.first, "10.96.0.0/16"), pki)
    made = inprocess_client(server.handler, server.make_request(User("admin", groups=("system:masters",))))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await made.create(("", "v1", "serviceaccounts"), account, namespace="default")
    room = {"cpu": "4", "memory": "8Gi", "pods": "110"} | (offers or {})
    for name in nodes:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"allocatable": room}}
        await made.create(NODES, node)
        await made.patch(NODES, name, {"spec": {"taints": None, "unschedulable": name in cordoned or None}})
    task = asyncio.create_task(Scheduler(made, SYSTEM, **more).run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await server.stop()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Any]:
    async with scheduled(tmp_path) as made:
        yield made


def pod(name: str, **spec: Any) -> Json:
    container = {"name": "c", "image": "i"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container], **spec}}


async def until(get: Callable[[], Any], test: Callable[[Any], Any]) -> Any:
    """The first of what ``get`` answers that passes the test."""
    end = SYSTEM.monotonic() + PATIENCE
    while True:
        found = await get()
        if (answer := test(found)) or SYSTEM.monotonic() > end:
            assert answer, found
            return found
        await asyncio.sleep(0.02)


async def bound(client: Any, name: str) -> Json:
    """The pod, once it has a node."""
    found: Json = await until(lambda: client.get(PODS, name, namespace="default"), lambda p: p["spec"].get("nodeName"))
    return found
