"""Simulated nodes: plays the agent of every node annotated ``kwok.x-k8s.io/node: fake``, over the API alone."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from portside.api.status import ApiError
from portside.client.protocol import Client, Json, Resource, WatchEvent
from portside.sim.status import managed, node_object, node_status, pod_status

log = logging.getLogger("portside.sim")

NODES: Resource = ("", "v1", "nodes")
PODS: Resource = ("", "v1", "pods")
LEASES: Resource = ("coordination.k8s.io", "v1", "leases")
LEASE_NAMESPACE = "kube-node-lease"
HEARTBEAT = 10.0  # seconds between a node's lease renewals, as the kubelet's
LEASE_SECONDS = 40
AT_ONCE = 64  # writes under way at a time
VERSION = "v1.37.2"
FIRST_POD_ADDRESS = int(ipaddress.IPv4Address("10.245.0.1"))
FIRST_NODE_ADDRESS = int(ipaddress.IPv4Address("10.246.0.1"))


def timestamp(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


async def follow(client: Client, resource: Resource) -> AsyncIterator[WatchEvent]:
    """Every object and every change, for ever; after a break everything is told anew."""
    while True:
        try:
            async for event in client.watch(resource, send_initial_events=True):
                yield event
        except (ApiError, OSError, TimeoutError) as error:
            log.debug("watch of %s broke off: %s", resource[2], error)
        await asyncio.sleep(0.5)


class Simulation:
    """The simulated nodes and their pods. ``wall`` gives seconds since the epoch."""

    def __init__(self, client: Client, count: int, wall: Callable[[], float] = time.time) -> None:
        self.client = client
        self.count = count
        self.wall = wall
        self.hosts: dict[str, str] = {}
        self.waiting: dict[str, dict[str, Json]] = {}  # pods seen before their node, by node
        self.addresses: dict[str, str] = {}
        self.next_address = FIRST_POD_ADDRESS
        self.next_host = FIRST_NODE_ADDRESS
        self.slots = asyncio.Semaphore(AT_ONCE)
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(*(self._make_node(i) for i in range(self.count)))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._nodes())
                group.create_task(self._pods())
                group.create_task(self._heartbeats())
        finally:
            for task in list(self.tasks):
                task.cancel()

    async def _make_node(self, index: int) -> None:
        try:
            await self.client.create(NODES, node_object(f"node-{index}", index))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(self._bounded(work))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _bounded(self, work: Coroutine[Any, Any, None]) -> None:
        async with self.slots:
            try:
                await work
            except ApiError as error:
                if error.reason not in ("NotFound", "Conflict"):
                    log.warning("a simulated node's write was refused: %s", error)
            except OSError as error:
                log.warning("a simulated node's write failed: %s", error)

    async def _nodes(self) -> None:
        async for event in follow(self.client, NODES):
            if event.type in ("BOOKMARK", "ERROR"):
                continue
            node = event.object
            name = node["metadata"]["name"]
            if event.type == "DELETED" or not managed(node):
                self.hosts.pop(name, None)
                continue
            if name not in self.hosts:
                self.hosts[name] = self._host_of(node)
                self._start(self._renew(name))
                for pod in self.waiting.pop(name, {}).values():
                    self._pod(pod)
            patch = node_status(node, self.hosts[name], timestamp(self.wall()), VERSION)
            if patch is not None:
                self._start(self._patch(NODES, name, "", patch))

    def _host_of(self, node: Json) -> str:
        for entry in (node.get("status") or {}).get("addresses") or ():
            if entry["type"] == "InternalIP":
                return str(entry["address"])
        self.next_host += 1
        return str(ipaddress.IPv4Address(self.next_host))

    async def _pods(self) -> None:
        async for event in follow(self.client, PODS):
            if event.type in ("BOOKMARK", "ERROR"):
                continue
            pod = event.object
            node = pod["spec"].get("nodeName")
            if event.type == "DELETED":
                self.addresses.pop(pod["metadata"]["uid"], None)
                self.waiting.get(node or "", {}).pop(pod["metadata"]["uid"], None)
            elif node in self.hosts:
                self._pod(pod)
            elif node:
                self.waiting.setdefault(node, {})[pod["metadata"]["uid"]] = pod

    def _pod(self, pod: Json) -> None:
        meta = pod["metadata"]
        if meta.get("deletionTimestamp"):
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
            self._start(self._delete(meta["name"], meta["namespace"], options))
            return
        address = (pod.get("status") or {}).get("podIP") or self.addresses.get(meta["uid"])
        if not address:
            self.next_address += 1
            address = str(ipaddress.IPv4Address(self.next_address))
        self.addresses[meta["uid"]] = address
        patch = pod_status(pod, self.hosts[pod["spec"]["nodeName"]], address, timestamp(self.wall()))
        if patch is not None:
            self._start(self._patch(PODS, meta["name"], meta["namespace"], patch | {"metadata": {"uid": meta["uid"]}}))

    async def _patch(self, resource: Resource, name: str, namespace: str, patch: Json) -> None:
        await self.client.patch(resource, name, patch, patch_type="merge", namespace=namespace, subresource="status")

    async def _delete(self, name: str, namespace: str, options: Json) -> None:
        await self.client.delete(PODS, name, namespace=namespace, options=options)

    async def _heartbeats(self) -> None:
        """Renew every node's lease once per interval, spread evenly over it."""
        while True:
            names = list(self.hosts)
            if not names:
                await asyncio.sleep(HEARTBEAT)
                continue
            for name in names:
                if name in self.hosts:
                    self._start(self._renew(name))
                await asyncio.sleep(HEARTBEAT / len(names))

    async def _renew(self, name: str) -> None:
        now = self.wall()
        renewed = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        patch = {"spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": renewed}}
        try:
            await self.client.patch(LEASES, name, patch, patch_type="merge", namespace=LEASE_NAMESPACE)
        except ApiError as error:
            if error.reason != "NotFound":
                raise
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
            } | patch
            await self.client.create(LEASES, body, namespace=LEASE_NAMESPACE)


async def run(client: Client, count: int) -> None:
    """Make ``count`` simulated nodes and play every fake node's agent until cancelled."""
    await Simulation(client, count).run()
