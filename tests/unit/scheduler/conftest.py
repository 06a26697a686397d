"""An API server in this process with one node and the scheduler at work, for tests of what it writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
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


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Any]:
    pki = ensure_pki(tmp_path, ["127.0.0.1"])
    server = ApiServer(MemoryBackend(), pki)
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443, server.allocator.first, "10.96.0.0/16"), pki)
    made = inprocess_client(server.handler, server.make_request(User("admin", groups=("system:masters",))))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await made.create(("", "v1", "serviceaccounts"), account, namespace="default")
    room = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"allocatable": room}}
    await made.create(NODES, node)
    await made.patch(NODES, "n", {"spec": {"taints": None}})
    task = asyncio.create_task(Scheduler(made, SYSTEM).run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await server.stop()


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
