"""What the nodes mean for one shape of pod: where it fits and how well, kept up to date row by row.

Pods of one shape share it, so a decision costs the rows that changed since the last one of that shape, not all nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import numpy as np

from portside.scheduler import scores
from portside.scheduler.filters import STATIC, Refusal, filters_of, ports_taken
from portside.scheduler.pod_info import PodInfo, Shape
from portside.scheduler.profile import DEFAULT, Profile
from portside.scheduler.snapshot import PODS, Ints, Mask, Snapshot

UNFIT = -1e9  # the score of a node that is out of the question, whatever others add to it
FEW = 8  # rows refreshed one by one; more are cheaper as arrays


class Fit:
    """``fits``: rows that pass the filters which depend on the shape alone. ``score``: their resource and image scores
    plus a random fraction below 1 that decides between equals; UNFIT elsewhere. ``raw``: what is scaled per decision."""

    def __init__(self, shape: Shape, snapshot: Snapshot, profile: Profile, rng: Random) -> None:
        self.shape = shape
        self.snapshot = snapshot
        self.profile = profile
        self.rng = rng
        self.noise = np.random.default_rng(rng.getrandbits(64))
        self.plain = _plain(profile)
        self.filters = filters_of(profile)
        self.version = -1
        self.static: Mapping[str, list[Refusal]] = {}
        self.allowed: Mask = snapshot.live
        self.steady: Ints | None = None
        self.raw: list[tuple[int, Ints, bool]] = []
        self.columns: list[tuple[int, int]] = []
        self.backed: set[int] = set()  # of the columns: those of resources that may be devices instead
        self.epoch = -1
        self.seen = 0
        self.fits: Mask = snapshot.live
        self.score: scores.Floats = np.zeros(0)

    def refresh(self, pod: PodInfo) -> None:
        """Catch up with the snapshot."""
        snapshot = self.snapshot
        if self.version != snapshot.node_version:
            self._read_nodes(pod)
            self._compute_all()
            return
        if self.epoch != snapshot.epoch:
            self._compute_all()
            return
        changed = len(snapshot.touched) - self.seen
        if not changed:
            return
        if changed == 1:
            self._compute_row(snapshot.touched[-1])
        else:
            rows = set(snapshot.touched[self.seen :])
            if len(rows) <= FEW and self.plain:
                for row in rows:
                    self._compute_row(row)
            elif len(rows) * 4 < snapshot.size:
                self._compute_rows(np.fromiter(rows, np.int64, len(rows)))
            else:
                self._compute_all()
                return
        self.seen = len(snapshot.touched)

    def _read_nodes(self, pod: PodInfo) -> None:
        snapshot, shape, profile = self.snapshot, self.shape, self.profile
        self.version = snapshot.node_version
        self.static = {n: run(pod, snapshot) for n, run in self.filters if n in STATIC}
        self.allowed = snapshot.live.copy()
        for found in self.static.values():
            for refusal in found:
                self.allowed &= ~refusal.rows
        self.raw = []
        for name, raw, reverse in (
            ("TaintToleration", scores.soft_taints(shape, snapshot), True),
            ("NodeAffinity", scores.preferred_nodes(shape, snapshot, profile.preferred_nodes), False),
        ):
            weight = profile.weight(name)
            if weight and raw is not None and self.allowed.any() and np.ptp(raw[self.allowed]):
                self.raw.append((weight, raw, reverse))
        weight = profile.weight("ImageLocality")
        images = scores.image_locality(shape, snapshot) if weight else None
        self.steady = None if images is None or not images.any() else images * weight

    def _compute_all(self) -> None:
        snapshot = self.snapshot
        self.columns = [(snapshot.column(n), a) for n, a in self.shape.requests.items() if self._asked(n, a)]
        self.backed = {snapshot.column(n) for n in self.shape.requests if n in snapshot.backed}
        self.epoch, self.seen = snapshot.epoch, len(snapshot.touched)
        fits = self.allowed.copy()
        if "NodeResourcesFit" not in self.profile.without:
            fits &= snapshot.used[PODS] < snapshot.allocatable[PODS]
            for column, amount in self.columns:
                enough = snapshot.used[column] + amount <= snapshot.allocatable[column]
                fits &= enough | (snapshot.allocatable[column] == 0) if column in self.backed else enough
        if self.shape.ports and "NodePorts" not in self.profile.without:
            for row in snapshot.ports:
                fits[row] = fits[row] and not ports_taken(self.shape, snapshot, row)
        total = scores.resources(self.shape, snapshot, self.profile).astype(np.float64)
        if self.steady is not None:
            total += self.steady
        total += self.noise.random(snapshot.size)
        self.fits = fits
        self.score = np.where(fits, total, UNFIT)

    def _asked(self, name: str, amount: int) -> bool:
        profile = self.profile
        return amount > 0 and name not in profile.ignored_resources and name.split("/")[0] not in profile.ignored_groups

    def _compute_row(self, row: int) -> None:
        if not self.plain:
            self._compute_rows(np.array([row]))
            return
        if not self._row_fits(row):
            self.fits[row] = False
            self.score[row] = UNFIT
            return
        total = scores.resources_on(self.shape, self.snapshot, row) + self.rng.random()
        if self.steady is not None:
            total += self.steady.item(row)
        self.fits[row] = True
        self.score[row] = total

    def _row_fits(self, row: int) -> bool:
        snapshot = self.snapshot
        if not self.allowed[row]:
            return False
        if "NodeResourcesFit" not in self.profile.without:
            used, allocatable = snapshot.used.item, snapshot.allocatable.item
            if used(PODS, row) >= allocatable(PODS, row):
                return False
            for column, amount in self.columns:
                if used(column, row) + amount > allocatable(column, row) and not self._elsewhere(column, row):
                    return False
        if self.shape.ports and "NodePorts" not in self.profile.without:
            return not ports_taken(self.shape, snapshot, row)
        return True

    def _elsewhere(self, column: int, row: int) -> bool:
        """Whether the node may give a resource as devices, as it has none of its own."""
        return column in self.backed and self.snapshot.allocatable.item(column, row) == 0

    def _compute_rows(self, rows: Ints) -> None:
        snapshot = self.snapshot
        fits = self.allowed[rows]
        if "NodeResourcesFit" not in self.profile.without:
            fits &= snapshot.used[PODS, rows] < snapshot.allocatable[PODS, rows]
            for column, amount in self.columns:
                enough = snapshot.used[column, rows] + amount <= snapshot.allocatable[column, rows]
                fits &= enough | (snapshot.allocatable[column, rows] == 0) if column in self.backed else enough
        if self.shape.ports and "NodePorts" not in self.profile.without:
            fits &= np.array([not ports_taken(self.shape, snapshot, int(r)) for r in rows], bool)
        total = scores.resources(self.shape, snapshot, self.profile, rows) + self.noise.random(len(rows))
        if self.steady is not None:
            total += self.steady[rows]
        self.fits[rows] = fits
        self.score[rows] = np.where(fits, total, UNFIT)


def _plain(profile: Profile) -> bool:
    """Whether the resource scores are upstream's defaults, for which there is a form without arrays."""
    return (
        profile.strategy == DEFAULT.strategy
        and profile.strategy_resources == DEFAULT.strategy_resources
        and profile.balanced == DEFAULT.balanced
        and profile.weight("NodeResourcesFit") == 1
        and profile.weight("NodeResourcesBalancedAllocation") == 1
    )
