"""What nodes and pods use, from two looks at a node's statistics; made up from requests for simulated nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from portside.api import quantity

Json = dict[str, Any]
FAKE = "kwok.x-k8s.io/node"
IDLE_CPU, IDLE_MEMORY = 1_000_000, 8 << 20  # nanocores and bytes of a simulated container that asks for nothing
NODE_CPU, NODE_MEMORY = 50_000_000, 256 << 20  # what a simulated node uses by itself


@dataclass(frozen=True, slots=True)
class Look:
    """One reading of a counter of CPU time (nanoseconds) and of memory (bytes), at a time in seconds."""

    time: float
    cpu: int
    memory: int


@dataclass(frozen=True, slots=True)
class Used:
    """Nanocores and bytes, over the seconds before ``time``."""

    time: float
    window: float
    cpu: int
    memory: int

    def as_usage(self) -> Json:
        return {"cpu": f"{self.cpu}n", "memory": f"{self.memory // 1024}Ki"}


# Of a node: under ("", "", "") the node itself, under (namespace, pod, container) its containers.
Key = tuple[str, str, str]
NODE: Key = ("", "", "")
Looks = dict[Key, Look]


def read(summary: Json) -> Looks:
    """The looks in a node's /stats/summary."""
    found: Looks = {}
    if (node := _look(summary.get("node") or {})) is not None:
        found[NODE] = node
    for pod in summary.get("pods") or ():
        reference = pod.get("podRef") or {}
        for container in pod.get("containers") or ():
            if (look := _look(container)) is not None:
                found[reference.get("namespace", ""), reference.get("name", ""), container["name"]] = look
    return found


def _look(entry: Json) -> Look | None:
    cpu, memory = entry.get("cpu") or {}, entry.get("memory") or {}
    if "usageCoreNanoSeconds" not in cpu or "workingSetBytes" not in memory or "time" not in cpu:
        return None
    when = datetime.fromisoformat(cpu["time"]).timestamp()
    return Look(when, int(cpu["usageCoreNanoSeconds"]), int(memory["workingSetBytes"]))


def between(old: Looks, new: Looks) -> dict[Key, Used]:
    """What was used from one look to the next; what restarted meanwhile is left out until the look after."""
    found = {}
    for key, late in new.items():
        early = old.get(key)
        if early is not None and late.time > early.time and late.cpu >= early.cpu:
            window = late.time - early.time
            found[key] = Used(late.time, window, int((late.cpu - early.cpu) / window), late.memory)
    return found


def pretended(node: Json, pods: Iterable[Json], now: float) -> dict[Key, Used]:
    """A simulated node: each container uses a steady part of what it asks for."""
    found: dict[Key, Used] = {}
    cpu, memory = NODE_CPU, NODE_MEMORY
    for pod in pods:
        meta = pod["metadata"]
        for container in pod["spec"].get("containers") or ():
            asked = (container.get("resources") or {}).get("requests") or {}
            part = 0.3 + hashlib.sha256(f"{meta['uid']}{container['name']}".encode()).digest()[0] / 425
            cores = int(quantity.parse(asked["cpu"]) * 10**9) if "cpu" in asked else IDLE_CPU
            size = quantity.value(asked["memory"]) if "memory" in asked else IDLE_MEMORY
            used = Used(now, 15.0, int(cores * part), int(size * part))
            found[meta["namespace"], meta["name"], container["name"]] = used
            cpu, memory = cpu + used.cpu, memory + used.memory
    found[NODE] = Used(now, 15.0, cpu, memory)
    return found


@dataclass(slots=True)
class NodeUsage:
    """The last look at a node, and what came of the last two."""

    looks: Looks = field(default_factory=dict)
    used: dict[Key, Used] = field(default_factory=dict)

    def take(self, looks: Looks) -> None:
        if found := between(self.looks, looks):
            self.used = found
        self.looks = looks
