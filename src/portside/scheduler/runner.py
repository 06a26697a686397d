"""The scheduler at work: informers feed the snapshot and the queue, decisions become bindings, refusals are explained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from random import Random
from typing import Any

from portside.api.status import ApiError
from portside.base.clock import Clock, rfc3339
from portside.client.events import EventRecorder
from portside.client.informer import InformerSet
from portside.client.protocol import Client, Json, Resource
from portside.scheduler.cycle import Cycle, Placed, Unplaced
from portside.scheduler.pod_info import PodInfo, read_pod
from portside.scheduler.queue import Queue
from portside.scheduler.snapshot import Snapshot

log = logging.getLogger("portside.scheduler")

NAME = "default-scheduler"
PODS: Resource = ("", "v1", "pods")
NODES: Resource = ("", "v1", "nodes")
NAMESPACES: Resource = ("", "v1", "namespaces")
CLAIMS: Resource = ("", "v1", "persistentvolumeclaims")
BINDINGS_AT_ONCE = 64
SLICE = 0.01  # seconds of decisions before the event loop gets its turn
RETRY_OLD = 30.0


def relevant(node: Json) -> tuple[object, ...]:
    """What of a node can change a decision; heartbeats are not in it."""
    status = node.get("status") or {}
    return node["metadata"].get("labels"), node.get("spec"), status.get("allocatable"), status.get("images")


def waits(pod: Json) -> bool:
    """Whether this pod is ours to place."""
    spec = pod["spec"]
    if spec.get("nodeName") or spec.get("schedulingGates") or pod["metadata"].get("deletionTimestamp"):
        return False
    return spec.get("schedulerName", NAME) == NAME and (pod.get("status") or {}).get("phase") not in (
        "Succeeded",
        "Failed",
    )


def counts(pod: Json) -> bool:
    """Whether this pod takes room on its node."""
    return bool(pod["spec"].get("nodeName")) and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


class Scheduler:
    """Places pods one after the other; bindings are written concurrently."""

    def __init__(self, client: Client, clock: Clock, rng: Random | None = None) -> None:
        self.client = client
        self.clock = clock
        self.snapshot = Snapshot()
        self.cycle = Cycle(self.snapshot, rng or Random())
        self.queue = Queue()
        self.informers = InformerSet(client)
        self.events = EventRecorder(client, clock)
        self.pending: dict[str, PodInfo] = {}
        self.assumed: dict[str, str] = {}
        self.wake = asyncio.Event()
        self.slots = asyncio.Semaphore(BINDINGS_AT_ONCE)
        self.writes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        for resource, handler in (
            (NODES, self._node),
            (NAMESPACES, self._namespace),
            (PODS, self._pod),
            (CLAIMS, self._claim),
        ):
            self.informers.informer(resource).add_handler(handler)
        self.informers.start()
        recorder = asyncio.create_task(self.events.run())
        retry = asyncio.create_task(self._retry_old())
        try:
            await self.informers.wait_synced()
            await self._loop()
        finally:
            recorder.cancel()
            retry.cancel()
            for task in list(self.writes):
                task.cancel()
            await self.informers.stop()

    # What the informers tell

    def _node(self, old: Json | None, new: Json | None) -> None:
        if new is None:
            if old is not None:
                self.snapshot.remove_node(old["metadata"]["name"])
            return
        if old is None or relevant(old) != relevant(new):
            self.snapshot.set_node(new)
            self._changed()

    def _namespace(self, old: Json | None, new: Json | None) -> None:
        meta = (new or old or {})["metadata"]
        self.snapshot.set_namespace(meta["name"], None if new is None else meta.get("labels") or {})

    def _claim(self, old: Json | None, new: Json | None) -> None:
        if new is not None:
            self._changed()

    def _pod(self, old: Json | None, new: Json | None) -> None:
        pod = new or old
        assert pod is not None
        meta = pod["metadata"]
        uid, key = meta["uid"], f"{meta['namespace']}/{meta['name']}"
        if new is None:
            self._drop(uid, key)
            if self.snapshot.remove_pod(uid) is not None:
                self._changed()
            return
        if waits(new):
            if uid in self.assumed:
                return
            if (
                key not in self.pending
                or old is None
                or old["spec"] != new["spec"]
                or old["metadata"].get("labels") != meta.get("labels")
            ):
                info = read_pod(new)
                self.pending[key] = info
                self.queue.add(key, info.priority, self.clock.monotonic())
                self.wake.set()
            else:
                self.pending[key].object = new
            return
        self._drop(uid, key)
        if not counts(new):
            if self.snapshot.remove_pod(uid) is not None:
                self._changed()
            return
        if (
            old is None
            or not counts(old)
            or old["spec"] != new["spec"]
            or old["metadata"].get("labels") != meta.get("labels")
            or bool(old["metadata"].get("deletionTimestamp")) != bool(meta.get("deletionTimestamp"))
        ):
            self.snapshot.set_pod(read_pod(new))
            self._changed()

    def _drop(self, uid: str, key: str) -> None:
        self.assumed.pop(uid, None)
        self.pending.pop(key, None)
        self.queue.remove(key)

    def _changed(self) -> None:
        self.queue.cluster_changed(self.clock.monotonic())
        self.wake.set()

    # Deciding

    async def _loop(self) -> None:
        while True:
            now = self.clock.monotonic()
            end = now + SLICE
            while (key := self.queue.pop(now)) is not None:
                if (info := self.pending.get(key)) is not None:
                    self._place(info)
                now = self.clock.monotonic()
                if now > end:
                    await asyncio.sleep(0)
                    end = self.clock.monotonic() + SLICE
            self.wake.clear()
            due = self.queue.next_time()
            if due is None:
                await self.wake.wait()
                continue
            try:
                await asyncio.wait_for(self.wake.wait(), max(due - self.clock.monotonic(), 0.001))
            except TimeoutError:
                continue

    def _place(self, info: PodInfo) -> None:
        decision = self._missing_claim(info) or self.cycle.decide(info)
        if isinstance(decision, Unplaced):
            self.queue.failed(info.key, self.clock.monotonic(), park=True)
            self._write(self._explain(info, decision.message))
            return
        info.node_name = decision.node
        self.assumed[info.uid] = decision.node
        self.pending.pop(info.key, None)
        self.snapshot.set_pod(info)
        self._write(self._bind(info, decision))

    def _missing_claim(self, info: PodInfo) -> Unplaced | None:
        cache = self.informers.caches[CLAIMS]
        total = len(self.snapshot.row_of)
        for claim in info.claims:
            found = cache.get(info.namespace, claim)
            why = ""
            if found is None:
                why = f'persistentvolumeclaim "{claim}" not found. not found'
            elif found["metadata"].get("deletionTimestamp"):
                why = f'persistentvolumeclaim "{claim}" is being deleted'
            elif not found["spec"].get("volumeName"):
                why = "pod has unbound immediate PersistentVolumeClaims. not found"
            if why:
                return Unplaced(f"0/{total} nodes are available: {why}", {why: total}, 0)
        return None

    def _write(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.writes.add(task)
        task.add_done_callback(self.writes.discard)

    async def _bind(self, info: PodInfo, decision: Placed) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": info.name, "namespace": info.namespace, "uid": info.uid},
            "target": {"kind": "Node", "name": decision.node},
        }
        async with self.slots:
            try:
                await self.client.create(PODS, body, namespace=info.namespace, name=info.name, subresource="binding")
            except (ApiError, OSError, TimeoutError) as error:
                self._unbound(info, error)
                return
        self.events.emit(
            info.object, "Normal", "Scheduled", f"Successfully assigned {info.key} to {decision.node}", NAME
        )

    def _unbound(self, info: PodInfo, error: Exception) -> None:
        """The binding did not stand: forget it; a pod that is still there is tried again."""
        self.snapshot.remove_pod(info.uid)
        self.assumed.pop(info.uid, None)
        current = self.informers.caches[PODS].get(info.namespace, info.name)
        if current is None or not waits(current):
            self.queue.remove(info.key)
            return
        log.info("binding %s to %s failed: %s", info.key, info.node_name, error)
        fresh = read_pod(current)
        self.pending[info.key] = fresh
        now = self.clock.monotonic()
        self.queue.add(info.key, fresh.priority, now)
        self.queue.failed(info.key, now, park=False)
        self.wake.set()

    async def _explain(self, info: PodInfo, message: str) -> None:
        pod = info.object
        self.events.emit(pod, "Warning", "FailedScheduling", message, NAME)
        have: Json = next(
            (c for c in (pod.get("status") or {}).get("conditions") or () if c["type"] == "PodScheduled"), {}
        )
        if have.get("status") == "False" and have.get("message") == message:
            return
        now = rfc3339(self.clock.now())
        since = have.get("lastTransitionTime") if have.get("status") == "False" else now
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": since,
            "lastProbeTime": None,
        }
        patch = {"metadata": {"uid": info.uid}, "status": {"conditions": [condition]}}
        async with self.slots:
            try:
                await self.client.patch(
                    PODS, info.name, patch, patch_type="strategic", namespace=info.namespace, subresource="status"
                )
            except (ApiError, OSError, TimeoutError) as error:
                log.debug("condition of %s not written: %s", info.key, error)

    async def _retry_old(self) -> None:
        while True:
            await self.clock.sleep(RETRY_OLD)
            self.queue.retry_old(self.clock.monotonic())
            self.wake.set()


async def run(client: Client, clock: Clock) -> None:
    """Place pods until cancelled."""
    await Scheduler(client, clock).run()
