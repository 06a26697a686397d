"""Watches the node's memory and disk: makes room, and ends pods when there is none left to make."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portside.agent import names
from portside.agent.eviction import Signal, Use, first_over, limited, local_limit, message, ranked
from portside.agent.fit import active
from portside.agent.runtime import RuntimeFailure, Stats

if TYPE_CHECKING:
    from portside.agent.agent import Agent
    from portside.agent.imagegc import ImageCollector
    from portside.agent.worker import PodWorker

Json = dict[str, Any]
log = logging.getLogger(__name__)
EVERY = 10.0  # seconds between looks
MEMORY_LEFT = 100 << 20  # bytes: the kubelet's memory.available
DISK_SHARE, DISK_LEFT = 0.10, 1 << 30  # the kubelet's nodefs.available, but never more than this: disks are shared
INODE_SHARE = 0.05
FILES = 200_000  # entries looked at when a volume is measured


def meminfo(path: str = "/proc/meminfo") -> dict[str, int]:
    """The machine's memory, in bytes."""
    found = {}
    for line in Path(path).read_text().splitlines():
        key, _, rest = line.partition(":")
        words = rest.split()
        found[key] = int(words[0]) * (1024 if len(words) > 1 else 1)
    return found


def signals(home: Path) -> tuple[Signal, Signal, Signal]:
    """Memory, disk and inodes as they are now."""
    disk = shutil.disk_usage(home)
    inodes = os.statvfs(home)
    return (
        Signal("memory", "memory", MEMORY_LEFT, meminfo()["MemAvailable"]),
        Signal("ephemeral-storage", "ephemeral-storage", min(int(disk.total * DISK_SHARE), DISK_LEFT), disk.free),
        Signal("inodes", "inodes", int(inodes.f_files * INODE_SHARE), inodes.f_favail),
    )


def conditions(found: Iterable[Signal]) -> tuple[str, ...]:
    """The node conditions that hold."""
    names_of = {"memory": "MemoryPressure", "ephemeral-storage": "DiskPressure", "inodes": "DiskPressure"}
    return tuple(dict.fromkeys(names_of[s.resource] for s in found if s.over))


def folder_size(folder: Path) -> int:
    """Bytes on disk below a folder; links are not followed, other file systems not entered."""
    total, seen, stack = 0, 0, [folder]
    device = folder.lstat().st_dev
    while stack and seen < FILES:
        try:
            entries = list(os.scandir(stack.pop()))
        except OSError:
            continue
        for entry in entries:
            seen += 1
            try:
                told = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            total += told.st_blocks * 512
            if entry.is_dir(follow_symlinks=False) and told.st_dev == device:
                stack.append(Path(entry.path))
    return total


class Pressure:
    """The evictions of one node."""

    def __init__(self, agent: Agent, images: ImageCollector) -> None:
        self._agent, self._images = agent, images

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._agent.clock.sleep(EVERY)
            try:
                await self.look(signals(self._agent.settings.home))
            except (OSError, RuntimeFailure) as problem:
                log.warning("pressure: %s", problem)

    async def look(self, now: tuple[Signal, ...]) -> None:
        """One round: pods above their own limits, then the node's own signals; one pod at a time for those."""
        stats: list[Stats] | None = None
        for worker in [w for w in self._workers() if limited(w.pod)]:
            stats = stats if stats is not None else list(await self._agent.runtime.stats())
            await self._check_limits(worker, stats)
        over = first_over(now)
        if over is None or any(w.record.disruption for w in self._workers()):
            return
        if over.resource != "memory" and await self._images.look():
            return
        self._agent.keeper.say("Warning", "EvictionThresholdMet", f"Attempting to reclaim {over.noun}")
        use = self._use(over, stats if stats is not None else list(await self._agent.runtime.stats()))
        order = ranked([w.current_pod() for w in self._workers()], use, over.resource)
        if order:
            uid = order[0]["metadata"]["uid"]
            self._agent.workers[uid].evict(message(over, order[0], use.get(uid)))

    def _workers(self) -> list[PodWorker]:
        return [w for w in self._agent.workers.values() if not w.deleted and active(w.current_pod())]

    @staticmethod
    def _use(signal: Signal, stats: Iterable[Stats]) -> dict[str, Use]:
        """Per pod what its containers use of the signal's resource."""
        found: dict[str, dict[str, int]] = {}
        for item in stats:
            value = item.memory_working_set if signal.resource == "memory" else item.disk_used
            found.setdefault(item.labels.get(names.POD_UID, ""), {})[item.name] = value
        return {uid: Use(sum(per.values()), per) for uid, per in found.items()}

    async def _check_limits(self, worker: PodWorker, stats: Iterable[Stats]) -> None:
        own = {s.name: s.disk_used for s in stats if s.labels.get(names.POD_UID) == worker.uid}
        folder = self._agent.settings.pods / worker.uid / "volumes" / "kubernetes.io~empty-dir"
        sizes = {}
        for volume in worker.pod["spec"].get("volumes") or ():
            path = folder / volume["name"]
            if "emptyDir" in volume and path.exists():
                sizes[volume["name"]] = await asyncio.to_thread(folder_size, path)
        # The files a container may write although they are the node's; no volume's name has a slash.
        written = self._agent.settings.pods / worker.uid
        with contextlib.suppress(OSError):
            sizes["/etc/hosts"] = (written / "etc-hosts").stat().st_size
        if (messages := written / "containers").exists():
            sizes["/dev/termination-log"] = await asyncio.to_thread(folder_size, messages)
        if text := local_limit(worker.current_pod(), own, sizes):
            worker.evict(text)
