"""The scheduler against a real API server in this process: what it writes, and that slow volumes hold up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from portside.base.clock import SYSTEM
from portside.base.pki import ensure_pki
from portside.client.inprocess import inprocess_client
from portside.scheduler import runner
from portside.scheduler.runner import Scheduler
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
PODS, NODES = ("", "v1", "pods"), ("", "v1", "nodes")
CLAIMS, CLASSES = ("", "v1", "persistentvolumeclaims"), ("storage.k8s.io", "v1", "storageclasses")


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


async def bound(client: Any, name: str) -> Json:
    for _ in range(200):
        found: Json = await client.get(PODS, name, namespace="default")
        if found["spec"].get("nodeName"):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"{name} has no node")


async def test_a_pod_gets_its_node_its_condition_and_its_event(client: Any) -> None:
    await client.create(PODS, pod("p"), namespace="default")
    found = await bound(client, "p")
    assert [(c["type"], c["status"]) for c in found["status"]["conditions"]] == [("PodScheduled", "True")]
    for _ in range(100):
        events = (await client.list(("", "v1", "events"), namespace="default")).items
        if events:
            break
        await asyncio.sleep(0.02)
    assert (events[0]["reason"], events[0]["action"]) == ("Scheduled", "Binding")
    assert events[0]["message"] == "Successfully assigned default/p to n"


async def test_pods_that_wait_for_volumes_hold_up_no_others(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "AHEAD", 2)
    slow = {
        "metadata": {"name": "slow"},
        "provisioner": "example.com/none",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    await client.create(CLASSES, {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", **slow})
    for i in range(5):
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        spec = {"storageClassName": "slow", **wanted}
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": f"c{i}"}, "spec": spec}
        await client.create(CLAIMS, claim, namespace="default")
        volume = {"name": "v", "persistentVolumeClaim": {"claimName": f"c{i}"}}
        await client.create(PODS, pod(f"w{i}", volumes=[volume]), namespace="default")
    await client.create(PODS, pod("quick"), namespace="default")
    await bound(client, "quick")
    for _ in range(100):
        claim = await client.get(CLAIMS, "c0", namespace="default")
        if said := (claim["metadata"].get("annotations") or {}).get("volume.kubernetes.io/selected-node"):
            break
        await asyncio.sleep(0.02)
    assert said == "n"
