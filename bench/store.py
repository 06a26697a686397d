"""Figures of the store and the watch cache on this machine: medians of repeated runs, with the spread.

    python bench/store.py [--rounds N] [--only writes,compaction,cache,watchers] [--folder DIR]

``--folder`` chooses the disk; writes are durable (synchronous=FULL). The disk's own fdatasync time is measured beside.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import uvloop
from figures import Results, at

from portside.server.watchcache import Filter, JsonForm, join_items
from portside.server.watchcache_feed import WatchCaches
from portside.store.backend import Backend, Durability, Write
from portside.store.memory import MemoryBackend
from portside.store.sqlite import SqliteBackend

SECONDS = 1.5
CONFIGMAP = 600
POD_BYTES = 3400


def pod(i: int, node: str = "") -> bytes:
    obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p{i}", "namespace": "default", "labels": {"app": f"a{i % 50}", "tier": "web"}},
        "spec": {"nodeName": node or f"n{i % 100}", "containers": [{"name": f"c{n}", "image": "i"} for n in range(4)]},
        "status": {"conditions": [{"type": f"t{n}", "status": "True", "message": "m" * 60} for n in range(8)]},
    }
    filled = orjson.dumps(obj)
    obj["metadata"]["annotations"] = {"pad": "x" * (POD_BYTES - len(filled) - 30)}  # type: ignore[index]
    return orjson.dumps(obj)


async def load(backend: Backend, clients: int, size: int, *, keys: int = 0, seconds: float = SECONDS) -> list[float]:
    """Closed-loop writers; latencies in milliseconds. ``keys`` 0 creates, else overwrites that many keys each."""
    stop = time.perf_counter() + seconds
    value = b"x" * size
    times: list[float] = []

    async def client(number: int) -> None:
        count = 0
        while (started := time.perf_counter()) < stop:
            key = f"/core/configmaps/default/{number}-{count % keys if keys else count}"
            await backend.write(Write(key, value, None if keys else 0))
            times.append((time.perf_counter() - started) * 1000)
            count += 1

    await asyncio.gather(*(client(n) for n in range(clients)))
    return sorted(times)


async def writes(folder: Path, results: Results) -> None:
    for clients, size in ((1, CONFIGMAP), (32, CONFIGMAP), (256, CONFIGMAP), (32, POD_BYTES)):
        backend = SqliteBackend(folder / "writes.db")
        await backend.open()
        times = await load(backend, clients, size)
        wal = (folder / "writes.db-wal").stat().st_size / 1e6
        await backend.close()
        name = f"durable creates of {size} B, {clients} clients"
        results.add(f"{name}: per second", len(times) / SECONDS)
        results.add(f"{name}: p50 ms", at(times, 0.5))
        results.add(f"{name}: p99 ms", at(times, 0.99))
        results.add(f"{name}: longest ms", times[-1])
        results.add(f"{name}: write-ahead log MB", wal)
        clear(folder)
    backend = SqliteBackend(folder / "writes.db")
    await backend.open()
    beats = 0
    stop = time.perf_counter() + SECONDS
    while time.perf_counter() < stop:
        await asyncio.gather(
            *(
                backend.write(Write(f"/coordination.k8s.io/leases/l/{n}", b"x" * 500, None, Durability.EPHEMERAL))
                for n in range(100)
            )
        )
        beats += 100
    await backend.close()
    results.add("lease beats, 100 at once: per second", beats / SECONDS)


async def compaction(folder: Path, results: Results) -> None:
    backend = SqliteBackend(folder / "compaction.db")
    await backend.open()
    await load(backend, 64, CONFIGMAP, keys=20, seconds=2.0)
    quiet = await load(backend, 8, CONFIGMAP, keys=20)
    target = backend.revision
    started = time.perf_counter()
    running = asyncio.create_task(backend.compact(target))
    busy = await load(backend, 8, CONFIGMAP, keys=20, seconds=0.7)
    await running
    results.add("compaction beside 8 writers: rows looked at per second", target / (time.perf_counter() - started))
    results.add("write p99 ms without compaction, 8 writers", at(quiet, 0.99))
    results.add("write p99 ms during compaction, 8 writers", at(busy, 0.99))
    results.add("longest write ms without compaction, 8 writers", quiet[-1])
    results.add("longest write ms during compaction, 8 writers", busy[-1])
    await backend.close()


def resident() -> float:
    """Resident memory of this process in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return float(line.split()[1])
    return 0.0


def memory(path: Path) -> tuple[float, float]:
    """kB per object of the store at ``path``, loaded and after selecting lists, seen by a process of its own."""
    said = subprocess.run(
        [sys.executable, __file__, "--measure", str(path)], check=True, capture_output=True, text=True
    ).stdout.split()
    return float(said[0]), float(said[1])


async def measure(path: Path) -> None:
    gc.collect()
    before = resident()
    backend = SqliteBackend(path)
    await backend.open()
    caches = WatchCaches(backend)
    await caches.start()
    pods = caches.of("", "pods")
    gc.collect()
    loaded = (resident() - before) / len(pods)
    pods.list(Filter(labels=lambda labels: "none" in labels, equal=(("app", "a1"),)))
    pods.list(Filter(node="n7"))
    gc.collect()
    print(loaded, (resident() - before) / len(pods))
    await caches.close()
    await backend.close()


def timed(job: Callable[[], object]) -> float:
    times = []
    for _ in range(7):
        started = time.perf_counter()
        job()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


async def cache(folder: Path, results: Results) -> None:
    count = 10_000
    path = folder / "cache.db"
    backend = SqliteBackend(path)
    await backend.open()
    await asyncio.gather(*(backend.write(Write(f"/core/pods/default/p{i}", pod(i))) for i in range(count)))
    await backend.compact(backend.revision)
    await backend.close()
    loaded, listed = memory(path)
    results.add("memory per pod of 3.4 kB, loaded: kB (fresh process)", loaded)
    results.add("memory per pod, after lists by label and node: kB", listed)
    started = time.perf_counter()
    backend = SqliteBackend(path)
    await backend.open()
    opened = time.perf_counter()
    caches = WatchCaches(backend)
    await caches.start()
    results.add("open a store of 10,000 pods: ms", (opened - started) * 1000)
    results.add("load 10,000 pods into the cache: ms", (time.perf_counter() - opened) * 1000)
    pods = caches.of("", "pods")
    none = Filter(labels=lambda labels: labels.get("app") == "none", equal=(("app", "none"),))
    absent = Filter(labels=lambda labels: "none" in labels)
    results.add("LIST 10,000 pods as one body: ms", timed(lambda: join_items(pods.list().objects)))
    results.add("LIST first 500 of 10,000: ms", timed(lambda: join_items(pods.list(limit=500).objects)))
    started = time.perf_counter()
    pods.list(absent)
    results.add("first LIST with a label selector (parses labels): ms", (time.perf_counter() - started) * 1000)
    results.add("LIST with a selector that matches none, scanned: ms", timed(lambda: pods.list(absent)))
    results.add("LIST with a selector that matches none, indexed: ms", timed(lambda: pods.list(none)))
    results.add("LIST of one node's 100 pods: ms", timed(lambda: pods.list(Filter(node="n7"))))
    started = time.perf_counter()
    for _ in range(10):
        for i in range(count):
            found = pods.get("default", f"p{i}")
            assert found is not None and found.full
    results.add("GET as bytes: per second", 10 * count / (time.perf_counter() - started))
    await caches.close()
    await backend.close()


async def watchers(folder: Path, results: Results) -> None:
    for count, kind in ((1000, "one filter"), (1000, "1,000 filters"), (5000, "one node each")):
        backend = MemoryBackend()
        await backend.open()
        caches = WatchCaches(backend)
        await caches.start()
        pods = caches.of("", "pods")
        form = JsonForm("v1", "Pod")
        received = 0

        def sink(data: bytes) -> None:
            nonlocal received
            received += data.count(b"\n")

        for n in range(count):
            where = {
                "one filter": Filter("default"),
                "1,000 filters": Filter("default", labels=lambda labels: labels.get("tier") == "web", key=n),
                "one node each": Filter(node=f"n{n}"),
            }[kind]
            pods.watch(sink, lambda error: None, form=form, where=where, after=caches.revision).resume()
        await asyncio.sleep(0.1)
        values = [pod(i) for i in range(200)]
        started = time.perf_counter()
        for i, value in enumerate(values):
            await backend.write(Write(f"/core/pods/default/p{i}", value))
            await asyncio.sleep(0)
        expected = len(values) * (count if kind != "one node each" else 1)
        while received < expected:
            await asyncio.sleep(0)
        spent = (time.perf_counter() - started) / len(values)
        results.add(f"one event to {count:,} watches ({kind}): ms", spent * 1000)
        assert received == expected, "each watch had each event once"
        await caches.close()


PARTS: dict[str, Callable[[Path, Results], Awaitable[None]]] = {
    "writes": writes,
    "compaction": compaction,
    "cache": cache,
    "watchers": watchers,
}


def clear(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        uvloop.run(measure(options.measure))
        return
    results = Results()
    for _ in range(options.rounds):
        for name in options.only.split(","):
            folder = Path(tempfile.mkdtemp(prefix="portside-bench-", dir=options.folder))
            try:
                results.disk(folder)
                clear(folder)
                uvloop.run(PARTS[name](folder, results))
            finally:
                shutil.rmtree(folder)
    results.show()


if __name__ == "__main__":
    main()
