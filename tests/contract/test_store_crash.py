"""The store on disk after ``kill -9``: a process writes under concurrency (history, ephemeral keys, deletions, compaction)
and is killed at a random moment, again and again on the same file. No acknowledged write is lost, no revision goes back.

Run as a script this file is the writer: ``test_store_crash.py DATABASE SEED``; each acknowledged write is a line on stdout.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from portside.store.backend import Change, Committed, Durability, Write
from portside.store.sqlite import SqliteBackend

ROUNDS = 15
WORKERS = 8


async def write_until_killed(path: str, seed: int) -> None:
    backend = SqliteBackend(path)
    await backend.open()
    rng = random.Random(seed)

    async def worker(number: int) -> None:
        count = 0
        while True:
            count += 1
            ephemeral = rng.random() < 0.4
            key = f"/{'l' if ephemeral else 'h'}/{number}/{rng.randrange(6)}"
            value = None if rng.random() < 0.2 else b"%d " % count + b"x" * rng.randrange(6000)
            done = await backend.write(Write(key, value, None, Durability(ephemeral)))
            if isinstance(done, Committed):
                size = -1 if value is None else len(value)
                os.write(1, f"{done.revision} {key} {size}\n".encode())

    async def compactor() -> None:
        while True:
            await asyncio.sleep(rng.random() * 0.03)
            await backend.compact(backend.revision)

    await asyncio.gather(compactor(), *(worker(n) for n in range(WORKERS)))


def run_and_kill(path: Path, seed: int, rng: random.Random) -> list[tuple[int, str, int]]:
    """One life of the writer: what it acknowledged."""
    child = subprocess.Popen(
        [sys.executable, __file__, str(path), str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout and child.stderr
    said = b""
    for _ in range(rng.randint(1, 100)):  # counted, not timed: the same on a busy machine
        line = child.stdout.readline()
        if not line:
            raise AssertionError(child.stderr.read().decode())
        said += line
    time.sleep(rng.random() * 0.005)  # so that it may strike anywhere within a commit
    child.send_signal(signal.SIGKILL)
    said += child.stdout.read()
    child.stderr.close()
    child.wait()
    lines = [line.split() for line in said[: said.rindex(b"\n")].decode().split("\n")]
    return [(int(revision), key, int(size)) for revision, key, size in lines]


async def test_no_acknowledged_write_is_lost_and_no_revision_goes_back(tmp_path: Path):
    path = tmp_path / "state.db"
    rng = random.Random(2026)
    acknowledged: dict[str, tuple[int, int]] = {}
    newest = total = 0
    for seed in range(ROUNDS):
        said = run_and_kill(path, seed, rng)
        total += len(said)
        assert min(revision for revision, _, _ in said) > newest, "a revision was given twice"
        for revision, key, size in said:
            if revision > acknowledged.get(key, (0, 0))[0]:
                acknowledged[key] = (revision, size)
        last_said = max(revision for revision, _, _ in said)
        backend = SqliteBackend(path)
        await backend.open()
        assert backend.revision >= last_said
        newest = backend.revision
        page = await backend.range("/")
        state = {r.key: r for r in page.records}
        changes: list[Change] = []
        await backend.subscribe("/", changes.extend, after=backend.compacted)
        for key, (revision, size) in acknowledged.items():
            record = state.get(key)
            later = [c for c in changes if c.key == key and c.revision > revision]
            if record is not None and record.revision == revision:
                assert len(record.value) == size
            elif record is not None:
                assert record.revision > revision, f"{key} went back"
            else:
                assert size == -1 or (later and later[-1].value is None) or backend.compacted > revision, f"{key} lost"
        kept = {c.revision for c in changes}
        for revision, key, _ in said:
            if revision > backend.compacted and key.startswith("/h/"):
                assert revision in kept, f"revision {revision} of {key} left the history"
        revisions = [c.revision for c in changes]
        assert revisions == sorted(set(revisions))
        await backend.close()
    assert total > 20 * ROUNDS


async def test_compaction_of_everything_does_not_take_the_revision_with_it(tmp_path: Path):
    """The newest rows may all be deletions; after compaction none is left to tell the revision."""
    path = tmp_path / "state.db"
    backend = SqliteBackend(path)
    await backend.open()
    for i in range(20):
        await backend.write(Write(f"/a/{i}", b"v"))
    for i in range(20):
        await backend.write(Write(f"/a/{i}", None))
    newest = backend.revision
    await backend.compact(newest)
    await backend.close()
    backend = SqliteBackend(path)
    await backend.open()
    assert (backend.revision, backend.compacted) == (newest, newest)
    assert await backend.write(Write("/a/1", b"v", 0)) == Committed(newest + 1, newest + 1)
    await backend.close()


if __name__ == "__main__":
    asyncio.run(write_until_killed(sys.argv[1], int(sys.argv[2])))
