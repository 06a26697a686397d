"""Bad days of the database file: each refusal says what, where and what to do, and leaves the data as it was."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from portside.store.backend import Committed, Durability, Record, StoreError, Write
from portside.store.sqlite import SqliteBackend

ROOT = os.geteuid() == 0


async def filled(path: Path, count: int = 50) -> int:
    backend = SqliteBackend(path)
    await backend.open()
    await asyncio.gather(*(backend.write(Write(f"/a/{i}", b"%d" % i * 500)) for i in range(count)))
    revision = backend.revision
    await backend.close()
    return revision


async def refusal(path: Path, **more) -> str:
    backend = SqliteBackend(path, **more)
    with pytest.raises(StoreError) as refused:
        await backend.open()
    return str(refused.value)


async def test_files_are_private_and_nothing_is_lost_over_a_restart(tmp_path: Path):
    path = tmp_path / "state ?#%.db"
    revision = await filled(path)
    backend = SqliteBackend(path)
    await backend.open()
    assert backend.revision == revision
    assert await backend.get("/a/3") == Record("/a/3", b"3" * 500, revision - 46, revision - 46)
    await backend.write(Write("/a/new", b"v"))
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    assert len(modes) == 4 and set(modes.values()) == {0o600}, modes
    await backend.close()


async def test_every_commit_is_synced(tmp_path: Path):
    backend = SqliteBackend(tmp_path / "state.db")
    await backend.open()
    writer = backend._writer
    assert writer is not None
    loop = asyncio.get_running_loop()
    assert await writer.call(loop, lambda c: c.execute("PRAGMA synchronous").fetchone()[0]) == 2
    assert await writer.call(loop, lambda c: c.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"
    await backend.close()


@pytest.mark.parametrize("damage", ["garbage", "empty", "header", "middle", "cut"])
async def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, damage: str):
    path = tmp_path / "state.db"
    await filled(path, 300)
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data = bytearray(b"this is not a database\n" * 300)
    elif damage == "empty":
        data = bytearray()
    elif damage == "header":
        data[0:64] = bytes(64)
    elif damage == "middle":
        data[4096 : len(data) // 2] = b"\xa5" * (len(data) // 2 - 4096)
    else:
        data = data[: len(data) // 3]
    path.write_bytes(data)
    path.with_name("state.db-wal").unlink(missing_ok=True)
    text = await refusal(path)
    assert (str(path) in text and "left as it is" in text) or "left as it was" in text or "left as" in text
    assert "restore it from a backup" in text
    assert path.read_bytes() == data


async def test_a_foreign_or_newer_database_is_refused(tmp_path: Path):
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    path.chmod(0o600)
    assert "is not a Portside store" in await refusal(path)
    newer = tmp_path / "newer.db"
    await filled(newer, 1)
    with sqlite3.connect(newer) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    assert "has format 99" in await refusal(newer)


async def test_a_second_process_is_told_who_holds_the_store(tmp_path: Path):
    path = tmp_path / "state.db"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import asyncio, sys\nfrom portside.store.sqlite import SqliteBackend\n"
            "async def main():\n await SqliteBackend(sys.argv[1]).open()\n print('ready', flush=True)\n"
            " await asyncio.sleep(60)\nasyncio.run(main())",
            str(path),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout and holder.stdout.readline() == b"ready\n"
        text = await refusal(path)
        assert f"in use by another process (pid {holder.pid})" in text and str(path) in text
    finally:
        holder.kill()
        holder.communicate()
    backend = SqliteBackend(path)
    await backend.open()
    await backend.close()


async def test_a_program_that_locks_the_file_delays_writes_but_breaks_nothing(tmp_path: Path):
    path = tmp_path / "state.db"
    backend = SqliteBackend(path)
    await backend.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(backend.write(Write("/a", b"v")))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    other.execute("ROLLBACK")
    assert isinstance(await waiting, Committed)
    other.close()
    await backend.close()


async def test_open_modes_and_foreign_owners_are_refused(tmp_path: Path):
    path = tmp_path / "state.db"
    await filled(path, 3)
    path.chmod(0o644)
    text = await refusal(path)
    assert "mode 0644" in text and f"chmod 0600 {path}" in text
    path.chmod(0o600)
    tmp_path.chmod(0o777)
    assert f"chmod 0700 {tmp_path}" in await refusal(path)
    tmp_path.chmod(0o700)
    if ROOT:
        os.chown(path, 12345, -1)
        text = await refusal(path)
        assert "belongs to user 12345" in text and f"chown 0 {path}" in text
    assert "does not exist" in await refusal(tmp_path / "missing" / "state.db")


async def test_a_full_disk_refuses_writes_keeps_data_and_recovers(tmp_path: Path):
    path = tmp_path / "state.db"
    backend = SqliteBackend(path, max_bytes=400_000)
    await backend.open()
    written = 0
    with pytest.raises(StoreError, match="is full") as full:
        for i in range(200):
            await backend.write(Write(f"/a/{i}", b"x" * 4000))
            written = i + 1
    assert str(path) in str(full.value) and "nothing was written" in str(full.value)
    assert 50 < written < 150
    page = await backend.range("/a/")
    assert len(page.records) == written and backend.revision == page.revision
    answers = await asyncio.gather(
        *(backend.write(Write(f"/b/{i}", b"x" * 4000)) for i in range(5)), return_exceptions=True
    )
    assert all(isinstance(a, StoreError) for a in answers)
    for i in range(40):
        try:
            await backend.write(Write(f"/a/{i}", None))
        except StoreError:
            break
        await backend.compact(backend.revision)
    assert isinstance(await backend.write(Write("/b/1", b"x" * 4000)), Committed), "space that was freed is used again"
    revision = backend.revision
    await backend.close()
    again = SqliteBackend(path, max_bytes=400_000)
    await again.open()
    assert again.revision == revision
    await again.close()


async def test_a_failing_disk_stops_writing_until_a_restart(tmp_path: Path):
    """After a failed sync nobody knows what is on disk: going on could acknowledge what is not."""

    class Failing:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def execute(self, *arguments):
            raise sqlite3.OperationalError("disk I/O error")

        def close(self) -> None:
            self._connection.close()

    path = tmp_path / "state.db"
    backend = SqliteBackend(path)
    await backend.open()
    await backend.write(Write("/a/1", b"kept"))
    writer = backend._writer
    assert writer is not None
    good = writer._connection
    writer._connection = Failing(good)  # type: ignore[assignment]
    with pytest.raises(StoreError, match=r"I/O error.*until a restart.*check the disk"):
        await backend.write(Write("/a/2", b"v"))
    writer._connection = good
    with pytest.raises(StoreError, match="until a restart"):
        await backend.write(Write("/a/2", b"v"))
    with pytest.raises(StoreError, match="until a restart"):
        await backend.compact(backend.revision)
    record = await backend.get("/a/1")
    assert record is not None and record.value == b"kept", "reads go on"
    await backend.close()
    backend = SqliteBackend(path)
    await backend.open()
    assert isinstance(await backend.write(Write("/a/2", b"v", 0)), Committed)
    await backend.close()


async def test_leases_leave_no_rows_behind(tmp_path: Path):
    path = tmp_path / "state.db"
    backend = SqliteBackend(path)
    await backend.open()
    for _ in range(40):
        await asyncio.gather(
            *(backend.write(Write(f"/l/{i}", b"beat" * 50, None, Durability.EPHEMERAL)) for i in range(25))
        )
    await backend.close()
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT count(*) FROM log").fetchone() == (25,)
    other.close()


async def test_an_interrupted_sweep_is_taken_up_again(tmp_path: Path):
    path = tmp_path / "state.db"
    await filled(path, 30)
    backend = SqliteBackend(path)
    await backend.open()
    for i in range(30):
        await backend.write(Write(f"/a/{i}", b"second"))
    target = backend.revision
    writer = backend._writer
    assert writer is not None
    await writer.call(asyncio.get_running_loop(), lambda c: writer.set_meta(c, "compacted", target))
    await backend.close()  # as if killed right behind the mark
    backend = SqliteBackend(path)
    await backend.open()
    assert backend.compacted == target
    await backend.compact(target)
    await backend.close()
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT count(*) FROM log").fetchone() == (30,)
    other.close()


async def test_a_store_of_format_1_is_brought_up_to_date_and_loses_nothing(tmp_path: Path):
    path = tmp_path / "state.db"
    revision = await filled(path, 5)
    with sqlite3.connect(path) as old:
        old.execute("ALTER TABLE log DROP COLUMN note")
        old.execute("PRAGMA user_version = 1")
    old.close()
    backend = SqliteBackend(path)
    await backend.open()
    assert backend.revision == revision
    assert await backend.get("/a/3") == Record("/a/3", b"3" * 500, revision - 1, revision - 1)
    await backend.write(Write("/a/3", b"new", note=b"who"))
    assert [(v.value, v.note) for v in await backend.history("/a/3")] == [(b"new", b"who"), (b"3" * 500, b"")]
    await backend.close()
