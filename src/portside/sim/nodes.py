"""Simulated nodes: plays the agent of every node annotated ``kwok.x-k8s.io/node: fake``, over the API alone."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from portside.api.status import ApiError
from portside.client.informer import revision_of
from portside.client.protocol import Client, Json, Resource, WatchEvent
from portside.sim.lifecycle import Life, Moment, at, life_of
from portside.sim.status import managed, node_object, node_status, pod_status, runs_to_an_end, status_at

log = logging.getLogger("portside.sim")

NODES: Resource = ("", "v1", "nodes")
PODS: Resource = ("", "v1", "pods")
LEASES: Resource = ("coordination.k8s.io", "v1", "leases")
LEASE_NAMESPACE = "kube-node-lease"
HEARTBEAT = 10.0  # seconds between a node's lease renewals, as the kubelet's
MANY, HEARTBEAT_OF_MANY = 1000, 20.0  # more nodes than this renew less often: half of a lease, still well in time
CROWD, LATE = 200.0, 25.0  # with more changes of pods a second renewals wait, until the last is so many seconds ago
LEASE_SECONDS = 40
STEP = 0.1  # seconds between two looks whether pods still come and go
AT_ONCE = 64  # writes under way at a time
BEATS = 256  # heartbeats under way at a time: where answers take long, more of them share a commit
VERSION = "v1.37.2"
SETTLED = ("Running", "Succeeded", "Failed")  # phases in which nothing more happens to a pod without a life of its own
JOB = Life(end=0.0)  # what a Job's pod does without annotations
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
        self.uids: dict[str, str] = {}  # of the nodes that we play
        self.waiting: dict[str, dict[str, Json]] = {}  # pods seen before their node, by node
        self.addresses: dict[str, str] = {}
        self.began: dict[str, float] = {}  # when pods with a life of their own were first seen on their node
        self.latest: dict[str, Json] = {}
        self.timers: dict[str, asyncio.TimerHandle] = {}
        self.renewed: dict[str, float] = {}  # when each node's lease was last renewed, by the loop's clock
        self.renewing: set[str] = set()  # nodes whose renewal is under way
        self.seen = 0  # changes of pods since the last look
        self.looked = 0.0
        self.reporting: dict[str, Json | None] = {}  # nodes whose status is being written; how they were seen meanwhile
        self.ending: set[str] = set()  # pods whose end is under way: what is said of them meanwhile changes nothing
        self.next_address = FIRST_POD_ADDRESS
        self.next_host = FIRST_NODE_ADDRESS
        self.slots = asyncio.Semaphore(AT_ONCE)
        self.beats = asyncio.Semaphore(
            BEATS
        )  # of heartbeats, which wait behind no pods: a late node would lose its own
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        left = iter(range(self.count))
        await asyncio.gather(*(self._make_nodes(left) for _ in range(AT_ONCE)))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._nodes())
                group.create_task(self._pods())
                group.create_task(self._heartbeats())
        finally:
            for task in list(self.tasks):
                task.cancel()

    async def _make_nodes(self, left: Iterator[int]) -> None:
        """One of those who take the next index until none is left."""
        for index in left:
            try:
                await self.client.create(NODES, node_object(f"node-{index}", index))
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise

    def _start(self, work: Coroutine[Any, Any, object], slots: asyncio.Semaphore | None = None) -> None:
        task = asyncio.ensure_future(self._bounded(work, slots or self.slots))
        self.tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            work.close()  # where the end came before its turn

        task.add_done_callback(done)

    async def _bounded(self, work: Coroutine[Any, Any, object], slots: asyncio.Semaphore) -> None:
        async with slots:
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
                self.renewed.pop(name, None)
                self.uids.pop(name, None)
                continue
            self.uids[name] = node["metadata"]["uid"]
            if name not in self.hosts:
                self.hosts[name] = self._host_of(node)
                self._start_renewal(name)
                for pod in self.waiting.pop(name, {}).values():
                    self._pod(pod)
            self._node(name, node)

    def _node(self, name: str, node: Json) -> None:
        if name in self.reporting:
            self.reporting[name] = node
            return
        patch = node_status(node, self.hosts[name], timestamp(self.wall()), VERSION)
        if patch is not None:
            self.reporting[name] = None
            self._start(self._report(name, patch), self.beats)

    async def _report(self, name: str, patch: Json) -> None:
        """Looks at the node again only if it changed after what was written: others write to a new node at the same time."""
        written = 0
        try:
            written = revision_of(await self._patch(NODES, name, "", patch))
        finally:
            seen = self.reporting.pop(name)
            if seen is not None and name in self.hosts and revision_of(seen) > written:
                self._node(name, seen)

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
            self.seen += 1
            pod = event.object
            node = pod["spec"].get("nodeName")
            if event.type == "DELETED":
                self._forget(pod["metadata"]["uid"])
                self.waiting.get(node or "", {}).pop(pod["metadata"]["uid"], None)
            elif node in self.hosts:
                self._pod(pod)
            elif node:
                self.waiting.setdefault(node, {})[pod["metadata"]["uid"]] = pod

    def _pod(self, pod: Json) -> None:
        meta = pod["metadata"]
        life = life_of(pod)
        if meta.get("deletionTimestamp"):
            if meta["uid"] in self.ending:
                return
            self.ending.add(meta["uid"])
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
            grace = float(meta.get("deletionGracePeriodSeconds") or 0)
            self._start(self._delete(meta["name"], meta["namespace"], options, min(life.stop, grace)))
            return
        status = pod.get("status") or {}
        if life.instant and status.get("phase") in SETTLED:
            return
        address = status.get("podIP") or self.addresses.get(meta["uid"])
        if not address:
            self.next_address += 1
            address = str(ipaddress.IPv4Address(self.next_address))
        self.addresses[meta["uid"]] = address
        host, now = self.hosts[pod["spec"]["nodeName"]], self.wall()
        if life.instant or (life == JOB and runs_to_an_end(pod)):
            patch = pod_status(pod, host, address, timestamp(now))
        else:
            moment = at(life, pod["spec"].get("restartPolicy", "Always"), self._began(meta["uid"], now), now)
            patch = status_at(pod, host, address, timestamp(now), moment)
            self._look_again(pod, moment, now)
        if patch is not None:
            self._start(self._patch(PODS, meta["name"], meta["namespace"], patch | {"metadata": {"uid": meta["uid"]}}))

    def _began(self, uid: str, now: float) -> float:
        return self.began.setdefault(uid, now)

    def _look_again(self, pod: Json, moment: Moment, now: float) -> None:
        """Come back to a pod when its next change is due, with what it is then."""
        uid = pod["metadata"]["uid"]
        if (timer := self.timers.pop(uid, None)) is not None:
            timer.cancel()
        self.latest[uid] = pod
        if moment.until is not None:
            wait = max(moment.until - now, 0.001)
            self.timers[uid] = asyncio.get_running_loop().call_later(wait, self._due, uid)

    def _due(self, uid: str) -> None:
        self.timers.pop(uid, None)
        pod = self.latest.get(uid)
        if pod is not None and pod["spec"]["nodeName"] in self.hosts:
            self._pod(pod)

    def _forget(self, uid: str) -> None:
        self.addresses.pop(uid, None)
        self.began.pop(uid, None)
        self.latest.pop(uid, None)
        if (timer := self.timers.pop(uid, None)) is not None:
            timer.cancel()

    async def _patch(self, resource: Resource, name: str, namespace: str, patch: Json) -> Json:
        return await self.client.patch(
            resource, name, patch, patch_type="merge", namespace=namespace, subresource="status"
        )

    async def _delete(self, name: str, namespace: str, options: Json, after: float) -> None:
        if after:
            self.slots.release()  # a pod that takes its time holds up nobody
            try:
                await asyncio.sleep(after)
            finally:
                await self.slots.acquire()
        try:
            await self.client.delete(PODS, name, namespace=namespace, options=options)
        finally:
            self.ending.discard(options["preconditions"]["uid"])

    async def _heartbeats(self) -> None:
        """Renew every node's lease once per interval, spread evenly over it. On a machine that is too slow for that a node
        whose renewal is still under way is passed over."""
        loop = asyncio.get_running_loop()
        while True:
            names = list(self.hosts)
            if not names:
                await asyncio.sleep(HEARTBEAT)
                continue
            interval = HEARTBEAT if len(names) <= MANY else HEARTBEAT_OF_MANY
            together = max(len(names) // MANY, 1) * 5 if len(names) > MANY else 1  # they share a commit
            for i in range(0, len(names), together):
                while self._crowded() and loop.time() - self.renewed.get(names[i], 0.0) < LATE:
                    await asyncio.sleep(STEP)
                for name in names[i : i + together]:
                    if name in self.hosts:
                        self._start_renewal(name)
                await asyncio.sleep(interval * together / len(names))

    def _crowded(self) -> bool:
        """Whether pods came and went by the hundred a second since the last look: heartbeats have time until ``LATE``."""
        now = asyncio.get_running_loop().time()
        seen, since, self.seen, self.looked = self.seen, self.looked, 0, now
        return seen > CROWD * (now - since)

    def _start_renewal(self, name: str) -> None:
        if name not in self.renewing:
            self.renewing.add(name)
            self._start(self._renew(name), self.beats)

    async def _renew(self, name: str) -> None:
        self.renewed[name] = asyncio.get_running_loop().time()
        try:
            await self._write_lease(name, self.wall())
        finally:
            self.renewing.discard(name)

    async def _write_lease(self, name: str, now: float) -> None:
        renewed = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        patch = {"spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": renewed}}
        try:
            await self.client.patch(LEASES, name, patch, patch_type="merge", namespace=LEASE_NAMESPACE)
        except ApiError as error:
            if error.reason != "NotFound":
                raise
            meta: Json = {"name": name, "namespace": LEASE_NAMESPACE}
            if uid := self.uids.get(name):  # it goes with its node
                meta["ownerReferences"] = [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta} | patch
            await self.client.create(LEASES, body, namespace=LEASE_NAMESPACE)


async def run(client: Client, count: int) -> None:
    """Make ``count`` simulated nodes and play every fake node's agent until cancelled."""
    await Simulation(client, count).run()
