"""What follows from decisions, written to the API: bindings, volumes, evictions, conditions and events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from portside.api.status import ApiError
from portside.base.clock import Clock, rfc3339
from portside.client.protocol import Client, Json, Resource
from portside.scheduler.events import Recorder, reference
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.preemption import Victims
from portside.scheduler.volumes import BOUND_BY_US, SELECTED_NODE, Binding, bound

log = logging.getLogger("portside.scheduler")
PODS: Resource = ("", "v1", "pods")
CLAIMS: Resource = ("", "v1", "persistentvolumeclaims")
VOLUMES: Resource = ("", "v1", "persistentvolumes")
POD_GROUPS: Resource = ("scheduling.k8s.io", "v1beta1", "podgroups")
INITIALLY = "PodGroupInitiallyScheduled"
AT_ONCE = 256  # bindings under way; they share commits
OTHERS_AT_ONCE = 4  # refusals told at a time: in a burst of pods the API has better things to do
BIND_VOLUMES_SECONDS = 600.0  # upstream's bindTimeoutSeconds
PREEMPTED = "preempting to accommodate a higher priority pod"


class Writer:
    """Each method ends when its write is answered; refusals are returned or logged, never raised."""

    def __init__(self, client: Client, clock: Clock, events: Recorder) -> None:
        self.client = client
        self.clock = clock
        self.events = events
        self.slots = asyncio.Semaphore(AT_ONCE)
        self.others = asyncio.Semaphore(OTHERS_AT_ONCE)
        self._news = asyncio.Event()

    def news(self) -> None:
        """Something of the storage kinds changed: whoever waits for claims looks again."""
        self._news.set()

    async def bind(self, info: PodInfo) -> str:
        """Bind a pod to ``info.node_name``. Returns why that failed, "" when it stands."""
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": info.name, "namespace": info.namespace, "uid": info.uid},
            "target": {"kind": "Node", "name": info.node_name},
        }
        async with self.slots:
            try:
                await self.client.create(PODS, body, namespace=info.namespace, name=info.name, subresource="binding")
            except (ApiError, OSError, TimeoutError) as error:
                return str(error)
        self.bound(info)
        return ""

    def bound(self, info: PodInfo) -> None:
        """Tell the event of a binding."""
        note = f"Successfully assigned {info.key} to {info.node_name}"
        self.events.emit(info.object, "Normal", "Scheduled", "Binding", note, info.scheduler)

    async def explain(self, info: PodInfo, message: str, nominated: str, reason: str = "Unschedulable") -> None:
        """The event and the condition of a pod that found no node, or (SchedulerError) was not bound to the one it found."""
        pod = info.object
        self.events.emit(pod, "Warning", "FailedScheduling", "Scheduling", message, info.scheduler)
        status = pod.get("status") or {}
        have: Json = next((c for c in status.get("conditions") or () if c["type"] == "PodScheduled"), {})
        same = have.get("status") == "False"
        if same and have.get("message") == message and (status.get("nominatedNodeName") or "") == nominated:
            return
        now = rfc3339(self.clock.now())
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": have.get("lastTransitionTime") if same else now,
            "lastProbeTime": None,
        }
        if generation := pod["metadata"].get("generation"):
            condition["observedGeneration"] = generation
        patch: Json = {"metadata": {"uid": info.uid}, "status": {"conditions": [condition]}}
        if (status.get("nominatedNodeName") or "") != nominated:
            patch["status"]["nominatedNodeName"] = nominated or None
        await self._patch_status(info, patch)

    async def group_condition(self, group: Json, status: str, reason: str, message: str) -> None:
        """What became of a PodGroup. One that was scheduled once stays so, whatever becomes of later pods."""
        meta = group["metadata"]
        held = (group.get("status") or {}).get("conditions") or []
        have: Json = next((c for c in held if c["type"] == INITIALLY), {})
        same = have.get("status") == status
        if have.get("status") == "True" or (same and have.get("message") == message and have.get("reason") == reason):
            return
        condition = {
            "type": INITIALLY,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": have["lastTransitionTime"] if same else rfc3339(self.clock.now()),
            "observedGeneration": meta.get("generation", 0),
        }
        patch: Json = {
            "metadata": {"uid": meta["uid"]},
            "status": {"conditions": [*(c for c in held if c["type"] != INITIALLY), condition]},
        }
        async with self.others:
            try:
                await self.client.patch(
                    POD_GROUPS, meta["name"], patch, namespace=meta["namespace"], subresource="status"
                )
            except (ApiError, OSError, TimeoutError) as error:
                log.debug("status of pod group %s not written: %s", meta["name"], error)

    async def unnominate(self, info: PodInfo) -> None:
        """Its room went to a more important pod."""
        await self._patch_status(info, {"metadata": {"uid": info.uid}, "status": {"nominatedNodeName": None}})

    async def _patch_status(self, info: PodInfo, patch: Json, slots: asyncio.Semaphore | None = None) -> bool:
        async with slots or self.others:
            try:
                await self.client.patch(
                    PODS, info.name, patch, patch_type="strategic", namespace=info.namespace, subresource="status"
                )
                return True
            except (ApiError, OSError, TimeoutError) as error:
                log.debug("status of %s not written: %s", info.key, error)
                return False

    async def evict(self, info: PodInfo, victims: Victims) -> None:
        """Mark and delete the victims; they keep their grace."""
        await asyncio.gather(*(self._evict(info, victim, victims.node) for victim in victims.pods))

    async def _evict(self, info: PodInfo, victim: PodInfo, node: str) -> None:
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{info.scheduler}: {PREEMPTED}",
            "lastTransitionTime": rfc3339(self.clock.now()),
            "lastProbeTime": None,
        }
        if generation := victim.object["metadata"].get("generation"):
            condition["observedGeneration"] = generation
        if not victim.terminating:
            patch: Json = {"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}
            await self._patch_status(victim, patch, self.slots)
        async with self.slots:
            try:
                options = {"preconditions": {"uid": victim.uid}}
                await self.client.delete(PODS, victim.name, namespace=victim.namespace, options=options)
            except (ApiError, OSError, TimeoutError) as error:
                log.info("victim %s of %s not evicted: %s", victim.key, info.key, error)
                return
        note = f"Preempted by pod {info.uid} on node {node}"
        self.events.emit(
            victim.object, "Normal", "Preempted", "Preempting", note, info.scheduler, reference(info.object)
        )

    async def bind_volumes(self, bindings: Sequence[Binding], read: Callable[[str], Mapping[str, Json]]) -> str:
        """Reserve volumes or ask for provisioning, then wait until the claims are bound. Returns why that failed."""
        try:
            for made in bindings:
                await self._bind_volume(made, read)
        except (ApiError, OSError, TimeoutError) as error:
            return str(error)
        end = self.clock.monotonic() + BIND_VOLUMES_SECONDS
        while self.clock.monotonic() < end:
            claims = [read("persistentvolumeclaims").get(b.claim) for b in bindings]
            if any(c is None for c in claims):
                return "a claim was deleted while it was being bound"
            if all(c is not None and bound(c) for c in claims):
                return ""
            self._news.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._news.wait()
            except TimeoutError:
                continue
        return "timed out waiting for the volumes to be bound"

    async def _bind_volume(self, made: Binding, read: Callable[[str], Mapping[str, Json]]) -> None:
        namespace, _, name = made.claim.partition("/")
        if not made.volume:
            patch: Json = {"metadata": {"annotations": {SELECTED_NODE: made.node}}}
            await self.client.patch(CLAIMS, name, patch, namespace=namespace)
            return
        claim = read("persistentvolumeclaims")[made.claim]
        meta = claim["metadata"]
        holder = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": namespace,
            "name": name,
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
        }
        patch = {"metadata": {"annotations": {BOUND_BY_US: "yes"}}, "spec": {"claimRef": holder}}
        await self.client.patch(VOLUMES, made.volume, patch)
