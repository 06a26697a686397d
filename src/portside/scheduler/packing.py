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
        ok = (self.cpu >= task.cpu) & (self.memory >= task.memory)
        if task.gpus:
            ok &= (self.gpus >= task.milli).sum(axis=1) >= task.gpus
            if task.models:
                ok &= np.isin(self.model, list(task.models))
        return np.flatnonzero(ok)

    def choose(self, task: Task) -> Choice | None:
        """The placement that adds least to the fragments; equals go to the fuller node. None when nothing fits."""
        rows = self.feasible(task)
        if not len(rows):
            return None
        cpu, memory, gpus = self.cpu[rows] - task.cpu, self.memory[rows] - task.memory, self.gpus[rows]
        if not task.gpus:
            return Choice(int(rows[self._least(rows, cpu, memory, gpus, rows)]), ())
        if task.gpus > 1 or task.milli >= WHOLE:
            # Which of several whole GPUs is taken makes no difference: the first ones.
            able = gpus >= task.milli
            taken = able & (np.cumsum(able, axis=1) <= task.gpus)
            best = self._least(rows, cpu, memory, gpus - taken * task.milli, rows)
            return Choice(int(rows[best]), tuple(np.flatnonzero(taken[best]).tolist()))
        node, slot = np.nonzero(gpus >= task.milli)
        _, first = np.unique(np.column_stack((node, gpus[node, slot])), axis=0, return_index=True)
        node, slot = node[first], slot[first]  # equally free GPUs of one node are one choice
        after = gpus[node].copy()
        after[np.arange(len(node)), slot] -= task.milli
        best = self._least(rows[node], cpu[node], memory[node], after, rows[node])
        return Choice(int(rows[node[best]]), (int(slot[best]),))

    def _least(self, rows: Ints, cpu: Ints, memory: Ints, gpus: Ints, original: Ints) -> int:
        added = np.round(self.measure(rows, cpu, memory, gpus) - self.fragments[original], 3)
        left = np.maximum(gpus, 0).sum(axis=1)
        return int(np.lexsort((cpu, left, added))[0])

    def place(self, task: Task, choice: Choice) -> None:
        """Take what the task asks for."""
        row = choice.row
        self.cpu[row] -= task.cpu
        self.memory[row] -= task.memory
        for gpu in choice.gpus:
            self.gpus[row, gpu] -= task.milli
        rows = np.array([row])
        self.fragments[row] = self.measure(rows, self.cpu[rows], self.memory[rows], self.gpus[rows])[0]
