"""How fast nodes that fail may lose their pods: a zone at a time, and not at all when nobody is heard of any more.

When most of a zone is silent, the network or we ourselves are the likelier cause: a small zone then keeps its pods, a large
one loses them slowly. When no node of the cluster is ready, nothing is evicted. Figures are upstream's defaults.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from portside.client.protocol import Json
from portside.controllers.pods import condition

REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
PERIOD, SLOW_PERIOD = 10.0, 100.0  # seconds between two nodes of a zone
UNHEALTHY = 0.55  # share of a zone's nodes from which on it counts as partly disrupted
FEW = 2  # so many nodes may always fail
LARGE = 50  # nodes of a zone that goes on slowly when it is partly disrupted
LOOK = 5.0  # seconds between looks at a zone that is held


def zone_of(node: Json) -> str:
    labels = node["metadata"].get("labels") or {}
    return f"{labels.get(REGION, '')}/{labels.get(ZONE, '')}"


@dataclass(slots=True)
class Count:
    """The nodes of a zone."""

    ready: int = 0
    silent: int = 0

    @property
    def period(self) -> float:
        """Seconds between two nodes that lose their pods; infinite when none may."""
        partly = self.silent > FEW and self.silent / (self.silent + self.ready) >= UNHEALTHY
        if self.ready and partly:
            return SLOW_PERIOD if self.ready + self.silent > LARGE else inf
        return PERIOD


def counted(nodes: Iterable[Json]) -> dict[str, Count]:
    """The zones by their names."""
    found: dict[str, Count] = {}
    for node in nodes:
        count = found.setdefault(zone_of(node), Count())
        if (condition(node, "Ready") or {}).get("status") == "True":
            count.ready += 1
        else:
            count.silent += 1
    return found


@dataclass(slots=True)
class Zones:
    """Remembers when each zone last gave up a node. Times are of a clock that does not jump."""

    _last: dict[str, float] = field(default_factory=dict)
    _counts: dict[str, Count] = field(default_factory=dict)
    _counted_at: float = -inf

    def look(self, nodes: Iterable[Json], now: float) -> None:
        """Counts anew, once a second at most: thousands may fail together."""
        if now - self._counted_at >= 1.0:
            self._counts, self._counted_at = counted(nodes), now

    @property
    def all_lost(self) -> bool:
        """No node of the cluster is ready."""
        return bool(self._counts) and not any(c.ready for c in self._counts.values())

    def wait(self, node: Json, now: float) -> float:
        """Seconds until this node may lose its pods: 0 takes the zone's turn."""
        zone = zone_of(node)
        period = self._counts.get(zone, Count()).period
        if self.all_lost or period == inf:
            return LOOK
        left = self._last.get(zone, -inf) + period - now
        if left > 0:
            return left
        self._last[zone] = now
        return 0.0
