"""Stories of gangs in virtual time, told as JSON: `python -m tests.sim.gang_stories`, with the gate GenericWorkload on.

A process of its own, because the tables of kinds are made with the gates a process starts with.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from portside.base.pki import ensure_pki
from portside.client.inprocess import inprocess_client
from portside.run.virtual_time import VirtualClock, VirtualLoop
from portside.scheduler.runner import Scheduler
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
PODS, NODES = ("", "v1", "pods"), ("", "v1", "nodes")
CLAIMS, CLASSES = ("", "v1", "persistentvolumeclaims"), ("storage.k8s.io", "v1", "storageclasses")
GROUPS = ("scheduling.k8s.io", "v1beta1", "podgroups")
SELECTED = "volume.kubernetes.io/selected-node"


class Stage:
    """A server with one node of 4 CPUs; the scheduler runs when it is told to."""

    def __init__(self, client: Any, clock: VirtualClock) -> None:
        self.client, self.clock = client, clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(Scheduler(self.client, self.clock, Random(1)).run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def make(self, resource: Any, name: str, spec: Json, **more: Any) -> None:
        body = {"metadata": {"name": name}, **({"spec": spec} if spec else {}), **more}
        namespace = None if resource in (NODES, CLASSES) else "default"
        await self.client.create(resource, body, namespace=namespace)

    async def group(self, least: int) -> None:
        await self.make(GROUPS, "g", {"schedulingPolicy": {"gang": {"minCount": least}}})

    async def pod(self, name: str, **spec: Any) -> None:
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
        await self.make(PODS, name, {"containers": [container], "schedulingGroup": {"podGroupName": "g"}, **spec})

    async def placed(self) -> list[str]:
        found = (await self.client.list(PODS, namespace="default")).items
        return [p["metadata"]["name"] for p in found if p["spec"].get("nodeName")]

    async def said(self) -> Json:
        group = await self.client.get(GROUPS, "g", namespace="default")
        found = (group.get("status") or {}).get("conditions") or [{}]
        return {k: found[0].get(k) for k in ("status", "reason", "message")}


async def volumes_that_never_come(stage: Stage) -> Json:
    """Two pods of a gang with claims that nobody provisions for: they give their nodes back after the time-out, and are
    placed together when the volumes are there."""
    await stage.make(CLASSES, "slow", {}, provisioner="example.com/none", volumeBindingMode="WaitForFirstConsumer")
    await stage.group(2)
    for name in ("a", "b"):
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        await stage.make(CLAIMS, name, {"storageClassName": "slow", **wanted})
        await stage.pod(name, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": name}}])
    stage.start()
    await stage.clock.sleep(290)
    before = await stage.said()
    await stage.clock.sleep(15)
    after, held = await stage.said(), await stage.placed()
    for name in ("a", "b"):
        annotations = {"pv.kubernetes.io/bind-completed": "yes"}
        patch = {"metadata": {"annotations": annotations}, "spec": {"volumeName": f"v-{name}"}}
        volume = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/v"},
            "claimRef": {"namespace": "default", "name": name},
        }
        await stage.client.create(("", "v1", "persistentvolumes"), {"metadata": {"name": f"v-{name}"}, "spec": volume})
        await stage.client.patch(CLAIMS, name, patch, namespace="default")
    await stage.clock.sleep(30)
    return {"before": before, "after": after, "held": held, "placed": await stage.placed(), "said": await stage.said()}


async def a_scheduler_that_died_half_way(stage: Stage) -> Json:
    """One of three was bound when the scheduler died: the next one places the two others, and does not wait for three."""
    await stage.group(3)
    for name in "abc":
        await stage.pod(name)
    binding = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}}
    await stage.client.create(PODS, binding, namespace="default", name="a", subresource="binding")
    stage.start()
    await stage.clock.sleep(10)
    return {"placed": await stage.placed(), "said": await stage.said()}


async def members_that_come_late(stage: Stage) -> Json:
    """A gang waits for its third pod for an hour, is told why, and starts at once when it comes."""
    await stage.group(3)
    await stage.pod("a")
    await stage.pod("b")
    stage.start()
    await stage.clock.sleep(3600)
    held = await stage.placed()
    pod = await stage.client.get(PODS, "a", namespace="default")
    why = next(c["message"] for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
    await stage.pod("c")
    await stage.clock.sleep(0.5)
    return {"held": held, "why": why, "placed": await stage.placed()}


async def a_restart_while_it_does_not_fit(stage: Stage) -> Json:
    """A gang too large for the cluster waits through two restarts, and is placed when a node joins."""
    await stage.group(6)
    for name in "abcdef":
        await stage.pod(name)
    seen = []
    for _ in range(2):
        stage.start()
        await stage.clock.sleep(60)
        seen.append([await stage.placed(), (await stage.said())["message"]])
        await stage.stop()
    stage.start()
    await stage.clock.sleep(5)
    await add_node(stage, "m")
    await stage.clock.sleep(15)
    return {"seen": seen, "placed": await stage.placed(), "said": await stage.said()}


STORIES: tuple[Callable[[Stage], Awaitable[Json]], ...] = (
    volumes_that_never_come,
    a_scheduler_that_died_half_way,
    members_that_come_late,
    a_restart_while_it_does_not_fit,
)


async def add_node(stage: Stage, name: str) -> None:
    room = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    await stage.make(NODES, name, {}, status={"allocatable": room})
    await stage.client.patch(NODES, name, {"spec": {"taints": None}})


async def tell(story: Callable[[Stage], Awaitable[Json]], loop: VirtualLoop) -> Json:
    clock = VirtualClock(loop)
    with tempfile.TemporaryDirectory(prefix="portside-gangs-") as home:
        pki = ensure_pki(Path(home), ["127.0.0.1"])
        server = ApiServer(MemoryBackend(), pki, clock=clock)
        await server.start()
        await bootstrap(server, Place("127.0.0.1", 6443, server.allocator.first, "10.96.0.0/16"), pki)
        client = inprocess_client(server.handler, server.make_request(User("admin", groups=("system:masters",))))
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await client.create(("", "v1", "serviceaccounts"), account, namespace="default")
        stage = Stage(client, clock)
        await add_node(stage, "n")
        try:
            return await story(stage)
        finally:
            await stage.stop()
            await server.stop()


def main() -> None:
    told = {}
    for story in STORIES:
        loop = VirtualLoop()
        asyncio.set_event_loop(loop)
        told[getattr(story, "__name__", "")] = loop.run_until_complete(tell(story, loop))
        loop.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
