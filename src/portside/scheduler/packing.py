"""Packing of whole and shared GPUs that keeps fragmentation low: which node and which GPUs leave the most to typical tasks.

The measure is that of Weng et al., "Beware of Fragmentation" (USENIX ATC'23): free GPU capacity that a task, drawn from the
expected workload, could not use. A placement is the better the less it adds to that. Arrays hold one row a node, GPUs in
thousandths, -1 where a node has no such GPU. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
WHOLE = 1000
MOST_TYPICAL = 256  # kinds of tasks the expected workload is described by


@dataclass(frozen=True, slots=True)
class Task:
    """``gpus`` whole ones, or one share of ``milli`` thousandths; ``models`` empty: any will do."""

    cpu: int
    memory: int
    gpus: int = 0
    milli: int = 0
    models: frozenset[int] = frozenset()

    @property
    def gpu_milli(self) -> int:
        return self.gpus * self.milli


@dataclass(frozen=True, slots=True)
class Choice:
    """A node's row and the GPUs taken there."""

    row: int
    gpus: tuple[int, ...]


@dataclass(slots=True)
class _Known:
    """For one kind of task, what its best placement on each row would do: fragments added (infinite where it does not fit),
    GPU capacity and cpu left, and the GPU taken; good for the first ``seen`` changes."""

    added: Floats
    left: Ints
    cpu: Ints
    slot: Ints
    seen: int = 0


class GpuNodes:
    """What is free on every node. ``typical``: (share of the workload, task); tasks without GPUs do not count."""

    def __init__(self, cpu: Ints, memory: Ints, gpus: Ints, model: Ints, typical: Sequence[tuple[float, Task]]) -> None:
        self.cpu, self.memory, self.gpus, self.model = cpu.copy(), memory.copy(), gpus.copy(), model
        kept = sorted((t for t in typical if t[1].gpus), key=lambda t: -t[0])[:MOST_TYPICAL]
        self.weight: Floats = np.array([w for w, _ in kept]) / max(sum(w for w, _ in kept), 1e-12)
        self._cpu: Ints = np.array([t.cpu for _, t in kept], np.int64)
        self._memory: Ints = np.array([t.memory for _, t in kept], np.int64)
        self._milli: Ints = np.array([t.milli for _, t in kept], np.int64)
        self._count: Ints = np.array([t.gpus for _, t in kept], np.int64)
        self._model: Mask = np.array([[not t.models or m in t.models for _, t in kept] for m in model], bool)
        self._known: dict[Task, _Known] = {}
        self._changed: list[int] = []  # rows, in the order of placements
        self.fragments: Floats = self.measure(np.arange(len(cpu)), self.cpu, self.memory, self.gpus)

    def measure(self, rows: Ints, cpu: Ints, memory: Ints, gpus: Ints) -> Floats:
        """Expected GPU capacity (thousandths) that a typical task can't use, for states of the given rows."""
        free = np.maximum(gpus, 0)
        total = free.sum(axis=1).astype(np.float64)
        found = np.zeros(len(rows), np.float64)
        for i, weight in enumerate(self.weight):
            enough = free >= self._milli[i]
            runs = (
                (cpu >= self._cpu[i])
                & (memory >= self._memory[i])
                & self._model[rows, i]
                & (enough.sum(axis=1) >= self._count[i])
            )
            found += weight * np.where(runs, (free * ~enough).sum(axis=1), total)
        return found

    def feasible(self, task: Task) -> Ints:
        """Rows that can take the task."""
        return np.flatnonzero(self._fits(task, np.arange(len(self.cpu))))

    def _fits(self, task: Task, rows: Ints) -> Mask:
        ok: Mask = (self.cpu[rows] >= task.cpu) & (self.memory[rows] >= task.memory)
        if task.gpus:
            ok &= (self.gpus[rows] >= task.milli).sum(axis=1) >= task.gpus
            if task.models:
                ok &= np.isin(self.model[rows], list(task.models))
        return ok

    def choose(self, task: Task) -> Choice | None:
        """The placement that adds least to the fragments; equals go to the fuller node. None when nothing fits."""
        known = self._known.get(task)
        if known is None:
            count = len(self.cpu)
            blank = np.zeros(count, np.int64)
            known = self._known[task] = _Known(np.full(count, np.inf), blank, blank.copy(), blank.copy())
            rows: Ints = np.arange(count)
        else:
            rows = np.unique(np.array(self._changed[known.seen :], np.int64))
        known.seen = len(self._changed)
        self._look(task, known, rows)
        least = known.added.min(initial=np.inf)
        if least == np.inf:
            return None
        best = np.flatnonzero(known.added == least)
        row = int(best[np.lexsort((known.cpu[best], known.left[best]))[0]])
        return Choice(row, self._taken(task, row, int(known.slot[row])))

    def _taken(self, task: Task, row: int, slot: int) -> tuple[int, ...]:
        """The GPUs: which of several whole ones makes no difference, so the first."""
        if not task.gpus:
            return ()
        if task.gpus == 1 and task.milli < WHOLE:
            return (slot,)
        return tuple(np.flatnonzero(self.gpus[row] >= task.milli)[: task.gpus].tolist())

    def _look(self, task: Task, known: _Known, rows: Ints) -> None:
        """Bring what is known of the task up to date for some rows."""
        known.added[rows] = np.inf
        rows = rows[self._fits(task, rows)]
        if not len(rows):
            return
        if task.gpus == 1 and task.milli < WHOLE:
            node, slot = np.nonzero(self.gpus[rows] >= task.milli)
            _, first = np.unique(np.column_stack((node, self.gpus[rows][node, slot])), axis=0, return_index=True)
            node, slot = node[first], slot[first]  # equally free GPUs of one node are one choice
            after = self.gpus[rows[node]]
            after[np.arange(len(node)), slot] -= task.milli
        else:
            node, slot = np.arange(len(rows)), np.zeros(len(rows), np.int64)
            after = self.gpus[rows]
            if task.gpus:
                able = after >= task.milli
                after = after - (able & (np.cumsum(able, axis=1) <= task.gpus)) * task.milli
        where = rows[node]
        cpu, memory = self.cpu[where] - task.cpu, self.memory[where] - task.memory
        added = np.round(self.measure(where, cpu, memory, after) - self.fragments[where], 3)
        left = np.maximum(after, 0).sum(axis=1)
        order = np.lexsort((left, added, where))  # the best choice of a row first
        _, first = np.unique(where[order], return_index=True)
        best = order[first]
        known.added[where[best]], known.left[where[best]] = added[best], left[best]
        known.cpu[where[best]], known.slot[where[best]] = cpu[best], slot[best]

    def place(self, task: Task, choice: Choice) -> None:
        """Take what the task asks for."""
        row = choice.row
        self.cpu[row] -= task.cpu
        self.memory[row] -= task.memory
        for gpu in choice.gpus:
            self.gpus[row, gpu] -= task.milli
        rows = np.array([row])
        self._changed.append(row)
        self.fragments[row] = self.measure(rows, self.cpu[rows], self.memory[rows], self.gpus[rows])[0]
