"""Calls of our own components in the server's process: the short way of a write and of its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.unit.server.test_engine import Caller

from portside.api import managed
from portside.api.status import ApiError
from portside.base.pki import ensure_pki
from portside.client.inprocess import inprocess_client
from portside.client.protocol import Client
from portside.client.shared import SharedObjects
from portside.server import patches
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.server.resource import encode
from portside.server.watchcache_object import CachedObject, ViewPool, split
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
PODS, NODES, EVENTS = ("", "v1", "pods"), ("", "v1", "nodes"), ("events.k8s.io", "v1", "events")
STAMP = "2026-01-01T00:00:00Z"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    pki = ensure_pki(tmp_path)
    server = ApiServer(MemoryBackend(), pki)
    server.needs_accounts = False
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443), pki)
    yield server
    await server.stop()


def client_of(server: ApiServer, shared: SharedObjects | None) -> Client:
    who = server.make_request(User("system:kube-scheduler", groups=("system:masters",)))
    return inprocess_client(server.handler, who, user_agent="kube-scheduler", shared=shared)


def pod(name: str) -> Json:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "app:1"}]}}


def binding(name: str, node: str) -> Json:
    return {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}


async def test_a_component_gets_what_its_write_made_and_may_change_it(server: ApiServer) -> None:
    component, other = client_of(server, SharedObjects()), client_of(server, None)
    made = await component.create(PODS, pod("a"), namespace="default")
    stored = await other.get(PODS, "a", namespace="default")
    entries = stored["metadata"].pop("managedFields")
    assert made == stored and entries[0]["manager"] == "kube-scheduler"
    made["spec"]["containers"].clear()
    made["metadata"]["labels"] = {"changed": "by the caller"}
    again = await other.get(PODS, "a", namespace="default")
    assert again["spec"] == stored["spec"] and "labels" not in again["metadata"]
    patched = await component.patch(PODS, "a", {"metadata": {"labels": {"x": "1"}}}, namespace="default")
    deleted = await component.delete(PODS, "a", namespace="default", options={"gracePeriodSeconds": 0})
    assert patched["metadata"]["labels"] == deleted["metadata"]["labels"] == {"x": "1"}
    with pytest.raises(ApiError) as refused:
        await component.get(PODS, "a", namespace="default")
    assert (refused.value.code, refused.value.reason) == (404, "NotFound")


async def test_who_is_no_component_gets_managed_fields_with_its_writes(server: ApiServer) -> None:
    made = await client_of(server, None).create(PODS, pod("a"), namespace="default")
    assert made["metadata"]["managedFields"][0]["operation"] == "Update"


async def test_a_pod_that_was_bound_keeps_its_managers_and_a_second_node_is_refused(server: ApiServer) -> None:
    component, other = client_of(server, SharedObjects()), client_of(server, None)
    await component.create(PODS, pod("a"), namespace="default")
    before = (await other.get(PODS, "a", namespace="default"))["metadata"]["managedFields"]
    told = await component.create(PODS, binding("a", "n1"), namespace="default", name="a", subresource="binding")
    assert (told["status"], told["code"]) == ("Success", 201)
    found = await other.get(PODS, "a", namespace="default")
    assert found["spec"]["nodeName"] == "n1" and found["metadata"]["managedFields"] == before
    with pytest.raises(ApiError) as refused:
        await component.create(PODS, binding("a", "n2"), namespace="default", name="a", subresource="binding")
    assert refused.value.code == 409


async def test_a_pod_gets_zone_and_region_of_its_node_when_it_is_bound_or_made_for_it(server: ApiServer) -> None:
    component = client_of(server, SharedObjects())
    place = {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"}
    odd = {"example.com/odd": "elsewhere"}
    await component.create(NODES, {"metadata": {"name": "n1", "labels": place | odd}})
    await component.create(NODES, {"metadata": {"name": "n2"}})
    await component.create(PODS, pod("bound"), namespace="default")
    said = binding("bound", "n1") | {"apiVersion": "v1", "kind": "Binding"}
    await component.create(PODS, said, namespace="default", name="bound", subresource="binding")
    for name, node in (("made", "n1"), ("plain", "n2"), ("lost", "nowhere")):
        body = pod(name)
        body["spec"]["nodeName"] = node
        await component.create(PODS, body, namespace="default")
    found = {
        name: (await component.get(PODS, name, namespace="default"))["metadata"].get("labels")
        for name in ("bound", "made", "plain", "lost")
    }
    assert found == {"bound": place, "made": place, "plain": None, "lost": None}


STATUS_PATCHES: list[Json] = [
    {"status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}},
    {"metadata": {"labels": {"a": "b"}}, "status": {"hostIP": "10.1.1.1", "startTime": STAMP}},
    {"metadata": {"annotations": {"k": "v"}, "ownerReferences": []}},
    {"status": None},
    {"status": {"containerStatuses": [{"name": "c", "ready": True, "state": {"running": {"startedAt": STAMP}}}]}},
    {"status": {"phase": ""}, "metadata": {"labels": None}},
    {},
]


@pytest.mark.parametrize("change", STATUS_PATCHES, ids=[str(n) for n in range(len(STATUS_PATCHES))])
async def test_a_patch_of_a_status_leaves_what_a_patch_of_the_whole_object_would(
    server: ApiServer, change: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(server, None)
    left: list[Json] = []
    for name, whole in (("a", False), ("b", True)):
        if whole:
            monkeypatch.setattr(patches, "_merged_quietly", lambda *_: None)
        await client.create(PODS, pod(name), namespace="default")
        for patch in ({"status": {"phase": "Pending", "message": "before"}}, change):
            await client.patch(PODS, name, patch, namespace="default", subresource="status")
        found = await client.get(PODS, name, namespace="default")
        for key in ("name", "uid", "resourceVersion", "creationTimestamp"):
            del found["metadata"][key]
        for entry in found["metadata"]["managedFields"]:
            del entry["time"]
        left.append(found)
    assert left[0] == left[1]


async def test_a_patch_of_a_status_that_is_wrong_is_told_in_the_words_for_the_whole_object(server: ApiServer) -> None:
    call = Caller(server)
    await call("POST", "/api/v1/namespaces/default/pods", pod("a"))
    place, merge = "/api/v1/namespaces/default/pods/a/status", {"content_type": "application/merge-patch+json"}
    code, said = await call("PATCH", place, {"status": {"phase": 7}}, **merge)
    assert code == 422 and '\\"image\\":\\"app:1\\"' in said["message"].replace(
        '"image":"app:1"', '\\"image\\":\\"app:1\\"'
    )
    answer = await call.raw("PATCH", place, {"status": {"strange": 1}}, **merge)
    assert answer.code == 200 and any('unknown field \\"status.strange\\"' in value for _, value in answer.headers)
    code, said = await call("PATCH", place + "?fieldValidation=Strict", {"status": {"strange": 1}}, **merge)
    assert code == 422 and "status.strange" in said["message"]


@pytest.mark.parametrize(
    "more",
    [{}, {"note": ""}, {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000001Z"}}, {"related": {}}],
)
async def test_events_of_one_outline_have_the_managers_that_each_would_have_alone(
    server: ApiServer, more: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(server, None)
    found: list[Any] = []
    for name in ("a", "b", "c"):
        if name == "c":
            monkeypatch.setattr(managed, "_FIRST", type(managed._FIRST)(16))
        body: Json = {
            "metadata": {"name": name},
            "eventTime": "2026-01-01T00:00:00.000001Z",
            "reportingController": "me",
            "reportingInstance": "me-1",
            "action": "Act",
            "reason": f"Because{name}",
            "regarding": {"kind": "Pod", "name": name, "namespace": "default"},
            "type": "Normal",
        }
        await client.create(EVENTS, body | more, namespace="default")
        made = await client.get(EVENTS, name, namespace="default")
        found.append(made["metadata"]["managedFields"][0]["fieldsV1"])
    assert found[0] == found[1] == found[2] and "f:regarding" in found[0]


def cached(obj: Json, revision: int = 7) -> CachedObject:
    head, tail = split(encode(obj), revision)
    return CachedObject("/core/pods/default/a", head, tail, revision, 1, ViewPool(4))


ENTRY: Json = {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}
MANAGERS: list[list[Json]] = [
    [ENTRY | {"fieldsV1": {"f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:image": {}}}}}}],
    [ENTRY, ENTRY | {"time": STAMP, "subresource": "status"}],
    [ENTRY | {"manager": 'a}]},"b'}],
    [ENTRY | {"fieldsV1": {'v:"x}]},': {}, 'k:{"a":"}],"}': {}}}],
    [ENTRY | {"fieldsV1": {"f:metadata": {"f:labels": {"f:}]}": {}}}, "f:x": {}}, "time": STAMP}],
    [],
]


@pytest.mark.parametrize("managers", MANAGERS, ids=[str(n) for n in range(len(MANAGERS))])
@pytest.mark.parametrize(
    "more",
    [
        {"spec": {"a": 1}},
        {},
        {"data": {"k": '"}]},"spec":{'}},
        {"spec": {"template": {"metadata": {"managedFields": [{"manager": "inner"}]}, "spec": {}}}},
    ],
    ids=["spec", "nothing behind", "text", "a template's own"],
)
@pytest.mark.parametrize("last", [True, False], ids=["last", "not last"])
def test_an_object_that_was_read_with_closed_managers_is_written_as_it_was(
    managers: list[Json], more: Json, last: bool
) -> None:
    meta: Json = {"name": "a", "labels": {"x": "}]}"}, "annotations": {"k": '"managedFields":[{"manager":"}]},"spec'}}
    if managers:
        meta["managedFields"] = managers
    obj = {"apiVersion": "v1", "kind": "Thing", "metadata": meta} | more
    value = encode(obj)
    if not last and managers:
        meta["uid"] = "u"
        value = orjson.dumps(obj)
    head, tail = split(value, 7)
    found = CachedObject("/core/things/a", head, tail, 7, 1, ViewPool(4))
    closed = found.closed()
    assert orjson.loads(encode(closed)) == obj
    seen = {k: v for k, v in closed["metadata"].items() if k != "managedFields"}
    assert seen == {k: v for k, v in meta.items() if k != "managedFields"} | {"resourceVersion": "7"}
    assert {k: v for k, v in closed.items() if k != "metadata"} == {k: v for k, v in obj.items() if k != "metadata"}


def test_managers_that_stand_last_are_not_parsed() -> None:
    obj = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "a", "managedFields": MANAGERS[0]}, "spec": {}}
    assert isinstance(cached(obj).closed()["metadata"]["managedFields"], orjson.Fragment)


async def test_objects_of_one_body_differ_in_what_only_the_server_says(server: ApiServer) -> None:
    """The second is made of what was found out about the first: by another manager or in another namespace it is not."""
    body = {"metadata": {"generateName": "p-", "labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    call = Caller(server)
    await call("POST", "/api/v1/namespaces", {"metadata": {"name": "other"}})
    made = []
    for space, agent in (("default", "one/1"), ("default", "one/1"), ("other", "one/1"), ("default", "two/1")):
        code, obj = await call("POST", f"/api/v1/namespaces/{space}/pods", body, user_agent=agent)
        assert code == 201 and obj["metadata"]["namespace"] == space
        assert [e["manager"] for e in obj["metadata"]["managedFields"]] == [agent.partition("/")[0]]
        made.append(obj)
    assert len({o["metadata"]["uid"] for o in made}) == len({o["metadata"]["name"] for o in made}) == 4
    assert all(o["spec"] == made[0]["spec"] for o in made)
    assert made[1]["metadata"]["managedFields"][0]["fieldsV1"] == made[0]["metadata"]["managedFields"][0]["fieldsV1"]


async def test_a_body_with_a_problem_is_told_of_it_each_time(server: ApiServer) -> None:
    body = {"metadata": {"generateName": "p-"}, "spec": pod("x")["spec"] | {"strange": 1}}
    call, place = Caller(server), "/api/v1/namespaces/default/pods"
    for _ in range(2):
        assert (await call.raw("POST", place + "?fieldValidation=Ignore", body)).code == 201
        answer = await call.raw("POST", place, body)
        assert answer.code == 201 and any("spec.strange" in value for _, value in answer.headers)
        assert (await call("POST", place + "?fieldValidation=Strict", body))[0] == 400


async def test_a_deletion_with_grace_and_its_end_keep_the_managers_for_watches(server: ApiServer) -> None:
    component, other = client_of(server, SharedObjects()), client_of(server, None)
    await component.create(PODS, pod("a"), namespace="default")
    await component.create(PODS, binding("a", "n1"), namespace="default", name="a", subresource="binding")
    before = (await other.get(PODS, "a", namespace="default"))["metadata"]["managedFields"]
    told = await component.delete(PODS, "a", namespace="default")
    assert told["metadata"]["deletionGracePeriodSeconds"] == 30 and "managedFields" not in told["metadata"]
    marked = await other.get(PODS, "a", namespace="default")
    assert marked["metadata"]["managedFields"] == before and marked["metadata"]["deletionTimestamp"]
    gone = await component.delete(PODS, "a", namespace="default", options={"gracePeriodSeconds": 0})
    assert gone["metadata"]["deletionGracePeriodSeconds"] == 0
