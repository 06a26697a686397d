"""The search for devices on one node: one choice for every request of every claim, the first that is found.

Exhaustive with a limit, in upstream's order; of one request's devices every set is tried once. ``Held`` is what others
have; what this search takes is undone where it leads nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from portside.api.device_taints import tolerates
from portside.api.quantity import parse
from portside.scheduler import device_capacity as capacity
from portside.scheduler.device_pools import Counter, Device, Id, Pool, PoolId

Json = dict[str, Any]
MOST_STEPS = 10_000  # devices tried on one node; beyond it the node counts as unable
MOST_RESULTS = 32  # devices of one claim: AllocationResultsMaxSize
CANNOT = "cannot allocate all claims"
BROKEN_POOLS = "invalid resource pools were encountered"


@dataclass(slots=True)
class Held:
    """What claims have: whole devices, how many shares of others, and how much of their capacity."""

    whole: dict[Id, int] = field(default_factory=dict)
    shares: dict[Id, int] = field(default_factory=dict)
    capacity: dict[Id, dict[str, Decimal]] = field(default_factory=dict)
    versions: dict[PoolId, int] = field(default_factory=dict)  # of a pool: rises with every change of what it gave

    def add(self, results: Sequence[Json], sign: int = 1) -> None:
        """Count the results of one allocation, or (-1) count them no more. Access for administration uses nothing."""
        for result in results:
            if result.get("adminAccess"):
                continue
            id_ = (result["driver"], result["pool"], result["device"])
            self.versions[id_[:2]] = self.versions.get(id_[:2], 0) + 1
            if not result.get("shareID"):
                _shift(self.whole, id_, sign)
                continue
            _shift(self.shares, id_, sign)
            used = self.capacity.setdefault(id_, {})
            for name, text in (result.get("consumedCapacity") or {}).items():
                used[name] = used.get(name, Decimal(0)) + sign * parse(text)
            if id_ not in self.shares:
                del self.capacity[id_]


def _shift(counts: dict[Id, int], key: Id, sign: int) -> None:
    counts[key] = counts.get(key, 0) + sign
    if not counts[key]:
        del counts[key]


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """One way to answer a request: its name in results, the request's own, and what is asked."""

    name: str
    base: str
    wanted: Json

    @property
    def whole(self) -> bool:
        return bool(self.wanted.get("allocationMode") == "All")


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One device for one request. ``used``: its capacity's part, for a device that is shared."""

    option: Option
    device: Device
    used: dict[str, str] | None


def options(request: Json) -> Iterator[Option]:
    """One, or several in order of preference."""
    if exactly := request.get("exactly"):
        yield Option(request["name"], request["name"], exactly)
    for sub in request.get("firstAvailable") or ():
        yield Option(f"{request['name']}/{sub['name']}", request["name"], sub)


def requests_of(claim: Json) -> list[Json]:
    return (claim["spec"].get("devices") or {}).get("requests") or []


class Search:
    """``suits(wanted, device, claim)``: class, selectors and the device's nodes; what it raises ends the search. ``why`` says
    after a failure what was wrong."""

    def __init__(
        self, claims: Sequence[Json], pools: Sequence[Pool], held: Held, suits: Callable[[Json, Device, str], bool]
    ) -> None:
        self.claims = [[list(options(r)) for r in requests_of(c)] for c in claims]
        self._names = {
            id(o): f"{c['metadata'].get('namespace', '')}/{c['metadata'].get('name', '')}"
            for c, requests in zip(claims, self.claims, strict=True)
            for alternatives in requests
            for o in alternatives
        }
        self.constraints = [(c["spec"].get("devices") or {}).get("constraints") or [] for c in claims]
        self.pools = pools
        self.devices = [d for p in pools for d in p.devices]
        self.pool_of = {d.id: p for p in pools for d in (*p.devices, *p.others)}
        self.held = held
        self.suits = suits
        self.why = ""
        self.chosen: list[list[Choice]] = [[] for _ in claims]
        self._given: dict[Id, set[int]] = {}  # to which of the claims, by this search
        self._shares: dict[Id, int] = {}
        self._capacity: dict[Id, dict[str, Decimal]] = {}
        self._counters: dict[tuple[Pool, Counter], Decimal] = {}
        self._left: dict[Pool, tuple[bool, Mapping[Counter, Decimal]]] = {}
        self._verdicts: dict[tuple[int, Id], bool] = {}
        self._all: dict[int, list[Device]] = {}
        self._charged: list[bool] = []
        self._steps = 0

    def run(self) -> list[list[Choice]] | None:
        """The choices per claim, None when there are none."""
        for option in (o for requests in self.claims for alternatives in requests for o in alternatives):
            if option.whole and not self._gather(option):
                return None
        if self._request(0, 0):
            return self.chosen
        self.why = BROKEN_POOLS if any("invalid" in p.problem for p in self.pools) else CANNOT
        return None

    def _gather(self, option: Option) -> bool:
        """All devices that a request for all of them means: of pools that are complete and sound, or none at all."""
        for pool in self.pools:
            if pool.problem:
                name = "/".join(pool.id)
                self.why = f"request {option.name}: asks for all devices, but resource pool {name} {pool.problem}"
                return False
        self._all[id(option)] = [
            d
            for d in self.devices
            if self._suits(option, d)
            and (used := self._uses(option, d)) is not None
            and self._room(d, used, alone=True)
        ]
        return True

    def _suits(self, option: Option, device: Device) -> bool:
        key = (id(option), device.id)
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts[key] = self.suits(option.wanted, device, self._names[id(option)])
        return found

    # One request after the other

    def _request(self, claim: int, request: int) -> bool:
        if claim == len(self.claims):
            return True
        if request == len(self.claims[claim]):
            return self._request(claim + 1, 0)
        for option in self.claims[claim][request]:
            if option.whole:
                every = self._all[id(option)]
                if every and self._every(claim, request, option, every, 0):
                    return True
            elif self._some(claim, request, option, int(option.wanted.get("count") or 1), 0):
                return True
        return False

    def _every(self, claim: int, request: int, option: Option, devices: list[Device], at: int) -> bool:
        if at == len(devices):
            return self._request(claim, request + 1)
        if len(devices) - at > MOST_RESULTS - len(self.chosen[claim]) or not self._take(claim, option, devices[at]):
            return False
        if self._every(claim, request, option, devices, at + 1):
            return True
        self._give_back(claim)
        return False

    def _some(self, claim: int, request: int, option: Option, left: int, start: int) -> bool:
        """Choose ``left`` more devices from ``start`` on, then go on; undone when that leads nowhere."""
        if not left:
            return self._request(claim, request + 1)
        if left > MOST_RESULTS - len(self.chosen[claim]):
            return False
        for at in range(start, len(self.devices) - left + 1):
            device = self.devices[at]
            if not self._free(claim, option, device) or not self._suits(option, device):
                continue
            self._steps += 1
            if self._steps > MOST_STEPS:
                return False
            if self._take(claim, option, device):
                if self._some(claim, request, option, left - 1, at + 1):
                    return True
                self._give_back(claim)
        return False

    # One device

    def _free(self, claim: int, option: Option, device: Device) -> bool:
        given = self._given.get(device.id)
        if option.wanted.get("adminAccess"):
            return not given or claim not in given
        return not given and device.id not in self.held.whole

    def _uses(self, option: Option, device: Device) -> dict[str, str] | None:
        asked = (option.wanted.get("capacity") or {}).get("requests") or {}
        held = device.body.get("capacity")
        if not held:
            return None if asked else {}
        return capacity.consumed(held, asked)

    def _room(self, device: Device, used: dict[str, str], *, alone: bool = False) -> bool:
        if not used:
            return True
        taken = (
            ()
            if alone
            else (
                self.held.capacity.get(device.id, capacity.NONE),
                self._capacity.get(device.id, capacity.NONE),
            )
        )
        return capacity.fits(device.body["capacity"], used, *taken)

    def _take(self, claim: int, option: Option, device: Device) -> bool:
        """Note the device as given, if it can be."""
        if not self._free(claim, option, device):
            return False
        used = self._uses(option, device)
        if used is None or not self._room(device, used):
            return False
        charged = bool(device.counters) and not (device.shared and self._in_use(device.id))
        if charged and not self._countable(device):
            return False
        if not all(any(tolerates(t, taint) for t in option.wanted.get("tolerations") or ()) for taint in device.taints):
            return False
        if not all(self._agrees(c, claim, option, device) for c in self.constraints[claim]):
            return False
        self._note(claim, device, used, charged, 1)
        self.chosen[claim].append(Choice(option, device, used if device.shared else None))
        self._charged.append(charged)
        return True

    def _give_back(self, claim: int) -> None:
        choice = self.chosen[claim].pop()
        self._note(claim, choice.device, choice.used or {}, self._charged.pop(), -1)

    def _note(self, claim: int, device: Device, used: Mapping[str, str], charged: bool, sign: int) -> None:
        if device.shared:
            _shift(self._shares, device.id, sign)
            amounts = self._capacity.setdefault(device.id, {})
            for name, text in used.items():
                amounts[name] = amounts.get(name, Decimal(0)) + sign * parse(text)
        elif sign > 0:
            self._given.setdefault(device.id, set()).add(claim)
        else:
            self._given[device.id].discard(claim)
        if charged:
            pool = self.pool_of[device.id]
            for counter, amount in device.counters:
                self._counters[pool, counter] = self._counters.get((pool, counter), Decimal(0)) + sign * amount

    def _in_use(self, id_: Id) -> bool:
        return id_ in self.held.shares or id_ in self._shares

    def _countable(self, device: Device) -> bool:
        """Whether the counters that the device shares with others of its pool suffice."""
        pool = self.pool_of[device.id]
        if pool not in self._left:
            left = dict(pool.counters)
            for other in (*pool.devices, *pool.others):
                if other.id in self.held.whole or other.id in self.held.shares:
                    for counter, amount in other.counters:
                        left[counter] -= amount
            self._left[pool] = any(v < 0 for v in left.values()), left
        overdrawn, left_over = self._left[pool]
        if overdrawn:
            return False
        wanted: dict[Counter, Decimal] = {}
        for counter, amount in device.counters:
            wanted[counter] = wanted.get(counter, Decimal(0)) + amount
        return all(self._counters.get((pool, c), Decimal(0)) + amount <= left_over[c] for c, amount in wanted.items())

    def _agrees(self, constraint: Json, claim: int, option: Option, device: Device) -> bool:
        """Whether the device is like (or unlike) those chosen for the constraint's requests."""
        listed = constraint.get("requests")
        if listed and option.name not in listed and option.base not in listed:
            return True
        same = constraint.get("matchAttribute")
        name = same or constraint.get("distinctAttribute") or ""
        mine = device.attribute(name)
        if mine is None:
            return False
        others = (
            c.device.attribute(name)
            for c in self.chosen[claim]
            if not listed or c.option.name in listed or c.option.base in listed
        )
        return all((other == mine) is bool(same) for other in others)
