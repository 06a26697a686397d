"""How many placed pods match a selector, or carry a term, per node and per topology domain; kept up to date pod by pod.

What affinity and spread need is then a look-up: no decision counts pods.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from portside.scheduler.terms import Labels, PodTerm, handle

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
T = TypeVar("T")


class Domains:
    """Sums over the domains of one topology key. ``codes``: the domain per row, -1 where the node has no such label.

    ``eligible``: only these rows count and make a domain exist (None: all that have the label). ``single``: no two rows
    share a domain.
    """

    __slots__ = (
        "_has",
        "anywhere",
        "codes",
        "eligible",
        "everywhere",
        "known",
        "present",
        "safe",
        "single",
        "sums",
        "total",
        "version",
    )

    def __init__(self, codes: Ints, count: int, version: int, eligible: Mask | None = None) -> None:
        self.codes = codes
        self.version = version
        self.eligible = eligible
        self.known: Mask = codes >= 0
        self.anywhere, self.everywhere = bool(self.known.any()), bool(self.known.all())
        self.safe: Ints = np.maximum(codes, 0)
        self.sums: Ints = np.zeros(max(count, 1), np.int64)
        counted = self.known if eligible is None else self.known & eligible
        self.present: Ints = np.flatnonzero(np.bincount(codes[counted]))
        self.single = int(np.count_nonzero(np.bincount(codes[self.known]))) == int(np.count_nonzero(self.known))
        self.total = 0
        self._has: Mask | None = None

    def add(self, row: int, sign: int) -> None:
        code = self.codes.item(row)
        if code < 0 or (self.eligible is not None and not self.eligible[row]):
            return
        now = self.sums.item(code) + sign
        self.sums[code] = now
        self.total += sign
        if self._has is not None and now == (1 if sign > 0 else 0):
            self._has[self.codes == code] = now > 0

    def fill(self, rows: Ints) -> None:
        """Count everything anew from the numbers per row."""
        counted = self.known if self.eligible is None else self.known & self.eligible
        chosen = np.flatnonzero(counted & (rows != 0))
        np.add.at(self.sums, self.codes[chosen], rows[chosen])
        self.total = int(self.sums.sum())
        self._has = None

    @property
    def has(self) -> Mask:
        """Rows whose domain holds at least one. Kept up to date; not to be changed by the reader."""
        if self._has is None:
            self._has = self.known & (self.sums[self.safe] > 0)
        return self._has

    def per_row(self) -> Ints:
        """The sum of each row's domain (0 without the label)."""
        return np.where(self.known, self.sums[self.safe], 0)


@dataclass(slots=True, eq=False)
class Counter:
    """Placed pods that match every one of ``terms``, per row. ``terminating``: whether those being deleted count."""

    key: str
    terms: tuple[PodTerm, ...]
    terminating: bool
    rows: Ints
    domains: dict[tuple[str, object], Domains] = field(default_factory=dict)

    def matches(self, namespace: str, labels: Labels, terminating: bool, namespaces: Mapping[str, Labels]) -> bool:
        if terminating and not self.terminating:
            return False
        return all(t.matches(namespace, labels, namespaces) for t in self.terms)

    def add(self, row: int, sign: int, version: int) -> None:
        self.rows[row] += sign
        for found in self.domains.values():
            if found.version == version:
                found.add(row, sign)


@dataclass(slots=True, eq=False)
class TermCount:
    """Placed pods that carry one term, per row (sparse: most terms are carried by few pods)."""

    term: PodTerm
    rows: dict[int, int] = field(default_factory=dict)
    total: int = 0
    domains: Domains | None = None

    def add(self, row: int, sign: int, version: int) -> None:
        now = self.rows.get(row, 0) + sign
        if now:
            self.rows[row] = now
        else:
            self.rows.pop(row, None)
        self.total += sign
        if self.domains is not None and self.domains.version == version:
            self.domains.add(row, sign)


class Index(Generic[T]):
    """Entries by a label that their selector asks for, so that a pod meets only those that may match it."""

    def __init__(self) -> None:
        self._by_label: dict[tuple[str, str] | None, dict[Any, T]] = {}

    def put(self, selector: str, key: Any, entry: T) -> None:
        self._by_label.setdefault(handle(selector), {})[key] = entry

    def drop(self, selector: str, key: Any) -> None:
        label = handle(selector)
        held = self._by_label.get(label)
        if held is not None:
            held.pop(key, None)
            if not held:
                del self._by_label[label]

    def candidates(self, labels: Labels) -> Iterator[T]:
        table = self._by_label
        if not table:
            return
        if None in table:
            yield from table[None].values()
        for pair in labels.items():
            if (held := table.get(pair)) is not None:
                yield from held.values()

    def __bool__(self) -> bool:
        return bool(self._by_label)


class TermTable:
    """The distinct terms that placed pods carry, with where."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, int], TermCount] = {}
        self.index: Index[TermCount] = Index()

    def add(self, term: PodTerm, row: int, sign: int, version: int) -> None:
        key = (term.key, term.weight)
        counted = self.counts.get(key)
        if counted is None:
            counted = self.counts[key] = TermCount(term)
            self.index.put(term.selector, key, counted)
        counted.add(row, sign, version)
        if not counted.total:
            del self.counts[key]
            self.index.drop(term.selector, key)

    def matching(self, namespace: str, labels: Labels, namespaces: Mapping[str, Labels]) -> list[TermCount]:
        """The terms that a pod of these labels is matched by."""
        if not self.counts:
            return []
        return [c for c in self.index.candidates(labels) if c.term.matches(namespace, labels, namespaces)]

    def __len__(self) -> int:
        return len(self.counts)


class Counters:
    """Counters of selectors that decisions ask for; those not asked for lately are dropped beyond a limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.by_key: OrderedDict[str, Counter] = OrderedDict()
        self.index: Index[Counter] = Index()

    def get(self, key: str) -> Counter | None:
        found = self.by_key.get(key)
        if found is not None:
            self.by_key.move_to_end(key)
        return found

    def put(self, counter: Counter) -> None:
        self.by_key[counter.key] = counter
        self.index.put(counter.terms[0].selector, counter.key, counter)
        if len(self.by_key) > self.limit:
            _, old = self.by_key.popitem(last=False)
            self.index.drop(old.terms[0].selector, old.key)

    def drop(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            gone = self.by_key.pop(key)
            self.index.drop(gone.terms[0].selector, key)
