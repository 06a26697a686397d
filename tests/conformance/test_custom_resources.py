"""The conformance lines on custom resources and field validation, with the real kubectl wherever a person would use it."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from portside.api.kinds import KINDS
from tests.conformance.names import conformance
from tests.conftest import Cluster
from tests.webhook_server import WebhookServer

Json = dict[str, Any]
FOO: Json = {
    "type": "object",
    "description": "Foo CRD for testing",
    "properties": {
        "spec": {
            "type": "object",
            "description": "Specification of Foo",
            "properties": {
                "bars": {
                    "type": "array",
                    "description": "List of Bars and their specs.",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string", "description": "Name of Bar."},
                            "age": {"type": "string", "description": "Age of Bar."},
                            "bazs": {"type": "array", "items": {"type": "string"}, "description": "List of Bazs."},
                        },
                    },
                }
            },
        },
        "status": {"type": "object", "description": "Status of Foo", "properties": {"bars": {"type": "string"}}},
    },
}
FREE: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class Crds:
    """Definitions in a group of the test's own, deleted at its end."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.group = f"g{uuid.uuid4().hex[:8]}.example.com"
        self.made: list[str] = []

    def k(self, *words: str, stdin: Any = None, check: bool = True) -> str:
        text = stdin if stdin is None or isinstance(stdin, str) else json.dumps(stdin)
        return self.cluster.kubectl(*words, stdin=text, check=check)

    def fails(self, *words: str, stdin: Any = None) -> str:
        """What kubectl says when it is refused."""
        told = self.k(*words, stdin=stdin, check=False)
        assert "rror" in told or "invalid" in told, told
        return told

    def raw(self, path: str) -> Any:
        return json.loads(self.k("get", "--raw", path))

    def define(
        self, kind: str, *versions: Json, schema: Json | None = None, group: str = "", labels: Any = None, **more: Any
    ) -> str:
        plural = kind.lower() + "s"
        made = list(versions) or [self.version("v1", schema or FREE)]
        name = f"{plural}.{group or self.group}"
        body = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name} | ({"labels": labels} if labels else {}),
            "spec": {
                "group": group or self.group,
                "scope": "Namespaced",
                "names": {"plural": plural, "kind": kind},
                "versions": made,
            }
            | more,
        }
        self.k("create", "-f", "-", stdin=body)
        self.made.append(name)
        self.k("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")
        return name

    @staticmethod
    def version(name: str, schema: Json, *, storage: bool = True, **more: Any) -> Json:
        return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}} | more

    def cr(self, kind: str, name: str = "test-cr", version: str = "v1", **more: Any) -> Json:
        return {"apiVersion": f"{self.group}/{version}", "kind": kind, "metadata": {"name": name}} | more

    def definition(self, kind: str, version: str = "v1", group: str = "") -> Json | None:
        """The published definition of OpenAPI v2."""
        name = ".".join([*reversed((group or self.group).split(".")), version, kind])
        found: Json | None = self.raw("/openapi/v2")["definitions"].get(name)
        return found


@pytest.fixture
def crds(simulated: Cluster) -> Iterator[Crds]:
    made = Crds(simulated)
    yield made
    for name in made.made:
        made.k("delete", "crd", name, "--ignore-not-found", "--wait=false")


def plain(definition: Json | None) -> Json:
    """A published definition without what every kind has."""
    assert definition is not None
    left = {k: v for k, v in definition.items() if k != "x-kubernetes-group-version-kind"}
    properties = {k: v for k, v in left.pop("properties", {}).items() if k not in ("apiVersion", "kind", "metadata")}
    return left | ({"properties": properties} if properties else {})


# --- custom resources --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hooks() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


def host_and_port(request: Json) -> Any:
    """v1 says hostPort, v2 host and port."""
    from aiohttp import web

    made = []
    for obj in request["objects"]:
        new = {k: v for k, v in obj.items() if k not in ("hostPort", "host", "port")}
        if request["desiredAPIVersion"].endswith("/v2") and "hostPort" in obj:
            new["host"], new["port"] = obj["hostPort"].split(":")
        elif "host" in obj:
            new["hostPort"] = f"{obj['host']}:{obj['port']}"
        made.append(new | {"apiVersion": request["desiredAPIVersion"]})
    response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": made}
    head = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"}
    return web.json_response(head | {"response": response})


def converting(crds: Crds, hooks: WebhookServer) -> str:
    hooks.on("/crdconvert", host_and_port)
    text = {"type": "string"}
    webhook = {"clientConfig": hooks.at("/crdconvert"), "conversionReviewVersions": ["v1"]}
    return crds.define(
        "Endpoint",
        crds.version("v1", {"type": "object", "properties": {"hostPort": text}}),
        crds.version("v2", {"type": "object", "properties": {"host": text, "port": text}}, storage=False),
        conversion={"strategy": "Webhook", "webhook": webhook},
    )


@conformance("custom resources", "conversion webhook: v1 to v2")
def test_conversion_webhook_v1_to_v2(crds: Crds, hooks: WebhookServer) -> None:
    converting(crds, hooks)
    crds.k("create", "-f", "-", stdin=crds.cr("Endpoint", hostPort="localhost:8080"))
    found = json.loads(crds.k("get", f"endpoints.v2.{crds.group}", "test-cr", "-o", "json"))
    assert (found["apiVersion"], found["host"], found["port"]) == (f"{crds.group}/v2", "localhost", "8080")


@conformance("custom resources", "conversion webhook: list of mixed stored versions")
def test_conversion_webhook_list_of_mixed_stored_versions(crds: Crds, hooks: WebhookServer) -> None:
    name = converting(crds, hooks)
    crds.k("create", "-f", "-", stdin=crds.cr("Endpoint", "old", hostPort="a:1"))
    swap = [{"op": "replace", "path": f"/spec/versions/{i}/storage", "value": bool(i)} for i in (0, 1)]
    crds.k("patch", "crd", name, "--type=json", "-p", json.dumps(swap))
    crds.k("create", "-f", "-", stdin=crds.cr("Endpoint", "new", "v2", host="b", port="2"))
    for version, read in (("v1", lambda i: i["hostPort"]), ("v2", lambda i: f"{i['host']}:{i['port']}")):
        items = json.loads(crds.k("get", f"endpoints.{version}.{crds.group}", "-o", "json"))["items"]
        assert [read(i) for i in items] == ["b:2", "a:1"]


@conformance("custom resources", "watch on custom resources: create, modify, delete")
def test_watch_on_custom_resources_create_modify_delete(crds: Crds) -> None:
    crds.define("Noxu")
    path = f"/apis/{crds.group}/v1/namespaces/default/noxus"
    path += f"?watch=1&timeoutSeconds=100&resourceVersion={crds.raw(path)['metadata']['resourceVersion']}"
    command = [str(crds.cluster.tools / "kubectl"), "--kubeconfig", str(crds.cluster.kubeconfig), "get", "--raw", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        crds.k("create", "-f", "-", stdin=crds.cr("Noxu", content={"key": "a"}))
        crds.k("patch", "noxus", "test-cr", "--type=merge", "-p", '{"content":{"key":"b"}}')
        crds.k("delete", "noxus", "test-cr")
        assert watching.stdout is not None
        events = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.kill()
    assert [e["type"] for e in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert [e["object"]["content"]["key"] for e in events] == ["a", "b", "b"]


@conformance("custom resources", "CRD create and delete")
def test_crd_create_and_delete(crds: Crds) -> None:
    name = crds.define("Foo", schema=FOO)
    assert f"customresourcedefinition.apiextensions.k8s.io/{name}" in crds.k("get", "crd", "-o", "name")
    crds.k("delete", "crd", name, "--timeout=60s")
    assert "NotFound" in crds.fails("get", "crd", name)


@conformance("custom resources", "CRD status subresource get, update, patch")
def test_crd_status_subresource_get_update_patch(crds: Crds) -> None:
    name = crds.define("Foo", schema=FOO)
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}/status"
    assert {c["type"] for c in crds.raw(path)["status"]["conditions"]} == {"NamesAccepted", "Established"}
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a test"}
    patch = [{"op": "add", "path": "/status/conditions/-", "value": condition}]
    crds.k("patch", "crd", name, "--subresource=status", "--type=json", "-p", json.dumps(patch))
    body = json.loads(crds.k("get", "crd", name, "-o", "json"))
    mine = next(c for c in body["status"]["conditions"] if c["type"] == "StatusUpdate")
    mine["message"] = "again"
    crds.k("replace", "--subresource=status", "-f", "-", stdin=body)
    assert mine in crds.raw(path)["status"]["conditions"]


@conformance("custom resources", "CRD list by label + deletecollection")
def test_crd_list_by_label_and_deletecollection(crds: Crds) -> None:
    label = uuid.uuid4().hex[:8]
    for kind in ("Alpha", "Beta", "Gamma"):
        crds.define(kind, labels={"of": label})
    assert len(crds.k("get", "crd", "-l", f"of={label}", "-o", "name").split()) == 3
    crds.k("delete", "crd", "-l", f"of={label}", "--timeout=60s")
    assert crds.k("get", "crd", "-l", f"of={label}", "-o", "name") == ""


@conformance("custom resources", "defaulting on request and when read from storage")
def test_defaulting_on_request_and_when_read_from_storage(crds: Crds) -> None:
    name = crds.define("Noxu", schema={"type": "object", "properties": {"a": {"type": "string"}}})
    crds.k("create", "-f", "-", stdin=crds.cr("Noxu", "before"))
    schema = {"type": "object", "properties": {f: {"type": "string", "default": f.upper()} for f in ("a", "b")}}
    change = [{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]
    crds.k("patch", "crd", name, "--type=json", "-p", json.dumps(change))
    crds.k("create", "-f", "-", stdin=crds.cr("Noxu", "after", a="set"))
    read = {
        i["metadata"]["name"]: (i["a"], i["b"])
        for i in json.loads(crds.k("get", f"noxus.{crds.group}", "-o", "json"))["items"]
    }
    assert read == {"before": ("A", "B"), "after": ("set", "B")}


@conformance("custom resources", "apiextensions group in discovery documents")
def test_apiextensions_group_in_discovery_documents(crds: Crds) -> None:
    groups = {g["name"]: g for g in crds.raw("/apis")["groups"]}
    assert {"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"} in groups["apiextensions.k8s.io"]["versions"]
    assert crds.raw("/apis/apiextensions.k8s.io")["preferredVersion"]["version"] == "v1"
    named = {r["name"] for r in crds.raw("/apis/apiextensions.k8s.io/v1")["resources"]}
    assert {"customresourcedefinitions", "customresourcedefinitions/status"} <= named


@conformance("custom resources", "selectableFields: list, watch, informers by field selector, two versions")
def test_selectable_fields_list_watch_informers_in_two_versions(crds: Crds) -> None:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {f: {"type": "string"} for f in ("color", "size")}}},
    }
    fields = [{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}]
    crds.define(
        "Shirt",
        crds.version("v1", schema, selectableFields=fields[:1]),
        crds.version("v2", schema, storage=False, selectableFields=fields),
    )
    for name, color, size in (("a", "blue", "S"), ("b", "blue", "M"), ("c", "green", "M")):
        crds.k("create", "-f", "-", stdin=crds.cr("Shirt", name, spec={"color": color, "size": size}))

    def names(version: str, selector: str) -> list[str]:
        found = crds.k("get", f"shirts.{version}.{crds.group}", "--field-selector", selector, "-o", "name")
        return [line.rpartition("/")[2] for line in found.split()]

    assert names("v1", "spec.color=blue") == ["a", "b"]
    assert names("v2", "spec.color=blue,spec.size=M") == ["b"]
    told = crds.fails("get", f"shirts.v1.{crds.group}", "--field-selector", "spec.size=M")
    assert "field label not supported: spec.size" in told
    path = f"/apis/{crds.group}/v2/namespaces/default/shirts?watch=1&timeoutSeconds=1&fieldSelector=spec.size%3DM"
    initial = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    events = [json.loads(line) for line in crds.k("get", "--raw", path + initial).splitlines()]
    assert [e["type"] for e in events] == ["ADDED", "ADDED", "BOOKMARK"]
    assert events[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


@conformance("custom resources", "OpenAPI: version no longer served disappears")
def test_openapi_version_no_longer_served_disappears(crds: Crds) -> None:
    name = crds.define("Foo", crds.version("v5", FOO), crds.version("v6alpha1", FOO, storage=False))
    assert plain(crds.definition("Foo", "v6alpha1")) == FOO
    change = [{"op": "replace", "path": "/spec/versions/1/served", "value": False}]
    crds.k("patch", "crd", name, "--type=json", "-p", json.dumps(change))
    assert crds.definition("Foo", "v6alpha1") is None and plain(crds.definition("Foo", "v5")) == FOO


@conformance("custom resources", "OpenAPI: version renamed")
def test_openapi_version_renamed(crds: Crds) -> None:
    name = crds.define("Foo", crds.version("v2", FOO), crds.version("v3", FOO, storage=False))
    change = [{"op": "replace", "path": "/spec/versions/1/name", "value": "v4"}]
    crds.k("patch", "crd", name, "--type=json", "-p", json.dumps(change))
    assert crds.definition("Foo", "v3") is None
    assert plain(crds.definition("Foo", "v4")) == FOO and plain(crds.definition("Foo", "v2")) == FOO


@conformance("custom resources", "OpenAPI: preserve-unknown-fields at root (kubectl create/apply/explain)")
def test_openapi_preserve_unknown_fields_at_the_root(crds: Crds) -> None:
    schema = FREE | {"properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}
    crds.define("Waldo", schema=schema)
    assert plain(crds.definition("Waldo")) == {"type": "object"}
    crds.k("create", "-f", "-", stdin=crds.cr("Waldo", spec={"a": "x"}, more={"b": 1}))
    crds.k("apply", "-f", "-", stdin=crds.cr("Waldo", "applied", anything=1))
    assert "KIND:       Waldo" in crds.k("explain", "waldos", "--api-version", f"{crds.group}/v1")


@conformance("custom resources", "OpenAPI: preserve-unknown-fields in embedded object")
def test_openapi_preserve_unknown_fields_in_an_embedded_object(crds: Crds) -> None:
    schema = {"type": "object", "description": "free below", "properties": {"spec": FREE | {"description": "Free."}}}
    crds.define("Waldo", schema=schema)
    crds.k("create", "-f", "-", stdin=crds.cr("Waldo", spec={"a": None, "b": [{"c": "d"}]}))
    crds.k("apply", "-f", "-", stdin=crds.cr("Waldo", "applied", spec={"anything": 1}))
    assert "free below" in crds.k("explain", "waldos", "--api-version", f"{crds.group}/v1")


@conformance("custom resources", "OpenAPI: CRD with validation schema (kubectl accepts, rejects, explains)")
def test_openapi_crd_with_a_validation_schema(crds: Crds) -> None:
    crds.define("Foo", schema=FOO)
    assert plain(crds.definition("Foo")) == FOO
    good = crds.cr("Foo", spec={"bars": [{"name": "test-bar"}]})
    assert "created" in crds.k("create", "-f", "-", stdin=good)
    good["spec"]["bars"][0]["age"] = "10"
    assert "configured" in crds.k("apply", "-f", "-", stdin=good)
    unknown = crds.cr("Foo", "bad", spec={"bars": [{"name": "b", "unknown": 1}]})
    assert 'unknown field "spec.bars[0].unknown"' in crds.fails("create", "-f", "-", stdin=unknown)
    missing = crds.cr("Foo", "bad", spec={"bars": [{"age": "10"}]})
    assert "spec.bars[0].name: Required value" in crds.fails("create", "-f", "-", stdin=missing)
    version = ("--api-version", f"{crds.group}/v1")
    assert "Specification of Foo" in crds.k("explain", "foos.spec", *version)
    bars = crds.k("explain", "foos.spec.bars", *version)
    assert "List of Bars" in bars and "name\t<string> -required-" in bars
    assert "bazs" in crds.k("explain", "foos.spec.bars", "--recursive", *version)
    assert 'field "bars2" does not exist' in crds.fails("explain", "foos.spec.bars2", *version)


@conformance("custom resources", "OpenAPI: CRD without validation schema")
def test_openapi_crd_without_a_validation_schema(crds: Crds) -> None:
    crds.define("Empty")
    assert plain(crds.definition("Empty")) == {"type": "object"}
    crds.k("create", "-f", "-", stdin=crds.cr("Empty", anything={"goes": True}))
    assert "KIND:       Empty" in crds.k("explain", "emptys", "--api-version", f"{crds.group}/v1")


@conformance("custom resources", "OpenAPI: several CRDs, different groups")
def test_openapi_several_crds_of_different_groups(crds: Crds) -> None:
    other = f"other-{crds.group}"
    crds.define("Foo", schema=FOO)
    crds.define("Waldo", crds.version("v1beta1", FOO), group=other)
    assert plain(crds.definition("Foo")) == FOO and plain(crds.definition("Waldo", "v1beta1", other)) == FOO


@conformance("custom resources", "OpenAPI: several CRDs, same group-version, different kinds")
def test_openapi_several_crds_of_one_group_version(crds: Crds) -> None:
    crds.define("Foo", crds.version("v6", FOO))
    crds.define("Waldo", crds.version("v6", FOO))
    assert plain(crds.definition("Foo", "v6")) == FOO and plain(crds.definition("Waldo", "v6")) == FOO
    document = crds.raw(f"/openapi/v3/apis/{crds.group}/v6")["components"]["schemas"]
    prefix = ".".join(reversed(crds.group.split(".")))
    assert {f"{prefix}.v6.Foo", f"{prefix}.v6.Waldo", f"{prefix}.v6.FooList"} <= document.keys()


@conformance("custom resources", "OpenAPI: several CRDs, same group, different versions")
def test_openapi_several_crds_of_one_group_in_different_versions(crds: Crds) -> None:
    crds.define("Foo", crds.version("v4", FOO))
    crds.define("Waldo", crds.version("v5", FOO))
    assert plain(crds.definition("Foo", "v4")) == FOO and plain(crds.definition("Waldo", "v5")) == FOO


# --- field validation --------------------------------------------------------------------------------------------------


@conformance("field validation", "CR with unknown fields accepted when the CRD has no schema")
def test_cr_with_unknown_fields_is_accepted_without_a_schema(crds: Crds) -> None:
    crds.define("Free")
    apply = ("apply", "--server-side", "--validate=strict", "-f", "-")
    assert "serverside-applied" in crds.k(*apply, stdin=crds.cr("Free", spec={"knownField": 1, "unknown": 2}))


@conformance("field validation", "valid CR accepted when the CRD has a schema")
def test_valid_cr_is_accepted_with_a_schema(crds: Crds) -> None:
    crds.define("Foo", schema=FOO)
    assert "created" in crds.k("create", "-f", "-", stdin=crds.cr("Foo", spec={"bars": [{"name": "x"}]}))


@conformance("field validation", "CR with extra properties rejected when the CRD has a schema")
def test_cr_with_extra_properties_is_refused_with_a_schema(crds: Crds) -> None:
    crds.define("Foo", schema=FOO)
    body = crds.cr("Foo", spec={"bars": [{"name": "x"}], "extra": 1})
    assert 'unknown field "spec.extra"' in crds.fails("create", "-f", "-", stdin=body)


@conformance("field validation", "duplicate fields in a CR found even when unknown fields are preserved")
def test_duplicate_fields_in_a_cr_are_found_even_when_unknown_ones_are_preserved(crds: Crds) -> None:
    crds.define("Free")
    text = json.dumps(crds.cr("Free", spec={"a": 1}))[:-2] + ', "a": 2, "unknown": {"b": 1, "b": 2}}}'
    path = f"/apis/{crds.group}/v1/namespaces/default/frees?fieldValidation=Strict"
    told = crds.fails("create", "--raw", path, "-f", "-", stdin=text)
    assert 'duplicate field "spec.a", duplicate field "spec.unknown.b"' in told


@conformance("field validation", "unknown and duplicate fields of a typed object found")
def test_unknown_and_duplicate_fields_of_a_typed_object_are_found(crds: Crds) -> None:
    body = """{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"unknown1":"v","paused":true,
    "paused":false,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},
    "spec":{"containers":[{"name":"n","image":"i"}]}}}}"""
    path = "/apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict"
    told = crds.fails("create", "--raw", path, "-f", "-", stdin=body)
    assert 'unknown field "spec.unknown1"' in told and 'duplicate field "spec.paused"' in told


@conformance("field validation", "unknown metadata fields of a CR found, root and embedded")
def test_unknown_metadata_fields_of_a_cr_are_found_root_and_embedded(crds: Crds) -> None:
    template = FREE | {"x-kubernetes-embedded-resource": True}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"template": template}}}}
    crds.define("Holder", schema=schema)
    inner = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "unknownSub": 1}}
    body = crds.cr("Holder", spec={"template": inner})
    body["metadata"]["unknownMeta"] = "m"
    told = crds.fails("create", "-f", "-", stdin=body)
    assert 'unknown field "metadata.unknownMeta"' in told
    assert 'unknown field "spec.template.metadata.unknownSub"' in told


@conformance("field validation", "unknown metadata fields of a typed object found")
def test_unknown_metadata_fields_of_a_typed_object_are_found(crds: Crds) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "unknownMeta": 1}}
    assert 'unknown field "metadata.unknownMeta"' in crds.fails("create", "-f", "-", stdin=body)


# --- discovery ---------------------------------------------------------------------------------------------------------


@conformance("discovery and aggregation", "aggregated discovery client: CRD shows up")
def test_aggregated_discovery_shows_a_crd(crds: Crds) -> None:
    crds.define("Noxu", crds.version("v1", FREE, subresources={"status": {}}))
    assert "noxus" in crds.k("api-resources", f"--api-group={crds.group}", "-o", "name")
    groups = [g["name"] for g in crds.raw("/apis")["groups"]]
    before = groups[: groups.index(crds.group)]
    assert {k.group for k in KINDS if k.group} <= {*before}, "groups of custom resources come last"


def test_a_chart_installs_its_definitions_and_an_instance(crds: Crds, tmp_path: Any) -> None:
    chart = tmp_path / "chart"
    for folder in ("crds", "templates"):
        (chart / folder).mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: widgets\nversion: 0.1.0\n")
    names = {"plural": "gears", "kind": "Gear"}
    spec = {"group": crds.group, "scope": "Namespaced", "names": names, "versions": [crds.version("v1", FREE)]}
    head = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    body = head | {"metadata": {"name": f"gears.{crds.group}"}, "spec": spec}
    (chart / "crds" / "gear.yaml").write_text(json.dumps(body))
    (chart / "templates" / "gear.yaml").write_text(json.dumps(crds.cr("Gear", "from-chart", spec={"teeth": 12})))
    crds.made.append(f"gears.{crds.group}")
    helm = str(crds.cluster.tools / "helm")
    command = [helm, "install", "gears", str(chart), "--kubeconfig", str(crds.cluster.kubeconfig), "--wait"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert json.loads(crds.k("get", "gears", "from-chart", "-o", "json"))["spec"] == {"teeth": 12}
    subprocess.run([helm, "uninstall", "gears", "--kubeconfig", str(crds.cluster.kubeconfig)], check=True, timeout=240)
