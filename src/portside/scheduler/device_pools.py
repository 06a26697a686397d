"""The devices that drivers publish, by pool: which a node reaches, in which order, and whether a pool can be used at all.

Pure. Slices of an outdated generation are left out; a pool of which slices are missing gives nothing. DeviceTaintRules
count as if their taint was published. The order is upstream's: pools by driver and name, those with binding conditions
last, slices by name, devices as listed; the first that fits is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from operator import is_
from typing import Any

import numpy as np

from portside.api.device_taints import PREVENT, selects
from portside.api.quantity import parse
from portside.scheduler.filters import matches_term
from portside.scheduler.snapshot import Mask, Snapshot
from portside.scheduler.terms import NodeTerm

Json = dict[str, Any]
Id = tuple[str, str, str]  # driver, pool, device
PoolId = tuple[str, str]  # driver, pool
Counter = tuple[str, str]  # counter set, name


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """One device with the specification of its slice. ``taints``: those that keep new users away, rules' included.
    ``shared``: whether several claims may hold it at once."""

    id: Id
    body: Json
    slice: Json
    version: str
    taints: tuple[Json, ...]
    shared: bool
    counters: tuple[tuple[Counter, Decimal], ...]

    @property
    def place(self) -> Json:
        """Where its nodes are said: in the device or in the slice."""
        return self.body if self.slice.get("perDeviceNodeSelection") else self.slice

    def attribute(self, name: str) -> Json | None:
        """A fully qualified attribute (``{"string": ...}``), None when the device has none such."""
        attributes = self.body.get("attributes") or {}
        found: Json | None = attributes.get(name)
        domain, _, short = name.partition("/")
        if found is None and domain == self.id[0]:
            found = attributes.get(short)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """A pool as one node sees it. ``problem``: why nothing can be taken from it. ``others``: devices of other nodes that
    use up the same counters."""

    id: PoolId
    problem: str = ""
    devices: tuple[Device, ...] = ()
    others: tuple[Device, ...] = ()
    counters: Mapping[Counter, Decimal] = field(default_factory=dict)

    @property
    def binds(self) -> bool:
        return any(d.body.get("bindingConditions") for d in self.devices)


INCOMPLETE = "is currently being updated"
INVALID = "is currently invalid"


@dataclass(slots=True, eq=False)
class _Slice:
    name: str
    spec: Json
    generation: int
    count: int
    devices: tuple[Device, ...]


class Inventory:
    """All slices and rules of one moment. ``current`` tells whether it still is that moment."""

    def __init__(self, slices: Mapping[str, Json], rules: Mapping[str, Json]) -> None:
        self._slices, self._rules = list(slices.values()), list(rules.values())
        keeping = [r for r in self._rules if r["spec"]["taint"].get("effect") in PREVENT]
        self.by_pool: dict[PoolId, list[_Slice]] = {}
        for piece in self._slices:
            read = _read(piece, keeping)
            self.by_pool.setdefault((read.spec["driver"], read.spec["pool"]["name"]), []).append(read)
        self._local: dict[str, dict[PoolId, None]] = {}
        self._anywhere: list[PoolId] = []
        for key, found in self.by_pool.items():
            if any(not s.spec.get("nodeName") for s in found):
                self._anywhere.append(key)
            for one in found:
                if node := one.spec.get("nodeName"):
                    self._local.setdefault(node, {})[key] = None
        self._built: dict[tuple[PoolId, tuple[str, ...]], Pool | None] = {}
        self._masks: dict[int, Mask] = {}
        self._rows: dict[int, list[Pool]] = {}
        self._seen: tuple[Snapshot, int, int] | None = None

    def current(self, slices: Mapping[str, Json], rules: Mapping[str, Json]) -> bool:
        return _same(self._slices, slices) and _same(self._rules, rules)

    def pools_on(self, snapshot: Snapshot, row: int) -> list[Pool]:
        """The pools with a slice for this node, in upstream's order."""
        if self._seen != (now := (snapshot, snapshot.node_version, snapshot.size)):
            self._masks.clear()
            self._rows.clear()
            self._seen = now
        known = self._rows.get(row)
        if known is not None:
            return known
        name = snapshot.names[row]
        found = []
        for key in dict.fromkeys((*self._local.get(name, ()), *self._anywhere)):
            here = [s for s in self.by_pool[key] if self._reaches(s, snapshot, row)]
            if here and (pool := self._pool(key, here)) is not None:
                found.append(pool)
        self._rows[row] = sorted(found, key=lambda p: (p.binds, p.id))
        return self._rows[row]

    def usable_on(self, device: Device, snapshot: Snapshot, row: int) -> bool:
        """Whether a device whose slice leaves that to each device is one of this node's."""
        return not device.slice.get("perDeviceNodeSelection") or self._matches(device.body, snapshot, row)

    def _reaches(self, piece: _Slice, snapshot: Snapshot, row: int) -> bool:
        if piece.spec.get("perDeviceNodeSelection"):
            return any(self._matches(d.body, snapshot, row) for d in piece.devices)
        return self._matches(piece.spec, snapshot, row)

    def _matches(self, where: Json, snapshot: Snapshot, row: int) -> bool:
        if name := where.get("nodeName"):
            return bool(name == snapshot.names[row])
        if where.get("allNodes"):
            return True
        selector = where.get("nodeSelector")
        if not selector:
            return False
        mask = self._masks.get(id(selector))  # the slices are kept, so their parts keep their ids
        if mask is None:
            mask = self._masks[id(selector)] = reachable(selector, snapshot)
        return bool(mask[row])

    def _pool(self, key: PoolId, here: list[_Slice]) -> Pool | None:
        """None for a pool whose newest generation has nothing here."""
        newest = max(s.generation for s in here)
        mine = sorted((s for s in here if s.generation == newest), key=lambda s: s.name)
        called = (key, tuple(s.name for s in mine))
        if called not in self._built:
            self._built[called] = self._build(key, mine, newest)
        return self._built[called]

    def _build(self, key: PoolId, mine: list[_Slice], newest: int) -> Pool | None:
        others: list[_Slice] = []
        if len(mine) != mine[0].count:
            if any(s.generation > newest for s in self.by_pool[key]):
                return None
            names = {s.name for s in mine}
            others = [s for s in self.by_pool[key] if s.generation == newest and s.name not in names]
            if len(mine) + len(others) != mine[0].count:
                return Pool(key, INCOMPLETE)
        devices = tuple(d for s in mine if not s.spec.get("sharedCounters") for d in s.devices)
        elsewhere = tuple(d for s in others if not s.spec.get("sharedCounters") for d in s.devices)
        counters: dict[Counter, Decimal] = {}
        sets: set[str] = set()
        for piece in (*mine, *others):
            for shared in piece.spec.get("sharedCounters") or ():
                if shared["name"] in sets:
                    return Pool(key, INVALID)
                sets.add(shared["name"])
                for name, counter in (shared.get("counters") or {}).items():
                    counters[shared["name"], name] = parse(counter["value"])
        unique = len({d.id for d in devices}) == len(devices)
        if not unique or any(c not in counters for d in (*devices, *elsewhere) for c, _ in d.counters):
            return Pool(key, INVALID)
        return Pool(key, "", devices, elsewhere, counters)


def reachable(selector: Json | None, snapshot: Snapshot) -> Mask:
    """Rows that a node selector allows; all without one."""
    if not selector:
        return snapshot.live
    mask = np.zeros(snapshot.size, bool)
    for term in selector.get("nodeSelectorTerms") or ():
        mask |= matches_term(NodeTerm.of(term), snapshot)
    return mask


def _same(held: list[Json], now: Mapping[str, Json]) -> bool:
    return len(held) == len(now) and all(map(is_, held, now.values()))


def _read(piece: Json, rules: list[Json]) -> _Slice:
    spec, meta = piece["spec"], piece["metadata"]
    driver, pool, version = spec["driver"], spec["pool"]["name"], meta.get("resourceVersion", "")
    devices = tuple(
        Device(
            (driver, pool, body["name"]),
            body,
            spec,
            version,
            tuple(_taints(body, [r for r in rules if selects(r, driver, pool, body["name"])])),
            bool(body.get("allowMultipleAllocations")),
            tuple(_counters(body)),
        )
        for body in spec.get("devices") or ()
    )
    generation, count = int(spec["pool"].get("generation") or 0), int(spec["pool"].get("resourceSliceCount") or 1)
    return _Slice(meta["name"], spec, generation, count, devices)


def _taints(body: Json, rules: Iterable[Json]) -> Iterator[Json]:
    yield from (t for t in body.get("taints") or () if t.get("effect") in PREVENT)
    yield from (r["spec"]["taint"] for r in rules)


def _counters(body: Json) -> Iterator[tuple[Counter, Decimal]]:
    for used in body.get("consumesCounters") or ():
        for name, counter in (used.get("counters") or {}).items():
            yield (used["counterSet"], name), parse(counter["value"])
