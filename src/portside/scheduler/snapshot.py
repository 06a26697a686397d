"""The cluster as columns: one row a node, updated in place from events.

Arrays are NumPy; a row freed by a deleted node is used again. Amounts are int64: cpu in milli, memory in bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from portside.api.quantity import milli, value
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.terms import PodTerm, label_selector

Json = dict[str, Any]
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

CPU, MEMORY, PODS = 0, 1, 2
BASE_RESOURCES = ("cpu", "memory", "pods")
MAX_COUNTERS = 512  # counters of selectors nobody asked for lately are dropped beyond this


@dataclass(slots=True)
class LabelColumn:
    """One label key over all nodes: a code per row, -1 where the label is absent."""

    codes: Ints
    values: dict[str, int] = field(default_factory=dict)

    def code(self, value: str) -> int:
        return self.values.setdefault(value, len(self.values))


@dataclass(slots=True)
class Counter:
    """How many placed pods of some namespaces match a selector, per row."""

    term: PodTerm
    rows: Ints


@dataclass(slots=True)
class TermCount:
    """How many placed pods carry one affinity term, per row."""

    term: PodTerm
    rows: Ints
    total: int = 0


class Snapshot:
    """Nodes, the pods placed on them, and the counts that affinity and spread need."""

    def __init__(self, capacity: int = 64) -> None:
        self.size = capacity
        self.names: list[str] = [""] * capacity
        self.row_of: dict[str, int] = {}
        self.free: list[int] = list(range(capacity - 1, -1, -1))
        self.resources: dict[str, int] = {name: i for i, name in enumerate(BASE_RESOURCES)}
        self.allocatable: Ints = np.zeros((len(BASE_RESOURCES), capacity), np.int64)
        self.used: Ints = np.zeros((len(BASE_RESOURCES), capacity), np.int64)
        self.nonzero: Ints = np.zeros((2, capacity), np.int64)
        self.live: Mask = np.zeros(capacity, bool)
        self.unschedulable: Mask = np.zeros(capacity, bool)
        self.labels: dict[str, LabelColumn] = {}
        self.node_labels: list[dict[str, str]] = [{} for _ in range(capacity)]
        self.taints: list[tuple[tuple[str, str, str], ...]] = [()] * capacity
        self.images: list[dict[str, int]] = [{} for _ in range(capacity)]
        self.ports: dict[int, dict[tuple[str, str, int], int]] = {}
        self.pods: dict[str, tuple[PodInfo, int]] = {}
        self.homeless: dict[str, PodInfo] = {}
        self.namespaces: dict[str, dict[str, str]] = {}
        self.counters: OrderedDict[str, Counter] = OrderedDict()
        self.anti_terms: dict[str, TermCount] = {}
        self.affinity_terms: dict[str, TermCount] = {}
        self.preferred_terms: dict[tuple[str, int], TermCount] = {}
        self.node_version = 0  # rises when a node's labels, taints or presence change: static masks are cached by it

    # Nodes

    def set_node(self, node: Json) -> None:
        """Add or change a node."""
        meta, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
        row = self.row_of.get(meta["name"])
        fresh = row is None
        if row is None:
            row = self._take_row(meta["name"])
        amounts = {n: milli(q) if n == "cpu" else value(q) for n, q in (status.get("allocatable") or {}).items()}
        for name in amounts:
            self._resource(name)
        for name, column in self.resources.items():
            self.allocatable[column, row] = amounts.get(name, 0)
        labels = meta.get("labels") or {}
        taints = tuple((t["key"], t.get("value") or "", t["effect"]) for t in spec.get("taints") or ())
        unschedulable = bool(spec.get("unschedulable"))
        if (
            fresh
            or labels != self.node_labels[row]
            or taints != self.taints[row]
            or unschedulable != self.unschedulable[row]
        ):
            self.node_version += 1
            for key in self.node_labels[row].keys() - labels.keys():
                self.labels[key].codes[row] = -1
            for key, text in labels.items():
                column_of = self.label(key)
                column_of.codes[row] = column_of.code(text)
            self.node_labels[row], self.taints[row], self.unschedulable[row] = dict(labels), taints, unschedulable
        self.images[row] = {
            name: int(i.get("sizeBytes") or 0) for i in status.get("images") or () for name in i.get("names") or ()
        }
        if fresh:
            self.live[row] = True
            for info in [p for p in self.homeless.values() if p.node_name == meta["name"]]:
                del self.homeless[info.uid]
                self._place(info, row)

    def remove_node(self, name: str) -> None:
        row = self.row_of.pop(name, None)
        if row is None:
            return
        for info, _ in [entry for entry in self.pods.values() if entry[1] == row]:
            self.remove_pod(info.uid)
            self.homeless[info.uid] = info
        for column in self.labels.values():
            column.codes[row] = -1
        self.live[row] = False
        self.allocatable[:, row] = 0
        self.names[row], self.node_labels[row], self.taints[row], self.images[row] = "", {}, (), {}
        self.unschedulable[row] = False
        self.free.append(row)
        self.node_version += 1

    def label(self, key: str) -> LabelColumn:
        column = self.labels.get(key)
        if column is None:
            column = self.labels[key] = LabelColumn(np.full(self.size, -1, np.int64))
        return column

    def _take_row(self, name: str) -> int:
        if not self.free:
            self._grow()
        row = self.free.pop()
        self.row_of[name], self.names[row] = row, name
        return row

    def _resource(self, name: str) -> int:
        column = self.resources.get(name)
        if column is None:
            column = self.resources[name] = len(self.resources)
            extra = np.zeros((1, self.size), np.int64)
            self.allocatable = np.vstack((self.allocatable, extra))
            self.used = np.vstack((self.used, extra))
        return column

    def _grow(self) -> None:
        old, self.size = self.size, self.size * 2
        self.free = list(range(self.size - 1, old - 1, -1))
        pad = self.size - old

        def wide(a: Ints) -> Ints:
            return np.pad(a, ((0, 0), (0, pad)))

        self.allocatable, self.used, self.nonzero = wide(self.allocatable), wide(self.used), wide(self.nonzero)
        self.live, self.unschedulable = np.pad(self.live, (0, pad)), np.pad(self.unschedulable, (0, pad))
        for column in self.labels.values():
            column.codes = np.pad(column.codes, (0, pad), constant_values=-1)
        counts: list[Counter | TermCount] = [*self.counters.values(), *self.anti_terms.values()]
        counts += [*self.affinity_terms.values(), *self.preferred_terms.values()]
        for counted in counts:
            counted.rows = np.pad(counted.rows, (0, pad))
        self.names += [""] * pad
        self.node_labels += [{} for _ in range(pad)]
        self.taints += [()] * pad
        self.images += [{} for _ in range(pad)]

    # Pods

    def set_pod(self, info: PodInfo) -> None:
        """A pod that has a node: count it there (a change replaces what was counted)."""
        self.remove_pod(info.uid)
        row = self.row_of.get(info.node_name)
        if row is None:
            self.homeless[info.uid] = info
        else:
            self._place(info, row)

    def remove_pod(self, uid: str) -> PodInfo | None:
        """Stop counting a pod; nothing happens when it was not counted."""
        if self.homeless.pop(uid, None):
            return None
        entry = self.pods.pop(uid, None)
        if entry is None:
            return None
        self._count(entry[0], entry[1], -1)
        return entry[0]

    def _place(self, info: PodInfo, row: int) -> None:
        self.pods[info.uid] = (info, row)
        self._count(info, row, 1)

    def _count(self, info: PodInfo, row: int, sign: int) -> None:
        for name, amount in info.requests.items():
            self.used[self._resource(name), row] += sign * amount
        self.used[PODS, row] += sign
        self.nonzero[CPU, row] += sign * info.nonzero_cpu
        self.nonzero[MEMORY, row] += sign * info.nonzero_memory
        if info.ports:
            taken = self.ports.setdefault(row, {})
            for port in info.ports:
                taken[port] = taken.get(port, 0) + sign
                if not taken[port]:
                    del taken[port]
        if not info.terminating:
            for counter in self.counters.values():
                if counter.term.matches(info.namespace, info.labels, self.namespaces):
                    counter.rows[row] += sign
        for term in info.anti_affinity:
            self._count_term(self.anti_terms, term.key, term, row, sign)
        for term in info.affinity:
            self._count_term(self.affinity_terms, term.key, term, row, sign)
        for term in info.preferred:
            self._count_term(self.preferred_terms, (term.key, term.weight), term, row, sign)

    def _count_term(self, table: dict[Any, TermCount], key: Any, term: PodTerm, row: int, sign: int) -> None:
        counted = table.get(key)
        if counted is None:
            counted = table[key] = TermCount(term, np.zeros(self.size, np.int64))
        counted.rows[row] += sign
        counted.total += sign
        if not counted.total:
            del table[key]

    def set_namespace(self, name: str, labels: dict[str, str] | None) -> None:
        """A namespace came, changed or (None) went. Counters over namespace selectors are counted anew."""
        if labels is None:
            self.namespaces.pop(name, None)
        elif self.namespaces.get(name) == labels:
            return
        else:
            self.namespaces[name] = dict(labels)
        for key in [k for k, c in self.counters.items() if c.term.namespace_selector]:
            del self.counters[key]

    def count(self, term: PodTerm) -> Ints:
        """Placed, not terminating pods that the term's selector and namespaces match, per row. Kept up to date."""
        key = f"{term.selector}|{','.join(sorted(term.namespaces))}|{term.namespace_selector}"
        counter = self.counters.get(key)
        if counter is None:
            counter = self.counters[key] = Counter(term, np.zeros(self.size, np.int64))
            matches = label_selector(term.selector)
            for info, row in self.pods.values():
                if not info.terminating and term.covers(info.namespace, self.namespaces) and matches(info.labels):
                    counter.rows[row] += 1
            if len(self.counters) > MAX_COUNTERS:
                self.counters.popitem(last=False)
        else:
            self.counters.move_to_end(key)
        return counter.rows

    def per_domain(self, topology: str, rows: Ints, among: Mask | None = None) -> tuple[Ints, Ints]:
        """Sum ``rows`` over each topology domain. Returns the code per row (-1: no label) and the sums by code."""
        column = self.label(topology)
        known = column.codes >= 0
        if among is not None:
            known = known & among
        sums = np.zeros(max(len(column.values), 1), np.int64)
        np.add.at(sums, column.codes[known], rows[known])
        return column.codes, sums

    def rows_named(self, names: Iterable[str]) -> Mask:
        mask = np.zeros(self.size, bool)
        for name in names:
            if (row := self.row_of.get(name)) is not None:
                mask[row] = True
        return mask
