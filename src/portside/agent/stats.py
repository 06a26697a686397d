"""/stats/summary: use of CPU, memory and disk per container, pod and node, in the kubelet's form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from portside.agent import names
from portside.agent.runtime import Stats
from portside.agent.stamps import stamp
from portside.base.clock import rfc3339

if TYPE_CHECKING:
    from portside.agent.agent import Agent

Json = dict[str, Any]


def _container(item: Stats, started: int) -> Json:
    when = stamp(item.time)
    return {
        "name": item.name,
        "startTime": stamp(started),
        "cpu": {"time": when, "usageCoreNanoSeconds": item.cpu},
        "memory": {
            "time": when,
            "workingSetBytes": item.memory_working_set,
            "usageBytes": item.memory_usage or item.memory_working_set,
            "rssBytes": item.memory_rss,
        },
        "rootfs": {"time": when, "usedBytes": item.disk_used, "inodesUsed": item.disk_inodes},
    }


def _node_cpu() -> int:
    """Nanoseconds all processors were busy since boot."""
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) * 10_000_000


def _booted() -> int:
    """Seconds since 1970 at which the machine started."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("btime "))


def _node_memory() -> tuple[int, int]:
    """(available, used) bytes."""
    found = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _, rest = line.partition(":")
        found[key] = int(rest.split()[0]) * 1024
    return found["MemAvailable"], found["MemTotal"] - found["MemAvailable"]


async def summary(agent: Agent) -> Json:
    """The whole document."""
    now = rfc3339(agent.clock.now())
    pods: dict[str, Json] = {}
    known = {uid: worker.current_pod().get("status") or {} for uid, worker in agent.workers.items()}
    begun = {c.id: c.started_at for worker in agent.workers.values() for c in worker.view.containers}
    for item in await agent.runtime.stats():
        labels = item.labels
        uid = labels.get(names.POD_UID, "")
        reference = {
            "name": labels.get(names.POD_NAME, ""),
            "namespace": labels.get(names.POD_NAMESPACE, ""),
            "uid": uid,
        }
        since = known.get(uid, {}).get("startTime") or now
        pod = pods.setdefault(uid, {"podRef": reference, "startTime": since, "containers": []})
        pod["containers"].append(_container(item, begun.get(item.container_id) or item.time))
    for pod in pods.values():
        cpu = sum(c["cpu"]["usageCoreNanoSeconds"] for c in pod["containers"])
        memory = sum(c["memory"]["workingSetBytes"] for c in pod["containers"])
        pod["cpu"] = {"time": now, "usageCoreNanoSeconds": cpu}
        pod["memory"] = {"time": now, "workingSetBytes": memory}
    available, used = _node_memory()
    node = {
        "nodeName": agent.settings.node_name,
        "startTime": stamp(_booted() * 1e9),
        "cpu": {"time": now, "usageCoreNanoSeconds": _node_cpu()},
        "memory": {"time": now, "availableBytes": available, "workingSetBytes": used, "usageBytes": used},
    }
    return {"node": node, "pods": list(pods.values())}
