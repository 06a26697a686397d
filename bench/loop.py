"""A control plane under measurement whose event loop is watched from inside: how long its turns are, and what they do.

plane = WatchedPlane(home, nodes=5000)       # a process of its own; this one only asks it
client = await plane.client()                # once the API answers
plane.note(results, "nodes")                 # the longest turn since the last question, and its stacks into the home's log
plane.stop()

A turn is counted in processor time of the loop's thread, from one look at it to the next: that stays comparable on a machine
that others use too. It is up to ``TICK_SECONDS`` too long, as it may have begun anywhere between two looks. Turns before the API
can be asked stand on their own: nobody waits for them.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from figures import Results

from portside.api.status import ApiError
from portside.client.http import kubeconfig_client
from portside.client.protocol import Client

Json = dict[str, Any]
NODES = ("", "v1", "nodes")
TICK_SECONDS = 0.01  # reading a thread's clock takes up to 0.1 ms: looked at more often, the looking would be measured
BLOCKED = 0.05  # seconds: a turn of the loop longer than this counts as blocked
LOOKS_AFTER = 0.03  # seconds of a turn until its stacks are looked at
FRAMES = 8
PLACES = 12
PATIENCE = 300.0  # seconds without news


# Inside the process


class LoopWatch(threading.Thread):
    """Notes the longest turns of the main thread's loop in processor time, and where turns were that took too long."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self._sign = home / "kubeconfig"  # written when the API can be asked
        self._served = False
        self.before = 0.0
        self._main = threading.main_thread().ident or 0
        self._began = time.monotonic()
        self._seen: list[str] = []
        self._collecting = 0.0
        self._forget()
        gc.callbacks.append(self._collection)

    def _forget(self) -> None:
        self.longest, self.blocked = 0.0, 0
        self.places: Counter[str] = Counter()
        self.collected = 0.0

    def _collection(self, phase: str, info: Json) -> None:
        """Notes the longest run of the garbage collector."""
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self.collected = max(self.collected, time.thread_time() - self._collecting)

    async def tick(self) -> None:
        """Runs in the loop until cancelled."""
        while True:
            self._began, self._seen = time.monotonic(), []
            spent = time.thread_time()
            await asyncio.sleep(TICK_SECONDS)
            turn = time.thread_time() - spent
            if not self._served and not self._sign.exists():
                self.before = max(self.before, turn)
                continue
            self._served = True
            self.longest = max(self.longest, turn)
            if turn > BLOCKED:
                self.blocked += 1
                self.places.update(f"{turn * 1000:.0f} ms\n{stack}" for stack in self._seen)

    def run(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            if time.monotonic() - self._began > LOOKS_AFTER:
                self._seen.append(place(sys._current_frames().get(self._main)))

    def report(self) -> Json:
        """The figures so far; they start anew."""
        places = self.places.most_common(PLACES)
        found: Json = {"longest": self.longest, "blocked": self.blocked, "places": places, "collected": self.collected}
        found["before"] = self.before
        self._forget()
        self.before = 0.0
        return found


def place(frame: FrameType | None) -> str:
    """The innermost functions of a stack, the machinery of imports left out."""
    frames: list[tuple[CodeType, int]] = []
    while (
        frame is not None and len(frames) < FRAMES
    ):  # nothing here lets the other thread go on: it would leave its frames
        if "importlib" not in frame.f_code.co_filename:
            frames.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    named = (f"{'/'.join(Path(code.co_filename).parts[-2:])}:{line} {code.co_name}" for code, line in reversed(frames))
    return "\n".join(f"    {one}" for one in named)


def serve(home: str, nodes: int, profile: str) -> None:
    """A control plane that answers USR1 by writing its loop's figures, and USR2 by starting a profile or writing it."""
    import uvloop

    from portside.base.memory import few_arenas
    from portside.run import control_plane
    from portside.run.settings import parse

    few_arenas()
    watch, profiler = LoopWatch(Path(home)), cProfile.Profile()
    profiling = False

    def report() -> None:
        aside = Path(home) / "loop.new"
        aside.write_text(json.dumps(watch.report()))
        aside.rename(Path(home) / "loop.json")

    def switch() -> None:
        nonlocal profiling
        profiling = not profiling
        if profiling:
            profiler.enable()
        else:
            profiler.disable()
            profiler.dump_stats(profile)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, report)
        loop.add_signal_handler(signal.SIGUSR2, switch)
        ticking = asyncio.create_task(watch.tick())
        watch.start()
        try:
            await control_plane.serve(parse(["--home", home, *(("--simulate", str(nodes)) if nodes else ())]))
        finally:
            ticking.cancel()

    uvloop.run(run())


# Outside


class WatchedPlane:
    """The process, seen from outside. ``profile`` names a file for a cProfile that ``switch_profile`` begins and ends."""

    def __init__(self, home: Path, nodes: int, profile: str = "") -> None:
        self.home = home
        self.nodes = nodes
        home.mkdir(exist_ok=True)
        (home / "kubeconfig").unlink(missing_ok=True)
        self.log = (home / "log").open("a")
        words = [sys.executable, __file__, str(home), str(nodes), profile]
        self.began = time.monotonic()
        self.process = subprocess.Popen(words, stderr=self.log)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(120)
        self.log.close()

    def cpu(self) -> float:
        """Processor seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, field: str = "VmHWM") -> float:
        """Largest resident size so far in MB; ``VmRSS`` is what is resident now."""
        found = re.findall(rf"{field}:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[0]) / 1024

    def _figures(self) -> Json:
        path = self.home / "loop.json"
        path.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + 60
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.01)
        return dict(json.loads(path.read_text()))

    def forget(self) -> None:
        """Let the figures of the loop begin now."""
        self._figures()

    def note(self, results: Results, what: str) -> None:
        """What the loop did since the last question; where its too long turns were goes into the log."""
        found = self._figures()
        longest = f"{what}: longest turn of the loop, CPU ms"
        results.target(longest, "<=", BLOCKED * 1000)
        results.add(longest, found["longest"] * 1000)
        results.add(f"{what}: turns above {BLOCKED * 1000:.0f} ms", found["blocked"])
        results.add(f"{what}: longest garbage collection, CPU ms", found["collected"] * 1000)
        if found["before"]:
            results.add(f"{what}: longest turn before anybody is served, CPU ms", found["before"] * 1000)
        for place, times in found["places"]:
            print(f"--- {what}: seen {times} times in a turn of {place}", file=self.log, flush=True)

    def switch_profile(self) -> None:
        self.process.send_signal(signal.SIGUSR2)

    async def client(self) -> Client:
        """A client, once the API answers."""
        path, end = self.home / "kubeconfig", time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit(f"the control plane ended:\n{(self.home / 'log').read_text()[-2000:]}")
            if path.exists():
                client = kubeconfig_client(str(path), user_agent="bench")
                try:
                    await client.list(NODES, limit=1)
                    return client
                except (ApiError, OSError):
                    await client.close()
            await asyncio.sleep(0.02)
        raise SystemExit(f"the control plane does not answer: {self.log.name}")


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
