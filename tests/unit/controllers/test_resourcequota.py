"""Quotas are counted again without taking back what was just charged."""

from __future__ import annotations

import asyncio
from typing import Any

from portside.client.fake import FakeClient
from portside.controllers.harness import Harness
from portside.controllers.resourcequota import LONGEST_WAIT, PODS, QUOTAS, controller
from portside.run.virtual_time import VirtualClock, VirtualLoop

Json = dict[str, Any]


class Cluster:
    """One namespace with a quota of pods, in virtual time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.client = FakeClient(clock=clock)
        self.harness = Harness(self.client, clock, [controller()])

    @property
    def used(self) -> str:
        quota = self.client.objects[QUOTAS]["ns/q"]
        return str(((quota.get("status") or {}).get("used") or {}).get("pods"))

    async def charge(self, pods: str) -> None:
        """What admission does before it lets a pod be written."""
        quota = await self.client.get(QUOTAS, "q", namespace="ns")
        quota["status"]["used"] = {"pods": pods}
        await self.client.update(QUOTAS, quota, namespace="ns", subresource="status")

    async def pod(self, name: str) -> None:
        await self.client.create(PODS, {"metadata": {"name": name, "namespace": "ns"}, "spec": {}, "status": {}})

    async def until(self, used: str) -> None:
        async with asyncio.timeout(30):
            while self.used != used:
                await asyncio.sleep(0.1)


def told(story: Any) -> None:
    loop = VirtualLoop()

    async def play() -> None:
        cluster = Cluster(VirtualClock(loop))
        quota = {"metadata": {"name": "q", "namespace": "ns"}, "spec": {"hard": {"pods": "9"}}}
        await cluster.client.create(QUOTAS, quota)
        task = asyncio.create_task(cluster.harness.run())
        await cluster.until("0")
        await story(cluster)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    try:
        loop.run_until_complete(play())
    finally:
        loop.close()


def test_a_charge_outlives_a_recount_that_does_not_see_its_object_yet() -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.charge("1")
        await cluster.pod("first")
        await cluster.until("1")
        await cluster.charge("3")  # for two pods, one of which is still being written when the news of the other arrive
        await cluster.pod("second")
        await asyncio.sleep(0.6)
        assert cluster.used == "3"
        await cluster.pod("third")
        await asyncio.sleep(10)
        assert cluster.used == "3"

    told(story)


def test_what_a_refused_write_was_charged_is_given_back_soon() -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.charge("5")
        await cluster.pod("only")
        await cluster.until("1")

    told(story)


def test_charges_without_end_do_not_keep_what_deletions_free() -> None:
    async def story(cluster: Cluster) -> None:
        seen = []
        for second in range(int(LONGEST_WAIT * 4)):
            await cluster.charge(str(3 + second % 2))
            await asyncio.sleep(0.5)
            seen.append(cluster.used)
        assert "0" in seen

    told(story)
