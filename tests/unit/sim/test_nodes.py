"""What simulated nodes write: each thing once, and heartbeats only when there is time or need."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from portside.client.fake import FakeClient
from portside.run.virtual_time import VirtualClock, VirtualLoop
from portside.sim.nodes import AT_ONCE, HEARTBEAT, LATE, LEASES, NODES, PODS, Simulation

Json = dict[str, Any]


def run(work: Coroutine[Any, Any, None], loop: VirtualLoop) -> None:
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Slow(FakeClient):
    """Answers patches late, as a server that commits to a disk."""

    async def patch(self, *words: Any, **named: Any) -> Json:
        await asyncio.sleep(0.01)
        answer = await super().patch(*words, **named)
        await asyncio.sleep(0.01)
        return answer


def test_a_new_nodes_status_is_written_once_whatever_others_write_to_it_meanwhile() -> None:
    async def work() -> None:
        client = Slow()
        task = asyncio.create_task(Simulation(client, 1).run())
        await asyncio.sleep(0.001)
        for number in range(20):
            await FakeClient.patch(client, NODES, "node-0", {"metadata": {"annotations": {"n": str(number)}}})
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        await ended(task)
        assert [w for w in client.writes if w[1] == NODES and "status" in w[0]] == [("patch status", NODES, "node-0")]

    run(work(), VirtualLoop())


def test_a_node_that_was_made_anew_while_its_status_was_written_becomes_ready_too() -> None:
    async def work() -> None:
        client = Slow()
        simulation = Simulation(client, 1)
        task = asyncio.create_task(simulation.run())
        while not simulation.reporting:
            await asyncio.sleep(0.001)
        made = dict(client.objects[NODES]["node-0"])
        await client.delete(NODES, "node-0")
        await asyncio.sleep(0.015)  # the patch was refused, its sender does not know yet
        await client.create(NODES, {"metadata": {k: made["metadata"][k] for k in ("name", "annotations", "labels")}})
        await asyncio.sleep(1)
        await ended(task)
        status = client.objects[NODES]["node-0"]["status"]
        assert [c["status"] for c in status["conditions"] if c["type"] == "Ready"] == ["True"]

    run(work(), VirtualLoop())


def test_heartbeats_go_on_while_thousands_of_pods_wait_for_their_status() -> None:
    loop = VirtualLoop()

    class Busy(FakeClient):
        """Takes a second for what is said of a pod."""

        async def patch(self, resource: Any, *words: Any, **named: Any) -> Json:
            if resource == PODS:
                await asyncio.sleep(1)
            return await super().patch(resource, *words, **named)

    async def work() -> None:
        client = Busy(VirtualClock(loop))
        simulation = Simulation(client, 1, VirtualClock(loop).now)
        task = asyncio.create_task(simulation.run())
        await asyncio.sleep(1)
        for number in range(20 * AT_ONCE):
            meta = {"name": f"p{number}", "namespace": "default"}
            pod = {"metadata": meta, "spec": {"nodeName": "node-0", "containers": [{"name": "c"}]}}
            await client.create(PODS, pod, namespace="default")
        client.writes.clear()
        await asyncio.sleep(1.5 * HEARTBEAT)
        beats = [w for w in client.writes if w[1] == LEASES]
        said = [w for w in client.writes if w[1] == PODS]
        await ended(task)
        assert beats and AT_ONCE < len(said) < 20 * AT_ONCE

    run(work(), loop)


def test_heartbeats_wait_while_pods_come_and_go_but_not_for_too_long() -> None:
    loop = VirtualLoop()

    async def work() -> None:
        client = FakeClient(VirtualClock(loop))
        simulation = Simulation(client, 1, VirtualClock(loop).now)
        task = asyncio.create_task(simulation.run())
        await asyncio.sleep(5 * HEARTBEAT)
        quiet = len([w for w in client.writes if w[1] == LEASES])
        assert quiet >= 5
        client.writes.clear()
        end, renewed, longest = loop.time() + 5 * LATE, loop.time(), 0.0
        while loop.time() < end:
            simulation.seen += 10  # pods
            await asyncio.sleep(0.02)
            if any(w[1] == LEASES for w in client.writes):
                renewed, longest = loop.time(), max(longest, loop.time() - renewed)
                client.writes.clear()
        await ended(task)
        assert 2 * HEARTBEAT < longest < LATE + HEARTBEAT

    run(work(), loop)
