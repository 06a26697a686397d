"""Custom resources over a store in memory: from a definition to served objects and back to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from tests.unit.server.test_engine import Caller
from tests.webhook_server import WebhookServer

from portside.base.pki import Pki, ensure_pki
from portside.server.app import ApiServer
from portside.server.bootstrap.apply import Place, bootstrap
from portside.server.request import Response
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
V1, V2 = "/apis/ex.io/v1/namespaces/default/widgets", "/apis/ex.io/v2/namespaces/default/widgets"
MERGE = "application/merge-patch+json"
SPEC: Json = {"type": "object", "properties": {"a": {"type": "string"}, "n": {"type": "integer", "default": 1}}}


def version(name: str, spec: Json = SPEC, **more: Any) -> Json:
    schema = {"type": "object", "properties": {"spec": spec}}
    return {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}} | more


def definition(*versions: Json, plural: str = "widgets", kind: str = "Widget", **more: Any) -> Json:
    names = {"plural": plural, "kind": kind}
    spec = {"group": "ex.io", "names": names, "scope": "Namespaced", "versions": list(versions)} | more
    head = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return head | {"metadata": {"name": f"{plural}.ex.io"}, "spec": spec}


def widget(name: str, api: str = "v1", **spec: Any) -> Json:
    return {"apiVersion": f"ex.io/{api}", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
async def pki(tmp_path: Path) -> Pki:
    return ensure_pki(tmp_path)


@pytest.fixture
async def call(pki: Pki) -> AsyncIterator[Caller]:
    server = ApiServer(MemoryBackend(), pki)
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443), pki)
    yield Caller(server)
    await server.stop()


@pytest.fixture(scope="module")
def hooks() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


async def holds(test: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(60):
        while not await test():
            await asyncio.sleep(0.01)


async def until(call: Caller, path: str, code: int) -> Any:
    found: list[Response] = []

    async def answered() -> bool:
        found[:] = [await call.raw("GET", path)]
        return found[0].code == code

    await holds(answered)
    return orjson.loads(found[0].body) if found[0].body[:1] == b"{" else found[0].body


async def define(call: Caller, body: Json, served: str = V1) -> None:
    code, made = await call("POST", CRDS, body)
    assert code == 201, made
    await until(call, served, 200)


class Watching:
    """A watch that is read beside the test."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self.found: list[Json] = []
        self._reading = asyncio.create_task(self._read(stream))

    async def _read(self, stream: AsyncIterator[bytes]) -> None:
        async for piece in stream:
            self.found += [orjson.loads(line) for line in piece.splitlines()]

    async def first(self, count: int) -> list[Json]:
        """Its first events, when they are there."""

        async def enough() -> bool:
            return len(self.found) >= count or self._reading.done()

        await holds(enough)
        return self.found


async def watching(call: Caller, path: str) -> Watching:
    answer = await call.raw("GET", f"{path}&timeoutSeconds=60")
    assert answer.stream is not None
    return Watching(answer.stream)


async def events(call: Caller, path: str, count: int) -> list[Json]:
    """The first events of a watch."""
    return await (await watching(call, path)).first(count)


async def test_a_definition_is_served_until_it_is_deleted_and_takes_its_objects_along(call: Caller) -> None:
    await define(call, definition(version("v1")))
    assert (await call("POST", V1, widget("a", a="x")))[1]["spec"] == {"a": "x", "n": 1}
    watch = await watching(call, f"{V1}?watch=1&resourceVersion=0")
    await watch.first(1)
    code, going = await call("DELETE", f"{CRDS}/widgets.ex.io")
    assert code == 200 and going["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    assert [e["type"] for e in await watch.first(2)] == ["ADDED", "DELETED"]
    assert await until(call, V1, 404) == b"404 page not found\n"
    await until(call, f"{CRDS}/widgets.ex.io", 404)
    assert (await call.raw("GET", "/apis/ex.io")).code == 404


async def test_an_instance_with_a_finalizer_holds_its_definition_and_no_new_one_may_come(call: Caller) -> None:
    await define(call, definition(version("v1")))
    await call("POST", V1, widget("a") | {"metadata": {"name": "a", "finalizers": ["ex.io/hold"]}})
    await call("DELETE", f"{CRDS}/widgets.ex.io")
    code, refused = await call("POST", V1, widget("b"))
    assert code == 405
    assert refused["message"] == "create not allowed while custom resource definition is terminating"

    async def going() -> Any:
        return (await call("GET", f"{V1}/a"))[1]["metadata"].get("deletionTimestamp")

    await holds(going)
    assert (await call("PATCH", f"{V1}/a", {"metadata": {"finalizers": None}}, content_type=MERGE))[0] == 200
    await until(call, f"{CRDS}/widgets.ex.io", 404)


async def test_a_restart_serves_what_was_defined_and_goes_on_with_an_end(pki: Pki) -> None:
    backend = MemoryBackend()
    first = ApiServer(backend, pki)
    await first.start()
    await bootstrap(first, Place("127.0.0.1", 6443), pki)
    before = Caller(first)
    await define(before, definition(version("v1")))
    await before("POST", V1, widget("a", a="x"))
    await first.keeper.stop()
    await before("DELETE", f"{CRDS}/widgets.ex.io")
    await first.caches.close()
    second = ApiServer(backend, pki)
    await second.start()
    await until(Caller(second), f"{CRDS}/widgets.ex.io", 404)
    assert not len(second.caches.of("ex.io", "widgets"))
    await second.stop()


async def test_what_was_stored_before_a_schema_changed_is_pruned_and_defaulted_when_read(call: Caller) -> None:
    await define(call, definition(version("v1")))
    await call("POST", V1, widget("a", a="x", n=2))
    changed = {"type": "object", "properties": {"n": {"type": "integer"}, "m": {"type": "string", "default": "new"}}}
    operation = [{"op": "replace", "path": "/spec/versions/0", "value": version("v1", changed)}]
    code, _ = await call("PATCH", f"{CRDS}/widgets.ex.io", operation, content_type="application/json-patch+json")
    assert code == 200
    assert (await call("GET", f"{V1}/a"))[1]["spec"] == {"n": 2, "m": "new"}
    assert [i["spec"] for i in (await call("GET", V1))[1]["items"]] == [{"n": 2, "m": "new"}]
    (seen,) = await events(call, f"{V1}?watch=1&resourceVersion=0", 1)
    assert seen["object"]["spec"] == {"n": 2, "m": "new"}


async def test_selecting_by_a_field_in_one_version_leaves_the_other_as_it_is(call: Caller) -> None:
    text = {"type": "string"}
    both = {"type": "object", "properties": {"a": text, "b": text}}
    one = {"type": "object", "properties": {"a": text}}
    select = [{"jsonPath": ".spec.a"}], [{"jsonPath": ".spec.b"}]
    versions = version("v1", both, selectableFields=select[1]), version("v2", one, selectableFields=select[0])
    await define(call, definition(*versions))
    await call("POST", V1, widget("w", a="x", b="y"))
    for path in (f"{V2}?fieldSelector=spec.a%3Dx", f"{V1}?fieldSelector=spec.b%3Dy"):
        assert len((await call("GET", path))[1]["items"]) == 1
    assert (await call("GET", f"{V1}/w"))[1]["spec"] == {"a": "x", "b": "y"}


async def test_a_changed_schema_ends_the_watches_of_the_old_one(call: Caller) -> None:
    await define(call, definition(version("v1")))
    answer = await call.raw("GET", f"{V1}?watch=1")
    assert answer.stream is not None
    reading = asyncio.create_task(anext(aiter(answer.stream), None))
    await asyncio.sleep(0)
    other = version("v1", {"type": "object"})
    await call("PATCH", f"{CRDS}/widgets.ex.io", {"spec": {"versions": [other]}}, content_type=MERGE)
    assert await asyncio.wait_for(reading, 60) is None


async def test_names_are_accepted_once_and_go_to_the_next_when_they_are_free(call: Caller) -> None:
    await define(call, definition(version("v1")))
    await call("POST", CRDS, definition(version("v1"), plural="widgetz"))

    async def conditions() -> Any:
        return (await call("GET", f"{CRDS}/widgetz.ex.io"))[1]["status"]["conditions"]

    await holds(conditions)
    told = {c["type"]: (c["status"], c["reason"], c["message"]) for c in await conditions()}
    assert told["NamesAccepted"] == ("False", "ListKindConflict", '"WidgetList" is already in use')
    assert told["Established"] == ("False", "NotAccepted", "not all names are accepted")
    assert (await call.raw("GET", V1.replace("widgets", "widgetz"))).code == 404
    await call("DELETE", f"{CRDS}/widgets.ex.io")
    await until(call, V1.replace("widgets", "widgetz"), 200)


async def test_a_definition_in_a_built_in_group_leaves_the_group_as_it_is(call: Caller) -> None:
    body = definition(version("v1"), group="networking.k8s.io")
    body["metadata"] = {"name": "widgets.networking.k8s.io"}
    code, refused = await call("POST", CRDS, body)
    assert code == 422 and "protected groups must have approval annotation" in refused["message"]
    body["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, a test"}
    await define(call, body, "/apis/networking.k8s.io/v1/namespaces/default/widgets")
    status = (await call("GET", f"{CRDS}/widgets.networking.k8s.io"))[1]["status"]
    told = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    assert told["KubernetesAPIApprovalPolicyConformant"] == ("False", "UnapprovedAnnotation")
    assert (await call("GET", "/apis/networking.k8s.io/v1/ingresses"))[1]["kind"] == "IngressList"
    assert (await call("GET", "/apis/networking.k8s.io/v1/nothing"))[1]["reason"] == "NotFound"


async def test_scale_reads_and_writes_where_the_definition_says(call: Caller) -> None:
    paths = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.sel"}
    spec = {"type": "object", "properties": {"size": {"type": "integer"}}}
    made = version("v1", spec, subresources={"status": {}, "scale": paths})
    made["schema"]["openAPIV3Schema"]["properties"]["status"] = {
        "type": "object",
        "properties": {"size": {"type": "integer"}, "sel": {"type": "string"}},
    }
    await define(call, definition(made))
    await call("POST", V1, widget("a", size=3))
    await call("PATCH", f"{V1}/a/status", {"status": {"size": 2, "sel": "x=y"}}, content_type=MERGE)
    code, scale = await call("GET", f"{V1}/a/scale")
    assert (code, scale["spec"], scale["status"]) == (200, {"replicas": 3}, {"replicas": 2, "selector": "x=y"})
    code, scale = await call("PATCH", f"{V1}/a/scale", {"spec": {"replicas": 5}}, content_type=MERGE)
    assert (code, scale["spec"]) == (200, {"replicas": 5})
    stored = (await call("GET", f"{V1}/a"))[1]
    assert (stored["spec"], stored["metadata"]["generation"]) == ({"size": 5}, 2)
    await call("POST", V1, widget("none"))
    code, missing = await call("GET", f"{V1}/none/scale")
    assert (code, missing["message"]) == (
        500,
        'Internal error occurred: the spec replicas field ".spec.size" does not exist',
    )
    assert (await call("PATCH", f"{V1}/a/scale", {"spec": {"replicas": -1}}, content_type=MERGE))[0] == 422


async def test_openapi_follows_every_change(call: Caller) -> None:
    await define(call, definition(version("v1"), version("v2")), V2)

    async def published() -> tuple[set[str], Any]:
        v2 = (await call("GET", "/openapi/v2"))[1]["definitions"]
        index = (await call("GET", "/openapi/v3"))[1]["paths"]
        return {n for n in v2 if n.startswith("io.ex.")}, index.get("apis/ex.io/v1")

    both, first = await published()
    assert both == {f"io.ex.{v}.{k}" for v in ("v1", "v2") for k in ("Widget", "WidgetList")}
    document = (await call("GET", "/openapi/v3/apis/ex.io/v1"))[1]
    properties = document["components"]["schemas"]["io.ex.v1.Widget"]["properties"]
    assert properties["spec"] == SPEC and "$ref" in properties["metadata"]["allOf"][0]
    assert b'"parameters":[]' not in orjson.dumps(document)
    unserved = [version("v1", {"type": "object"}), version("v2", served=False)]
    await call("PATCH", f"{CRDS}/widgets.ex.io", {"spec": {"versions": unserved}}, content_type=MERGE)
    left, second = await published()
    assert left == {"io.ex.v1.Widget", "io.ex.v1.WidgetList"} and first != second
    await call("DELETE", f"{CRDS}/widgets.ex.io")
    await until(call, f"{CRDS}/widgets.ex.io", 404)
    assert await published() == (set(), None)


# --- several versions, converted by a webhook ------------------------------------------------------------------------


def renaming(request: Json) -> web.Response:
    """v1 says ``a`` where v2 says ``b``."""
    converted = []
    for obj in request["objects"]:
        spec = dict(obj["spec"])
        old, new = ("a", "b") if request["desiredAPIVersion"] == "ex.io/v2" else ("b", "a")
        if old in spec:
            spec[new] = spec.pop(old)
        converted.append(obj | {"apiVersion": request["desiredAPIVersion"], "spec": spec})
    response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted}
    head = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"}
    return web.json_response(head | {"response": response})


def converting(hooks: WebhookServer, decide: Any = renaming) -> Json:
    hooks.on("/convert", decide)
    fields = {"v1": "a", "v2": "b"}
    made = [
        version(name, {"type": "object", "properties": {field: {"type": "string"}}}, selectableFields=[{"jsonPath": f".spec.{field}"}])
        for name, field in fields.items()
    ]  # fmt: skip
    webhook = {"clientConfig": hooks.at("/convert"), "conversionReviewVersions": ["v1"]}
    return definition(*made, conversion={"strategy": "Webhook", "webhook": webhook})


async def test_a_webhook_converts_what_is_read_listed_and_written_in_another_version(
    call: Caller, hooks: WebhookServer
) -> None:
    await define(call, converting(hooks))
    await call("POST", V1, widget("one", a="x"))
    assert not hooks.asked["/convert"]
    assert (await call("GET", f"{V2}/one"))[1]["spec"] == {"b": "x"}
    code, made = await call("POST", V2, widget("two", "v2", b="y"))
    assert (code, made["apiVersion"], made["spec"]) == (201, "ex.io/v2", {"b": "y"})
    assert (await call("GET", f"{V1}/two"))[1]["spec"] == {"a": "y"}
    before = len(hooks.asked["/convert"])
    listed = (await call("GET", V2))[1]["items"]
    assert [(i["apiVersion"], i["spec"]) for i in listed] == [("ex.io/v2", {"b": "x"}), ("ex.io/v2", {"b": "y"})]
    assert len(hooks.asked["/convert"]) == before + 1, "a list asks once"
    found = (await call("GET", f"{V2}?fieldSelector=spec.b%3Dy"))[1]["items"]
    assert [i["metadata"]["name"] for i in found] == ["two"]
    code, patched = await call("PATCH", f"{V2}/one", {"spec": {"b": "z"}}, content_type=MERGE)
    assert (code, patched["spec"]) == (200, {"b": "z"})
    assert (await call("GET", f"{V1}/one"))[1]["spec"] == {"a": "z"}


async def test_a_watch_in_another_version_sees_converted_objects(call: Caller, hooks: WebhookServer) -> None:
    await define(call, converting(hooks))
    await call("POST", V1, widget("one", a="x"))
    watch = await watching(call, f"{V2}?watch=1&resourceVersion=0&fieldSelector=spec.b%3Dx")
    await watch.first(1)
    await call("PATCH", f"{V1}/one", {"spec": {"a": "other"}}, content_type=MERGE)
    seen = await watch.first(2)
    assert [(e["type"], e["object"]["apiVersion"]) for e in seen] == [("ADDED", "ex.io/v2"), ("DELETED", "ex.io/v2")]
    assert seen[0]["object"]["spec"] == {"b": "x"}


async def test_a_watch_in_another_version_tells_only_of_its_selection(call: Caller, hooks: WebhookServer) -> None:
    await define(call, converting(hooks))
    await call("POST", V1, widget("stays", a="x"))
    _, last = await call("POST", V1, widget("never", a="y"))
    since = last["metadata"]["resourceVersion"]
    path = f"{V2}?watch=1&resourceVersion={since}&fieldSelector=spec.b%3Dx"
    watch = await watching(call, path)
    for name, value in (("never", "z"), ("stays", "x2"), ("never", "x"), ("stays", "x")):
        await call("PATCH", f"{V1}/{name}", {"spec": {"a": value}}, content_type=MERGE)
    await call("POST", V1, widget("other", a="other"))
    for name in ("other", "stays", "never"):
        await call("DELETE", f"{V1}/{name}")
    seen = await watch.first(5)
    assert [(e["type"], e["object"]["metadata"]["name"], e["object"]["spec"]["b"]) for e in seen] == [
        ("DELETED", "stays", "x"),
        ("ADDED", "never", "x"),
        ("ADDED", "stays", "x"),
        ("DELETED", "stays", "x"),
        ("DELETED", "never", "x"),
    ]
    revisions = [int(e["object"]["metadata"]["resourceVersion"]) for e in seen]
    assert revisions == sorted(set(revisions)) and revisions[0] > int(since)


async def test_a_list_of_mixed_stored_versions_is_of_one_version(call: Caller, hooks: WebhookServer) -> None:
    await define(call, converting(hooks))
    await call("POST", V1, widget("old", a="x"))
    versions = (await call("GET", f"{CRDS}/widgets.ex.io"))[1]["spec"]["versions"]
    for one in versions:
        one["storage"] = one["name"] == "v2"
    await call("PATCH", f"{CRDS}/widgets.ex.io", {"spec": {"versions": versions}}, content_type=MERGE)
    await until(call, V1, 200)
    await call("POST", V2, widget("new", "v2", b="y"))
    assert [i["spec"] for i in (await call("GET", V2))[1]["items"]] == [{"b": "y"}, {"b": "x"}]
    assert [i["spec"] for i in (await call("GET", V1))[1]["items"]] == [{"a": "y"}, {"a": "x"}]


@pytest.mark.parametrize(
    ("decide", "told"),
    [
        (lambda r: web.Response(status=500, text="boom"), "boom"),
        (
            lambda r: web.json_response(
                {
                    "apiVersion": "apiextensions.k8s.io/v1",
                    "kind": "ConversionReview",
                    "response": {"uid": r["uid"], "result": {"status": "Failure", "message": "cannot"}},
                }
            ),
            "conversion webhook for ex.io/v1, Kind=Widget failed: cannot",
        ),
        (
            lambda r: web.json_response(
                {
                    "apiVersion": "apiextensions.k8s.io/v1",
                    "kind": "ConversionReview",
                    "response": {
                        "uid": r["uid"],
                        "result": {"status": "Success"},
                        "convertedObjects": [
                            o | {"apiVersion": r["desiredAPIVersion"], "metadata": {"name": "stolen"}}
                            for o in r["objects"]
                        ],
                    },
                }
            ),
            "must have the same name: one != stolen",
        ),
    ],
)
async def test_a_webhook_that_fails_is_a_500_that_says_why(
    call: Caller, hooks: WebhookServer, decide: Any, told: str
) -> None:
    await define(call, converting(hooks, decide))
    await call("POST", V1, widget("one", a="x"))
    code, refused = await call("GET", f"{V2}/one")
    assert code == 500 and told in refused["message"]
    assert (await call("GET", f"{V1}/one"))[0] == 200
