"""The node's own objects: Node registered and kept up to date, Lease renewed, and what they say. Pure builders below."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from portside.agent.context import Recorder, Settings
from portside.agent.pressure import MEMORY_LEFT, meminfo, signals
from portside.agent.pressure import conditions as pressing_now
from portside.agent.runtime import ContainerRuntime, Image, RuntimeFailure, Version
from portside.api.status import ApiError
from portside.base.address import own_address
from portside.base.clock import SYSTEM, Clock, rfc3339, rfc3339_micro
from portside.client.protocol import Client, Resource

Json = dict[str, Any]
log = logging.getLogger(__name__)
NODES: Resource = ("", "v1", "nodes")
LEASES: Resource = ("coordination.k8s.io", "v1", "leases")
LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS, RENEW_EVERY = 40, 10.0
STATUS_EVERY = 10.0  # seconds between looks; written when something changed
REPORT_EVERY = 300.0  # seconds between heartbeats in the status itself
ANNOTATIONS = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
"""Attaching volumes is the controller's work, as with every kubelet of today."""
VERSION = "v1.37.0"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MAX_IMAGES = 50
PID_PRESSURE = 0.05
OWN_CONDITIONS = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")


def memory_total(path: str = "/proc/meminfo") -> int:
    """Bytes of memory this machine has."""
    return meminfo(path)["MemTotal"]


def own_addresses() -> list[str]:
    """The node's address towards other machines; 127.0.0.1 when there is none."""
    return [own_address()]


def capacity(settings: Settings) -> dict[str, str]:
    """What the node has."""
    disk = shutil.disk_usage(settings.home)
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{settings.memory_capacity // 1024}Ki",
        "ephemeral-storage": f"{disk.total // 1024}Ki",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "pods": str(settings.max_pods),
    }


def allocatable(total: dict[str, str]) -> dict[str, str]:
    """What pods may have: memory less the eviction threshold, nine tenths of the disk in bytes."""
    memory = int(total["memory"][:-2]) - MEMORY_LEFT // 1024
    disk = int(total["ephemeral-storage"][:-2]) * 1024 * 9 // 10
    return total | {"memory": f"{max(0, memory)}Ki", "ephemeral-storage": str(disk)}


def _os_release() -> str:
    try:
        for line in Path("/etc/os-release").read_text().splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip('"')
    except OSError:
        pass
    return "Linux"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def node_info(version: Version) -> Json:
    system_id = _read("/etc/machine-id")
    return {
        "machineID": system_id,
        "systemUUID": _read("/sys/class/dmi/id/product_uuid") or system_id,
        "bootID": _read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": platform.release(),
        "osImage": _os_release(),
        "containerRuntimeVersion": f"{version.name}://{version.version.removeprefix('v')}",
        "kubeletVersion": VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
    }


def image_list(images: Sequence[Image]) -> list[Json]:
    """The largest images first, as the Node shows them."""
    ordered = sorted(images, key=lambda i: -i.size)[:MAX_IMAGES]
    return [{"names": [*i.digests, *i.tags][:5], "sizeBytes": i.size} for i in ordered if i.tags or i.digests]


def conditions(
    settings: Settings, old: Sequence[Json], *, ready: tuple[bool, str], now: float, heartbeat: bool
) -> list[Json]:
    """MemoryPressure, DiskPressure, PIDPressure, Ready. Others' conditions stay."""
    pressing = pressing_now(signals(settings.home))
    memory, disk_low = "MemoryPressure" in pressing, "DiskPressure" in pressing
    limit = int(_read("/proc/sys/kernel/pid_max") or 32768)
    running = int((_read("/proc/loadavg").split() or ["", "", "", "0/0"])[3].partition("/")[2] or 0)
    pids = running > limit * (1 - PID_PRESSURE)
    good, why = ready
    found = [
        _condition(
            "MemoryPressure", memory, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "memory available"
        ),
        _condition("DiskPressure", disk_low, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "disk pressure"),
        _condition("PIDPressure", pids, "KubeletHasInsufficientPID", "KubeletHasSufficientPID", "PID available"),
        {
            "type": "Ready",
            "status": "True" if good else "False",
            "reason": "KubeletReady" if good else "KubeletNotReady",
            "message": "kubelet is posting ready status" if good else why,
        },
    ]
    before = {c["type"]: c for c in old}
    stamp = rfc3339(now)
    for item in found:
        known = before.pop(item["type"], None)
        same = known is not None and known["status"] == item["status"]
        item["lastTransitionTime"] = known["lastTransitionTime"] if same and known else stamp
        item["lastHeartbeatTime"] = stamp if heartbeat or not same or known is None else known["lastHeartbeatTime"]
    return [*found, *before.values()]


def _condition(kind: str, bad: bool, bad_reason: str, good_reason: str, noun: str) -> Json:
    texts = {"disk pressure": ("kubelet has disk pressure", "kubelet has no disk pressure")}
    negative, positive = texts.get(noun, (f"kubelet has insufficient {noun}", f"kubelet has sufficient {noun}"))
    return {
        "type": kind,
        "status": "True" if bad else "False",
        "reason": bad_reason if bad else good_reason,
        "message": negative if bad else positive,
    }


def fresh_node(name: str, pod_cidr: str = "") -> Json:
    """A Node as it is registered: its name and what its labels tell of the machine."""
    arch = ARCHITECTURES.get(platform.machine(), platform.machine())
    labels = {
        "beta.kubernetes.io/arch": arch,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": arch,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }
    spec: Json = {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]} if pod_cidr else {}
    meta: Json = {"name": name, "labels": labels, "annotations": dict(ANNOTATIONS)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": spec}


def address_list(name: str, ips: Sequence[str]) -> list[Json]:
    """The addresses a Node's status says."""
    return [*({"type": "InternalIP", "address": ip} for ip in ips), {"type": "Hostname", "address": name}]


class NodeKeeper:
    """Registers the node, renews its lease and writes its status."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        runtime: ContainerRuntime,
        *,
        clock: Clock = SYSTEM,
        lost: Callable[[], None] = lambda: None,
        events: Recorder | None = None,
    ) -> None:
        self.settings, self._client, self._runtime, self._clock = settings, client, runtime, clock
        self._lost = lost
        self.events = events
        self._reported = 0.0
        self._lease: Json | None = None
        self.uid = ""
        self.labels: dict[str, str] = {}  # the Node's, as last seen
        self.capacity = capacity(settings)
        self.allocatable = allocatable(self.capacity)

    def say(self, kind: str, reason: str, message: str) -> None:
        """Record an event about the node itself; like the kubelet, with the node's name in place of its uid."""
        if self.events is not None:
            meta = {"name": self.settings.node_name, "uid": self.settings.node_name}
            about = {"apiVersion": "v1", "kind": "Node", "metadata": meta}
            self.events.emit(about, kind, reason, message, "kubelet", self.settings.node_name)

    async def register(self) -> Json:
        """The Node, made when there is none; its status is written at once."""
        name = self.settings.node_name
        try:
            node = await self._client.get(NODES, name)
        except ApiError as error:
            if error.code != 404:
                raise
            fresh = fresh_node(name, self.settings.pod_cidr)
            fresh["status"] = await self._status({}, heartbeat=True)
            node = await self._client.create(NODES, fresh)
            self._tell_turns((), fresh["status"]["conditions"])
        if ANNOTATIONS.items() - (node["metadata"].get("annotations") or {}).items():
            node = await self._client.patch(NODES, name, {"metadata": {"annotations": ANNOTATIONS}})
        self.uid = node["metadata"].get("uid", "")
        await self.report(node, heartbeat=True)
        return node

    async def _status(self, old: Json, *, heartbeat: bool) -> Json:
        settings = self.settings
        try:
            ready = await self._runtime.ready()
            version, images = await self._runtime.version(), await self._runtime.images()
            features = await self._runtime.features()
        except RuntimeFailure as failure:
            ready = (False, f"container runtime is down: {failure.message}")
            return {
                "conditions": conditions(
                    settings, old.get("conditions") or (), ready=ready, now=self._clock.now(), heartbeat=heartbeat
                )
            }
        return {
            "addresses": address_list(settings.node_name, settings.ips),
            "capacity": self.capacity,
            "allocatable": self.allocatable,
            "conditions": conditions(
                settings, old.get("conditions") or (), ready=ready, now=self._clock.now(), heartbeat=heartbeat
            ),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": settings.port}},
            "nodeInfo": node_info(version),
            "images": image_list(images),
            "features": {"supplementalGroupsPolicy": features.strict_groups},
        }

    def _see(self, node: Json) -> None:
        self.labels.clear()
        self.labels.update(node["metadata"].get("labels") or {})

    async def look(self) -> None:
        """Read the labels again; what was seen last stays when the API does not answer."""
        try:
            self._see(await self._client.get(NODES, self.settings.node_name))
        except (ApiError, OSError, TimeoutError) as problem:
            log.warning("labels of the node: %s", problem)

    async def report(self, node: Json, *, heartbeat: bool = False) -> None:
        """Write the status when it changed or a heartbeat is due."""
        due = heartbeat or self._clock.monotonic() - self._reported >= REPORT_EVERY
        self._see(node)
        old = node.get("status") or {}
        status = await self._status(old, heartbeat=due)
        self._tell_turns(old.get("conditions") or (), status["conditions"])
        if not due and all(_told(old.get(key), value, key) for key, value in status.items()):
            return
        await self._client.patch(
            NODES, self.settings.node_name, {"status": status}, patch_type="strategic", subresource="status"
        )
        self._reported = self._clock.monotonic()

    def _tell_turns(self, before: Sequence[Json], now: Sequence[Json]) -> None:
        """An event for each condition that turned, in the kubelet's words."""
        known = {c["type"]: c["status"] for c in before}
        for condition in now:
            kind, status = condition["type"], condition["status"]
            if known.get(kind, status) != status or (not known and kind in OWN_CONDITIONS):
                reason = condition["reason"].replace("Kubelet", "Node", 1)
                if kind == "Ready":
                    reason = "NodeReady" if status == "True" else "NodeNotReady"
                self.say("Normal", reason, f"Node {self.settings.node_name} status is now: {reason}")

    async def keep_status(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(STATUS_EVERY)
            try:
                node = await self._client.get(NODES, self.settings.node_name)
                await self.report(node)
            except ApiError as error:
                log.warning("node status: %s", error)
                if error.code == 404:
                    await self._try_register()
            except (OSError, TimeoutError, RuntimeFailure) as problem:
                log.warning("node status: %r", problem)

    async def _try_register(self) -> None:
        try:
            await self.register()
        except (ApiError, OSError, TimeoutError) as problem:
            log.warning("node registration: %s", problem)

    async def keep_lease(self) -> None:
        """Until cancelled: the heartbeat others watch. A failure is tried again soon, within the lease's time."""
        while True:
            try:
                await self._renew()
                await self._clock.sleep(RENEW_EVERY)
            except (ApiError, OSError, TimeoutError) as problem:
                log.warning("lease: %r", problem)
                self._lease = None
                await self._clock.sleep(1.0)

    async def _renew(self) -> None:
        name, stamp = self.settings.node_name, rfc3339_micro(self._clock.now())
        if self._lease is None:
            try:
                self._lease = await self._client.get(LEASES, name, namespace=LEASE_NAMESPACE)
            except ApiError as error:
                if error.code != 404:
                    raise
                meta: Json = {"name": name, "namespace": LEASE_NAMESPACE}
                if self.uid:
                    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self.uid}
                    meta["ownerReferences"] = [owner]
                spec = {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": stamp}
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
                self._lease = await self._client.create(LEASES, body, namespace=LEASE_NAMESPACE)
                return
        lease = {**self._lease, "spec": {**self._lease["spec"], "holderIdentity": name, "renewTime": stamp}}
        self._lease = await self._client.update(LEASES, lease, namespace=LEASE_NAMESPACE)


def _told(old: Any, new: Any, key: str) -> bool:
    """Whether the Node says it already; beside our resources it may have extended ones of others."""
    return new.items() <= (old or {}).items() if key in ("capacity", "allocatable") else bool(old == new)


async def until_answered(work: Callable[[], Any], clock: Clock) -> Any:
    """Repeat until the API answers: at start it may not be there yet."""
    delay = 0.05
    while True:
        try:
            return await work()
        except (ApiError, OSError, TimeoutError) as problem:
            log.info("waiting for the API: %s", problem)
        await clock.sleep(delay)
        delay = min(delay * 1.5, 2.0)
        await asyncio.sleep(0)
