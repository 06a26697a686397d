"""Scheduler extenders over HTTP and TLS, with an API server in this process: filter, prioritize, and what becomes of errors."""

from __future__ import annotations

import asyncio
import base64
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.extender_server import ExtenderServer, leaving
from tests.unit.scheduler.conftest import NODES, PODS, bound, pod, scheduled, until

from portside.base.pki import ensure_client, ensure_pki
from portside.scheduler.extender_config import Extender, Tls
from portside.scheduler.queue import Queue

Json = dict[str, Any]
EVENTS = ("", "v1", "events")
GPU = "example.com/gpu"
THREE = ("a", "b", "c")


async def told(client: Any, name: str, *, reason: str = "Unschedulable") -> str:
    """The message of a pod that found no node."""

    async def look() -> str:
        status = (await client.get(PODS, name, namespace="default")).get("status") or {}
        held = [c for c in status.get("conditions") or () if c["type"] == "PodScheduled" and c["status"] == "False"]
        return held[0]["message"] if held and held[0].get("reason") == reason else ""

    return str(await until(look, bool))


async def event(client: Any, name: str, text: str) -> Json:
    async def look() -> Json | None:
        listed = (await client.list(EVENTS, namespace="default")).items
        about = [e for e in listed if e["involvedObject"]["name"] == name and text in e["message"]]
        return about[0] if about else None

    return dict(await until(look, bool))


def wants_gpu(name: str) -> Json:
    made = pod(name)
    made["spec"]["containers"][0]["resources"] = {"requests": {GPU: "1"}, "limits": {GPU: "1"}}
    return made


# What is asked


@pytest.mark.parametrize("cached", [True, False])
async def test_a_filter_decides_among_the_nodes_that_fit_and_gets_upstreams_arguments(
    tmp_path: Path, cached: bool
) -> None:
    with ExtenderServer(filter=leaving("b")) as server:
        extender = Extender(server.url, filter_verb="filter", cache_capable=cached)
        async with scheduled(tmp_path, THREE, cordoned="c", extenders=(extender,)) as client:
            await client.create(PODS, pod("p"), namespace="default")
            assert (await bound(client, "p"))["spec"]["nodeName"] == "b"
        ((verb, args),) = server.asked
        assert verb == "filter" and set(args) == {"Pod", "Nodes", "NodeNames"}
        assert set(args["Pod"]) == {"metadata", "spec", "status"} and args["Pod"]["metadata"]["name"] == "p"
        if cached:
            assert args["Nodes"] is None and sorted(args["NodeNames"]) == ["a", "b"]
        else:
            assert args["NodeNames"] is None
            assert sorted(n["metadata"]["name"] for n in args["Nodes"]["items"]) == ["a", "b"]
            assert all(n["status"]["allocatable"]["cpu"] == "4" for n in args["Nodes"]["items"])


async def test_scores_count_ten_times_their_weight_and_a_single_node_is_not_scored(tmp_path: Path) -> None:
    scores: list[Json] = [{"Host": "c", "Score": 10}, {"Host": "a", "Score": 1}, {"Host": "nobody", "Score": 10}]
    with ExtenderServer(prioritize=scores, filter=leaving("a", "c")) as server:
        extender = Extender(server.url, prioritize_verb="prioritize", weight=5, cache_capable=True)
        picky = Extender(server.url, filter_verb="filter", cache_capable=True)
        async with scheduled(tmp_path, THREE, extenders=(extender, picky)) as client:
            for i in range(4):
                await client.create(PODS, pod(f"p{i}"), namespace="default")
            assert {(await bound(client, f"p{i}"))["spec"]["nodeName"] for i in range(4)} == {"c"}
            assert {tuple(sorted(a["NodeNames"])) for a in server.calls("prioritize")} == {("a", "c")}
            server.verbs["filter"] = leaving("b")
            server.asked.clear()
            await client.create(PODS, pod("q"), namespace="default")
            assert (await bound(client, "q"))["spec"]["nodeName"] == "b"
        assert [verb for verb, _ in server.asked] == ["filter"]


async def test_two_extenders_are_asked_in_turn_and_their_scores_are_added(tmp_path: Path) -> None:
    first = ExtenderServer(filter=leaving("a", "b"), prioritize=[{"Host": "a", "Score": 6}])
    second = ExtenderServer(filter=leaving("a", "b", "c"), prioritize=[{"Host": "b", "Score": 7}])
    with first, second:
        both = tuple(
            Extender(s.url, filter_verb="filter", prioritize_verb="prioritize", weight=1000, cache_capable=True)
            for s in (first, second)
        )
        async with scheduled(tmp_path, THREE, extenders=both) as client:
            await client.create(PODS, pod("p"), namespace="default")
            assert (await bound(client, "p"))["spec"]["nodeName"] == "b"
        assert sorted(first.calls("filter")[0]["NodeNames"]) == ["a", "b", "c"]
        assert sorted(second.calls("filter")[0]["NodeNames"]) == ["a", "b"]


async def test_pods_that_name_nothing_it_manages_never_meet_an_extender_however_slow(tmp_path: Path) -> None:
    with ExtenderServer(filter=3600.0) as server:
        extender = Extender(server.url, filter_verb="filter", managed=frozenset((GPU,)))
        async with scheduled(tmp_path, THREE, offers={GPU: "4"}, extenders=(extender,)) as client:
            await client.create(PODS, wants_gpu("slow"), namespace="default")

            async def asked() -> bool:
                return bool(server.asked)

            await until(asked, bool)
            for i in range(20):
                await client.create(PODS, pod(f"p{i}"), namespace="default")
            for i in range(20):
                await bound(client, f"p{i}")
            assert [args["Pod"]["metadata"]["name"] for _, args in server.asked] == ["slow"]


async def test_an_extender_is_asked_about_one_pod_at_a_time_the_more_important_first(tmp_path: Path) -> None:
    with ExtenderServer(filter=leaving(*THREE)) as server:
        server.delay = 0.5
        extender = Extender(server.url, filter_verb="filter", cache_capable=True)
        async with scheduled(tmp_path, THREE, extenders=(extender,)) as client:
            urgent = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"}}
            await client.create(("scheduling.k8s.io", "v1", "priorityclasses"), urgent | {"value": 1000})
            for i in range(5):
                await client.create(PODS, pod(f"p{i}"), namespace="default")
            await client.create(PODS, pod("first", priorityClassName="urgent"), namespace="default")
            for name in ("first", *(f"p{i}" for i in range(5))):
                await bound(client, name)
        names = [args["Pod"]["metadata"]["name"] for _, args in server.asked]
        assert sorted(names) == ["first", "p0", "p1", "p2", "p3", "p4"]
        assert server.most_at_once == 1 and names.index("first") <= 2


async def test_a_pod_of_two_extenders_waits_for_both_and_comes_to_its_turn(tmp_path: Path) -> None:
    """However many pods each of the two has to itself."""
    other = "example.com/nic"
    first, second = ExtenderServer(filter=leaving("n")), ExtenderServer(filter=leaving("n"))
    first.delay, second.delay = 0.1, 0.13
    with first, second:
        both = tuple(
            Extender(s.url, filter_verb="filter", cache_capable=True, managed=frozenset((name,)))
            for s, name in ((first, GPU), (second, other))
        )
        async with scheduled(tmp_path, offers={GPU: "99", other: "99"}, extenders=both) as client:
            for i in range(8):
                for kind, names in (("g", (GPU,)), ("o", (other,)), ("both", (GPU, other))):
                    made = pod(f"{kind}{i}")
                    made["spec"]["containers"][0]["resources"] = {"limits": dict.fromkeys(names, "1")}
                    await client.create(PODS, made, namespace="default")
            for i in range(8):
                for kind in ("g", "o", "both"):
                    await bound(client, f"{kind}{i}")
        for server in (first, second):
            assert server.most_at_once == 1
            names = [args["Pod"]["metadata"]["name"] for _, args in server.asked]
            assert len(names) == 16 == len(set(names))
            assert names.index("both0") < 5


async def test_pods_placed_while_an_extender_thinks_are_not_stepped_on(tmp_path: Path) -> None:
    """The node it chose is full when it answers: it is asked again, and never is a node overcommitted."""
    whole = {"requests": {"cpu": "4"}}
    with ExtenderServer(filter=leaving("a", "b")) as server:
        server.delay = 1.5
        extender = Extender(server.url, filter_verb="filter", cache_capable=True, managed=frozenset((GPU,)))
        async with scheduled(tmp_path, ("a", "b"), offers={GPU: "4"}, extenders=(extender,)) as client:
            asking = wants_gpu("asking")
            asking["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "4"
            await client.create(PODS, asking, namespace="default")

            async def asked() -> bool:
                return bool(server.asked)

            await until(asked, bool)
            for name in ("quick", "quicker"):
                made = pod(name)
                made["spec"]["containers"][0]["resources"] = whole
                await client.create(PODS, made, namespace="default")
                await bound(client, name)
            assert "Insufficient cpu" in await told(client, "asking")
            await client.delete(PODS, "quick", namespace="default", options={"gracePeriodSeconds": 0})
            await bound(client, "asking")


async def test_when_the_node_it_chose_fills_up_meanwhile_it_is_asked_again_at_once(tmp_path: Path) -> None:
    def first_of(args: Json) -> Json:
        return {"NodeNames": sorted(args["NodeNames"])[:1]}

    with ExtenderServer(filter=first_of) as server:
        server.delay = 1.0
        extender = Extender(server.url, filter_verb="filter", cache_capable=True)
        async with scheduled(tmp_path, ("a", "b"), extenders=(extender,)) as client:
            wanting = pod("p")
            wanting["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "4"}}
            await client.create(PODS, wanting, namespace="default")

            async def asked() -> bool:
                return bool(server.asked)

            await until(asked, bool)
            await client.create(PODS, pod("first") | {"spec": wanting["spec"] | {"nodeName": "a"}}, namespace="default")
            assert (await bound(client, "p"))["spec"]["nodeName"] == "b"
            await asyncio.sleep(0.1)
            events = (await client.list(EVENTS, namespace="default")).items
        assert {e["reason"] for e in events} <= {"Scheduled"}
        assert [sorted(a["NodeNames"]) for a in server.calls("filter")] == [["a", "b"], ["b"]]


async def test_the_node_that_room_is_kept_on_is_tried_before_all_others(tmp_path: Path) -> None:
    with ExtenderServer(filter=leaving(), prioritize=[{"Host": "c", "Score": 10}]) as server:
        extender = Extender(
            server.url, filter_verb="filter", prioritize_verb="prioritize", weight=9, cache_capable=True
        )
        async with scheduled(tmp_path, THREE, extenders=(extender,)) as client:
            await client.create(PODS, pod("p"), namespace="default")
            await told(client, "p")
            body = {"status": {"nominatedNodeName": "b"}}
            await client.patch(PODS, "p", body, namespace="default", subresource="status")
            await asyncio.sleep(0.1)
            server.asked.clear()
            server.verbs["filter"] = leaving(*THREE)
            await client.create(PODS, pod("news", nodeName="a"), namespace="default")
            assert (await bound(client, "p"))["spec"]["nodeName"] == "b"
        assert [(verb, args["NodeNames"]) for verb, args in server.asked] == [("filter", ["b"])]


# Refusals and their words


async def test_nodes_it_refuses_are_counted_in_its_words_and_one_left_out_without_a_word_in_none(
    tmp_path: Path,
) -> None:
    said = leaving(failed={"a": "no free device", "b": "shelf is dark", "z": "no free device"}, final={"b": "no shelf"})
    with ExtenderServer(filter=said) as server:
        extender = Extender(server.url, filter_verb="filter", cache_capable=True)
        async with scheduled(tmp_path, (*THREE, "d"), cordoned="d", extenders=(extender,)) as client:
            await client.create(PODS, pod("p"), namespace="default")
            lead = "0/4 nodes are available: 1 no shelf, 1 node(s) were unschedulable, 2 no free device."
            no = "1 No preemption victims found for incoming pod, 3 Preemption is not helpful for scheduling"
            message = f"{lead} preemption: 0/4 nodes are available: {no}."
            assert await told(client, "p") == message
            found = await event(client, "p", message)
            assert (found["reason"], found["type"]) == ("FailedScheduling", "Warning")


async def test_nodes_that_are_all_left_out_without_a_word_make_no_list(tmp_path: Path) -> None:
    with ExtenderServer(filter={}) as server:
        async with scheduled(tmp_path, extenders=(Extender(server.url, filter_verb="filter"),)) as client:
            await client.create(PODS, pod("p"), namespace="default")
            text = "0/1 nodes are available: preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            assert await told(client, "p") == text


async def test_left_out_without_a_word_a_node_that_the_pod_names_counts_with_those_it_does_not(tmp_path: Path) -> None:
    fields = [{"key": "metadata.name", "operator": "In", "values": ["a"]}]
    required = {"nodeSelectorTerms": [{"matchFields": fields}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    with ExtenderServer(filter={"NodeNames": []}) as server:
        extender = Extender(server.url, filter_verb="filter", cache_capable=True)
        async with scheduled(tmp_path, ("a", "b"), extenders=(extender,)) as client:
            await client.create(PODS, pod("p", affinity=affinity), namespace="default")
            text = "0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: "
            assert (await told(client, "p")).startswith(text)
        assert server.calls("filter")[0]["NodeNames"] == ["a"]


async def test_what_a_later_extender_says_of_a_node_goes_before_what_an_earlier_one_said(tmp_path: Path) -> None:
    first = ExtenderServer(filter=leaving("a", failed={"b": "first"}))
    second = ExtenderServer(filter=leaving(failed={"a": "second", "b": "second"}))
    with first, second:
        both = tuple(Extender(s.url, filter_verb="filter", cache_capable=True) for s in (first, second))
        async with scheduled(tmp_path, ("a", "b"), extenders=both) as client:
            await client.create(PODS, pod("p"), namespace="default")
            assert (await told(client, "p")).startswith("0/2 nodes are available: 2 second. preemption: ")


async def test_a_refused_pod_is_tried_again_when_anything_happens_also_what_happens_meanwhile(tmp_path: Path) -> None:
    """The node that helps comes while the extender is still thinking about the others."""
    with ExtenderServer(filter=leaving("late")) as server:
        server.delay = 0.3
        extender = Extender(server.url, filter_verb="filter", cache_capable=True)
        async with scheduled(tmp_path, ("a",), extenders=(extender,)) as client:
            await client.create(PODS, pod("p"), namespace="default")

            async def asked() -> bool:
                return bool(server.asked)

            await until(asked, bool)
            room = {"cpu": "4", "memory": "8Gi", "pods": "110"}
            late = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late"}, "status": {"allocatable": room}}
            await client.create(NODES, late)
            await client.patch(NODES, "late", {"spec": {"taints": None}})
            assert (await bound(client, "p"))["spec"]["nodeName"] == "late"


@pytest.mark.parametrize("meanwhile", [True, False])
async def test_a_pod_it_left_without_a_word_is_tried_again_for_news_of_any_kind(
    tmp_path: Path, meanwhile: bool
) -> None:
    """Of a pod that takes room, where the only filter that refused anything was that of a cordoned node."""
    answers = [leaving(), leaving("a")]
    with ExtenderServer(filter=lambda args: answers.pop(0)(args) if len(answers) > 1 else answers[0](args)) as server:
        server.delay = 0.3 if meanwhile else 0.0
        extender = Extender(server.url, filter_verb="filter", cache_capable=True, managed=frozenset((GPU,)))
        async with scheduled(tmp_path, ("a", "b"), cordoned="b", offers={GPU: "1"}, extenders=(extender,)) as client:
            await client.create(PODS, wants_gpu("p"), namespace="default")

            async def asked() -> bool:
                return bool(server.asked)

            await until(asked, bool) if meanwhile else await told(client, "p")
            await client.create(PODS, pod("news"), namespace="default")
            assert (await bound(client, "p"))["spec"]["nodeName"] == "a"


# Errors


def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (3600.0, 'Post "{url}/filter": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'),
        (500, "failed filter with extender at URL {url}/filter, code 500"),
        (307, "failed filter with extender at URL {url}/filter, code 307"),
        (b"<html>", "invalid character '<' looking for beginning of value"),
        (b"", "EOF"),
        (b'{"NodeNames": ["n"', "unexpected EOF"),
        (["n"], "json: cannot unmarshal array into Go value of type v1.ExtenderFilterResult"),
        ({"NodeNames": "n"}, "json: cannot unmarshal string into Go struct field NodeNames"),
        ({"FailedNodes": {"n": 1}}, "json: cannot unmarshal number into Go struct field FailedNodes"),
        ({"Error": "the shelf burns"}, "the shelf burns"),
        (
            {"NodeNames": ["n", "nobody"]},
            'extender "{url}" claims a filtered node "nobody" which is not found in the input node list',
        ),
    ],
)
async def test_an_error_is_told_and_the_pod_tried_again_unless_the_extender_may_be_ignored(
    tmp_path: Path, answer: Any, why: str
) -> None:
    with ExtenderServer(filter=answer) as server:
        extender = Extender(server.url, filter_verb="filter", cache_capable=True, seconds=0.3)
        async with scheduled(tmp_path, extenders=(extender,), backoff=(0.05, 0.05)) as client:
            await client.create(PODS, pod("p"), namespace="default")
            text = why.format(url=server.url)
            assert await told(client, "p", reason="SchedulerError") == text
            assert (await event(client, "p", text))["reason"] == "FailedScheduling"
            server.verbs["filter"] = leaving("n")
            await bound(client, "p")
        server.verbs["filter"] = answer
        ignorable = Extender(server.url, filter_verb="filter", cache_capable=True, seconds=0.3, ignorable=True)
        (tmp_path / "second").mkdir()
        async with scheduled(tmp_path / "second", extenders=(ignorable,)) as client:
            await client.create(PODS, pod("p"), namespace="default")
            await bound(client, "p")


async def test_a_refused_connection_is_told_and_the_extender_may_come_later(tmp_path: Path) -> None:
    url = nowhere()
    port = int(url.rpartition(":")[2])
    extender = Extender(f"{url}/scheduler/", filter_verb="filter", cache_capable=True)
    async with scheduled(tmp_path, extenders=(extender,), backoff=(0.05, 0.1)) as client:
        await client.create(PODS, pod("p"), namespace="default")
        text = f'Post "{url}/scheduler/filter": dial tcp 127.0.0.1:{port}: connect: connection refused'
        assert await told(client, "p", reason="SchedulerError") == text
        with ExtenderServer(port=port, filter=leaving("n")):
            await bound(client, "p")


async def test_errors_back_off_as_other_errors_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Any] = []
    plain = Queue.failed
    monkeypatch.setattr(Queue, "failed", lambda *a: (failed.append(a[3] if len(a) > 3 else None), plain(*a))[1])
    with ExtenderServer(filter=500) as server:
        extender = Extender(server.url, filter_verb="filter")
        async with scheduled(tmp_path, extenders=(extender,), backoff=(0.2, 0.4)) as client:
            began = time.monotonic()
            await client.create(PODS, pod("p"), namespace="default")

            async def thrice() -> bool:
                return len(server.asked) >= 3

            await until(thrice, bool)
            assert time.monotonic() - began >= 0.6
        assert set(failed) == {None}


async def test_an_extender_that_is_started_anew_is_found_again_without_an_error(tmp_path: Path) -> None:
    url = f"{nowhere()}/scheduler"
    port = urlsplit(url).port or 0
    extender = Extender(url, filter_verb="filter", cache_capable=True)
    async with scheduled(tmp_path, extenders=(extender,)) as client:
        for name in ("before", "after"):
            with ExtenderServer(port=port, filter=leaving("n")) as server:
                await client.create(PODS, pod(name), namespace="default")
                await bound(client, name)
                assert len(server.asked) == 1
        events = (await client.list(EVENTS, namespace="default")).items
        assert {e["reason"] for e in events} <= {"Scheduled"}


async def test_a_filter_that_fails_for_good_stops_nobody_whom_another_extender_decides(tmp_path: Path) -> None:
    dead = Extender(nowhere(), filter_verb="filter", managed=frozenset(("example.com/dead",)))
    with ExtenderServer(filter=leaving("n")) as server:
        alive = Extender(server.url, filter_verb="filter", cache_capable=True, managed=frozenset((GPU,)))
        offers = {GPU: "9", "example.com/dead": "9"}
        async with scheduled(tmp_path, offers=offers, extenders=(dead, alive), backoff=(0.01, 0.01)) as client:
            stuck = pod("stuck")
            stuck["spec"]["containers"][0]["resources"] = {"limits": {"example.com/dead": "1"}}
            await client.create(PODS, stuck, namespace="default")
            await told(client, "stuck", reason="SchedulerError")
            for i in range(5):
                await client.create(PODS, wants_gpu(f"g{i}"), namespace="default")
                await bound(client, f"g{i}")


async def test_scores_that_fail_are_done_without_whether_ignorable_or_not(tmp_path: Path) -> None:
    bad: list[Any] = [500, b"?", [{"Host": "a", "Score": "x"}], {"Host": "a"}, [{"Host": "a", "Score": 1.5}]]
    with ExtenderServer() as server:
        extender = Extender(server.url, prioritize_verb="rank", weight=1, cache_capable=True)
        async with scheduled(tmp_path, THREE, extenders=(extender,)) as client:
            for i, answer in enumerate(bad):
                server.verbs["rank"] = answer
                await client.create(PODS, pod(f"p{i}"), namespace="default")
                await bound(client, f"p{i}")
        assert len(server.asked) == len(bad)


async def test_a_pod_that_is_deleted_while_it_is_asked_about_leaves_nothing_behind(tmp_path: Path) -> None:
    with ExtenderServer(filter=leaving("n")) as server:
        server.delay = 0.2
        extender = Extender(server.url, filter_verb="filter", cache_capable=True)
        async with scheduled(tmp_path, extenders=(extender,)) as client:
            await client.create(PODS, pod("p"), namespace="default")

            async def asked() -> bool:
                return bool(server.asked)

            await until(asked, bool)
            await client.delete(PODS, "p", namespace="default", options={"gracePeriodSeconds": 0})
            again = pod("p")
            again["metadata"]["labels"] = {"life": "second"}
            await client.create(PODS, again, namespace="default")
            assert (await bound(client, "p"))["metadata"]["labels"] == {"life": "second"}
        assert [a["Pod"]["metadata"].get("labels") for a in server.calls("filter")] == [None, {"life": "second"}]


# TLS


async def test_a_server_is_believed_by_its_authority_and_believes_our_certificate(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path, ["127.0.0.1"])
    ensure_client(pki, "extender-client", "scheduler")
    with ExtenderServer(tls=True, trusted=pki.ca.read_text(), filter=leaving("n")) as server:
        tls = Tls(
            ca_data=base64.b64decode(server.bundle),
            cert_file=str(pki.certificate("extender-client")),
            key_file=str(pki.key("extender-client")),
        )
        extender = Extender(server.url, filter_verb="filter", cache_capable=True, tls=tls)
        async with scheduled(tmp_path, extenders=(extender,)) as client:
            await client.create(PODS, pod("p"), namespace="default")
            await bound(client, "p")


@pytest.mark.parametrize(
    ("tls", "why"),
    [
        (Tls(), "tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        (Tls(server_name="example.com"), "certificate is not valid for example.com"),
        (Tls(insecure=True), ""),
        (Tls(server_name="localhost"), ""),
    ],
)
async def test_a_server_of_nobody_we_know_is_refused_unless_that_is_wanted(tmp_path: Path, tls: Tls, why: str) -> None:
    with ExtenderServer(tls=True, filter=leaving("n")) as server:
        if tls.server_name:
            tls = Tls(server_name=tls.server_name, ca_data=base64.b64decode(server.bundle))
        extender = Extender(server.url, filter_verb="filter", cache_capable=True, tls=tls)
        async with scheduled(tmp_path, extenders=(extender,)) as client:
            await client.create(PODS, pod("p"), namespace="default")
            if why:
                assert why in await told(client, "p", reason="SchedulerError")
            else:
                await bound(client, "p")
