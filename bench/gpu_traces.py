"""Shares of all GPUs allocated when pods of a recorded cluster arrive at random, beside the published figures.

    python bench/gpu_traces.py --traces FOLDER [--pods openb_pod_list_default.csv] [--seeds N]

The folder holds the OpenB node and pod lists as CSV. Pods are drawn at random until the GPUs asked for reach 130 % of the
cluster's; a pod that fits nowhere is turned away. Published means of ten seeds at 100 % / 130 % are printed for comparison.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np

from portside.scheduler.packing import Choice, GpuNodes, Task

PUBLISHED = {
    "openb_pod_list_default.csv": "random 86.3/87.5, dot product 90.6/90.9, GPU packing 91.8/92.0, best fit 92.9/93.1, "
    "fragmentation gradient descent 95.2/95.4",
    "openb_pod_list_gpuspec33.csv": "random 83.9/86.5, dot product 79.8/89.1, GPU packing 82.2/93.2, best fit 80.4/93.1, "
    "fragmentation gradient descent 87.8/94.6",
}
MAX_GPUS = 8


def read(folder: Path, pods: str) -> tuple[list[dict[str, str]], list[Task], list[str]]:
    with (folder / "openb_node_list_all_node.csv").open() as file:
        nodes = list(csv.DictReader(file))
    models = sorted({n["model"] for n in nodes})
    tasks = []
    with (folder / pods).open() as file:
        for row in csv.DictReader(file):
            gpus = int(row["num_gpu"] or 0)
            wanted = frozenset(models.index(m) for m in (row["gpu_spec"] or "").split("|") if m and m in models)
            milli = int(row["gpu_milli"] or 0) if gpus == 1 else 1000 * bool(gpus)
            tasks.append(Task(int(row["cpu_milli"]), int(row["memory_mib"]), gpus, milli, wanted))
    return nodes, tasks, models


def cluster(nodes: list[dict[str, str]], tasks: list[Task], models: list[str]) -> GpuNodes:
    gpus = np.full((len(nodes), MAX_GPUS), -1, np.int64)
    for i, node in enumerate(nodes):
        gpus[i, : int(node["gpu"] or 0)] = 1000
    kinds = Counter(tasks)
    typical = [(n / len(tasks), t) for t, n in kinds.items()]
    return GpuNodes(
        np.array([int(n["cpu_milli"]) for n in nodes]),
        np.array([int(n["memory_mib"]) for n in nodes]),
        gpus,
        np.array([models.index(n["model"]) for n in nodes]),
        typical,
    )


def at_random(state: GpuNodes, task: Task, rng: Random) -> Choice | None:
    rows = state.feasible(task)
    if not len(rows):
        return None
    row = int(rows[rng.randrange(len(rows))])
    able = np.flatnonzero(state.gpus[row] >= max(task.milli, 1))
    return Choice(row, tuple(able[: task.gpus].tolist()))


def run(nodes: list[dict[str, str]], tasks: list[Task], models: list[str], seed: int, how: str) -> tuple[float, float]:
    """Shares allocated at 100 % and 130 % of arrived load."""
    rng = Random(seed)
    state = cluster(nodes, tasks, models)
    total = sum(1000 * int(n["gpu"] or 0) for n in nodes)
    order = tasks * 2
    rng.shuffle(order)
    arrived = allocated = 0
    at_full = 0.0
    for task in order:
        arrived += task.gpu_milli
        choice = state.choose(task) if how == "least fragments" else at_random(state, task, rng)
        if choice is not None:
            state.place(task, choice)
            allocated += task.gpu_milli
        if not at_full and arrived >= total:
            at_full = 100 * allocated / total
        if arrived >= 1.3 * total:
            break
    return at_full, 100 * allocated / total


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--traces", type=Path, required=True)
    options.add_argument("--pods", default="openb_pod_list_default.csv")
    options.add_argument("--seeds", type=int, default=3)
    chosen = options.parse_args()
    nodes, tasks, models = read(chosen.traces, chosen.pods)
    for how in ("random", "least fragments"):
        began = time.perf_counter()
        found = [run(nodes, tasks, models, seed, how) for seed in range(1, chosen.seeds + 1)]
        first, last = (statistics.mean(f[i] for f in found) for i in (0, 1))
        took = (time.perf_counter() - began) / chosen.seeds
        print(f"{how:<18} {first:5.1f} / {last:5.1f} %   {chosen.seeds} seeds, {took:.1f} s each", flush=True)
    print(f"published: {PUBLISHED.get(chosen.pods, 'nothing for this list')}")


if __name__ == "__main__":
    main()
