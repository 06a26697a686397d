"""Devices as resource claims ask for them: which nodes have a free set that meets every request, and which set it is.

Pure: reads caches, decides, and remembers what it has promised until the API says so. Structured parameters only: classes
and selectors (CEL), counts, all matching, alternatives, constraints over attributes, taints, shared counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from portside.api.quantity import value
from portside.scheduler.device_match import Matcher
from portside.scheduler.filters import Refusal, matches_term
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.snapshot import Mask, Snapshot
from portside.scheduler.terms import NodeTerm

Json = dict[str, Any]
Read = Callable[[str], Mapping[str, Json]]
Id = tuple[str, str, str]  # driver, pool, device
CANNOT = "cannot allocate all claims"
ELSEWHERE = "resourceclaim not available on the node"
MOST_STEPS = 10_000  # of the search for one claim set on one node; beyond it the node counts as unable


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a complete pool, with the slice it came in."""

    id: Id
    body: Json
    slice: Json
    version: str

    def attribute(self, name: str) -> Any:
        """The value of a fully qualified attribute, None when the device has none such."""
        attributes = self.body.get("attributes") or {}
        found = attributes.get(name)
        domain, _, short = name.partition("/")
        if found is None and domain == self.id[0]:
            found = attributes.get(short)
        return None if found is None else next(iter(found.values()), None)


@dataclass(frozen=True, slots=True)
class Allocation:
    """What to write for one claim; ``status`` None when it was allocated before and only the pod is added."""

    claim: str
    status: Json | None
    devices: tuple[Id, ...]


@dataclass(slots=True)
class _Search:
    """The state of a search on one node."""

    free: list[Device]
    taken: set[Id]
    counters: dict[tuple[str, str, str, str], int]
    chosen: list[tuple[str, str, Device, Json]] = field(default_factory=list)  # claim, request, device, request body
    steps: int = 0


class Devices:
    """``read(plural)``: claims by ``namespace/name``, slices and classes by name."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.matcher = Matcher()
        self.promised: dict[str, tuple[Id, ...]] = {}  # claim -> devices

    def problem(self, pod: PodInfo) -> str:
        """Why no node at all can take the pod's claims, "" when there is no such reason."""
        for name in pod.devices:
            if not name:
                return f'pod "{pod.namespace}/{pod.name}": ResourceClaim not created yet'
            claim = self.read("resourceclaims").get(f"{pod.namespace}/{name}")
            if claim is None:
                return f'resourceclaim.resource.k8s.io "{name}" not found'
            if claim["metadata"].get("deletionTimestamp"):
                return f'resourceclaim "{name}" is being deleted'
            if not (claim.get("status") or {}).get("allocation") and (why := self._classless(claim)):
                return why
        return ""

    def unmade(self, pod: PodInfo) -> bool:
        """Whether a claim of the pod does not exist (yet): the pod waits without a word, as upstream's does."""
        claims = self.read("resourceclaims")
        return any(not name or f"{pod.namespace}/{name}" not in claims for name in pod.devices)

    def _classless(self, claim: Json) -> str:
        for request, name in _classes(claim):
            if name not in self.read("deviceclasses"):
                return f"request {request}: device class {name} does not exist"
        return ""

    def filter(self, pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
        """Nodes where allocated claims can't be used, and those without devices for the others."""
        if not pod.devices:
            return []
        claims = self._claims(pod)
        elsewhere = np.zeros(snapshot.size, bool)
        waiting = []
        for key, claim in claims:
            allocation = (claim.get("status") or {}).get("allocation")
            if allocation:
                elsewhere |= ~_reachable(allocation.get("nodeSelector"), snapshot)
            else:
                waiting.append((key, claim))
        refusals = []
        if elsewhere.any():
            refusals.append(Refusal(ELSEWHERE, elsewhere, True))
        if waiting:
            lacking = np.zeros(snapshot.size, bool)
            pools, taken = self._pools(), self._taken()
            for row in np.flatnonzero(snapshot.live & ~elsewhere).tolist():
                lacking[row] = self._allocate(waiting, snapshot, row, pools, taken) is None
            if lacking.any():
                refusals.append(Refusal(CANNOT, lacking, False))
        return refusals

    def plan(self, pod: PodInfo, snapshot: Snapshot, node: str) -> list[Allocation]:
        """What to write for a pod on its node; the devices are promised to it from now on."""
        waiting, found = [], []
        for key, claim in self._claims(pod):
            if (claim.get("status") or {}).get("allocation"):
                found.append(Allocation(key, None, ()))
            else:
                waiting.append((key, claim))
        if waiting:
            row = snapshot.row_of[node]
            chosen = self._allocate(waiting, snapshot, row, self._pools(), self._taken()) or []
            for key, claim in waiting:
                mine = [c for c in chosen if c[0] == key]
                ids = tuple(d.id for _, _, d, request in mine if not request.get("adminAccess"))
                self.promised[key] = ids
                found.append(Allocation(key, self._status(claim, mine, node), ids))
        return found

    def forget(self, allocations: Iterable[Allocation]) -> None:
        """The promise did not stand, or the API knows by now."""
        for made in allocations:
            self.promised.pop(made.claim, None)

    def _claims(self, pod: PodInfo) -> list[tuple[str, Json]]:
        claims = self.read("resourceclaims")
        keys = dict.fromkeys(f"{pod.namespace}/{n}" for n in pod.devices if n)
        return [(k, claims[k]) for k in keys if k in claims]

    def _pools(self) -> list[Device]:
        """Devices of the newest generation of every pool that is complete."""
        newest: dict[tuple[str, str], int] = {}
        slices = [
            s["spec"] | {"version": s["metadata"].get("resourceVersion", "")}
            for s in self.read("resourceslices").values()
        ]
        for spec in slices:
            key = (spec["driver"], spec["pool"]["name"])
            newest[key] = max(newest.get(key, -1), int(spec["pool"].get("generation") or 0))
        by_pool: dict[tuple[str, str], list[Json]] = {}
        for spec in slices:
            key = (spec["driver"], spec["pool"]["name"])
            if int(spec["pool"].get("generation") or 0) == newest[key]:
                by_pool.setdefault(key, []).append(spec)
        return [
            Device((driver, pool, body["name"]), body, spec, spec["version"])
            for (driver, pool), specs in by_pool.items()
            if len(specs) == int(specs[0]["pool"].get("resourceSliceCount") or 1)
            for spec in specs
            for body in spec.get("devices") or ()
        ]

    def _taken(self) -> set[Id]:
        taken = {i for ids in self.promised.values() for i in ids}
        for claim in self.read("resourceclaims").values():
            allocation = (claim.get("status") or {}).get("allocation") or {}
            for result in (allocation.get("devices") or {}).get("results") or ():
                if not result.get("adminAccess"):
                    taken.add((result["driver"], result["pool"], result["device"]))
        return taken

    # The search on one node

    def _allocate(
        self, claims: list[tuple[str, Json]], snapshot: Snapshot, row: int, pools: list[Device], taken: set[Id]
    ) -> list[tuple[str, str, Device, Json]] | None:
        here = [d for d in pools if _on_node(d, snapshot, row)]
        if not here:
            return None
        search = _Search(here, set(taken), _counters(here, taken))
        return search.chosen if self._claim(search, claims, 0) else None

    def _claim(self, search: _Search, claims: list[tuple[str, Json]], at: int) -> bool:
        if at == len(claims):
            return True
        key, claim = claims[at]
        requests = (claim["spec"].get("devices") or {}).get("requests") or []
        return self._request(search, key, claim, requests, 0, lambda: self._claim(search, claims, at + 1))

    def _request(
        self, search: _Search, key: str, claim: Json, requests: list[Json], at: int, then: Callable[[], bool]
    ) -> bool:
        if at == len(requests):
            return then()
        for name, wanted in _alternatives(requests[at]):
            fitting = [d for d in search.free if self._suits(d, wanted)]
            following = lambda: self._request(search, key, claim, requests, at + 1, then)  # noqa: E731
            if wanted.get("allocationMode") == "All":
                usable = bool(fitting) and all(self._usable(search, d, wanted) for d in fitting)
                if usable and self._take(search, key, claim, name, wanted, fitting, len(fitting), 0, following):
                    return True
            elif self._take(search, key, claim, name, wanted, fitting, int(wanted.get("count") or 1), 0, following):
                return True
        return False

    def _take(
        self,
        search: _Search,
        key: str,
        claim: Json,
        name: str,
        wanted: Json,
        fitting: list[Device],
        left: int,
        start: int,
        then: Callable[[], bool],
    ) -> bool:
        """Choose ``left`` more of ``fitting`` from ``start`` on, then go on; undone when that leads nowhere."""
        if not left:
            return then()
        for i in range(start, len(fitting) - left + 1):
            search.steps += 1
            if search.steps > MOST_STEPS:
                return False
            device = fitting[i]
            if not self._usable(search, device, wanted) or not _constraints_hold(search, key, claim, name, device):
                continue
            admin = bool(wanted.get("adminAccess"))
            search.chosen.append((key, name, device, wanted))
            if not admin:
                search.taken.add(device.id)
                _consume(search, device, -1)
            if self._take(search, key, claim, name, wanted, fitting, left - 1, i + 1, then):
                return True
            search.chosen.pop()
            if not admin:
                search.taken.discard(device.id)
                _consume(search, device, 1)
        return False

    def _usable(self, search: _Search, device: Device, wanted: Json) -> bool:
        if wanted.get("adminAccess"):
            return True
        if device.id in search.taken:
            return False
        return all(search.counters.get(c, 0) >= amount for c, amount in _uses(device))

    def _suits(self, device: Device, wanted: Json) -> bool:
        """Class, selectors, capacity and taints."""
        found = self.read("deviceclasses").get(wanted.get("deviceClassName", ""))
        if found is None:
            return False
        for taint in device.body.get("taints") or ():
            if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerates(wanted, taint):
                return False
        for name, least in ((wanted.get("capacity") or {}).get("requests") or {}).items():
            held = (device.body.get("capacity") or {}).get(name)
            if held is None or value(held["value"]) < value(least):
                return False
        selectors = [*(found["spec"].get("selectors") or ()), *(wanted.get("selectors") or ())]
        return all(
            self.matcher.matches((s.get("cel") or {}).get("expression", ""), device.id, device.body, device.version)
            for s in selectors
        )

    def _status(self, claim: Json, mine: list[tuple[str, str, Device, Json]], node: str) -> Json:
        """The allocation as the claim's status says it."""
        results, config, local = [], [], False
        selector: Json | None = None
        for _, name, device, request in mine:
            result: Json = {"request": name, "driver": device.id[0], "pool": device.id[1], "device": device.id[2]}
            if request.get("adminAccess"):
                result["adminAccess"] = True
            if request.get("tolerations"):
                result["tolerations"] = request["tolerations"]
            results.append(result)
            where = device.body if device.slice.get("perDeviceNodeSelection") else device.slice
            local = local or bool(where.get("nodeName"))
            selector = selector or where.get("nodeSelector")
            found = self.read("deviceclasses").get(request.get("deviceClassName", "")) or {"spec": {}}
            for given in found["spec"].get("config") or ():
                entry = {"source": "FromClass", "requests": [name], **given}
                if entry not in config:
                    config.append(entry)
        config += [{"source": "FromClaim", **c} for c in (claim["spec"].get("devices") or {}).get("config") or ()]
        devices: Json = {"results": results}
        if config:
            devices["config"] = config
        made: Json = {"devices": devices}
        if local:
            made["nodeSelector"] = {
                "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
            }
        elif selector:
            made["nodeSelector"] = selector
        return made


def _alternatives(request: Json) -> Iterator[tuple[str, Json]]:
    """(name in the result, what is asked): one, or several in order of preference."""
    if exactly := request.get("exactly"):
        yield request["name"], exactly
    for sub in request.get("firstAvailable") or ():
        yield f"{request['name']}/{sub['name']}", sub


def _classes(claim: Json) -> Iterator[tuple[str, str]]:
    """(request, device class) of everything a claim may ask for."""
    for request in (claim["spec"].get("devices") or {}).get("requests") or ():
        for _, wanted in _alternatives(request):
            yield request["name"], wanted.get("deviceClassName", "")


def _tolerates(wanted: Json, taint: Json) -> bool:
    for t in wanted.get("tolerations") or ():
        if t.get("effect") and t["effect"] != taint.get("effect"):
            continue
        if t.get("key") and t["key"] != taint["key"]:
            continue
        if t.get("operator") == "Exists" or (t.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def _on_node(device: Device, snapshot: Snapshot, row: int) -> bool:
    where = device.body if device.slice.get("perDeviceNodeSelection") else device.slice
    if where.get("allNodes"):
        return True
    if where.get("nodeName"):
        return bool(where["nodeName"] == snapshot.names[row])
    return bool(where.get("nodeSelector")) and bool(_reachable(where["nodeSelector"], snapshot)[row])


def _reachable(selector: Json | None, snapshot: Snapshot) -> Mask:
    if not selector:
        return snapshot.live
    mask = np.zeros(snapshot.size, bool)
    for term in selector.get("nodeSelectorTerms") or ():
        mask |= matches_term(NodeTerm.of(term), snapshot)
    return mask


def _uses(device: Device) -> Iterator[tuple[tuple[str, str, str, str], int]]:
    for used in device.body.get("consumesCounters") or ():
        for name, counter in (used.get("counters") or {}).items():
            yield (device.id[0], device.id[1], used["counterSet"], name), value(counter["value"])


def _counters(here: list[Device], taken: set[Id]) -> dict[tuple[str, str, str, str], int]:
    """What is left of the counters that devices of one pool share."""
    left: dict[tuple[str, str, str, str], int] = {}
    for device in here:
        for shared in device.slice.get("sharedCounters") or ():
            for name, counter in (shared.get("counters") or {}).items():
                left.setdefault((device.id[0], device.id[1], shared["name"], name), value(counter["value"]))
    for device in here:
        if device.id in taken:
            for key, amount in _uses(device):
                left[key] = left.get(key, 0) - amount
    return left


def _consume(search: _Search, device: Device, sign: int) -> None:
    for key, amount in _uses(device):
        search.counters[key] = search.counters.get(key, 0) + sign * amount


def _constraints_hold(search: _Search, key: str, claim: Json, name: str, device: Device) -> bool:
    """Whether the device agrees with (or differs from) those chosen for the constraint's requests."""
    for constraint in (claim["spec"].get("devices") or {}).get("constraints") or ():
        listed = constraint.get("requests")
        if listed and name not in listed and name.partition("/")[0] not in listed:
            continue
        attribute = constraint.get("matchAttribute") or constraint.get("distinctAttribute") or ""
        mine = device.attribute(attribute)
        if mine is None:
            return False
        for other_key, other_name, other, _ in search.chosen:
            if other_key != key:
                continue
            if listed and other_name not in listed and other_name.partition("/")[0] not in listed:
                continue
            same = other.attribute(attribute) == mine
            if same is not bool(constraint.get("matchAttribute")):
                return False
    return True
