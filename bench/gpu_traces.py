"""Shares of all GPUs allocated when pods of a recorded cluster arrive at random, beside the published figures.

    python bench/gpu_traces.py --traces FOLDER [--pods openb_pod_list_default.csv,…] [--only random,least-fragments] [--rounds N]

The folder holds the OpenB node and pod lists as CSV. Pods are drawn at random until the GPUs asked for reach 130 % of the
cluster's; a pod that fits nowhere is turned away. Each round draws from a seed of its own. The targets are the
published means of ten seeds of the best way, fragmentation gradient descent, at 100 % and 130 % of arrived load.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
from figures import Results

from portside.scheduler.packing import Choice, GpuNodes, Task

PUBLISHED = {
    "openb_pod_list_default.csv": "random 86.3/87.5, dot product 90.6/90.9, GPU packing 91.8/92.0, best fit 92.9/93.1, "
    "fragmentation gradient descent 95.2/95.4",
    "openb_pod_list_gpuspec33.csv": "random 83.9/86.5, dot product 79.8/89.1, GPU packing 82.2/93.2, best fit 80.4/93.1, "
    "fragmentation gradient descent 87.8/94.6",
}
BEST = {"openb_pod_list_default.csv": (95.2, 95.4), "openb_pod_list_gpuspec33.csv": (87.8, 94.6)}
LOADS = (100, 130)
WAYS = ("random", "least-fragments")
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
        choice = state.choose(task) if how == "least-fragments" else at_random(state, task, rng)
        if choice is not None:
            state.place(task, choice)
            allocated += task.gpu_milli
        if not at_full and arrived >= total:
            at_full = 100 * allocated / total
        if arrived >= 1.3 * total:
            break
    return at_full, 100 * allocated / total


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--traces", type=Path, required=True)
    options.add_argument("--pods", default=",".join(BEST), help="lists of pods, with commas between")
    options.add_argument("--only", default=",".join(WAYS), help="random, least-fragments")
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    results = Results(loud=True)
    for pods in chosen.pods.split(","):
        nodes, tasks, models = read(chosen.traces, pods)
        for seed in range(1, chosen.rounds + 1):
            for how in chosen.only.split(","):
                began = time.perf_counter()
                for load, share in zip(LOADS, run(nodes, tasks, models, seed, how), strict=True):
                    title = f"{pods}, {how}: share of GPUs at {load} % load, %"
                    if how == "least-fragments" and pods in BEST:
                        results.target(title, ">=", BEST[pods][LOADS.index(load)])
                    results.add(title, share)
                results.add(f"{pods}, {how}: s", time.perf_counter() - began)
    print(f"{chosen.rounds} rounds; published means of ten:")
    for pods in chosen.pods.split(","):
        print(f"  {pods}: {PUBLISHED.get(pods, 'nothing')}")
    results.show()


if __name__ == "__main__":
    main()
