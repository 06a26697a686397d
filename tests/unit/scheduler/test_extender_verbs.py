"""Extenders that choose victims or bind pods themselves, resources that only they look at, and what ``what-if`` says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.extender_server import ExtenderServer, leaving
from tests.unit.scheduler.conftest import PODS, bound, pod, scheduled, until
from tests.unit.scheduler.test_extenders import GPU, THREE, event, told, wants_gpu

from portside.cli.whatif import show
from portside.scheduler.configuration import configuration
from portside.scheduler.extender_config import Extender
from portside.scheduler.whatif import World

Json = dict[str, Any]
CLASSES = ("scheduling.k8s.io", "v1", "priorityclasses")
HEAD = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}


async def urgent(client: Any) -> None:
    body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"}}
    await client.create(CLASSES, body | {"value": 1000})


def large(name: str, **spec: Any) -> Json:
    """A pod that takes a whole node."""
    made = pod(name, terminationGracePeriodSeconds=0, **spec)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "4"}}
    return made


async def filled(client: Any, count: int) -> dict[str, tuple[str, str]]:
    """A large pod on each node, put there by the scheduler itself: name and uid by node."""
    found = {}
    for i in range(count):
        await client.create(PODS, large(f"low{i}"), namespace="default")
        made = await bound(client, f"low{i}")
        found[made["spec"]["nodeName"]] = f"low{i}", made["metadata"]["uid"]
    await urgent(client)
    return found


async def there(client: Any) -> set[str]:
    return {p["metadata"]["name"] for p in (await client.list(PODS, namespace="default")).items}


# Preemption


@pytest.mark.parametrize("cached", [True, False])
async def test_an_extender_chooses_among_the_nodes_whose_pods_could_be_evicted(tmp_path: Path, cached: bool) -> None:
    low: dict[str, tuple[str, str]] = {}

    def only_b(args: Json) -> Json:
        return {"NodeNameToMetaVictims": {"b": {"Pods": [{"UID": low["b"][1]}], "NumPDBViolations": 0}}}

    with ExtenderServer(preempt=only_b) as server:
        extender = Extender(server.url, preempt_verb="preempt", cache_capable=cached)
        async with scheduled(tmp_path, THREE, extenders=(extender,)) as client:
            low |= await filled(client, 3)
            await client.create(PODS, large("p", priorityClassName="urgent"), namespace="default")
            assert (await bound(client, "p"))["spec"]["nodeName"] == "b"
            assert await there(client) == {"p", low["a"][0], low["c"][0]}
    args = server.calls("preempt")[0]
    assert args["Pod"]["metadata"]["name"] == "p"
    asked = args["NodeNameToMetaVictims"] if cached else args["NodeNameToVictims"]
    assert (args["NodeNameToVictims"] is None) is cached and (args["NodeNameToMetaVictims"] is None) is not cached
    for node, entry in asked.items():
        (one,) = entry["Pods"]
        assert entry["NumPDBViolations"] == 0
        assert (one["UID"] if cached else one["metadata"]["uid"]) == low[node][1]
    assert set(asked) == set(THREE)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"NodeNameToMetaVictims": {}}, "no candidate node for preemption"),
        (500, "failed preempt with extender at URL {url}/preempt, code 500"),
        ({"NodeNameToMetaVictims": {"a": None}}, 'expected at least one victim pod on node "a"'),
        ({"NodeNameToMetaVictims": {"x": {"Pods": [{"UID": "u"}]}}}, 'nodeinfo not found for node name "x"'),
        (
            {"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "u"}]}}},
            "extender: {url} claims to preempt pod (UID: u) on node: a, but the pod is not found on that node",
        ),
    ],
)
async def test_nobody_is_evicted_when_the_extender_does_not_agree(tmp_path: Path, answer: Any, why: str) -> None:
    with ExtenderServer(preempt=answer) as server:
        extender = Extender(server.url, preempt_verb="preempt", cache_capable=True)
        async with scheduled(tmp_path, ("a",), extenders=(extender,)) as client:
            await filled(client, 1)
            await client.create(PODS, large("p", priorityClassName="urgent"), namespace="default")
            text = f"0/1 nodes are available: 1 Insufficient cpu. preemption: {why.format(url=server.url)}"
            assert await told(client, "p") == text
            assert await there(client) == {"p", "low0"}


@pytest.mark.parametrize("answer", [500, {"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "u"}]}}}])
async def test_an_ignorable_extender_that_fails_leaves_the_choice_as_it_was(tmp_path: Path, answer: Any) -> None:
    with ExtenderServer(preempt=answer) as server:
        extender = Extender(server.url, preempt_verb="preempt", cache_capable=True, ignorable=True)
        async with scheduled(tmp_path, ("a",), extenders=(extender,)) as client:
            await filled(client, 1)
            await client.create(PODS, large("p", priorityClassName="urgent"), namespace="default")
            await bound(client, "p")


async def test_no_room_is_made_where_an_extender_says_that_would_not_help_and_its_own_refusals_need_no_victims(
    tmp_path: Path,
) -> None:
    with ExtenderServer() as server:
        extender = Extender(server.url, filter_verb="filter", cache_capable=True)
        async with scheduled(tmp_path, ("a", "b"), extenders=(extender,)) as client:
            for name in ("a", "b"):
                server.verbs["filter"] = leaving(name)
                await client.create(PODS, pod(f"on-{name}"), namespace="default")
                await bound(client, f"on-{name}")
            await urgent(client)
            server.verbs["filter"] = leaving(failed={"a": "device busy"}, final={"b": "no device"})
            await client.create(PODS, pod("p", priorityClassName="urgent"), namespace="default")
            lead = "0/2 nodes are available: 1 device busy, 1 no device."
            assert await told(client, "p") == f'{lead} preemption: expected at least one victim pod on node "a"'


async def test_the_node_that_room_was_made_on_is_asked_about_alone_and_first(tmp_path: Path) -> None:
    with ExtenderServer(filter=leaving(*THREE)) as server:
        extender = Extender(server.url, filter_verb="filter", cache_capable=True)
        async with scheduled(tmp_path, THREE, extenders=(extender,)) as client:
            await filled(client, 3)
            server.asked.clear()
            await client.create(PODS, large("p", priorityClassName="urgent"), namespace="default")
            node = (await bound(client, "p"))["spec"]["nodeName"]
    assert [args["NodeNames"] for args in server.calls("filter")] == [[node]]


# Binding


async def test_an_extender_binds_the_pods_that_it_is_interested_in(tmp_path: Path) -> None:
    with ExtenderServer(bind={}) as server:
        extender = Extender(server.url, bind_verb="bind", managed=frozenset((GPU,)))
        async with scheduled(tmp_path, offers={GPU: "4"}, extenders=(extender,)) as client:
            await client.create(PODS, pod("plain"), namespace="default")
            await bound(client, "plain")
            made = await client.create(PODS, wants_gpu("p"), namespace="default")

            async def asked() -> bool:
                return bool(server.asked)

            await until(asked, bool)
            uid = made["metadata"]["uid"]
            said = {"PodName": "p", "PodNamespace": "default", "PodUID": uid, "Node": "n"}
            assert server.asked == [("bind", said)]
            await event(client, "p", "Successfully assigned default/p to n")
            target = {"target": {"kind": "Node", "name": "n"}, "metadata": {"name": "p"}}
            body = {"apiVersion": "v1", "kind": "Binding", **target}
            await client.create(PODS, body, namespace="default", name="p", subresource="binding")
            await bound(client, "p")


@pytest.mark.parametrize(
    ("answer", "why"),
    [({"Error": "no such shelf"}, "no such shelf"), (500, "failed bind with extender at URL {url}/bind, code 500")],
)
async def test_a_binding_that_fails_is_told_and_tried_again_unless_it_may_be_ignored(
    tmp_path: Path, answer: Any, why: str
) -> None:
    with ExtenderServer(bind=answer) as server:
        extender = Extender(server.url, bind_verb="bind")
        async with scheduled(tmp_path, extenders=(extender,), backoff=(0.05, 0.05)) as client:
            await client.create(PODS, pod("p"), namespace="default")
            assert await told(client, "p", reason="SchedulerError") == why.format(url=server.url)
            await event(client, "p", why.format(url=server.url))

            async def twice() -> bool:
                return len(server.asked) > 1

            await until(twice, bool)
        (tmp_path / "second").mkdir()
        ignorable = Extender(server.url, bind_verb="bind", ignorable=True)
        async with scheduled(tmp_path / "second", extenders=(ignorable,)) as client:
            await client.create(PODS, pod("p"), namespace="default")
            await bound(client, "p")


async def test_bindings_of_a_slow_extender_are_few_at_a_time_and_hold_up_nobody_else(tmp_path: Path) -> None:
    with ExtenderServer(bind={}) as server:
        server.delay = 3.0
        extender = Extender(server.url, bind_verb="bind", managed=frozenset((GPU,)))
        async with scheduled(tmp_path, offers={GPU: "90", "pods": "200"}, extenders=(extender,)) as client:
            for i in range(50):
                await client.create(PODS, wants_gpu(f"g{i}"), namespace="default")
            await client.create(PODS, pod("quick"), namespace="default")
            await bound(client, "quick")

            async def all_asked() -> bool:
                return len(server.asked) == 50

            await until(all_asked, bool)
        assert server.most_at_once == 32


# Resources that only extenders look at


async def test_a_resource_that_only_extenders_look_at_needs_no_node_that_has_it(tmp_path: Path) -> None:
    with ExtenderServer(filter=leaving(failed={"n": "no token left"})) as server:
        managed = [{"name": GPU, "ignoredByScheduler": True}]
        said = {"urlPrefix": server.url, "filterVerb": "filter", "nodeCacheCapable": True, "managedResources": managed}
        made = configuration(HEAD | {"extenders": [said]})
        more = {"profiles": made.profiles, "extenders": made.extenders}
        async with scheduled(tmp_path, **more) as client:
            await client.create(PODS, wants_gpu("p"), namespace="default")
            assert (await told(client, "p")).startswith("0/1 nodes are available: 1 no token left. preemption: ")
            server.verbs["filter"] = leaving("n")
            await client.create(PODS, pod("anything"), namespace="default")
            await bound(client, "p")


# What if


def test_what_if_says_that_extenders_were_not_asked_and_about_how_many_pods() -> None:
    node = {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "9", GPU: "2"}}}
    waiting = [wants_gpu("w"), pod("plain")]
    for one in waiting:
        one["metadata"] |= {"namespace": "default", "uid": one["metadata"]["name"]}
    extenders = (
        Extender("http://e", filter_verb="f", managed=frozenset((GPU,))),
        Extender("http://b", bind_verb="b"),
    )
    answer = World({"nodes": [node], "pods": waiting}, extenders=extenders).add(1, "n")
    assert answer.as_json()["notAsked"] == [{"extender": "http://e", "pods": 1}]
    text = "the extender http://e was not asked, which has a say about 1 of these pods: its answer may change this one"
    assert text in show(answer)
    assert World({"nodes": [node], "pods": waiting}).add(1, "n").as_json()["notAsked"] == []
