"""The cluster as columns: one row a node, updated in place from events.

Arrays are NumPy; a row freed by a deleted node is used again. Amounts are int64: cpu in milli, memory in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from portside.api.quantity import milli, value
from portside.scheduler.counts import Counter, Counters, Domains, TermCount, TermTable
from portside.scheduler.pod_info import PodInfo, Shape
from portside.scheduler.terms import PodTerm

Json = dict[str, Any]
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Taint = tuple[str, str, str]  # key, value, effect

CPU, MEMORY, PODS = 0, 1, 2
BASE_RESOURCES = ("cpu", "memory", "pods")
MAX_COUNTERS = 512  # counters of selectors nobody asked for lately are dropped beyond this
MAX_DOMAINS = 16  # ways one counter is summed up (topology keys times sets of eligible nodes)
MAX_TOUCHED = 100_000  # changes a reader may be behind before it starts anew


@dataclass(slots=True)
class LabelColumn:
    """One label key over all nodes: a code per row, -1 where the label is absent."""

    codes: Ints
    values: dict[str, int] = field(default_factory=dict)

    def code(self, value: str) -> int:
        return self.values.setdefault(value, len(self.values))


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
        self.taint_sets: dict[tuple[Taint, ...], int] = {(): 0}  # the sets of taints that were met, with their code
        self.taints: Ints = np.zeros(capacity, np.int64)  # per row, the code of its set
        self.images: list[dict[str, int]] = [{} for _ in range(capacity)]
        self.ports: dict[int, dict[tuple[str, str, int], int]] = {}
        self.pods: dict[str, tuple[PodInfo, int]] = {}
        self.homeless: dict[str, PodInfo] = {}
        self.namespaces: dict[str, dict[str, str]] = {}
        self.on_row: list[dict[str, PodInfo]] = [{} for _ in range(capacity)]
        self.counters = Counters(MAX_COUNTERS)
        self.anti_terms = TermTable()
        self.affinity_terms = TermTable()
        self.preferred_terms = TermTable()
        self.node_version = 0  # rises when nodes change but for their pods: what is computed from nodes is cached by it
        self.touched: list[int] = []  # rows whose pods changed, in order: readers remember how far they have read
        self.versions: list[int] = [0] * capacity  # per row: rises with every change of what is on it
        self.epoch = 0  # rises when ``touched`` starts anew
        self.priorities: dict[int, int] = {}  # placed pods by priority
        self.groups: dict[str, set[str]] = {}  # uids of placed pods by their PodGroup
        self.backed: dict[str, str] = {}  # extended resource -> the device class that stands for it

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
            self.column(name)
        for name, column in self.resources.items():
            self.allocatable[column, row] = amounts.get(name, 0)
        self._touch(row)
        labels = meta.get("labels") or {}
        taints = tuple((t["key"], t.get("value") or "", t["effect"]) for t in spec.get("taints") or ())
        unschedulable = bool(spec.get("unschedulable"))
        if (
            fresh
            or labels != self.node_labels[row]
            or self.taint_sets.get(taints) != self.taints[row]
            or unschedulable != self.unschedulable[row]
        ):
            self.node_version += 1
            for key in self.node_labels[row].keys() - labels.keys():
                self.labels[key].codes[row] = -1
            for key, text in labels.items():
                column_of = self.label(key)
                column_of.codes[row] = column_of.code(text)
            self.node_labels[row], self.unschedulable[row] = dict(labels), unschedulable
            self.taints[row] = self.taint_sets.setdefault(taints, len(self.taint_sets))
        images = {
            name: int(i.get("sizeBytes") or 0) for i in status.get("images") or () for name in i.get("names") or ()
        }
        if images != self.images[row]:
            self.images[row] = images
            self.node_version += 1
        if fresh:
            self.live[row] = True
            for info in [p for p in self.homeless.values() if p.node_name == meta["name"]]:
                del self.homeless[info.uid]
                self._place(info, row)

    def remove_node(self, name: str) -> None:
        row = self.row_of.pop(name, None)
        if row is None:
            return
        for info in list(self.on_row[row].values()):
            self.remove_pod(info.uid)
            self.homeless[info.uid] = info
        for column in self.labels.values():
            column.codes[row] = -1
        self.live[row] = False
        self.allocatable[:, row] = 0
        self.names[row], self.node_labels[row], self.images[row] = "", {}, {}
        self.unschedulable[row], self.taints[row] = False, 0
        self.free.append(row)
        self.node_version += 1

    def set_backed(self, classes: dict[str, str]) -> None:
        """Which extended resources nodes may provide as devices of which class."""
        if classes != self.backed:
            self.backed = classes
            self.node_version += 1

    def delegates(self, shape: Shape) -> bool:
        """Whether a pod asks for a resource that is a device where a node does not provide it itself."""
        return bool(self.backed) and any(amount and name in self.backed for name, amount in shape.requests.items())

    def offers(self, name: str, row: int) -> bool:
        """Whether a node itself provides a resource."""
        column = self.resources.get(name)
        return column is not None and self.allocatable.item(column, row) > 0

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

    def _touch(self, row: int) -> None:
        self.versions[row] += 1
        self.touched.append(row)
        if len(self.touched) > MAX_TOUCHED:
            self.touched.clear()
            self.epoch += 1

    def column(self, name: str) -> int:
        """The column of a resource, made when it is new."""
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
        self.taints = np.pad(self.taints, (0, pad))
        self.live, self.unschedulable = np.pad(self.live, (0, pad)), np.pad(self.unschedulable, (0, pad))
        for column in self.labels.values():
            column.codes = np.pad(column.codes, (0, pad), constant_values=-1)
        for counter in self.counters.by_key.values():
            counter.rows = np.pad(counter.rows, (0, pad))
        self.node_version += 1
        self.on_row += [{} for _ in range(pad)]
        self.names += [""] * pad
        self.versions += [0] * pad
        self.node_labels += [{} for _ in range(pad)]
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
        self.on_row[entry[1]].pop(uid, None)
        if group := entry[0].group:
            self.groups[group].discard(uid)
            if not self.groups[group]:
                del self.groups[group]
        priority = entry[0].priority
        if self.priorities[priority] == 1:
            del self.priorities[priority]
        else:
            self.priorities[priority] -= 1
        self._count(entry[0], entry[1], -1)
        return entry[0]

    def _place(self, info: PodInfo, row: int) -> None:
        self.pods[info.uid] = (info, row)
        self.on_row[row][info.uid] = info
        if info.group:
            self.groups.setdefault(info.group, set()).add(info.uid)
        self.priorities[info.priority] = self.priorities.get(info.priority, 0) + 1
        self._count(info, row, 1)

    def _count(self, info: PodInfo, row: int, sign: int) -> None:
        shape = info.shape
        used = self.used
        for name, amount in shape.requests.items():
            column = self.resources.get(name)
            if column is None:
                column = self.column(name)
                used = self.used
            used[column, row] += sign * amount
        used[PODS, row] += sign
        nonzero = self.nonzero
        nonzero[CPU, row] += sign * shape.nonzero_cpu
        nonzero[MEMORY, row] += sign * shape.nonzero_memory
        if shape.ports:
            self._count_ports(shape.ports, row, sign)
        version = self.node_version
        if self.counters.by_key:
            for counter in self.counters.index.candidates(info.labels):
                if counter.matches(info.namespace, info.labels, info.terminating, self.namespaces):
                    counter.add(row, sign, version)
        for term in shape.anti_affinity:
            self.anti_terms.add(term, row, sign, version)
        for term in shape.affinity:
            self.affinity_terms.add(term, row, sign, version)
        for term in shape.preferred:
            self.preferred_terms.add(term, row, sign, version)
        self._touch(row)

    def has_below(self, priority: int) -> bool:
        """Whether any placed pod has a lower priority."""
        return any(p < priority for p in self.priorities)

    def _count_ports(self, ports: tuple[tuple[str, str, int], ...], row: int, sign: int) -> None:
        taken = self.ports.setdefault(row, {})
        for port in ports:
            taken[port] = taken.get(port, 0) + sign
            if not taken[port]:
                del taken[port]
        if not taken:
            del self.ports[row]

    def set_namespace(self, name: str, labels: dict[str, str] | None) -> None:
        """A namespace came, changed or (None) went. Counters over namespace selectors are counted anew."""
        if labels is None:
            self.namespaces.pop(name, None)
        elif self.namespaces.get(name) == labels:
            return
        else:
            self.namespaces[name] = dict(labels)
        self.counters.drop(
            k for k, c in list(self.counters.by_key.items()) if any(t.namespace_selector for t in c.terms)
        )

    # Counts

    def counter(self, terms: tuple[PodTerm, ...], *, terminating: bool) -> Counter:
        """Placed pods that match all the terms' selectors and namespaces. Kept up to date."""
        key = "&".join(t.who for t in terms) + ("+" if terminating else "")
        counter = self.counters.get(key)
        if counter is None:
            counter = Counter(key, terms, terminating, np.zeros(self.size, np.int64))
            for info, row in self.pods.values():
                if counter.matches(info.namespace, info.labels, info.terminating, self.namespaces):
                    counter.rows[row] += 1
            self.counters.put(counter)
        return counter

    def domains(
        self, counter: Counter, topology: str, eligible: Mask | None = None, eligibility: object = None
    ) -> Domains:
        """A counter's sums by domain. ``eligibility`` names the ``eligible`` rows, so that equal ones are shared."""
        key = (topology, eligibility)
        found = counter.domains.get(key)
        if found is None or found.version != self.node_version:
            column = self.label(topology)
            found = Domains(column.codes, len(column.values), self.node_version, eligible)
            found.fill(counter.rows)
            if len(counter.domains) >= MAX_DOMAINS:
                counter.domains.clear()
            counter.domains[key] = found
        return found

    def term_domains(self, counted: TermCount) -> Domains:
        """The sums by domain of the pods that carry a term."""
        found = counted.domains
        if found is None or found.version != self.node_version:
            column = self.label(counted.term.topology)
            found = Domains(column.codes, len(column.values), self.node_version)
            for row, number in counted.rows.items():
                code = column.codes.item(row)
                if code >= 0:
                    found.sums[code] += number
                    found.total += number
            counted.domains = found
        return found

    def taints_on(self, row: int) -> tuple[Taint, ...]:
        """The taints of a node."""
        code = self.taints.item(row)
        return next(islice(self.taint_sets, code, None)) if code else ()

    def rows_named(self, names: Iterable[str]) -> Mask:
        mask = np.zeros(self.size, bool)
        for name in names:
            if (row := self.row_of.get(name)) is not None:
                mask[row] = True
        return mask
