"""Stories of nodes that fall silent, are tainted or go, and of the pods on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.unit.controllers.ordeal.storage import pod
from tests.unit.controllers.ordeal.workloads import ended
from tests.unit.controllers.ordeal.world import NODES, PODS, Json, Scenario, World

from portside.base.clock import rfc3339
from portside.client.protocol import Resource

LEASES: Resource = ("coordination.k8s.io", "v1", "leases")
BEAT = 10.0


@asynccontextmanager
async def heartbeats(world: World, *names: str) -> AsyncIterator[set[str]]:
    """Leases of these nodes are renewed; who is taken out of the set falls silent."""
    alive = set(names)
    for name in names:
        await world.client.create(LEASES, {"metadata": {"name": name}}, namespace="kube-node-lease")

    async def beat() -> None:
        while True:
            for name in sorted(alive):
                now = rfc3339(world.clock.now()).replace("Z", ".000000Z")
                body = {"spec": {"holderIdentity": name, "renewTime": now, "leaseDurationSeconds": 40}}
                await world.client.patch(LEASES, name, body, namespace="kube-node-lease")
            await asyncio.sleep(BEAT)

    task = asyncio.create_task(beat())
    try:
        yield alive
    finally:
        task.cancel()


def _ready(world: World, name: str) -> str:
    found = next(n for n in world.of_kind("Node") if n["metadata"]["name"] == name)
    return str(next(c["status"] for c in found["status"]["conditions"] if c["type"] == "Ready"))


async def _lost(world: World) -> None:
    """A silent node's pod goes after its patience; when the node is back, its taints go."""
    await world.join("n2")
    async with heartbeats(world, "n1", "n2") as alive:
        tolerated = [
            {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}
            for why in ("unreachable", "not-ready")
        ]
        await world.create(PODS, pod(nodeName="n2", tolerations=tolerated))
        await world.until(lambda: world.of_kind("Pod")[0]["status"]["phase"] == "Running")
        alive.discard("n2")
        await world.until(lambda: _ready(world, "n2") == "Unknown")
        await world.until(lambda: not world.of_kind("Pod"))
        alive.add("n2")
        await world.wait(2 * BEAT)
        now = rfc3339(world.clock.now())
        said = [{"type": n, "status": "False"} for n in ("MemoryPressure", "DiskPressure", "PIDPressure")]
        back = [{**c, "lastHeartbeatTime": now} for c in ({"type": "Ready", "status": "True"}, *said)]
        body = {"status": {"conditions": back}}
        await world.client.patch(NODES, "n2", body, patch_type="strategic", subresource="status")

        def clean() -> bool:
            return not any(n["spec"].get("taints") for n in world.of_kind("Node"))

        await world.until(clean)
        await world.settled()


async def _gone(world: World) -> None:
    await world.join("n2")
    await world.create(PODS, pod(nodeName="n2"))
    await world.until(lambda: world.of_kind("Pod")[0]["status"]["phase"] == "Running")
    await world.client.delete(NODES, "n2")
    await world.until(lambda: not world.of_kind("Pod"))


async def _many(world: World) -> None:
    """Of four finished pods two are kept (see ``World``)."""
    for i in range(4):
        await world.create(PODS, pod(f"p{i}", restartPolicy="Never"))
        await asyncio.sleep(2)
    await world.until(lambda: len(world.of_kind("Pod")) == 2)


async def _tainted(world: World) -> None:
    """One pod goes at once, one after its patience, one stays."""
    key = {"key": "example.org/drain", "operator": "Exists"}
    await world.create(PODS, pod("now"))
    await world.create(PODS, pod("later", tolerations=[{**key, "effect": "NoExecute", "tolerationSeconds": 40}]))
    await world.create(PODS, pod("never", tolerations=[key]))
    await world.until(lambda: all((p.get("status") or {}).get("phase") == "Running" for p in world.of_kind("Pod")))
    taint: Json = {"key": "example.org/drain", "effect": "NoExecute"}
    await world.client.patch(NODES, "n1", {"spec": {"taints": [taint]}})
    await world.until(lambda: len(world.of_kind("Pod")) == 1)


TAINTING = ("node-controller of nodes", "taint-eviction-controller of pods")

SCENARIOS = (
    Scenario("a silent node", TAINTING, _lost),
    Scenario("a node that goes", ("pod-garbage-collector-controller of pods",), _gone),
    Scenario("too many finished pods", ("pod-garbage-collector-controller of pods, at times",), _many, ended),
    Scenario("a tainted node", TAINTING[1:], _tainted),
)
