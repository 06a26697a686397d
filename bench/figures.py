"""Figures over the rounds of a bench: median, lowest and highest, each beside its target where it has one."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path

SYNCS = 100
DISK = "disk: fdatasync of a 4 kB append, ms"
Targets = Mapping[str, tuple[str, float]]
"""By figure: the target, and whether it is the least (">=") or the most ("<=") that will do."""


class Results:
    """Figures by name, in the order they came. ``loud`` tells each one when it comes, on stderr."""

    def __init__(self, targets: Targets | None = None, *, loud: bool = False) -> None:
        self.values: dict[str, list[float]] = {}
        self.targets: dict[str, tuple[str, float]] = dict(targets or {})
        self._loud = loud

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)
        if self._loud:
            print(f"  {name}: {value:,.3f}", file=sys.stderr, flush=True)

    def target(self, name: str, sign: str, value: float) -> None:
        """What ``name`` has to reach."""
        self.targets[name] = (sign, value)

    def disk(self, folder: Path) -> None:
        """Note what the disk below ``folder`` can do."""
        self.add(DISK, sync_time(folder))

    def show(self) -> None:
        """What has a target first, then everything else that was seen."""
        aimed = [name for name in self.targets if name in self.values]
        if aimed:
            print(f"{'figure':<76} {'target':>10} {'median':>12}   spread")
            for name in aimed:
                print(self._aimed(name))
            print("\nalso seen")
        for name, values in self.values.items():
            if name not in self.targets:
                print(f"{name:<76} {_said(values)}")

    def _aimed(self, name: str) -> str:
        values, (sign, target) = self.values[name], self.targets[name]
        middle = statistics.median(values)
        reached = middle >= target if sign == ">=" else middle <= target
        return f"{name:<76} {sign}{target:>8,g} {_said(values)}{'' if reached else ' NOT REACHED'}"


def _said(values: list[float]) -> str:
    places = 0 if min(values) >= 1000 else 3 if max(values) < 10 else 2
    middle, low, high = (f"{f(values):,.{places}f}" for f in (statistics.median, min, max))
    return f"{middle:>12}   ({low} .. {high}, n={len(values)})"


def at(times: list[float], share: float) -> float:
    """The value below which that share of sorted ``times`` lies."""
    return times[min(len(times) - 1, int(len(times) * share))]


def sync_time(folder: Path) -> float:
    """Milliseconds of one fdatasync behind a 4 kB append: the median of a hundred."""
    path = folder / "probe"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    times = []
    try:
        for _ in range(SYNCS):
            os.write(handle, b"x" * 4096)
            started = time.perf_counter()
            os.fdatasync(handle)
            times.append(time.perf_counter() - started)
    finally:
        os.close(handle)
        path.unlink()
    return statistics.median(times) * 1000
