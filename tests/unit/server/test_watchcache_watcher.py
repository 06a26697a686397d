"""Watches that neither lose nor repeat an event, however slow they are and whatever happens meanwhile."""

import asyncio
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.server.watchcache_fixture import POD, Client, Cluster, pod, settle

from portside.api.status import ApiError
from portside.server import watchcache, watchcache_channel
from portside.server.watchcache import ALL, Filter, JsonForm, durability_of
from portside.store.backend import FIRST_REVISION, Write
from portside.store.sqlite import SqliteBackend


@pytest.fixture
async def cluster():
    made = await Cluster().start()
    yield made
    await made.caches.close()
    await made.backend.close()


async def test_entering_and_leaving_a_selector(cluster: Cluster):
    start = cluster.backend.revision
    web = {"labels": lambda have: have.get("app") == "web"}
    live = Client(cluster.pods, where=Filter("default", **web, key="app=web"), after=start)
    every = Client(cluster.pods, where=ALL, after=start)
    await settle()
    await cluster.put("s", labels={"app": "db"})
    await cluster.put("s", labels={"app": "web"})
    await cluster.put("s", labels={"app": "web"}, n=1)
    await cluster.put("s", labels={"app": "db"})
    await cluster.put("s", labels={"app": "db"}, n=2)
    await cluster.put("s", labels={"app": "web"}, n=2)
    end = await cluster.drop("s")
    await cluster.put("s", "other", labels={"app": "web"})
    expected = [("ADDED", "s"), ("MODIFIED", "s"), ("DELETED", "s"), ("ADDED", "s"), ("DELETED", "s")]
    assert [t[:2] for t in live.told] == expected
    left, gone = live.events[2]["object"], live.events[4]["object"]
    assert left["metadata"]["labels"] == {"app": "web"} and left["spec"] == {"n": 1}, "the last state that matched"
    assert left["metadata"]["resourceVersion"] == str(start + 4), "under the revision of the change"
    assert gone["spec"] == {"n": 2} and gone["metadata"]["resourceVersion"] == str(end)
    assert [t[0] for t in every.told] == ["ADDED"] + ["MODIFIED"] * 5 + ["DELETED", "ADDED"]
    late = Client(cluster.pods, where=Filter("default", **web, key="app=web"), after=start)
    await settle()
    assert b"".join(late.raw) == b"".join(live.raw), "history tells the same as the live watch did"


async def test_initial_events_and_the_bookmark_that_closes_them(cluster: Cluster):
    await cluster.put("b", labels={"x": "1"})
    await cluster.put("a")
    at = cluster.backend.revision
    client = Client(cluster.pods, where=Filter("default"), initial_end=True)
    plain = Client(cluster.pods, where=Filter("default"))
    await settle()
    assert [t[:2] for t in client.told] == [("ADDED", "a"), ("ADDED", "b"), ("BOOKMARK", "")]
    assert client.events[2]["object"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"resourceVersion": str(at), "annotations": {"k8s.io/initial-events-end": "true"}},
        "spec": {"containers": None},
        "status": {},
    }
    assert [t[0] for t in plain.told] == ["ADDED", "ADDED"]
    await cluster.drop("a")
    assert client.told[-1][:2] == plain.told[-1][:2] == ("DELETED", "a")


async def test_writes_during_long_initial_events_come_after_them(cluster: Cluster):
    for i in range(40):
        await cluster.put(f"p{i:02}", pad="x" * 50_000)
    client = Client(cluster.pods, initial_end=True)
    await asyncio.sleep(0)
    assert 0 < len(client.events) < 40, "sent in slices, so that others get a turn"
    await cluster.drop("p39")
    await cluster.put("p00", changed=True)
    await cluster.put("new")
    await settle()
    told = client.told
    assert [t[0] for t in told[:41]] == ["ADDED"] * 40 + ["BOOKMARK"]
    assert [t[:2] for t in told[41:]] == [("DELETED", "p39"), ("MODIFIED", "p00"), ("ADDED", "new")]


async def test_revisions_too_old_and_yet_to_come(cluster: Cluster):
    with pytest.raises(ApiError) as old:
        cluster.pods.watch(lambda data: None, lambda error: None, form=POD, after=1)
    assert (old.value.code, old.value.reason) == (410, "Expired")
    assert old.value.message == f"too old resource version: 1 ({FIRST_REVISION})"
    client = Client(cluster.pods, after=cluster.backend.revision + 2)
    await settle()
    for name in "abcd":
        await cluster.put(name)
    await settle()
    assert [t[1] for t in client.told] == ["c", "d"]
    await cluster.put("e")
    assert client.told[-1][1] == "e"
    forever = Client(cluster.pods, after=10**12)
    await settle()
    forever.watch.close()
    assert not cluster.caches._waiting


async def test_waiting_for_a_revision(cluster: Cluster):
    await cluster.pods.wait_for(cluster.backend.revision)
    waiting = asyncio.create_task(cluster.pods.wait_for(cluster.backend.revision + 2, timeout=5))
    await cluster.put("a")
    await settle()
    assert not waiting.done()
    await cluster.put("b")
    await waiting
    with pytest.raises(ApiError) as late:
        await cluster.pods.wait_for(999, timeout=0.01)
    assert (late.value.code, late.value.reason) == (504, "Timeout")
    assert late.value.message == "Timeout: Too large resource version: 999, current: 102"
    assert late.value.details == {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }


async def test_a_slow_watch_pauses_without_loss_and_others_go_on(cluster: Cluster):
    start = cluster.backend.revision
    slow = Client(cluster.pods, after=start)
    fast = Client(cluster.pods, after=start)
    await settle()
    for i in range(30):
        if i % 5 == 1:
            slow.watch.pause()
        if i % 5 == 4:
            slow.watch.resume()
            await settle()
        await cluster.put(f"p{i % 4}", n=i)
    slow.watch.resume()
    await settle()
    assert slow.told == fast.told and len(fast.told) == 30
    slow.on_data = slow.watch.pause  # full after each piece
    await cluster.put("x")
    await cluster.put("y")
    slow.watch.resume()
    await settle()
    assert slow.told == fast.told


async def test_one_sink_may_pause_or_close_another_while_a_batch_is_delivered(cluster: Cluster):
    clients = [Client(cluster.pods, after=cluster.backend.revision) for _ in range(4)]
    await settle()
    clients[0].on_data = lambda: (clients[2].watch.pause(), clients[3].watch.close())  # type: ignore[assignment]
    await cluster.put("a")
    clients[0].on_data = lambda: None
    assert clients[2].raw == clients[3].raw == []
    await cluster.put("b")
    clients[2].watch.resume()
    await settle()
    await cluster.put("c")
    assert clients[2].told == clients[1].told == clients[0].told and len(clients[0].told) == 3
    assert clients[3].raw == [] and clients[3].ended == []


async def test_a_watch_that_fell_too_far_behind_is_ended_with_410(cluster: Cluster):
    history = cluster.pods.history
    history.max_events = 10
    behind = Client(cluster.pods, after=cluster.backend.revision)
    waiting = Client(cluster.pods, after=cluster.backend.revision)
    await settle()
    behind.watch.pause()
    waiting.watch.pause()
    position = cluster.backend.revision
    for i in range(12):
        await cluster.put("p", n=i)
    assert len(history) == 10 and history.floor == position + 2
    behind.watch.resume()
    await settle()
    assert [e.message for e in behind.ended if e] == [f"too old resource version: {position} ({position + 2})"]
    assert behind.raw == []
    cluster.caches._tick()
    assert len(waiting.ended) == 1, "one that never reads again is ended too"
    history.max_bytes = 50_000
    for _ in range(20):
        await cluster.put("big", pad="x" * 10_000)
    assert len(history) <= 3
    stalled = Client(cluster.pods, after=cluster.backend.revision)
    await settle()
    stalled.watch.pause()
    cluster.now += 61
    cluster.caches._tick()
    assert len(stalled.ended) == 1 and not cluster.pods.watchers


async def test_bookmarks_come_about_every_minute_to_those_who_want_them(cluster: Cluster):
    wants = Client(cluster.pods, after=cluster.backend.revision, bookmarks=True)
    plain = Client(cluster.pods, after=cluster.backend.revision)
    await settle()
    await cluster.backend.write(Write("/core/nodes/n", b'{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}'))
    at = cluster.backend.revision
    for _ in range(24):
        cluster.now += 5
        cluster.caches._tick()
    assert wants.told in ([("BOOKMARK", "", at)] * 2, [("BOOKMARK", "", at)] * 3)
    assert "annotations" not in wants.events[0]["object"]["metadata"]
    assert plain.raw == []
    plain.watch.bookmark()
    assert plain.told == [("BOOKMARK", "", at)], "on request"


async def test_an_event_is_encoded_once_for_all_watches_of_a_form(cluster: Cluster):
    class Counting(JsonForm):
        made = 0

        def event(self, kind, obj):
            self.made += 1
            return super().event(kind, obj)

    form = Counting("v1", "Pod")
    after = cluster.backend.revision
    clients = [Client(cluster.pods, form=form, after=after) for _ in range(50)]
    clients += [Client(cluster.pods, form=form, after=after, where=Filter("default")) for _ in range(50)]
    clients += [
        Client(cluster.pods, form=form, after=after, where=Filter("default", labels=lambda have: True, key="all"))
        for _ in range(50)
    ]
    await settle()
    await cluster.put("p")
    await settle()
    assert form.made == 1
    assert len({id(c.raw[0]) for c in clients}) == 1, "and shared"


async def test_many_watches_are_served_in_turns_and_late_ones_get_several_events_at_once(cluster: Cluster):
    clients = [Client(cluster.pods, after=cluster.backend.revision, bookmarks=True) for _ in range(300)]
    await settle()
    for name in "abc":
        await cluster.put(name)
    sent = sum(len(c.raw) for c in clients)
    assert sent < 300, "the writer does not wait for all of them"
    clients[5].watch.pause()
    clients[6].watch.bookmark()
    await settle()
    await cluster.put("d")
    clients[5].watch.resume()
    for _ in range(5):
        await settle()
    names = [[t[1] for t in c.told] for c in clients]
    assert names[6] == ["a", "b", "c", "", "d"], "a bookmark does not overtake events"
    assert all(n == ["a", "b", "c", "d"] for i, n in enumerate(names) if i != 6)
    assert sum(len(c.raw) for c in clients) < 900


async def test_after_a_round_the_loop_belongs_to_others_and_what_comes_meanwhile_goes_out_together(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    due: list[tuple[float, Callable[[], None]]] = []
    monkeypatch.setattr(cluster.caches.fanout, "_call_later", lambda seconds, call: due.append((seconds, call)))
    clients = [Client(cluster.pods, after=cluster.backend.revision) for _ in range(300)]
    await settle()

    def slowly() -> None:
        cluster.now += 0.0001

    for client in clients:
        client.on_data = slowly
    await cluster.put("a")
    while due and due[0][0] == 0:
        due.pop(0)[1]()
    assert {len(c.told) for c in clients} == {1} and not due
    await cluster.put("b")
    await cluster.put("c")
    [(rest, go_on)] = due
    assert rest == pytest.approx(0.03), "the round took 300 times 0.1 ms"
    due.clear()
    go_on()
    while due and due[0][0] == 0:
        due.pop(0)[1]()
    assert {len(c.told) for c in clients} == {3} and {len(c.raw) for c in clients} == {2}


async def test_a_form_may_differ_after_the_first_event(cluster: Cluster):
    class Rows(JsonForm):
        def __init__(self, columns: bool):
            super().__init__("meta.k8s.io/v1", "Table")
            self.columns = columns
            self.key = ("table", columns)
            self.then = Rows(False) if columns else None

        def event(self, kind, obj):
            return b"%d" % self.columns

    await cluster.put("a")
    await cluster.put("b")
    listed = Client(cluster.pods, form=Rows(True))
    live = Client(cluster.pods, form=Rows(True), after=cluster.backend.revision)
    await settle()
    await cluster.put("c")
    await cluster.put("d")
    assert b"".join(listed.raw) == b"1000" and b"".join(live.raw) == b"10"


async def test_a_failing_sink_closes_its_watch_only(cluster: Cluster):
    ended: list[Any] = []

    def broken(data: bytes) -> None:
        raise RuntimeError("gone")

    cluster.pods.watch(broken, ended.append, form=POD, after=cluster.backend.revision).resume()
    other = Client(cluster.pods, after=cluster.backend.revision)
    await settle()
    await cluster.put("p")
    await cluster.put("q")
    assert len(other.told) == 2 and ended == [None]


@pytest.mark.parametrize("at_once", [2, 1000])
@pytest.mark.parametrize("seed", range(4))
async def test_every_watch_ends_up_with_what_a_list_shows(
    cluster: Cluster, seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch
):
    """The oracle of an informer: apply the events in order, compare with the list under the same filter."""
    monkeypatch.setattr(watchcache, "AT_ONCE", at_once)
    monkeypatch.setattr(watchcache_channel, "AT_ONCE", at_once)
    monkeypatch.setattr(watchcache_channel, "PENDING_BYTES", 2_000)
    rng = random.Random(seed)
    choices: list[Filter] = [
        ALL,
        Filter("a"),
        Filter("a", name="p1"),
        Filter(name="p2"),
        Filter(node="n1"),
        Filter("b", node=""),
        Filter(labels=lambda have: have.get("app") == "x", key="app=x", equal=(("app", "x"),)),
        Filter("a", fields=lambda o: o["spec"].get("n", 0) % 3 == 0, key="thirds"),
        Filter("b", node="n2", labels=lambda have: "app" in have, key="app"),
    ]
    clients: list[tuple[Filter, Client]] = []
    for step in range(400):
        if step % 20 == 0:
            for where in choices:
                client = Client(cluster.pods, where=where, initial_end=rng.random() < 0.5)
                clients.append((where, client))
                if rng.random() < 0.2:  # a transport that fills up
                    client.on_data = lambda watch=client.watch: watch.pause() if rng.random() < 0.3 else None
        name, namespace = f"p{rng.randrange(4)}", rng.choice("ab")
        if rng.random() < 0.25 and cluster.pods.get(namespace, name):
            await cluster.drop(name, namespace)
        else:
            await cluster.put(
                name, namespace, labels={"app": rng.choice("xy")}, node=rng.choice(["", "n1", "n2"]), n=rng.randrange(9)
            )
        if rng.random() < 0.3:
            _, client = rng.choice(clients)
            rng.choice([client.watch.pause, client.watch.resume])()
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    for _, client in clients:
        client.on_data = lambda: None
    for _ in range(60):
        for _, client in clients:
            client.watch.resume()
        await settle()
    assert all(client.watch.live for _, client in clients)
    for where, client in clients:
        listed = {f"{o.namespace}/{o.name}": o.view for o in cluster.pods.list(where).objects}
        assert client.state == listed, where
        revisions = [t[2] for t in client.told if t[0] not in ("ADDED", "BOOKMARK")]
        assert revisions == sorted(revisions)


async def test_watches_resume_over_a_restart_of_the_server(tmp_path: Path):
    cluster = Cluster()
    cluster.backend = SqliteBackend(tmp_path / "state.db")
    await cluster.start()
    for i in range(10):
        await cluster.put(f"p{i}")
    lease = Write(
        "/coordination.k8s.io/leases/ns/l", pod("l", "ns"), None, durability_of("coordination.k8s.io", "leases")
    )
    await cluster.backend.write(lease)
    client = Client(cluster.pods, after=FIRST_REVISION + 2)
    await settle()
    seen = cluster.backend.revision
    await cluster.put("p1", n=1)
    await cluster.backend.write(lease)
    await cluster.drop("p2")
    complete = client.told
    after_kill = tmp_path / "after-kill"
    after_kill.mkdir(mode=0o700)
    for name in ("state.db", "state.db-wal"):  # the files as a kill -9 leaves them
        shutil.copy(tmp_path / name, after_kill / name)
    await cluster.caches.close()
    await cluster.backend.close()

    cluster.backend = SqliteBackend(after_kill / "state.db")
    await cluster.start()
    assert len(cluster.pods) == 9
    again = Client(cluster.pods, after=seen)
    before = Client(cluster.pods, after=FIRST_REVISION + 2)
    await settle()
    assert again.told == complete[-2:] and before.told == complete, "without a gap or a repeat"
    leases = cluster.caches.of("coordination.k8s.io", "leases")
    with pytest.raises(ApiError) as gone:
        leases.watch(lambda data: None, lambda error: None, form=POD, after=seen)
    assert gone.value.code == 410, "what an ephemeral object was before is not known: list again"
    await cluster.backend.compact(cluster.backend.revision)
    await cluster.caches.close()
    assert again.ended == [None]
    await cluster.backend.close()
    await cluster.start()
    assert len(cluster.pods) == 9 and [o.name for o in cluster.pods.list(limit=2).objects] == ["p0", "p1"]
    await cluster.backend.close()
