"""Devices as resource claims ask for them: which nodes have a free set that meets every request, and which set it is.

Pure: reads caches, decides, and remembers what it has promised until the API says so. Structured parameters only: classes
and selectors (CEL), counts, all matching, alternatives, constraints over attributes, taints, shared counters, shares of a
device's capacity, and extended resources that are devices on a node.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import orjson

from portside.api.podrefs import resource_claims
from portside.scheduler import extended_devices as extended
from portside.scheduler.device_binding import awaited, gave_up
from portside.scheduler.device_match import Matcher, SelectorFailed
from portside.scheduler.device_pools import Device, Id, Inventory, Pool, reachable
from portside.scheduler.device_results import allocation
from portside.scheduler.device_search import CANNOT, Choice, Held, Search, options, requests_of
from portside.scheduler.filters import Refusal
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.snapshot import Ints, Mask, Snapshot

Json = dict[str, Any]
Read = Callable[[str], Mapping[str, Json]]
ELSEWHERE = "resourceclaim not available on the node"
MOST_ASKED = 64  # kinds of claims whose answers are kept, each some bytes a node
MOST_ALTERNATIVES = 8  # of a request: what its first one is worth


@dataclass(frozen=True, slots=True)
class Allocation:
    """What to write for one claim; ``status`` None when it was allocated before and only the pod is added. ``make``: the
    special claim to create first, ``uses`` what the pod's status then says of it."""

    claim: str
    status: Json | None
    devices: tuple[Id, ...]
    make: Json | None = None
    uses: tuple[Json, ...] = ()


Answer = tuple[tuple[int, ...], str, list[list[Choice]]]  # versions of the node's pools, why not, what


@dataclass(slots=True)
class Promise:
    """An allocation that is on its way into the API, for pods of one gang as many as share it."""

    allocation: Json
    group: str
    sharers: int = 1


@dataclass(slots=True)
class _Asked:
    """A pod's claims: ``given`` have an allocation, ``waiting`` have none."""

    given: list[tuple[str, Json, Json]] = field(default_factory=list)
    waiting: list[tuple[str, Json]] = field(default_factory=list)
    stale: Json | None = None  # a special claim of an earlier attempt
    answers: dict[int, Answer] | None = None  # to claims that ask for the same


class Devices:
    """``read(plural)``: claims by ``namespace/name``; slices, taint rules and classes by name. ``now``: seconds."""

    def __init__(self, read: Read, rng: Random | None = None, now: Callable[[], float] = lambda: 0.0) -> None:
        self.read = read
        self.rng = rng or Random()
        self.now = now
        self.matcher = Matcher()
        self.promised: dict[str, Promise] = {}  # by claim
        self._inventory = Inventory({}, {})
        self._held = Held()
        self._counted: dict[str, tuple[object, Sequence[Json]]] = {}  # claim -> (its object, its results)
        self._found: tuple[str, dict[int, list[list[Choice]]]] = ("", {})  # of the last filter: pod, choices by row
        self._answers: OrderedDict[bytes, dict[int, Answer]] = OrderedDict()  # by what is asked for, and row
        self._moment: tuple[object, ...] = ()

    # Before any node is looked at

    def asks(self, pod: PodInfo, snapshot: Snapshot) -> bool:
        """Whether devices matter to the pod."""
        return bool(pod.devices) or snapshot.delegates(pod.shape)

    def problem(self, pod: PodInfo) -> str:
        """Why no node at all can take the pod's claims, "" when there is no such reason."""
        if why := self._unusable(pod):
            return why
        for key, claim in self._claims(pod):
            promise = self.promised.get(key)
            if (claim.get("status") or {}).get("allocation"):
                continue
            if promise is not None and not (pod.group and promise.group == pod.group):
                return f"resource claim {key} is in the process of being allocated"
            if why := self._classless(claim):
                return why
        return ""

    def unmade(self, pod: PodInfo) -> bool:
        """Whether a claim of the pod is not there to be used (yet): the pod waits without a word, as upstream's does."""
        return bool(self._unusable(pod))

    def _unusable(self, pod: PodInfo) -> str:
        claims = self.read("resourceclaims")
        own = {name for name, mine in resource_claims(pod.object) if mine}
        for name in pod.devices:
            if not name:
                return f'pod "{pod.namespace}/{pod.name}": ResourceClaim not created yet'
            claim = claims.get(f"{pod.namespace}/{name}")
            if claim is None:
                return f'resourceclaim.resource.k8s.io "{name}" not found'
            if claim["metadata"].get("deletionTimestamp"):
                return f'resourceclaim "{name}" is being deleted'
            owners = claim["metadata"].get("ownerReferences") or ()
            if name in own and not any(o.get("controller") and o.get("uid") == pod.uid for o in owners):
                return f"ResourceClaim {pod.namespace}/{name} was not created for Pod {pod.key} (Pod is not owner)"
        return ""

    def _classless(self, claim: Json) -> str:
        for option in (o for r in requests_of(claim) for o in options(r)):
            name = option.wanted.get("deviceClassName", "")
            if name not in self.read("deviceclasses"):
                return f"request {option.name}: device class {name} does not exist"
        return ""

    def _claims(self, pod: PodInfo) -> list[tuple[str, Json]]:
        claims = self.read("resourceclaims")
        keys = dict.fromkeys(f"{pod.namespace}/{n}" for n in pod.devices if n)
        return [(k, claims[k]) for k in keys if k in claims]

    def _asked(self, pod: PodInfo, snapshot: Snapshot) -> _Asked:
        asked = _Asked()
        for key, claim in self._claims(pod):
            given = (claim.get("status") or {}).get("allocation")
            if given is None and (promise := self.promised.get(key)) and promise.group == pod.group:
                given = promise.allocation
            if given:
                asked.given.append((key, claim, given))
            else:
                asked.waiting.append((key, claim))
        if snapshot.delegates(pod.shape):
            for claim in self.read("resourceclaims").values():
                if extended.is_special(claim, pod.uid):
                    asked.stale = claim
        return asked

    # Which nodes

    def filter(self, pod: PodInfo, snapshot: Snapshot, among: Mask) -> list[Refusal]:
        """Of the rows ``among``: those without devices for the pod's claims, and those where allocated ones can't be used."""
        asked = self._asked(pod, snapshot)
        if asked.stale is not None:
            return [Refusal(extended.STALE, among, False)]
        found: dict[int, list[list[Choice]]] = {}
        self._found = pod.uid, found
        lacking: dict[str, Mask] = {}
        if asked.waiting or snapshot.delegates(pod.shape):
            self._refresh(snapshot)
            for row in np.flatnonzero(among & snapshot.live).tolist():
                try:
                    why, choices = self._search(pod, asked, snapshot, row)
                except SelectorFailed as problem:
                    return [Refusal(str(problem), among, False, error=True)]
                if why:
                    lacking.setdefault(why, np.zeros(snapshot.size, bool))[row] = True
                else:
                    found[row] = choices
        refusals = [Refusal(why, rows, False) for why, rows in lacking.items()]
        elsewhere = among & self._elsewhere(asked, snapshot)
        for rows in lacking.values():
            elsewhere &= ~rows
        if elsewhere.any():
            refusals.append(Refusal(ELSEWHERE, elsewhere, False))
        return refusals

    def _elsewhere(self, asked: _Asked, snapshot: Snapshot) -> Mask:
        rows = np.zeros(snapshot.size, bool)
        for _, claim, given in asked.given:
            rows |= ~self._usable(claim, given, snapshot)
        return rows

    def _usable(self, claim: Json, given: Json, snapshot: Snapshot) -> Mask:
        if gave_up(claim, self.now()):
            return np.zeros(snapshot.size, bool)
        return reachable(given.get("nodeSelector"), snapshot)

    def idle(self, pod: PodInfo, snapshot: Snapshot, among: Mask) -> Json | None:
        """A claim that nobody but this pod uses and that keeps it from a node ``among``: to be deallocated, or (a special
        claim of an earlier attempt) deleted, so that the pod may get other devices elsewhere."""
        asked = self._asked(pod, snapshot)
        if asked.stale is not None or not among.any():
            return asked.stale
        refused = self.filter(pod, snapshot, among)
        rows = among.copy()
        for refusal in refused:
            if refusal.reason != ELSEWHERE:
                rows &= ~refusal.rows
        for _, claim, given in asked.given:
            users = (claim.get("status") or {}).get("reservedFor") or ()
            alone = all(u.get("uid") == pod.uid for u in users) and len(users) <= 1
            if alone and (rows & ~self._usable(claim, given, snapshot)).any():
                return claim
        return None

    def score(self, pod: PodInfo, snapshot: Snapshot, feasible: Mask) -> Ints | None:
        """Earlier alternatives are better (of what the last ``filter`` found for this pod). None without alternatives."""
        asked = self._asked(pod, snapshot)
        if self._found[0] != pod.uid or not any(_has_alternatives(c) for _, c in asked.waiting):
            return None
        raw = np.zeros(snapshot.size, np.int64)
        before = sum(_worth(c, {r["request"] for r in _results(g)}) for _, c, g in asked.given)
        for row, choices in self._found[1].items():
            pairs = zip(asked.waiting, choices, strict=False)
            raw[row] = before + sum(_worth(c, {x.option.name for x in mine}) for (_, c), mine in pairs)
        return raw

    # What is written

    def plan(self, pod: PodInfo, snapshot: Snapshot, node: str) -> list[Allocation]:
        """What to write for a pod on its node; the devices are promised to it from now on."""
        asked, found = self._asked(pod, snapshot), []
        for key, claim, given in asked.given:
            promise = self.promised.get(key)
            if (claim.get("status") or {}).get("allocation") or promise is None:
                found.append(Allocation(key, None, ()))
            else:
                promise.sharers += 1
                found.append(Allocation(key, given, _ids(_results(given))))
        special = self._special(pod, snapshot, snapshot.row_of[node])
        if not asked.waiting and special is None:
            return found
        self._refresh(snapshot)
        _, choices = self._search(pod, asked, snapshot, snapshot.row_of[node])
        wanted = [*asked.waiting, *([(_unmade(pod), special[0])] if special else [])]
        for (key, claim), mine in zip(wanted, choices, strict=False):
            made = allocation(claim, mine, self.read("deviceclasses"), node, self.rng)
            self.promised[key] = Promise(made, pod.group)
            self._count(key, None, _results(made))
            make, uses = (claim, tuple(special[1])) if special and key == _unmade(pod) else (None, ())
            found.append(Allocation(key, made, _ids(_results(made)), make, uses))
        return found

    def slow(self, allocations: Iterable[Allocation]) -> bool:
        """Whether drivers have to make devices ready before the pod may be bound."""
        claims = self.read("resourceclaims")
        given = ({"status": {"allocation": a.status}} if a.status else claims.get(a.claim, {}) for a in allocations)
        return any(map(awaited, given))

    def forget(self, allocations: Iterable[Allocation]) -> None:
        """The promise did not stand, or the API knows by now."""
        for made in allocations:
            promise = self.promised.get(made.claim)
            if promise is None or made.status is None:
                continue
            promise.sharers -= 1
            if not promise.sharers:
                del self.promised[made.claim]
                self._count(made.claim, None, ())

    # How

    def _refresh(self, snapshot: Snapshot) -> None:
        """Catch up with slices, rules and claims; what did not change is the very object seen before."""
        slices, rules = self.read("resourceslices"), self.read("devicetaintrules")
        if not self._inventory.current(slices, rules):
            self._inventory = Inventory(slices, rules)
        classes = self.read("deviceclasses")
        moment = (self._inventory, snapshot, snapshot.node_version, snapshot.size, *classes.values())
        if len(moment) != len(self._moment) or not all(
            a is b or a == b for a, b in zip(moment, self._moment, strict=True)
        ):
            self._moment = moment
            self._answers.clear()
        claims = self.read("resourceclaims")
        for key, claim in claims.items():
            known = self._counted.get(key)
            if known is None or known[0] is not claim:
                given = (claim.get("status") or {}).get("allocation")
                promise = self.promised.get(key)
                self._count(key, claim, _results(given or (promise.allocation if promise else None)))
        if len(self._counted) > len(claims):
            for key in self._counted.keys() - claims.keys() - self.promised.keys():
                self._count(key, None, ())
                del self._counted[key]

    def _count(self, key: str, claim: Json | None, results: Sequence[Json]) -> None:
        known = self._counted.get(key)
        if known is not None:
            self._held.add(known[1], -1)
        self._held.add(results)
        self._counted[key] = claim, results

    def _special(self, pod: PodInfo, snapshot: Snapshot, row: int) -> tuple[Json, list[Json]] | None:
        """The special claim as this node needs it, None when it needs none there."""
        classes = {n: c for n, c in snapshot.backed.items() if pod.requests.get(n) and not snapshot.offers(n, row)}
        if not classes:
            return None
        requests, uses = extended.requests(pod.object["spec"], classes)
        return {**extended.template(pod.object), "spec": {"devices": {"requests": requests}}}, uses

    def _search(self, pod: PodInfo, asked: _Asked, snapshot: Snapshot, row: int) -> tuple[str, list[list[Choice]]]:
        """(why not, choices per claim) for one node. Claims that ask for the same find the same as long as nothing of the
        node's pools is given or taken back."""
        special = self._special(pod, snapshot, row)
        claims = [c for _, c in asked.waiting] + ([special[0]] if special else [])
        if not claims:
            return "", []
        pools = self._inventory.pools_on(snapshot, row)
        if not pools:
            return CANNOT, []
        if special:
            return self._try(claims, pools, snapshot, row)
        answers = self._answers_to(asked)
        version = tuple(self._held.versions.get(p.id, 0) for p in pools)
        known = answers.get(row)
        if known is None or known[0] != version:
            known = answers[row] = version, *self._try(claims, pools, snapshot, row)
        return known[1], known[2]

    def _answers_to(self, asked: _Asked) -> dict[int, Answer]:
        if asked.answers is None:
            key = orjson.dumps([c["spec"] for _, c in asked.waiting])
            asked.answers = self._answers.setdefault(key, {})
            self._answers.move_to_end(key)
            if len(self._answers) > MOST_ASKED:
                self._answers.popitem(last=False)
        return asked.answers

    def _try(
        self, claims: list[Json], pools: list[Pool], snapshot: Snapshot, row: int
    ) -> tuple[str, list[list[Choice]]]:
        inventory = self._inventory

        def suits(wanted: Json, device: Device, claim: str) -> bool:
            return self._selected(wanted, device, claim) and inventory.usable_on(device, snapshot, row)

        search = Search(claims, pools, self._held, suits)
        found = search.run()
        return (search.why, []) if found is None else ("", found)

    def _selected(self, wanted: Json, device: Device, claim: str) -> bool:
        """By the class and the request's own selectors. Raises SelectorFailed."""
        name = wanted.get("deviceClassName", "")
        found = self.read("deviceclasses").get(name)
        if found is None:
            return False
        for whose, holder in ((f"class {name}", found["spec"]), (f"claim {claim}", wanted)):
            for i, selector in enumerate(holder.get("selectors") or ()):
                text = (selector.get("cel") or {}).get("expression", "")
                try:
                    if not self.matcher.matches(text, device.id, device.body, device.version):
                        return False
                except SelectorFailed as problem:
                    raise SelectorFailed(f"{whose}: selector #{i}{problem}") from None
        return True


def _unmade(pod: PodInfo) -> str:
    return f"{pod.namespace}/{extended.UNMADE}/{pod.uid}"


def _results(given: Json | None) -> list[Json]:
    return ((given or {}).get("devices") or {}).get("results") or []


def _ids(results: Iterable[Json]) -> tuple[Id, ...]:
    return tuple((r["driver"], r["pool"], r["device"]) for r in results if not r.get("adminAccess"))


def _has_alternatives(claim: Json) -> bool:
    return any(r.get("firstAvailable") for r in requests_of(claim))


def _worth(claim: Json, names: set[str]) -> int:
    """How good the alternatives are that were taken: 8 for a first one, one less for each later one."""
    return sum(MOST_ALTERNATIVES - i for i, name in _alternatives(claim) if name in names)


def _alternatives(claim: Json) -> Iterator[tuple[int, str]]:
    for request in requests_of(claim):
        for i, sub in enumerate(request.get("firstAvailable") or ()):
            yield i, f"{request['name']}/{sub['name']}"
