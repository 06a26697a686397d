"""The scheduler against a real API server in this process: what it writes, and that slow volumes hold up nobody."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.scheduler.conftest import PODS, bound, pod, until

from portside.scheduler import runner

Json = dict[str, Any]
CLAIMS, CLASSES = ("", "v1", "persistentvolumeclaims"), ("storage.k8s.io", "v1", "storageclasses")


async def test_a_pod_gets_its_node_its_condition_and_its_event(client: Any) -> None:
    await client.create(PODS, pod("p"), namespace="default")
    found = await bound(client, "p")
    assert [(c["type"], c["status"]) for c in found["status"]["conditions"]] == [("PodScheduled", "True")]
    events = (
        await until(lambda: client.list(("", "v1", "events"), namespace="default"), lambda page: page.items)
    ).items
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

    async def chosen() -> str:
        claim = await client.get(CLAIMS, "c0", namespace="default")
        return str((claim["metadata"].get("annotations") or {}).get("volume.kubernetes.io/selected-node", ""))

    assert await until(chosen, bool) == "n"


async def test_nominated_pods_that_keep_each_other_out_of_room_for_some_of_them_get_it(client: Any) -> None:
    """Room was kept for three where only two fit: the one that can't win it gives it up, as nobody is left to evict."""

    def asks(name: str, cpu: str) -> Json:
        made = pod(name)
        made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
        return made

    node = await client.get(("", "v1", "nodes"), "n")
    whole = int(node["status"]["allocatable"]["cpu"])
    await client.create(PODS, asks("full", str(whole)), namespace="default")
    await bound(client, "full")
    names = ["a", "b", "c"]
    for name in names:
        await client.create(PODS, asks(name, f"{whole * 500}m"), namespace="default")
        await until(
            lambda name=name: client.get(PODS, name, namespace="default"), lambda p: p["status"].get("conditions")
        )  # type: ignore[misc]
    for name in names:
        body = {"status": {"nominatedNodeName": "n"}}
        await client.patch(PODS, name, body, namespace="default", subresource="status")
    await client.delete(PODS, "full", namespace="default", options={"gracePeriodSeconds": 0})

    async def left() -> list[Json]:
        found = [await client.get(PODS, name, namespace="default") for name in names]
        return [p for p in found if not p["spec"].get("nodeName")]

    (loser,) = await until(left, lambda found: len(found) == 1)
    name = loser["metadata"]["name"]
    await until(lambda: client.get(PODS, name, namespace="default"), lambda p: not p["status"].get("nominatedNodeName"))
