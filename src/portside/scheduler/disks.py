"""Disks that pods name themselves, without a claim: which two pods can't use one at a time on the same node. Pure.

The kinds and rules are those of upstream's VolumeRestrictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Disk:
    """``names``: what identifies it (any one in common will do); ``shared``: several pods may read it at a time."""

    kind: str
    names: frozenset[str]
    part: tuple[str, str]
    shared: bool

    def clashes(self, other: Disk) -> bool:
        """Whether two pods of one node can't have both."""
        if self.kind != other.kind or self.part != other.part or not self.names & other.names:
            return False
        return not (self.shared and other.shared)


def disks_of(volumes: Sequence[Json]) -> tuple[Disk, ...]:
    """The disks among a pod's volumes. Amazon's are never shared."""
    found = []
    for volume in volumes:
        if disk := volume.get("gcePersistentDisk"):
            found.append(Disk("gce", frozenset((disk.get("pdName", ""),)), ("", ""), bool(disk.get("readOnly"))))
        if disk := volume.get("awsElasticBlockStore"):
            found.append(Disk("aws", frozenset((disk.get("volumeID", ""),)), ("", ""), shared=False))
        if disk := volume.get("iscsi"):
            found.append(Disk("iscsi", frozenset((disk.get("iqn", ""),)), ("", ""), bool(disk.get("readOnly"))))
        if disk := volume.get("rbd"):
            part = disk.get("pool", "rbd"), disk.get("image", "")
            found.append(Disk("rbd", frozenset(disk.get("monitors") or ()), part, bool(disk.get("readOnly"))))
    return tuple(found)


def clash(mine: Sequence[Disk], theirs: Sequence[Disk]) -> bool:
    """Whether two pods name a disk that they can't both have."""
    return any(a.clashes(b) for a in mine for b in theirs)
