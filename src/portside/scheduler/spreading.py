"""Soft topology spread as the pods of one shape see it: scores from counts by domain, kept up to date row by row.

A placement changes the count of one node. Where every node is a domain of its own, that hardly ever changes the lowest and
the highest count, by which all scores are scaled: then the rows that changed are all there is to compute.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from portside.scheduler.counts import Domains
from portside.scheduler.filters import spread_domains
from portside.scheduler.fit import Fit
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.scores import Floats
from portside.scheduler.snapshot import Ints, Mask
from portside.scheduler.terms import Spread

HOSTNAME = "kubernetes.io/hostname"
FEW = 64  # rows computed one by one; more are cheaper as arrays


class Spreading:
    """Fewer matching pods in the node's domain are better. ``all_keys``: nodes without one of the keys get nothing."""

    def __init__(self, fit: Fit, constraints: tuple[Spread, ...], weight: int, *, all_keys: bool) -> None:
        self.fit = fit
        self.constraints = constraints
        self.weight = weight
        self.all_keys = all_keys
        self._domains: list[Domains] = []
        self._terms: list[tuple[Domains, float, int]] = []  # domains, weight of a pod in them, what is added once
        self._by_row = False  # whether rows can be followed: each is a domain of its own
        self._fits: Mask = fit.fits
        self._epoch, self._seen = -1, 0
        self._whole: Ints = np.zeros(0, np.int64)  # the weighted counts, rounded: fewer are better
        self._low = self._high = 0
        self._matters = False
        self._alike: Counter[int] = Counter()  # how many of the rows that fit have which number of ``_whole``
        self._score: Floats = np.zeros(0)

    def score(self, pod: PodInfo, feasible: Mask) -> Floats | None:
        """Weighted scores, 0 to 100 times the weight, of the ``feasible`` rows; None when they make no difference.
        Good until the next call."""
        fit, snapshot = self.fit, self.fit.snapshot
        domains = [spread_domains(pod, c, snapshot) for c in self.constraints]
        same = self._by_row and self._epoch == snapshot.epoch and all(map(_is, domains, self._domains))
        if not (same and feasible is fit.fits and self._follow(snapshot.touched[self._seen :])):
            self._domains, self._epoch = domains, snapshot.epoch
            self._compute_all(feasible)
        self._seen = len(snapshot.touched)
        return self._score if self._matters else None

    def _follow(self, rows: list[int]) -> bool:
        """Take in what happened to these rows. False when everything has to be computed anew."""
        if len(rows) > FEW:
            return False
        fits, whole, changed = self.fit.fits, self._whole, []
        for row in rows:
            if fits.item(row) != self._fits.item(row):
                return False
            raw = 0.0
            for domains, weight, once in self._terms:
                code = domains.codes.item(row)
                if code >= 0:
                    raw += domains.sums.item(code) * weight + once
            now, before = int(raw + 0.5), whole.item(row)
            if now == before:
                continue
            whole[row] = now
            if fits.item(row):
                self._alike[now] += 1
                self._alike[before] -= 1
                changed.append(row)
        if not changed:
            return True
        self._alike = +self._alike
        low, high = self._low, self._high
        if low != min(self._alike) or high != max(self._alike):
            return False
        for row in changed:
            self._score[row] = self.weight * (100 * (high + low - whole.item(row)) // high)
        return True

    def _compute_all(self, feasible: Mask) -> None:
        counted = feasible
        if self.all_keys:
            for domains in self._domains:
                counted = counted & domains.known
        self._by_row = self._matters = False
        if not counted.any():
            return
        whole = self._whole = self._weighted(counted)
        chosen = whole[counted]
        low, high = self._low, self._high = int(chosen.min()), int(chosen.max())
        score = 100 * (high + low - whole) // high if high else np.full(len(whole), 100)
        self._score = np.asarray(score * self.weight, np.float64)
        ignored = feasible & ~counted
        if ignored.any():
            self._score[ignored] = 0.0
            self._matters = True
            return
        self._matters = low != high
        self._by_row = feasible is self.fit.fits and all(d.single for d, _, _ in self._terms)
        if self._by_row:
            self._fits = feasible.copy()
            self._alike = Counter(chosen.tolist())

    def _weighted(self, counted: Mask) -> Ints:
        """Matching pods in each row's domains, weighted by how many domains there are. Rounded half up, no term is negative."""
        raw = np.zeros(len(counted))
        self._terms = []
        for constraint, domains in zip(self.constraints, self._domains, strict=True):
            if not domains.anywhere:
                continue
            if constraint.topology == HOSTNAME:
                number = int(np.count_nonzero(counted))
            else:
                number = int(np.count_nonzero(np.bincount(domains.codes[counted & domains.known])))
            weight, once = float(np.log(number + 2)), constraint.skew - 1
            part = (domains.sums * weight + once)[domains.safe]
            raw += part if domains.everywhere else np.where(domains.known, part, 0.0)
            self._terms.append((domains, weight, once))
        return (raw + 0.5).astype(np.int64)


def _is(one: Domains, other: Domains) -> bool:
    return one is other
