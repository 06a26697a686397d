"""One scheduling decision: filter, score, choose; or an explanation of why no node fits. Pure but for the given rng."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import numpy as np

from portside.base.remembered import Remembered
from portside.scheduler import scores
from portside.scheduler.filters import ENFORCED, FILTERS, Refusal, filters_of
from portside.scheduler.fit import UNFIT, Fit
from portside.scheduler.pod_info import PodInfo, Shape
from portside.scheduler.profile import DEFAULT, Profile
from portside.scheduler.snapshot import Ints, Mask, Snapshot
from portside.scheduler.spreading import Spreading
from portside.scheduler.terms import Spread

NOT_NAMED = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
MAX_FITS = 256  # shapes whose view of the nodes is kept; each takes some ten bytes a node
SPREADINGS = 128  # shapes and selectors whose spread is followed, in each of two generations; twenty bytes a node
PerPod = Callable[[PodInfo, Snapshot], list[Refusal]]
DEVICES = "DynamicResources"
EXTENDER = "Extender"  # upstream's name for all of them


class DeviceFilter(Protocol):
    """What a cycle asks of devices: after all other filters, as that costs a search per node."""

    def asks(self, pod: PodInfo, snapshot: Snapshot) -> bool: ...

    def filter(self, pod: PodInfo, snapshot: Snapshot, among: Mask) -> list[Refusal]: ...

    def score(self, pod: PodInfo, snapshot: Snapshot, feasible: Mask) -> Ints | None: ...


@dataclass(frozen=True, slots=True)
class Placed:
    """The node chosen, with how many nodes were feasible."""

    node: str
    feasible: int


@dataclass(frozen=True, slots=True)
class Unplaced:
    """No node fits: nodes lost per reason, how many of them eviction of pods could win back (and which rows those
    are), and upstream's message. ``lead`` is the message up to the part about preemption. ``plugins``: the filters that
    were the first to refuse some node."""

    message: str
    reasons: dict[str, int]
    resolvable: int
    rows: tuple[int, ...] = ()
    lead: str = ""
    final: bool = False
    error: bool = False  # something is wrong with what the pod asks for: it is tried again soon
    plugins: frozenset[str] = frozenset()


class Cycle:
    """Decides for one pod at a time over a snapshot. ``extra``: filters of pods with claims, by upstream's name."""

    def __init__(
        self,
        snapshot: Snapshot,
        rng: Random,
        profile: Profile = DEFAULT,
        *,
        extra: tuple[tuple[str, PerPod], ...] = (),
        devices: DeviceFilter | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.rng = rng
        self.profile = profile
        self.extra = tuple((n, f) for n, f in extra if n not in profile.without)
        self.devices = None if DEVICES in profile.without else devices
        self._filters = filters_of(profile)
        self._per_pod = tuple(f for n, f in self._filters if n in ("PodTopologySpread", "InterPodAffinity"))
        self._fits: OrderedDict[Shape, Fit] = OrderedDict()
        self._spreadings: Remembered[tuple[Fit, tuple[Spread, ...], bool], Spreading] = Remembered(SPREADINGS)
        self.evictions: dict[
            object, dict[int, tuple[int, Any, Any]]
        ] = {}  # preemption's memory (preemption.Remembered)

    def decide(self, pod: PodInfo) -> Placed | Unplaced:
        early = self._named_nowhere(pod)
        if early is not None:
            return early
        fit = self.fit_of(pod)
        refusals = self._refusals(pod, fit.fits)
        if not refusals and not fit.raw and not self._scored(pod):
            row = int(fit.score.argmax()) if self.snapshot.size else 0
            if fit.score.item(row) < 0:
                return self.explain(pod)
            return Placed(self.snapshot.names[row], 0)
        feasible = fit.fits
        for refusal in refusals:
            feasible = feasible & ~refusal.rows
        row = self._choose(pod, fit, feasible)
        if row < 0:
            return self.explain(pod)
        return Placed(self.snapshot.names[row], int(np.count_nonzero(feasible)))

    def feasible(self, pod: PodInfo) -> Mask:
        """Rows that pass every filter."""
        left = self.fit_of(pod).fits.copy()
        for refusal in self._refusals(pod, left):
            left &= ~refusal.rows
        return left

    def best(self, pod: PodInfo, among: Mask, bonus: scores.Floats) -> int:
        """The best of some feasible rows when others add a ``bonus`` to their scores; -1 when there are none."""
        return self._choose(pod, self.fit_of(pod), among, bonus)

    def fit_of(self, pod: PodInfo) -> Fit:
        """The nodes as this pod's shape sees them, up to date."""
        fit = self._fits.get(pod.shape)
        if fit is None:
            fit = self._fits[pod.shape] = Fit(pod.shape, self.snapshot, self.profile, self.rng)
            if len(self._fits) > MAX_FITS:
                self._fits.popitem(last=False)
        else:
            self._fits.move_to_end(pod.shape)
        fit.refresh(pod)
        return fit

    def _named_nowhere(self, pod: PodInfo) -> Unplaced | None:
        """A pod limited by name (metadata.name match fields) to nodes that do not exist."""
        named = names_of(pod)
        if named is None or named & self.snapshot.row_of.keys():
            return None
        total = len(self.snapshot.row_of)
        lead = lead_of(total, {NOT_NAMED: total})
        asked = frozenset(("NodeAffinity",))
        return Unplaced(lead + tried(total, 0, total), {NOT_NAMED: total}, 0, (), lead, plugins=asked)

    def asks(self, pod: PodInfo) -> bool:
        """Whether devices matter to the pod."""
        return self.devices is not None and self.devices.asks(pod, self.snapshot)

    def before_devices(self, pod: PodInfo) -> Mask:
        """Rows that pass every filter but that of devices."""
        left = self.fit_of(pod).fits
        for refusal in self._others(pod):
            left = left & ~refusal.rows
        return left

    def _refusals(self, pod: PodInfo, among: Mask) -> list[Refusal]:
        """What the filters that look at other pods, claims or the pod itself refuse; devices only of the rows ``among``."""
        found = self._others(pod)
        if self.devices is not None and self.devices.asks(pod, self.snapshot):
            for refusal in found:
                among = among & ~refusal.rows
            found += self.devices.filter(pod, self.snapshot, among)
        return found

    def _others(self, pod: PodInfo) -> list[Refusal]:
        found: list[Refusal] = []
        snapshot = self.snapshot
        for run in self._per_pod:
            found += run(pod, snapshot)
        if pod.node_name:
            found += dict(FILTERS)["NodeName"](pod, snapshot)
        if pod.mounts:
            for _, filter_ in self.extra:
                found += filter_(pod, snapshot)
        return found

    def _scored(self, pod: PodInfo) -> bool:
        """Whether scores that look at other pods could matter."""
        shape, snapshot = pod.shape, self.snapshot
        if shape.preferred or shape.spread or snapshot.preferred_terms or snapshot.affinity_terms:
            return True
        return bool(pod.default_spread) or bool(pod.devices)

    def _choose(self, pod: PodInfo, fit: Fit, feasible: Mask, bonus: scores.Floats | None = None) -> int:
        """The best feasible row, -1 when there is none."""
        total = fit.score if feasible is fit.fits else np.where(feasible, fit.score, UNFIT)
        best = int(total.argmax())
        if total.item(best) < 0:
            return -1
        for weight, raw, reverse in fit.raw:
            if (part := scores.scaled(raw, feasible, reverse=reverse)) is not None:
                total = total + weight * part
        if (spread := self._spread(pod, fit, feasible)) is not None:
            total = total + spread
        weight = self.profile.weight("InterPodAffinity")
        if weight and (part := scores.pod_affinity(pod, self.snapshot, feasible, self.profile)) is not None:
            total = total + weight * part
        if self.devices is not None and pod.devices and (weight := self.profile.weight(DEVICES)):
            worth = self.devices.score(pod, self.snapshot, feasible)
            if worth is not None and (part := scores.scaled(worth, feasible)) is not None:
                total = total + weight * part
        if bonus is not None:
            total = np.where(feasible, total + bonus, -np.inf)
        return int(total.argmax())

    def _spread(self, pod: PodInfo, fit: Fit, feasible: Mask) -> scores.Floats | None:
        """The weighted scores of the pod's soft spread constraints, or else of those that everybody has."""
        weight = self.profile.weight("PodTopologySpread")
        own = pod.shape.spread
        soft = tuple(c for c in own or pod.default_spread if not c.required)
        if not weight or not soft:
            return None
        all_keys = bool(own) or self.profile.spread_needs_all_keys
        key = fit, soft, all_keys
        found = self._spreadings.get(key)
        if found is None:
            found = Spreading(fit, soft, weight, all_keys=all_keys)
            self._spreadings.put(key, found)
        return found.score(pod, feasible)

    def fits_on(self, pod: PodInfo, row: int) -> bool:
        """Whether one node passes every filter."""
        if not self.fit_of(pod).fits[row]:
            return False
        return not any(refusal.rows[row] for refusal in self._refusals(pod, self._only(row)))

    def _only(self, row: int) -> Mask:
        mask = np.zeros(self.snapshot.size, bool)
        mask[row] = True
        return mask

    def reason_on(self, pod: PodInfo, row: int) -> str:
        """Why one node does not fit: the first filter's words."""
        for _, run in (*self._filters, *self.extra):
            for refusal in run(pod, self.snapshot):
                if refusal.rows[row]:
                    return refusal.reason
        if self.devices is not None and self.devices.asks(pod, self.snapshot):
            for refusal in self.devices.filter(pod, self.snapshot, self._only(row)):
                if refusal.rows[row]:
                    return refusal.reason
        return ""

    def explain(self, pod: PodInfo, others: Sequence[Refusal] = ()) -> Unplaced:
        """Why no node fits: every filter asked anew, in upstream's order. ``others``: what extenders said of nodes, which
        goes before what filters say of the same."""
        refusals: list[tuple[str, list[Refusal]]] = [(EXTENDER, list(others))]
        for name, run in self._filters:
            refusals.append((name, run(pod, self.snapshot)))
            if name == "NodeResourcesFit" and pod.mounts:
                refusals += [(n, f(pod, self.snapshot)) for n, f in self.extra]
        if self.devices is not None and self.devices.asks(pod, self.snapshot):
            left = self.snapshot.live.copy()
            for refusal in (r for _, group in refusals for r in group):
                left &= ~refusal.rows
            if (found := self.devices.filter(pod, self.snapshot, left)) and found[0].error:
                text = f'running "{DEVICES}" filter plugin: {found[0].reason}'
                return Unplaced(text, {found[0].reason: len(self.snapshot.row_of)}, 0, (), text, True, True)
            refusals.append((DEVICES, found))
        return self._explain([r for r in refusals if r[1]], names_of(pod))

    def _explain(self, refusals: list[tuple[str, list[Refusal]]], named: set[str] | None = None) -> Unplaced:
        """Count each node for the first filter that refused it; a filter with several reasons counts each of them. For a
        pod limited to ``named`` nodes upstream does not even ask about the others."""
        left = self.snapshot.live.copy()
        reasons: dict[str, int] = {}
        plugins: set[str] = set()
        if named is not None:
            left &= self.snapshot.rows_named(named)
            if others := len(self.snapshot.row_of) - int(left.sum()):
                reasons[NOT_NAMED] = others
                plugins.add("NodeAffinity")
        resolvable = np.zeros(self.snapshot.size, bool)
        for name, group in refusals:
            hit = np.zeros(self.snapshot.size, bool)
            hopeless = np.zeros(self.snapshot.size, bool)
            first = group[0].reason.startswith((ENFORCED, "node(s) didn't match pod", "node(s) didn't satisfy"))
            for refusal in group:
                mine = refusal.rows & left & ~(hit if first else np.zeros(1, bool))
                if count := int(mine.sum()):
                    reasons[refusal.reason] = reasons.get(refusal.reason, 0) + count
                hit |= mine
                if not refusal.resolvable:
                    hopeless |= mine
            if hit.any():
                plugins.add(name)
            resolvable |= hit & ~hopeless
            left &= ~hit
        if named is not None and left.any():  # an extender left them out without a word
            reasons[NOT_NAMED] = reasons.get(NOT_NAMED, 0) + int(left.sum())
        total = len(self.snapshot.row_of)
        rows = tuple(np.flatnonzero(resolvable).tolist())
        lead = lead_of(total, reasons)
        text = lead + tried(total, len(rows), total - len(rows))
        return Unplaced(text, reasons, len(rows), rows, lead, plugins=frozenset(plugins))


def names_of(pod: PodInfo) -> set[str] | None:
    """The node names that required node affinity limits a pod to, None when one of its terms names none."""
    if not pod.shape.node_terms:
        return None
    named: set[str] = set()
    for term in pod.shape.node_terms:
        names = term.names()
        if names is None:
            return None
        named |= names
    return named


def lead_of(total: int, reasons: dict[str, int]) -> str:
    """Upstream's text of a FitError without the part about preemption."""
    if not total:
        return "0/0 nodes are available: no nodes available to schedule pods."
    if not reasons:
        return f"0/{total} nodes are available:"
    parts = sorted(f"{count} {reason}" for reason, count in reasons.items())
    return f"0/{total} nodes are available: {', '.join(parts)}."


def tried(total: int, resolvable: int, hopeless: int) -> str:
    """What a preemption attempt that found nothing adds."""
    if not total:
        return " preemption: 0/0 nodes are available: "
    tries = []
    if resolvable:
        tries.append(f"{resolvable} No preemption victims found for incoming pod")
    if hopeless:
        tries.append(f"{hopeless} Preemption is not helpful for scheduling")
    return f" preemption: 0/{total} nodes are available: {', '.join(sorted(tries))}."
