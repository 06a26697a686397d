"""Scores: arrays over nodes, each from 0 to 100, weighted by the profile. Whole numbers, as upstream computes them.

What depends on one node and the pod's shape alone (resources) is computed per row; what is scaled by the best of the
feasible nodes (taints, node affinity) keeps its raw numbers; pod affinity looks at counts by domain (spread: spreading.py).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from portside.scheduler.filters import matches_term
from portside.scheduler.pod_info import PodInfo, Shape
from portside.scheduler.profile import Profile
from portside.scheduler.snapshot import CPU, MEMORY, Ints, Mask, Snapshot
from portside.scheduler.terms import NodeTerm

Floats = npt.NDArray[np.float64]
Rows = Ints | slice
EVERY = slice(None)

MAX_SCORE = 100.0
MIN_IMAGE, MAX_IMAGE = 23 * 1024 * 1024, 1000 * 1024 * 1024  # bounds of upstream's image locality


def _wanted(shape: Shape, snapshot: Snapshot, name: str, rows: Rows) -> tuple[Ints, Ints] | None:
    """Capacity and, with the pod, use of a resource; cpu and memory with stand-ins for containers that ask nothing."""
    if name == "cpu":
        return snapshot.allocatable[CPU, rows], snapshot.nonzero[CPU, rows] + shape.nonzero_cpu
    if name == "memory":
        return snapshot.allocatable[MEMORY, rows], snapshot.nonzero[MEMORY, rows] + shape.nonzero_memory
    column, amount = snapshot.resources.get(name), shape.requests.get(name, 0)
    if column is None or not amount:
        return None
    return snapshot.allocatable[column, rows], snapshot.used[column, rows] + amount


def _by_strategy(capacity: Ints, used: Ints, profile: Profile) -> Ints:
    safe = np.maximum(capacity, 1)
    over = (used > capacity) | (capacity == 0)
    if profile.strategy == "LeastAllocated":
        found = (capacity - used) * 100 // safe
    elif profile.strategy == "MostAllocated":
        found = np.minimum(used, capacity) * 100 // safe
        over = capacity == 0
    else:
        utilization = np.minimum(used * 100 // safe, 100)
        points = profile.ratio
        found = np.interp(utilization, [p[0] for p in points], [p[1] for p in points]).astype(np.int64)
        over = capacity == 0
    return np.where(over, 0, found)


def allocation(shape: Shape, snapshot: Snapshot, profile: Profile, rows: Rows = EVERY) -> Ints:
    """NodeResourcesFit's score by the profile's strategy."""
    total: Ints | int = 0
    weights: Ints | int = 0
    for name, weight in profile.strategy_resources:
        found = _wanted(shape, snapshot, name, rows)
        if found is None:
            continue
        capacity, used = found
        total = total + weight * _by_strategy(capacity, used, profile)
        weights = weights + weight * (capacity > 0)
    if isinstance(weights, int):
        return np.zeros(len(snapshot.live[rows]), np.int64)
    return np.asarray(total // np.maximum(weights, 1))


def balance(shape: Shape, snapshot: Snapshot, profile: Profile, rows: Rows = EVERY) -> Ints:
    """Nodes whose resources are used evenly are better; a pod that asks for nothing does not care."""
    size = len(snapshot.live[rows])
    if not any(shape.requests.values()):
        return np.zeros(size, np.int64)
    fractions = []
    for name in profile.balanced:
        column, amount = snapshot.resources.get(name), shape.requests.get(name, 0)
        if column is None or (name not in ("cpu", "memory") and not amount):
            continue
        capacity = snapshot.allocatable[column, rows]
        used = snapshot.used[column, rows] + amount
        fractions.append(np.where(capacity > 0, np.minimum(used / np.maximum(capacity, 1), 1.0), np.nan))
    if not fractions:
        return np.zeros(size, np.int64)
    if len(fractions) == 2:
        spread = np.abs(fractions[0] - fractions[1]) / 2
        spread = np.where(np.isnan(spread), 0.0, spread)
    else:
        table = np.vstack(fractions)
        some = ~np.isnan(table).all(axis=0)
        spread = np.zeros(size)
        spread[some] = np.nanstd(table[:, some], axis=0)
    found: Ints = ((1 - spread) * MAX_SCORE).astype(np.int64)
    return found


def resources(shape: Shape, snapshot: Snapshot, profile: Profile, rows: Rows = EVERY) -> Ints:
    """Both resource scores, weighted."""
    fit, even = profile.weight("NodeResourcesFit"), profile.weight("NodeResourcesBalancedAllocation")
    total = np.zeros(len(snapshot.live[rows]), np.int64)
    if fit:
        total += fit * allocation(shape, snapshot, profile, rows)
    if even:
        total += even * balance(shape, snapshot, profile, rows)
    return total


def resources_on(shape: Shape, snapshot: Snapshot, row: int) -> int:
    """``resources`` of one node under the default profile, without arrays: the hot path after each placement."""
    total = weights = 0
    allocatable, nonzero = snapshot.allocatable.item, snapshot.nonzero.item
    cpu, memory = allocatable(CPU, row), allocatable(MEMORY, row)
    if cpu:
        weights += 1
        free = cpu - nonzero(CPU, row) - shape.nonzero_cpu
        if free > 0:
            total += free * 100 // cpu
    if memory:
        weights += 1
        free = memory - nonzero(MEMORY, row) - shape.nonzero_memory
        if free > 0:
            total += free * 100 // memory
    score = total // weights if weights else 0
    asked = shape.requests
    if not any(asked.values()):
        return score
    if not cpu or not memory:
        return score + 100
    used = snapshot.used.item
    first = min((used(CPU, row) + asked.get("cpu", 0)) / cpu, 1.0)
    second = min((used(MEMORY, row) + asked.get("memory", 0)) / memory, 1.0)
    return score + int((1 - abs(first - second) / 2) * MAX_SCORE)


def image_locality(shape: Shape, snapshot: Snapshot) -> Ints | None:
    """Nodes that hold the images already, the larger and the more widespread the better."""
    if not any(snapshot.images):
        return None
    sizes = np.zeros(snapshot.size, np.float64)
    total = max(int(snapshot.live.sum()), 1)
    for image in shape.images:
        name = normalized_image(image)
        having = [(row, images[name]) for row, images in enumerate(snapshot.images) if name in images]
        for row, size in having:
            sizes[row] += int(size * (len(having) / total))
    top = MAX_IMAGE * max(len(shape.images), 1)
    return np.floor(MAX_SCORE * (np.clip(sizes, MIN_IMAGE, top) - MIN_IMAGE) / (top - MIN_IMAGE)).astype(np.int64)


def normalized_image(image: str) -> str:
    """An image without a tag means the tag latest."""
    return image if image.rfind(":") > image.rfind("/") else image + ":latest"


def soft_taints(shape: Shape, snapshot: Snapshot) -> Ints | None:
    """Per row, the PreferNoSchedule taints that the pod does not tolerate; fewer are better."""
    tolerations = [x for x in shape.tolerations if x.effect in ("", "PreferNoSchedule")]
    found = [
        sum(t[2] == "PreferNoSchedule" and not any(x.tolerates(t) for x in tolerations) for t in taints)
        for taints in snapshot.taint_sets
    ]
    return np.array(found, np.int64)[snapshot.taints] if any(found) else None


def preferred_nodes(shape: Shape, snapshot: Snapshot, added: tuple[tuple[int, NodeTerm], ...] = ()) -> Ints | None:
    """Per row, the sum of the weights of the preferences it meets: the pod's, and those the profile ``added``."""
    if not shape.node_preferred and not added:
        return None
    raw = np.zeros(snapshot.size, np.int64)
    for weight, term in (*shape.node_preferred, *added):
        raw += weight * matches_term(term, snapshot)
    return raw


def scaled(raw: Ints, feasible: Mask, *, reverse: bool = False) -> Ints | None:
    """0 to 100 of the largest among the feasible; None when that makes no difference."""
    top = int(raw[feasible].max(initial=0))
    if top <= 0:
        return None
    found: Ints = raw * 100 // top
    return 100 - found if reverse else found


def pod_affinity(pod: PodInfo, snapshot: Snapshot, feasible: Mask, profile: Profile) -> Ints | None:
    """The pod's own preferences, those of placed pods towards it, and placed pods' required affinity."""
    raw: Ints | None = None
    namespace, labels, namespaces = pod.namespace, pod.labels, snapshot.namespaces
    found = [
        (snapshot.domains(snapshot.counter((t,), terminating=True), t.topology), t.weight) for t in pod.shape.preferred
    ]
    if snapshot.preferred_terms and not (profile.ignore_existing_preferences and not pod.shape.preferred):
        for counted in snapshot.preferred_terms.matching(namespace, labels, namespaces):
            found.append((snapshot.term_domains(counted), counted.term.weight))
    if snapshot.affinity_terms and profile.hard_affinity_weight:
        for counted in snapshot.affinity_terms.matching(namespace, labels, namespaces):
            found.append((snapshot.term_domains(counted), profile.hard_affinity_weight))
    for domains, weight in found:
        if domains.total:
            raw = weight * domains.per_row() if raw is None else raw + weight * domains.per_row()
    if raw is None:
        return None
    chosen = raw[feasible]
    low, high = int(chosen.min()), int(chosen.max())
    if high == low:
        return None
    return np.floor(MAX_SCORE * (raw - low) / (high - low)).astype(np.int64)
