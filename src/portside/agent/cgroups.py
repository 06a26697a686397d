"""The node's control groups: /kubepods with a group per QoS class and per pod, on version 1, hybrid and 2 machines.

The figures are the kubelet's: a pod's group holds the sum of its containers, a class's group the sum of its pods.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portside.agent import beneath
from portside.agent.resources import (
    MIN_SHARES,
    PERIOD,
    cgroup_parent,
    milli,
    pod_total,
    qos_class,
    quota,
    shares,
    whole,
)

Json = dict[str, Any]
log = logging.getLogger(__name__)
ROOT = Path("/sys/fs/cgroup")
KUBEPODS = "/kubepods"
UNLIMITED = -1
CONTROLLERS = "+cpu +memory +pids"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a group is given. ``quota`` (microseconds per 100 ms) and ``memory`` (bytes): -1 is no limit."""

    shares: int = MIN_SHARES
    quota: int = UNLIMITED
    memory: int = UNLIMITED


def pod_figures(pod: Json) -> Figures:
    """A pod's group: requests as shares; limits only when every container states them (or the pod itself does)."""
    qos = qos_class(pod)
    if qos == "BestEffort":
        return Figures()
    requests, limits = pod_total(pod, "requests"), pod_total(pod, "limits")
    cpu = quota(milli(limits["cpu"])) if limits.get("cpu") else UNLIMITED
    memory = whole(limits["memory"]) if limits.get("memory") else UNLIMITED
    return Figures(shares(milli(requests.get("cpu", 0))), cpu, memory)


def class_figures(pods: Sequence[Json]) -> dict[str, Figures]:
    """The groups of the classes Burstable and BestEffort, from the pods on the node."""
    cpu = sum(milli(pod_total(p, "requests").get("cpu", 0)) for p in pods if qos_class(p) == "Burstable")
    return {f"{KUBEPODS}/burstable": Figures(shares(cpu)), f"{KUBEPODS}/besteffort": Figures()}


def weight(cpu_shares: int) -> int:
    """Version 2's cpu.weight of version 1's shares: [2, 262144] onto [1, 10000]."""
    return 1 + (cpu_shares - 2) * 9999 // 262142


def version2(figures: Figures) -> dict[str, str]:
    """Files of a version 2 group."""
    limit = "max" if figures.quota < 0 else str(figures.quota)
    return {
        "cpu.weight": str(weight(figures.shares)),
        "cpu.max": f"{limit} {PERIOD}",
        "memory.max": "max" if figures.memory < 0 else str(figures.memory),
    }


def version1(figures: Figures) -> dict[str, dict[str, str]]:
    """Files per hierarchy of version 1 groups."""
    return {
        "cpu": {
            "cpu.shares": str(figures.shares),
            "cpu.cfs_period_us": str(PERIOD),
            "cpu.cfs_quota_us": str(figures.quota),
        },
        "memory": {"memory.limit_in_bytes": str(figures.memory)},
    }


def hierarchies(own: str) -> list[tuple[str, str, str]]:
    """(mount point below the root, file system, options) of every hierarchy in the text of /proc/self/cgroup."""
    found = []
    lines = [line.split(":", 2)[:2] for line in own.splitlines() if line]
    only2 = all(number == "0" for number, _ in lines)
    for number, controllers in sorted(lines, key=lambda line: int(line[0])):
        if number == "0":
            found.append(("" if only2 else "unified", "cgroup2", ""))
        else:
            found.append((controllers.removeprefix("name="), "cgroup", controllers))
    return found


def ensure_mounted(root: Path = ROOT) -> bool:
    """Mount the hierarchies when nobody has, as in a fresh mount namespace. True when there was something to do."""
    if any(line.split()[2].startswith("cgroup") for line in Path("/proc/self/mounts").read_text().splitlines()):
        return False
    found = hierarchies(Path("/proc/self/cgroup").read_text())
    flags = beneath.MS_NOSUID | beneath.MS_NODEV | beneath.MS_NOEXEC
    if any(kind == "cgroup" for _, kind, _ in found):
        beneath.mount("tmpfs", str(root), "tmpfs", flags, "mode=755")
    for folder, kind, options in found:
        (root / folder).mkdir(exist_ok=True)
        beneath.mount(kind, str(root / folder), kind, flags, options)
    return True


class Cgroups:
    """Writes groups. Whatever the machine refuses is logged once and left: containers keep their own limits."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.unified = (root / "cgroup.controllers").exists()
        self._written: dict[str, Figures] = {}
        self._refused: set[str] = set()

    def apply(self, group: str, figures: Figures) -> None:
        """Make the group with these figures; the same again costs nothing."""
        if self._written.get(group) == figures:
            return
        self._written[group] = figures
        if self.unified:
            self._delegate(group)
            self._write(self.root / group.lstrip("/"), version2(figures))
            return
        for controller, files in version1(figures).items():
            if (self.root / controller).is_dir():
                self._write(self.root / controller / group.lstrip("/"), files)

    def apply_pod(self, pod: Json) -> None:
        """The group of one pod."""
        self.apply(cgroup_parent(pod), pod_figures(pod))

    def apply_classes(self, pods: Sequence[Json]) -> None:
        """The groups of the QoS classes."""
        for group, figures in class_figures(pods).items():
            self.apply(group, figures)

    def _delegate(self, group: str) -> None:
        """Version 2: each group above hands its controllers on."""
        folder = self.root
        for part in group.strip("/").split("/"):
            with contextlib.suppress(OSError):
                (folder / "cgroup.subtree_control").write_text(CONTROLLERS)
            folder /= part
            with contextlib.suppress(OSError):
                folder.mkdir(mode=0o755, exist_ok=True)

    def _write(self, folder: Path, files: dict[str, str]) -> None:
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            for name, text in files.items():
                (folder / name).write_text(text)
        except OSError as problem:
            if str(problem.filename) not in self._refused:
                self._refused.add(str(problem.filename))
                log.warning("control group %s: %s", folder, problem)

    def memory_used(self, group: str) -> int:
        """Bytes charged to a group; 0 when it can't be told."""
        relative = group.lstrip("/")
        file = (
            self.root / relative / "memory.current"
            if self.unified
            else self.root / "memory" / relative / "memory.usage_in_bytes"
        )
        try:
            return int(file.read_text())
        except (OSError, ValueError):
            return 0

    def remove(self, group: str) -> None:
        """Remove the empty group, in every hierarchy; a busy one stays for a later call."""
        self._written.pop(group, None)
        relative = group.lstrip("/")
        with contextlib.suppress(OSError):
            folders = [Path(e.path) for e in os.scandir(self.root) if e.is_dir(follow_symlinks=False)]
            for hierarchy in (self.root, *folders):
                with contextlib.suppress(OSError):
                    os.rmdir(hierarchy / relative)
