"""Bringing what is stored into another form: all versions, in place, and nothing of the old form is left in the file."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from portside.store import reseal as module
from portside.store.backend import Change, Durability, Unreadable, Write
from portside.store.ciphers import AesCbc, AesGcm, SecretBox
from portside.store.seal import PLAIN, Rule, Seal, Slot
from portside.store.sqlite import SqliteBackend

ONE, TWO = Slot(b"one", SecretBox(bytes(32))), Slot(b"two", AesGcm(bytes(32)))


def seal(*slots: Slot) -> Seal:
    return Seal([Rule(("/core/secrets/",), slots)], repr([s.name for s in slots]).encode())


async def made(folder: Path, given: Seal | None = None) -> SqliteBackend:
    folder.chmod(0o700)
    backend = SqliteBackend(folder / "state.db", seal=given)
    await backend.open()
    return backend


async def fill(backend: SqliteBackend, rounds: int = 3) -> None:
    for i in range(rounds):
        for name in ("a", "b", "large"):
            value = b'{"v":"hunter2-%d"}' % i * (2_000 if name == "large" else 1)
            await backend.write(Write(f"/core/secrets/default/{name}", value))
        await backend.write(Write("/core/pods/default/p", b'{"pod":1}'))


def bytes_of(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in folder.iterdir() if p.name.startswith("state.db"))


async def test_turning_encryption_on_leaves_no_plain_byte_in_file_or_log(tmp_path: Path) -> None:
    backend = await made(tmp_path)
    await fill(backend)
    await backend.compact(backend.revision - 4)  # its rows are free space now, still full of plain bytes
    assert b"hunter2" in bytes_of(tmp_path) and not await backend.has_sealed()
    await backend.use(seal(ONE, PLAIN))
    assert (await backend.get("/core/secrets/default/a")).value == b'{"v":"hunter2-2"}', "stale plain data is readable"
    before = backend.revision
    done = await backend.reseal()
    assert done.changed > 3 and not done.unreadable
    assert b"hunter2" not in bytes_of(tmp_path)
    assert b'{"pod":1}' in bytes_of(tmp_path), "other kinds are as they were"
    assert backend.revision == before and await backend.has_sealed()
    assert (await backend.get("/core/secrets/default/large")).value == b'{"v":"hunter2-2"}' * 2_000
    assert await backend.reseal() == (0, 0), "a second time nothing is left to do"
    await backend.close()


async def test_after_another_key_nothing_has_the_old_one_and_earlier_versions_are_readable(tmp_path: Path) -> None:
    backend = await made(tmp_path, seal(ONE))
    await fill(backend)
    middle = backend.revision - 4
    await backend.use(seal(TWO, ONE))
    assert (await backend.reseal()).changed == 9
    await backend.use(seal(TWO))
    assert await backend.reseal() == (0, 0)
    assert b":one:" not in bytes_of(tmp_path)
    assert (await backend.get("/core/secrets/default/a", revision=middle)).value == b'{"v":"hunter2-1"}'
    assert [v.value for v in await backend.history("/core/secrets/default/b")] == [
        b'{"v":"hunter2-%d"}' % i for i in (2, 1, 0)
    ]
    seen: list[Change] = []
    await backend.subscribe("/core/secrets/", seen.extend, after=backend.compacted)
    assert len(seen) == 9 and not any(isinstance(c.value, Unreadable) for c in seen)
    await backend.close()


async def test_an_end_in_the_middle_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = await made(tmp_path, seal(ONE))
    await fill(backend, 20)
    monkeypatch.setattr(module, "REPLACE_ROWS", 7)
    replace, steps = module._replace, []

    def breaks(connection, rows) -> None:
        if len(steps) == 3:
            raise OSError("the machine is gone")
        steps.append(len(rows))
        replace(connection, rows)

    monkeypatch.setattr(module, "_replace", breaks)
    await backend.use(seal(TWO, ONE))
    with pytest.raises(OSError):
        await backend.reseal()
    assert steps == [7, 7, 7]
    await backend.close()
    monkeypatch.setattr(module, "_replace", replace)
    backend = await made(tmp_path, seal(TWO, ONE))
    assert (await backend.reseal()).changed == 60 - 21
    assert b":one:" not in bytes_of(tmp_path)
    await backend.close()


async def test_an_end_between_the_last_value_and_the_rewriting_leaves_no_byte_of_the_old_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = await made(tmp_path, seal(ONE))
    await fill(backend)
    left = tmp_path / "left"
    left.mkdir()

    def ends(connection: sqlite3.Connection) -> None:
        for file in tmp_path.glob("state.db*"):
            shutil.copy(file, left)  # as a machine that fails now leaves it
        raise OSError("the machine is gone")

    rewrite = module._rewrite
    monkeypatch.setattr(module, "_rewrite", ends)
    await backend.use(seal(TWO, ONE))
    with pytest.raises(OSError):
        await backend.reseal()
    await backend.close()
    monkeypatch.setattr(module, "_rewrite", rewrite)
    backend = await made(left, seal(TWO, ONE))
    assert b":one:" in bytes_of(left)
    assert await backend.reseal() == (0, 0), "every value was replaced before"
    assert b":one:" not in bytes_of(left)
    await backend.close()


async def test_what_no_key_opens_is_counted_left_alone_and_opens_when_its_key_is_back(tmp_path: Path) -> None:
    backend = await made(tmp_path, seal(ONE))
    await fill(backend, 1)
    await backend.close()
    backend = await made(tmp_path, seal(TWO))
    await backend.write(Write("/core/secrets/default/new", b"{}"))
    assert await backend.reseal() == (0, 3)
    held = (await backend.get("/core/secrets/default/a")).value
    assert isinstance(held, Unreadable) and held.startswith(b"k8s:enc:secretbox:v2:one:")
    page = await backend.range("/core/secrets/")
    assert [isinstance(r.value, Unreadable) for r in page.records] == [True, True, True, False]
    await backend.use(seal(TWO, ONE))
    assert await backend.reseal() == (3, 0)
    assert (await backend.get("/core/secrets/default/a")).value == b'{"v":"hunter2-0"}'
    await backend.close()


async def test_identity_first_makes_everything_plain_again_even_of_kinds_no_longer_listed(tmp_path: Path) -> None:
    backend = await made(tmp_path, seal(ONE))
    await fill(backend, 1)
    await backend.use(seal(PLAIN, ONE))
    assert (await backend.reseal()).changed == 3 and not await backend.has_sealed()
    await backend.use(seal(ONE))
    assert await backend.reseal() == (0, 3), "without identity what is plain is refused"
    await backend.use(seal(ONE, PLAIN))
    assert await backend.reseal() == (3, 0)
    elsewhere = Seal([Rule(("/core/configmaps/",), (ONE,))], b"elsewhere")
    await backend.use(elsewhere)
    assert await backend.reseal() == (3, 0) and not await backend.has_sealed()
    await backend.close()


async def test_ephemeral_objects_are_encrypted_too(tmp_path: Path) -> None:
    rules = Seal([Rule(("/",), (Slot(b"k", AesCbc(bytes(16))),))], b"all")
    backend = await made(tmp_path, rules)
    for i in range(3):
        await backend.write(Write("/core/events/default/e", b'{"n":"hunter2-%d"}' % i, durability=Durability.EPHEMERAL))
    assert (await backend.get("/core/events/default/e")).value == b'{"n":"hunter2-2"}'
    assert b"hunter2" not in bytes_of(tmp_path)
    await backend.close()
