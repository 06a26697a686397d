"""One suite over every store backend: revisions, conditions, history, subscriptions, compaction.

The bug classes come from the field's most trusted store: each of them has a test here or in test_store_crash.py.
"""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from portside.store.backend import (
    FIRST_REVISION,
    Backend,
    Change,
    Committed,
    Compacted,
    Durability,
    FutureRevision,
    Record,
    Refused,
    StoreError,
    Version,
    Write,
)
from portside.store.ciphers import SecretBox
from portside.store.memory import MemoryBackend
from portside.store.seal import Rule, Seal, Slot
from portside.store.sqlite import SqliteBackend

BASE = FIRST_REVISION


SEAL = Seal([Rule(("/",), (Slot(b"key1", SecretBox(bytes(32))),))])


@pytest.fixture(params=["memory", "sqlite", "encrypted"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path):
    seal = SEAL if request.param == "encrypted" else None
    made: Backend = MemoryBackend() if request.param == "memory" else SqliteBackend(tmp_path / "state.db", seal=seal)
    await made.open()
    yield made
    await made.close()


async def put(backend: Backend, key: str, value: bytes, expected: int | None = None, **more) -> int:
    done = await backend.write(Write(key, value, expected, **more))
    assert isinstance(done, Committed), done
    return done.revision


async def drop(backend: Backend, key: str, expected: int | None = None, **more) -> int:
    done = await backend.write(Write(key, None, expected, **more))
    assert isinstance(done, Committed), done
    return done.revision


async def names(backend: Backend, prefix: str, **more) -> list[str]:
    return [r.key for r in (await backend.range(prefix, **more)).records]


async def test_conditions_decide_and_revisions_rise_by_one(backend: Backend):
    assert backend.revision == backend.compacted == BASE
    first = await put(backend, "/a/x", b"1", expected=0)
    assert (first, backend.revision) == (BASE + 1, BASE + 1)
    assert await backend.write(Write("/a/x", b"2", 0)) == Refused(Record("/a/x", b"1", first, first))
    assert await backend.write(Write("/a/x", b"2", first + 7)) == Refused(Record("/a/x", b"1", first, first))
    assert await backend.write(Write("/a/none", b"2", 5)) == Refused(None)
    assert await backend.write(Write("/a/none", None)) == Refused(None)
    assert backend.revision == first, "a refused write takes no revision"
    second = await backend.write(Write("/a/x", b"2", first))
    assert second == Committed(first + 1, first)
    assert await backend.get("/a/x") == Record("/a/x", b"2", first + 1, first)
    assert await drop(backend, "/a/x", expected=first + 1) == first + 2
    assert await backend.get("/a/x") is None
    again = await put(backend, "/a/x", b"3", expected=0)
    assert await backend.get("/a/x") == Record("/a/x", b"3", again, again), "a new life has a new creation"


async def test_one_of_many_concurrent_writers_wins(backend: Backend):
    start = await put(backend, "/a/x", b"0")
    answers = await asyncio.gather(*(backend.write(Write("/a/x", b"%d" % i, start)) for i in range(50)))
    won = [a for a in answers if isinstance(a, Committed)]
    assert len(won) == 1 and won[0].revision == start + 1
    creates = await asyncio.gather(*(backend.write(Write("/a/new", b"%d" % i, 0)) for i in range(50)))
    assert sum(isinstance(a, Committed) for a in creates) == 1
    refused = next(a for a in creates if isinstance(a, Refused))
    assert refused.current is not None and refused.current.value == b"0", "the refusal shows what stands there"


async def test_history_reads_at_every_revision_match_a_replay(backend: Backend):
    rng = random.Random(7)
    state: dict[str, Record] = {}
    states = {backend.revision: dict(state)}
    for step in range(150):
        key = f"/g/things/{rng.choice('ab')}{rng.choice(['', '-x'])}/{rng.randrange(5)}"
        if key in state and rng.random() < 0.3:
            await drop(backend, key)
            del state[key]
        else:
            value = b"v%d" % step
            revision = await put(backend, key, value)
            created = state[key].created if key in state else revision
            state[key] = Record(key, value, revision, created)
        states[backend.revision] = dict(state)
    for revision, expected in states.items():
        page = await backend.range("/g/things/", revision=revision)
        assert list(page.records) == [expected[k] for k in sorted(expected)] and page.revision == revision
        part = await backend.range("/g/things/a/", revision=revision)
        assert [r.key for r in part.records] == [k for k in sorted(expected) if k.startswith("/g/things/a/")]
        assert await backend.get("/g/things/a/1", revision=revision) == expected.get("/g/things/a/1")


async def test_chunks_of_one_revision_ignore_later_writes(backend: Backend):
    for i in range(10):
        await put(backend, f"/core/pods/default/p{i}", b"%d" % i)
    await put(backend, "/core/podsx/default/z", b"other resource")
    at = backend.revision
    first = await backend.range("/core/pods/", limit=4)
    assert [r.value for r in first.records] == [b"0", b"1", b"2", b"3"]
    assert (first.revision, first.more) == (at, True)
    await drop(backend, "/core/pods/default/p5")
    await put(backend, "/core/pods/default/p45", b"new")
    await put(backend, "/core/pods/default/p6", b"changed")
    second = await backend.range("/core/pods/", revision=at, after=first.records[-1].key, limit=4)
    assert [r.value for r in second.records] == [b"4", b"5", b"6", b"7"] and second.more
    last = await backend.range("/core/pods/", revision=at, after=second.records[-1].key, limit=4)
    assert [r.value for r in last.records] == [b"8", b"9"] and not last.more
    exact = await backend.range("/core/pods/", revision=at, limit=10)
    assert not exact.more and len(exact.records) == 10


async def test_a_sink_hears_of_a_write_before_the_writer_does(backend: Backend):
    seen: list[Change] = []
    await backend.subscribe("/", seen.extend, after=backend.revision)

    async def writer(i: int):
        revision = await put(backend, f"/a/{i}", b"v")
        assert seen[-1].revision >= revision and any(c.revision == revision for c in seen)
        assert await backend.get(f"/a/{i}") is not None, "a read after an acknowledged write sees it"

    await asyncio.gather(*(writer(i) for i in range(40)))
    assert [c.revision for c in seen] == list(range(BASE + 1, BASE + 41))


async def test_subscriptions_from_the_past_see_everything_once_in_order(backend: Backend):
    """A watch must not travel back in time, repeat or skip, however it races with writers."""
    stop = False

    async def writer(i: int):
        n = 0
        while not stop:
            key = f"/a/{i}/{n % 7}"
            await backend.write(Write(key, None if n % 11 == 3 else b"%d" % n))
            n += 1
            await asyncio.sleep(0)

    writers = [asyncio.create_task(writer(i)) for i in range(6)]
    logs: list[tuple[int, list[Change]]] = []
    for _ in range(20):
        await asyncio.sleep(0.005)
        after = random.Random(len(logs)).randint(BASE, backend.revision)
        log: list[Change] = []
        await backend.subscribe("/", log.extend, after=after)
        logs.append((after, log))
    stop = True
    await asyncio.gather(*writers)
    for after, log in logs:
        assert [c.revision for c in log] == list(range(after + 1, backend.revision + 1))


async def test_a_subscription_is_limited_to_its_prefix_and_ends_when_closed(backend: Backend):
    seen: list[Change] = []
    await put(backend, "/a/1", b"old")
    subscription = await backend.subscribe("/a/", seen.extend, after=BASE)
    await put(backend, "/b/1", b"other")
    revision = await drop(backend, "/a/1")
    assert seen == [Change("/a/1", b"old", BASE + 1, BASE + 1), Change("/a/1", None, revision, BASE + 1)]
    subscription.close()
    await put(backend, "/a/1", b"unseen")
    assert len(seen) == 2


async def test_a_broken_sink_disturbs_neither_writers_nor_others(backend: Backend):
    def broken(changes):
        raise RuntimeError("boom")

    seen: list[Change] = []
    await backend.subscribe("/", broken, after=backend.revision)
    await backend.subscribe("/", seen.extend, after=backend.revision)
    await put(backend, "/a/1", b"v")
    assert len(seen) == 1


async def test_a_subscription_on_a_future_revision_waits_for_it(backend: Backend):
    seen: list[Change] = []
    await backend.subscribe("/", seen.extend, after=BASE + 3)
    for i in range(3):
        await put(backend, f"/a/{i}", b"v")
    assert seen == []
    await put(backend, "/a/3", b"v")
    assert [c.revision for c in seen] == [BASE + 4]


async def test_ephemeral_keys_keep_their_latest_version_only(backend: Backend):
    beat = {"durability": Durability.EPHEMERAL}
    first = await put(backend, "/l/node", b"0", **beat)
    for i in range(1, 20):
        await put(backend, "/l/node", b"%d" % i, **beat)
    last = backend.revision
    assert await backend.get("/l/node") == Record("/l/node", b"19", last, first)
    seen: list[Change] = []
    await backend.subscribe("/", seen.extend, after=BASE)
    assert seen == [Change("/l/node", b"19", last, first)]
    gone = await drop(backend, "/l/node", **beat)
    late: list[Change] = []
    await backend.subscribe("/", late.extend, after=last)
    assert late == seen[1:] == [Change("/l/node", None, gone, first)], "a late watch still hears of the deletion"
    assert await put(backend, "/l/node", b"back", expected=0, **beat) == gone + 1


async def test_compaction_keeps_what_is_current_and_refuses_what_is_gone(backend: Backend):
    await put(backend, "/a/kept", b"1")
    await put(backend, "/a/changed", b"1")
    await put(backend, "/a/deleted", b"1")
    await put(backend, "/a/changed", b"2")
    await drop(backend, "/a/deleted")
    at = backend.revision
    late = await drop(backend, "/a/kept")
    await put(backend, "/a/changed", b"3")
    await backend.compact(at)
    assert backend.compacted == at
    page = await backend.range("/a/", revision=at)
    assert [(r.key, r.value) for r in page.records] == [("/a/changed", b"2"), ("/a/kept", b"1")]
    assert await names(backend, "/a/") == ["/a/changed"]
    for refused in (backend.range("/a/", revision=at - 1), backend.get("/a/kept", revision=at - 1)):
        with pytest.raises(Compacted) as gone:
            await refused
        assert gone.value.revision == at
    with pytest.raises(Compacted):
        await backend.subscribe("/", lambda changes: None, after=at - 1)
    seen: list[Change] = []
    await backend.subscribe("/", seen.extend, after=at)
    assert [(c.key, c.value, c.revision) for c in seen] == [("/a/kept", None, late), ("/a/changed", b"3", late + 1)], (
        "a watch from the compacted revision must not lose the delete behind it"
    )
    await backend.compact(at - 2)
    assert backend.compacted == at, "compacting to the past does nothing"


async def test_what_lies_ahead_is_refused(backend: Backend):
    for ask in (
        backend.get("/a", revision=BASE + 1),
        backend.range("/a", revision=BASE + 1),
        backend.compact(BASE + 1),
    ):
        with pytest.raises(FutureRevision):
            await ask


async def test_compaction_under_load_neither_blocks_nor_breaks_anything(backend: Backend):
    """No "database is locked", no lost event, no wrong read, while writers, readers and compaction run together."""
    stop = False
    during = 0
    seen: list[Change] = []
    await backend.subscribe("/", seen.extend, after=backend.revision)

    async def writer(i: int):
        nonlocal during
        n = 0
        while not stop:
            await put(backend, f"/a/{i}/{n % 50}", b"%d" % n)
            during += compacting
            n += 1
            await asyncio.sleep(0)

    async def reader():
        while not stop:
            page = await backend.range("/a/", limit=20)
            for record in page.records:
                assert record.revision <= page.revision
            await asyncio.sleep(0.002)

    compacting = False
    tasks = [asyncio.create_task(writer(i)) for i in range(8)] + [asyncio.create_task(reader())]
    for _ in range(8):
        await asyncio.sleep(0.05)
        compacting = True
        target = backend.revision - 5
        await backend.compact(target)
        compacting = False
        page = await backend.range("/a/", revision=backend.revision)
        assert page.records
    stop = True
    await asyncio.gather(*tasks)
    assert during > 0, "writers went on while history was dropped"
    assert [c.revision for c in seen] == list(range(BASE + 1, backend.revision + 1))
    expected = {c.key: c for c in seen}
    page = await backend.range("/a/")
    assert {r.key: (r.value, r.revision) for r in page.records} == {
        k: (c.value, c.revision) for k, c in expected.items()
    }


async def test_writers_may_go_away_while_they_wait(backend: Backend):
    tasks = [asyncio.create_task(backend.write(Write(f"/a/{i}", b"v"))) for i in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await put(backend, "/a/after", b"v")
    assert all(t.cancelled() or isinstance(t.result(), Committed) for t in tasks)


async def test_a_closed_store_says_so(backend: Backend):
    await put(backend, "/a", b"v")
    await backend.close()
    attempts: list[Callable] = [lambda: backend.write(Write("/b", b"v")), lambda: backend.get("/a")]
    for attempt in attempts:
        with pytest.raises(StoreError, match="closed"):
            await attempt()


async def test_keys_sort_by_bytes_and_awkward_names_stay_apart(backend: Backend):
    keys = ["/g/r/a/x", "/g/r/a-b/x", "/g/r/a0/x", "/g/r/é/x", "/g/r/%/x", "/g/r/_/x", "/g/r/\U0001f600/x"]
    for key in keys:
        await put(backend, key, key.encode())
    assert await names(backend, "/g/r/") == sorted(keys, key=str.encode)
    assert await names(backend, "/g/r/a/") == ["/g/r/a/x"]
    assert await names(backend, "/g/r/%/") == ["/g/r/%/x"]
    big = bytes(range(256)) * 6000
    await put(backend, "/g/big", big)
    record = await backend.get("/g/big")
    assert record is not None and record.value == big


async def test_history_tells_every_write_with_its_note_until_it_is_compacted(backend: Backend):
    first = await put(backend, "/a/x", b"1", note=b"ann")
    second = await put(backend, "/a/x", b"2")
    third = await drop(backend, "/a/x", note=b"bob")
    fourth = await put(backend, "/a/x", b"4", note=b"eve")
    await put(backend, "/a/xy", b"other")
    assert list(await backend.history("/a/x")) == [
        Version(fourth, b"4", fourth, b"eve"),
        Version(third, None, first, b"bob"),
        Version(second, b"2", first, b""),
        Version(first, b"1", first, b"ann"),
    ]
    assert [v.revision for v in await backend.history("/a/x", limit=2)] == [fourth, third]
    await backend.compact(third)
    assert [v.revision for v in await backend.history("/a/x")] == [fourth]
    assert list(await backend.history("/a/none")) == []
    await put(backend, "/e/x", b"1", durability=Durability.EPHEMERAL)
    last = await put(backend, "/e/x", b"2", durability=Durability.EPHEMERAL)
    assert [v.revision for v in await backend.history("/e/x")] == [last]
