"""The watch cache read once: bytes ready to send, selections, and pages of one moment."""

import asyncio
import random
from typing import Any

import orjson
import pytest
from tests.unit.server.watchcache_fixture import Cluster, pod

from portside.api.status import ApiError
from portside.server import watchcache, watchcache_index, watchcache_page
from portside.server.watchcache import ALL, Filter, durability_of, join_full, join_items, pieces, splice
from portside.store.backend import Compacted, Write


@pytest.fixture
async def cluster():
    made = await Cluster().start()
    yield made
    await made.caches.close()
    await made.backend.close()


async def test_objects_are_bytes_ready_to_send(cluster: Cluster):
    first = await cluster.put("web", labels={"app": "web"})
    obj = cluster.pods.get("default", "web")
    assert obj is not None
    sent = orjson.loads(obj.full)
    assert sent == orjson.loads(splice(pod("web", labels={"app": "web"}), first)) == obj.view
    assert sent["metadata"]["resourceVersion"] == str(first) and list(sent) == [
        "apiVersion",
        "kind",
        "metadata",
        "spec",
    ]
    assert (obj.name, obj.namespace, dict(obj.labels), obj.node) == ("web", "default", {"app": "web"}, "")
    await cluster.put("api", node="n1")
    page = cluster.pods.list(Filter("default"))
    items = orjson.loads(b"[" + join_items(page.objects) + b"]")
    assert [i["metadata"]["name"] for i in items] == ["api", "web"] and "kind" not in items[0]
    assert [i["kind"] for i in orjson.loads(b"[" + join_full(page.objects) + b"]")] == ["Pod", "Pod"]
    assert (page.revision, page.next, page.remaining) == (first + 1, "", 0)
    assert b"".join(pieces([], join_items)) == b"".join(pieces([], join_full)) == b"[]"
    assert splice(b'{"apiVersion":"v1","kind":"X","metadata":{}}', 7) == (
        b'{"apiVersion":"v1","kind":"X","metadata":{"resourceVersion":"7"}}'
    )
    await cluster.drop("web")
    assert cluster.pods.get("default", "web") is None and len(cluster.pods) == 1
    await cluster.backend.write(Write("/core/nodes/n1", b'{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"}}'))
    node = cluster.caches.of("", "nodes").get("", "n1")
    assert node is not None and (node.namespace, node.name) == ("", "n1")


@pytest.mark.parametrize(
    ("meta", "labels"),
    [
        ({"name": "p"}, {}),
        ({"name": "p", "labels": {}}, {}),
        ({"name": "p", "labels": {"a": "1", "b/c": ""}}, {"a": "1", "b/c": ""}),
        ({"labels": {"a": "}"}, "name": "p"}, {"a": "}"}),
        ({"annotations": {"labels": "{", "k": '"labels":{"x":"y"}'}, "labels": {"a": "1"}, "name": "p"}, {"a": "1"}),
        ({"name": "p", "managedFields": [{"fieldsV1": {"labels": {"x": "y"}}}], "labels": {"a": "1"}}, {"a": "1"}),
        ({"name": "p", "managedFields": [{"fieldsV1": {"labels": {"x": "y"}}}]}, {}),
    ],
)
async def test_labels_and_node_are_those_of_the_object_alone(cluster: Cluster, meta: dict, labels: dict):
    spec = {"template": {"metadata": {"labels": {"no": "no"}}}, "nodeSelector": {"nodeName": "no"}, "nodeName": "n1"}
    value = orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    await cluster.backend.write(Write("/core/pods/default/p", value))
    obj = cluster.pods.get("default", "p")
    assert obj is not None and dict(obj.labels) == labels and obj.node == "n1"


async def test_a_value_in_another_order_is_put_right(cluster: Cluster):
    value = (
        b'{"spec":{"metadata":{"x":1}},"kind":"Pod","metadata":{"resourceVersion":"3","name":"p"},"apiVersion":"v1"}'
    )
    revision = await cluster.backend.write(Write("/core/pods/default/p", value))
    obj = cluster.pods.get("default", "p")
    assert obj is not None and obj.full == (
        b'{"apiVersion":"v1","kind":"Pod","metadata":{"resourceVersion":"%d","name":"p"},"spec":{"metadata":{"x":1}}}'
        % revision.revision
    )


async def test_lists_select_by_place_name_node_labels_and_fields(cluster: Cluster):
    rng = random.Random(3)
    for i in range(60):
        labels = {"app": rng.choice("ab"), "tier": rng.choice("xy")} if i % 7 else None
        await cluster.put(f"p{i}", rng.choice(["a", "a-b", "b"]), labels=labels, node=rng.choice(["", "n1", "n2"]), n=i)
    filters = [
        Filter(namespace=ns, name=name, node=node, equal=equal, labels=labels, fields=fields)
        for ns in ("", "a", "a-b", "none")
        for name in ("", "p5", "p77")
        for node in (None, "", "n1", "n9")
        for equal, labels in (
            ((), None),
            ((("app", "a"),), lambda have: have.get("app") == "a"),
            ((("app", "a"), ("tier", "x")), lambda have: have.get("app") == "a" and have.get("tier") == "x"),
            ((), lambda have: "app" not in have),
        )
        for fields in (None, lambda o: o["spec"]["n"] % 2 == 0)
    ]
    for round_ in range(2):  # the second time with indexes that followed changes
        everything = cluster.pods.list().objects
        for where in filters:
            expected = [o.key for o in everything if where.matches(o)]
            assert [o.key for o in cluster.pods.list(where).objects] == expected
            pages: list[str] = []
            page = cluster.pods.list(where, limit=4)
            while True:
                pages += [o.key for o in page.objects]
                assert len(page.objects) <= 4
                if not page.next:
                    break
                page = cluster.pods.list(where, limit=4, start=page.next)
            assert pages == expected
        if round_ == 0:
            for i in range(0, 60, 3):
                await cluster.put(f"p{i}", "a", labels={"app": "a", "tier": rng.choice("xy")}, node="n1", n=i)
            await cluster.drop("p3", "a")


async def test_later_pages_show_the_state_of_the_first(cluster: Cluster):
    for i in range(9):
        await cluster.put(f"p{i}")
    first = cluster.pods.list(Filter("default"), limit=4)
    assert (first.remaining, first.next) == (5, "p3\0")
    await cluster.drop("p5")
    await cluster.put("p45")
    await cluster.put("p6", labels={"new": "y"})
    second = await cluster.pods.list_at(Filter("default"), revision=first.revision, limit=4, start=first.next)
    assert [o.name for o in second.objects] == ["p4", "p5", "p6", "p7"] and second.remaining == 1
    assert second.revision == first.revision and not second.objects[2].labels
    for i in range(40):  # the kept states are few: the store has the older ones
        await cluster.put("p0", n=i)
        cluster.pods.list(limit=2)
    again = await cluster.pods.list_at(Filter("default"), revision=first.revision, limit=4, start=first.next)
    assert [o.full for o in again.objects] == [o.full for o in second.objects]
    await cluster.backend.compact(cluster.backend.revision)
    with pytest.raises(Compacted):
        await cluster.pods.list_at(Filter("default"), revision=first.revision, limit=4, start=first.next)
    with pytest.raises(ApiError) as ahead:
        await cluster.pods.list_at(ALL, revision=cluster.backend.revision + 1)
    assert ahead.value.code == 504


async def test_pages_of_ephemeral_resources_are_consistent_or_refused(cluster: Cluster):
    leases = cluster.caches.of("coordination.k8s.io", "leases")

    async def beat(name: str) -> None:
        value = orjson.dumps({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}})
        durability = durability_of("coordination.k8s.io", "leases")
        await cluster.backend.write(Write(f"/coordination.k8s.io/leases/ns/{name}", value, None, durability))

    for name in "abcd":
        await beat(name)
    first = leases.list(limit=2)
    await beat("c")
    second = await leases.list_at(ALL, revision=first.revision, limit=2, start=first.next)
    assert [(o.name, o.revision) for o in second.objects] == [("c", first.revision - 1), ("d", first.revision)]
    with pytest.raises(Compacted):
        await leases.list_at(ALL, revision=first.revision - 1)


async def test_a_list_is_made_in_pieces_that_make_up_the_whole(cluster: Cluster):
    for i in range(1000):
        await cluster.put(f"p{i:04}", labels={"pad": "x" * 500})
    objects = cluster.pods.list().objects
    made = [*pieces(objects, join_items)]
    assert len(made) > 3 and max(map(len, made)) < 200_000
    assert b"".join(made) == b"[" + join_items(objects) + b"]"
    assert [i["metadata"]["name"] for i in orjson.loads(b"".join(made))] == [f"p{i:04}" for i in range(1000)]


@pytest.mark.parametrize("seed", range(3))
async def test_a_search_in_turns_finds_the_state_it_began_with(
    cluster: Cluster, seed: int, monkeypatch: pytest.MonkeyPatch
):
    """Writes go on while it looks; the oracle is the list at that moment, made in one go."""
    for module in (watchcache, watchcache_index):
        monkeypatch.setattr(module, "FEW_CHOSEN", 10)
    monkeypatch.setattr(watchcache, "FEW", 10)
    monkeypatch.setattr(watchcache_page, "SLICE", 7)
    monkeypatch.setattr(watchcache_index, "SLICE", 7)
    for module in (watchcache_page, watchcache_index):
        monkeypatch.setattr(module, "SLICE_PARSED", 3)
    rng = random.Random(seed)
    choices: list[Filter] = [
        ALL,
        Filter("a"),
        Filter(node="n1"),
        Filter("a", node=""),
        Filter(labels=lambda have: have.get("app") == "x", key="app=x", equal=(("app", "x"),)),
        Filter("b", labels=lambda have: have.get("app") != "x", key="app!=x"),
        Filter(fields=lambda o: o["spec"].get("n", 0) % 3 == 0, key="thirds"),
    ]

    async def write() -> None:
        name, namespace = f"p{rng.randrange(60):02}", rng.choice("ab")
        if rng.random() < 0.3 and cluster.pods.get(namespace, name):
            await cluster.drop(name, namespace)
        else:
            labels = {"app": rng.choice("xy")} if rng.random() < 0.8 else {}
            await cluster.put(name, namespace, labels=labels, node=rng.choice(["", "n1"]), n=rng.randrange(9))

    async def writes() -> None:
        while True:
            await write()
            await asyncio.sleep(0)

    for _ in range(200):
        await write()
    writing = asyncio.create_task(writes())
    states: dict[int, dict[Filter, list[tuple[str, int]]]] = {}

    def seen(found: Any) -> list[tuple[str, int]]:
        return [(o.key, o.revision) for o in found]

    def remember(*_: Any) -> None:
        everything = [cluster.pods.at(key) for key in sorted(cluster.pods._objects)]
        now = cluster.caches.backend.revision
        states[now] = {w: seen(o for o in everything if o and w.matches(o)) for w in choices}

    cluster.caches.follow(remember)
    remember()
    for _ in range(40):
        where = rng.choice(choices)
        limit = rng.choice([0, 5])
        page = await cluster.pods.find(where, limit=limit)
        whole = states[page.revision][where]
        assert seen(page.objects) == (whole[:limit] if limit else whole)
        while page.next:
            page = await cluster.pods.list_at(where, revision=page.revision, limit=limit, start=page.next)
            expected = [entry for entry in whole if entry not in whole[:limit]]
            assert all(entry in expected for entry in seen(page.objects))
        await asyncio.sleep(0)
    writing.cancel()
