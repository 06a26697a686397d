"""The server's answers over a store in memory: what clients rely on, asked through the one handler."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.conformance.names import conformance
from tests.unit.server.auth_fixture import FixedClock

from portside.api.protobuf import decode as decode_protobuf
from portside.base.pki import ensure_pki
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.server.request import Response
from portside.store.memory import MemoryBackend

CM = "/api/v1/namespaces/default/configmaps"


class Caller:
    """Asks as an administrator; answers code and document."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.make = server.make_request(User("admin", groups=("system:masters",)))

    async def raw(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        place, _, query = path.partition("?")
        named = {"user-agent": "test/1"} | {k.replace("_", "-"): v for k, v in headers.items()}
        data = body if isinstance(body, bytes) else orjson.dumps(body) if body is not None else b""
        return await self.server.handler(self.make(method=method, path=place, query=query, headers=named, body=data))

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        answer = await self.raw(method, path, body, **headers)
        return answer.code, orjson.loads(answer.body)


@pytest.fixture(scope="module")
def pki_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    ensure_pki(home)
    return home


@pytest.fixture
async def call(pki_home: Path) -> AsyncIterator[Caller]:
    pki = ensure_pki(pki_home)
    server = ApiServer(MemoryBackend(), pki)
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443), pki)
    yield Caller(server)
    await server.stop()


def config(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_an_object_lives_through_its_verbs(call: Caller) -> None:
    code, made = await call("POST", CM, config("a", k="1"))
    assert code == 201 and made["metadata"]["uid"] and made["metadata"]["managedFields"][0]["manager"] == "test"
    assert await call("GET", f"{CM}/a") == (200, made)
    code, changed = await call("PATCH", f"{CM}/a", {"data": {"k": "2"}}, content_type="application/merge-patch+json")
    assert code == 200 and int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    code, refused = await call("PUT", f"{CM}/a", made)
    assert (code, refused["reason"]) == (409, "Conflict")
    code, gone = await call("DELETE", f"{CM}/a")
    assert (code, gone["status"], gone["details"]["uid"]) == (200, "Success", made["metadata"]["uid"])
    assert (await call("GET", f"{CM}/a"))[1]["message"] == 'configmaps "a" not found'


async def test_a_write_that_changes_nothing_keeps_the_revision(call: Caller) -> None:
    _, made = await call("POST", CM, config("a", k="1"))
    _, again = await call("PUT", f"{CM}/a", config("a", k="1"))
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_pages_of_a_list_are_of_one_moment(call: Caller) -> None:
    for name in "abcde":
        await call("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": name}})
    _, page = await call("GET", "/api/v1/namespaces/default/secrets?limit=2")
    assert page["metadata"]["remainingItemCount"] == 3 and "kind" not in page["items"][0]
    await call("DELETE", "/api/v1/namespaces/default/secrets/c")
    token = page["metadata"]["continue"]
    _, rest = await call("GET", f"/api/v1/namespaces/default/secrets?continue={token}")
    assert [i["metadata"]["name"] for i in rest["items"]] == ["c", "d", "e"]
    code, wrong = await call("GET", "/api/v1/namespaces/default/secrets?continue=abc")
    assert code == 400 and wrong["message"].startswith("invalid continue token")


@conformance("list, watch, misc", "chunked list goes on after compaction (410, inconsistent continue)")
async def test_later_pages_of_a_list_end_after_five_minutes_with_a_token_to_go_on(pki_home: Path) -> None:
    at = FixedClock(time.time())
    server = ApiServer(MemoryBackend(), pki := ensure_pki(pki_home), clock=at)
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443), pki)
    call = Caller(server)
    for name in "abcd":
        await call("POST", CM, config(name))
    _, first = await call("GET", f"{CM}?limit=1")
    at.time += 200
    code, second = await call("GET", f"{CM}?limit=1&continue={first['metadata']['continue']}")
    assert (code, second["metadata"]["resourceVersion"]) == (200, first["metadata"]["resourceVersion"])
    at.time += 101  # later pages are as old as the first
    await call("POST", CM, config("bb"))
    code, expired = await call("GET", f"{CM}?limit=1&continue={second['metadata']['continue']}")
    assert (code, expired["reason"]) == (410, "Expired")
    code, rest = await call("GET", f"{CM}?limit=2&continue={expired['metadata']['continue']}")
    assert (code, [i["metadata"]["name"] for i in rest["items"]]) == (200, ["bb", "c"])
    code, last = await call("GET", f"{CM}?continue={rest['metadata']['continue']}")
    assert (code, [i["metadata"]["name"] for i in last["items"]]) == (200, ["d"])
    assert last["metadata"]["resourceVersion"] == rest["metadata"]["resourceVersion"]
    await server.stop()


@pytest.mark.parametrize("path", ["/version", CM])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("3m", ""),
        ("0", ""),
        ("-1.5h.5s", ""),
        ("invalid", 'time: invalid duration "invalid"'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("1s.", 'time: invalid duration "1s."'),
    ],
)
async def test_a_time_limit_is_a_duration(call: Caller, path: str, text: str, told: str) -> None:
    code, answer = await call("GET", f"{path}?timeout={text}")
    if told:
        told = f"invalid timeout specified in the request URL - {told}"
    assert (code, answer.get("message", "")) == (400 if told else 200, told)


async def test_a_creation_names_no_revision_unless_it_is_tried(call: Caller) -> None:
    """Upstream's dry run never reaches the store, which is what refuses a revision."""
    body = config("a") | {"metadata": {"name": "a", "resourceVersion": "7"}}
    code, made = await call("POST", f"{CM}?dryRun=All", body)
    assert (code, made["metadata"]["resourceVersion"]) == (201, "7")
    code, made = await call("POST", CM, body)
    assert (code, made["message"]) == (500, "resourceVersion should not be set on objects to be created")


async def test_dry_run_leaves_nothing(call: Caller) -> None:
    code, made = await call("POST", f"{CM}?dryRun=All", config("a"))
    assert code == 201 and "resourceVersion" not in made["metadata"]
    assert (await call("GET", f"{CM}/a"))[0] == 404


async def test_finalizers_hold_an_object_until_the_last_one_goes(call: Caller) -> None:
    held = config("a")
    held["metadata"]["finalizers"] = ["example.com/x"]
    await call("POST", CM, held)
    code, dying = await call("DELETE", f"{CM}/a")
    assert code == 200 and dying["kind"] == "ConfigMap" and dying["metadata"]["deletionTimestamp"]
    release = {"metadata": {"finalizers": None}}
    assert (await call("PATCH", f"{CM}/a", release, content_type="application/merge-patch+json"))[0] == 200
    assert (await call("GET", f"{CM}/a"))[0] == 404


async def test_unknown_fields_are_told_or_refused(call: Caller) -> None:
    body = config("a") | {"dat": {}}
    answer = await call.raw("POST", f"{CM}?fieldValidation=Warn", body)
    assert answer.code == 201 and ("Warning", '299 - "unknown field \\"dat\\""') in answer.headers
    code, refused = await call("POST", f"{CM}?fieldValidation=Strict", body | {"metadata": {"name": "b"}})
    assert code == 400 and 'strict decoding error: unknown field "dat"' in refused["message"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/namespaces/default/pod", 404),
        ("GET", "/api/v1/configmaps/a", 404),
        ("GET", "/api/v1/namespaces/default//configmaps", 404),
        ("GET", "/api/v1/namespaces/default/configmaps/../secrets", 404),
        ("GET", "/api/v1/namespaces/default/configmaps/a/status", 404),
        ("POST", "/api/v1/configmaps", 405),
        ("PUT", "/api/v1/namespaces/default/configmaps", 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("GET", "/apis/authentication.k8s.io/v1/tokenreviews", 405),
    ],
)
async def test_paths_and_methods_that_are_not_served(call: Caller, method: str, path: str, code: int) -> None:
    answer, status = await call(method, path)
    assert answer == code and status["kind"] == "Status"


@pytest.mark.parametrize(
    ("accept", "code", "kind"),
    [
        ("text/html", 406, "Status"),
        ("application/*", 406, "Status"),
        ("text/html, */*;q=0.1", 200, "NamespaceList"),
        ("application/vnd.kubernetes.protobuf,application/json", 200, "NamespaceList"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io", 200, "Table"),
        ("application/json;as=Table;v=v9;g=meta.k8s.io", 406, "Status"),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", 200, "PartialObjectMetadataList"),
    ],
)
async def test_the_accept_header_chooses_the_form(call: Caller, accept: str, code: int, kind: str) -> None:
    answer = await call.raw("GET", "/api/v1/namespaces", accept=accept)
    protobuf = answer.content_type == "application/vnd.kubernetes.protobuf"
    assert protobuf == accept.startswith("application/vnd.kubernetes.protobuf")
    body = decode_protobuf(answer.body) if protobuf else orjson.loads(answer.body)
    assert (answer.code, body["kind"]) == (code, kind)


async def test_service_addresses_are_taken_once_and_given_back(call: Caller) -> None:
    place = "/api/v1/namespaces/default/services"

    def service(name: str, ip: str = "") -> dict[str, Any]:
        spec = {"ports": [{"port": 80}]} | ({"clusterIP": ip} if ip else {})
        return {"metadata": {"name": name}, "spec": spec}

    _, first = await call("POST", place, service("a"))
    ip = first["spec"]["clusterIP"]
    assert ip.startswith("10.96.") and first["spec"]["clusterIPs"] == [ip]
    code, refused = await call("POST", place, service("b", ip))
    assert code == 422 and "provided IP is already allocated" in refused["message"]
    await call("DELETE", f"{place}/a")
    assert (await call("POST", place, service("b", ip)))[0] == 201
    free = next(other for other in ("10.96.77.77", "10.96.77.78") if other != ip)
    await call("POST", f"{place}?dryRun=All", service("c", free))
    assert (await call("POST", place, service("c", free)))[0] == 201


async def test_a_watch_begins_behind_a_revision_and_ends_in_time(call: Caller) -> None:
    _, made = await call("POST", CM, config("a"))
    await call("POST", CM, config("b"))
    await call("DELETE", f"{CM}/a")
    revision = made["metadata"]["resourceVersion"]
    answer = await call.raw("GET", f"{CM}?watch=1&resourceVersion={revision}&timeoutSeconds=1")
    assert answer.stream is not None
    events = [orjson.loads(line) for line in b"".join([p async for p in answer.stream]).splitlines()]
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [("ADDED", "b"), ("DELETED", "a")]


async def test_initial_events_close_with_a_bookmark(call: Caller) -> None:
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    answer = await call.raw("GET", f"/api/v1/namespaces/default/pods?{query}")
    assert answer.stream is not None
    events = [orjson.loads(line) for line in b"".join([p async for p in answer.stream]).splitlines()]
    assert events[-1]["type"] == "BOOKMARK"
    assert events[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert events[-1]["object"]["spec"] == {"containers": None}


async def test_bodies_beyond_the_limit_are_413(call: Caller) -> None:
    request = call.make(method="POST", path=CM, query="", headers={}, body=b"", too_large=True)
    answer = await call.server.handler(request)
    assert (answer.code, orjson.loads(answer.body)["reason"]) == (413, "RequestEntityTooLarge")


async def test_discovery_lists_every_kind_once(call: Caller) -> None:
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    _, groups = await call("GET", "/apis", accept=aggregated)
    names = [g["metadata"]["name"] for g in groups["items"]]
    assert names[:2] == ["apiregistration.k8s.io", "apps"] and len(names) == len(set(names))
    _, old = await call("GET", "/apis")
    assert [g["name"] for g in old["groups"]] == names
    _, index = await call("GET", "/openapi/v3")
    assert {"api/v1", "apis/apps/v1"} <= set(index["paths"])


async def test_openapi_has_no_empty_lists_so_that_a_client_writes_what_it_read(call: Caller) -> None:
    for path in ("/openapi/v2", "/openapi/v3/api/v1", "/openapi/v3/apis/coordination.k8s.io/v1"):
        _, document = await call("GET", path)
        for where, item in document["paths"].items():
            operations = [held for held in item.values() if isinstance(held, dict)]
            assert all(held.get("parameters") != [] for held in [item, *operations]), where


async def test_a_binding_without_a_pods_name_is_refused(call: Caller) -> None:
    said = {"apiVersion": "v1", "kind": "Binding", "metadata": {}, "target": {"name": "n"}}
    code, status = await call("POST", "/api/v1/namespaces/default/bindings", said)
    assert (code, status["message"]) == (400, "Name parameter required.")


async def test_a_review_tells_who_sent_which_fields(call: Caller) -> None:
    said = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "none"}}
    code, made = await call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", said)
    assert code == 201
    assert [e["fieldsV1"] for e in made["metadata"]["managedFields"]] == [{"f:spec": {"f:token": {}}}]


async def test_a_list_given_empty_belongs_to_its_writer(call: Caller) -> None:
    said = {"metadata": {"name": "none"}, "rules": []}
    code, made = await call("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", said)
    assert (code, made["rules"]) == (201, None)
    assert [e["fieldsV1"] for e in made["metadata"]["managedFields"]] == [{"f:rules": {}}]


async def test_what_is_wrong_twice_in_the_same_words_is_one_cause(call: Caller) -> None:
    said = {"metadata": {"name": "w", "labels": {"a": " ", "b": " "}}}
    code, status = await call("POST", "/api/v1/namespaces/default/configmaps", said)
    assert (code, [c["field"] for c in status["details"]["causes"]]) == (422, ["metadata.labels"])
