"""Scores: arrays over the feasible rows, each from 0 to 100, weighted as in upstream's default profile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from portside.scheduler.filters import matches_term, spread_eligible, spread_term
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.snapshot import CPU, MEMORY, Mask, Snapshot

Floats = npt.NDArray[np.float64]
Score = Callable[[PodInfo, Snapshot, Mask], Floats | None]

MAX_SCORE = 100.0
MIN_IMAGE, MAX_IMAGE = 23 * 1024 * 1024, 1000 * 1024 * 1024  # bounds of upstream's image locality


def _fractions(pod: PodInfo, snapshot: Snapshot) -> tuple[Floats, Floats]:
    found = []
    for column, wanted in ((CPU, pod.nonzero_cpu), (MEMORY, pod.nonzero_memory)):
        capacity = np.maximum(snapshot.allocatable[column], 1).astype(np.float64)
        found.append(np.minimum((snapshot.nonzero[column] + wanted) / capacity, 1.0))
    return found[0], found[1]


def least_allocated(pod: PodInfo, snapshot: Snapshot, rows: Mask) -> Floats | None:
    cpu, memory = _fractions(pod, snapshot)
    return np.floor((np.floor((1 - cpu) * MAX_SCORE) + np.floor((1 - memory) * MAX_SCORE)) / 2)


def balanced_allocation(pod: PodInfo, snapshot: Snapshot, rows: Mask) -> Floats | None:
    cpu, memory = _fractions(pod, snapshot)
    return np.floor((1 - np.abs(cpu - memory) / 2) * MAX_SCORE)


def image_locality(pod: PodInfo, snapshot: Snapshot, rows: Mask) -> Floats | None:
    if not any(snapshot.images):
        return None
    sizes = np.zeros(snapshot.size, np.float64)
    total = max(int(snapshot.live.sum()), 1)
    for image in pod.images:
        having = [(row, images[image]) for row, images in enumerate(snapshot.images) if image in images]
        for row, size in having:
            sizes[row] += size * len(having) / total
    top = MAX_IMAGE * max(len(pod.images), 1)
    return np.floor(MAX_SCORE * (np.clip(sizes, MIN_IMAGE, top) - MIN_IMAGE) / (top - MIN_IMAGE))


def _normalized(raw: Floats, rows: Mask, *, reverse: bool = False) -> Floats | None:
    top = raw[rows].max(initial=0.0)
    if top <= 0:
        return None
    scaled: Floats = np.floor(raw * MAX_SCORE / top)
    return MAX_SCORE - scaled if reverse else scaled


def taint_toleration(pod: PodInfo, snapshot: Snapshot, rows: Mask) -> Floats | None:
    raw = np.zeros(snapshot.size, np.float64)
    any_soft = False
    for row in snapshot.row_of.values():
        soft = [t for t in snapshot.taints[row] if t[2] == "PreferNoSchedule"]
        if soft:
            any_soft = True
            raw[row] = sum(
                not any(x.tolerates(t) for x in pod.tolerations if x.effect in ("", "PreferNoSchedule")) for t in soft
            )
    return _normalized(raw, rows, reverse=True) if any_soft else None


def node_affinity(pod: PodInfo, snapshot: Snapshot, rows: Mask) -> Floats | None:
    if not pod.node_preferred:
        return None
    raw = np.zeros(snapshot.size, np.float64)
    for weight, term in pod.node_preferred:
        raw += weight * matches_term(term, snapshot)
    return _normalized(raw, rows)


def topology_spread(pod: PodInfo, snapshot: Snapshot, rows: Mask) -> Floats | None:
    """Fewer matching pods in the node's domain are better; constraints with ScheduleAnyway only."""
    soft = [c for c in pod.spread if not c.required]
    if not soft:
        return None
    raw = np.zeros(snapshot.size, np.float64)
    ignored = np.zeros(snapshot.size, bool)
    for constraint in soft:
        eligible = spread_eligible(pod, constraint, snapshot)
        codes, sums = snapshot.per_domain(constraint.topology, snapshot.count(spread_term(pod, constraint)), eligible)
        domains = len(np.unique(codes[rows & (codes >= 0)]))
        raw += sums[np.maximum(codes, 0)] * np.log(domains + 2) + (constraint.skew - 1)
        ignored |= codes < 0
    raw = np.round(raw)
    counted = rows & ~ignored
    if not counted.any():
        return None
    low, high = raw[counted].min(), raw[counted].max()
    if high == 0:
        return np.where(ignored, 0.0, MAX_SCORE)
    return np.where(ignored, 0.0, np.floor(MAX_SCORE * (high + low - raw) / high))


def pod_affinity(pod: PodInfo, snapshot: Snapshot, rows: Mask) -> Floats | None:
    """The pod's own preferences, those of placed pods towards it, and placed pods' required affinity (weight 1)."""
    raw = np.zeros(snapshot.size, np.float64)
    touched = False

    def add(topology: str, counts: npt.NDArray[np.int64], weight: int) -> None:
        nonlocal touched
        codes, sums = snapshot.per_domain(topology, counts)
        if sums.any():
            touched = True
            raw[codes >= 0] += weight * sums[codes[codes >= 0]]

    for term in pod.preferred:
        add(term.topology, snapshot.count(term), term.weight)
    for (_, weight), counted in snapshot.preferred_terms.items():
        if counted.term.matches(pod.namespace, pod.labels, snapshot.namespaces):
            add(counted.term.topology, counted.rows, weight)
    for counted in snapshot.affinity_terms.values():
        if counted.term.matches(pod.namespace, pod.labels, snapshot.namespaces):
            add(counted.term.topology, counted.rows, 1)
    if not touched:
        return None
    low, high = raw[rows].min(), raw[rows].max()
    if high == low:
        return None
    spread: Floats = np.floor(MAX_SCORE * (raw - low) / (high - low))
    return spread


SCORES: tuple[tuple[str, int, Score], ...] = (
    ("TaintToleration", 3, taint_toleration),
    ("NodeAffinity", 2, node_affinity),
    ("PodTopologySpread", 2, topology_spread),
    ("InterPodAffinity", 2, pod_affinity),
    ("NodeResourcesFit", 1, least_allocated),
    ("NodeResourcesBalancedAllocation", 1, balanced_allocation),
    ("ImageLocality", 1, image_locality),
)
