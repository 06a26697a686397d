"""Conformance: admission webhooks over custom resources, with the real kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.admission_fixture import Ground, rule
from tests.conformance.names import conformance
from tests.conftest import Cluster
from tests.webhook_server import WebhookServer, deny, patching, within

Json = dict[str, Any]
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
CLOSED = {
    "type": "object",
    "properties": {
        "data": {"type": "object", "properties": {k: {"type": "string"} for k in ("start", "stage-1", "stage-2")}}
    },
}


@pytest.fixture(scope="module")
def hooks() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


@pytest.fixture
def ground(simulated: Cluster, hooks: WebhookServer) -> Iterator[Ground]:
    made = Ground(simulated, hooks)
    yield made
    made.leave()
    simulated.kubectl(
        "delete", "crd", f"things.{made.name}.example.com", "--ignore-not-found", "--wait=false", check=False
    )


class Things:
    """A custom resource of the test's own, and objects of it."""

    def __init__(self, ground: Ground, schema: Json, versions: tuple[str, ...] = ("v1",)) -> None:
        self.ground = ground
        self.group = f"{ground.name}.example.com"
        self.plural = f"things.{self.group}"
        self._schema = schema
        ground.put(self.definition(versions, versions[0]))
        assert within(60, lambda: "No resources found" in ground("get", self.plural, check=False))

    def definition(self, versions: tuple[str, ...], storage: str) -> Json:
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.plural},
            "spec": {
                "group": self.group,
                "scope": "Namespaced",
                "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
                "versions": [
                    {"name": v, "served": True, "storage": v == storage, "schema": {"openAPIV3Schema": self._schema}}
                    for v in versions
                ],
            },
        }

    def rule(self, *operations: str, version: str = "v1") -> Json:
        return rule("things", *operations, group=self.group, version=version)

    def make(self, name: str, version: str = "v1", **data: str) -> Json:
        return {"apiVersion": f"{self.group}/{version}", "kind": "Thing", "metadata": {"name": name}, "data": data}

    def data(self, name: str) -> Json:
        found: Json = self.ground.get(self.plural, name)["data"]
        return found


def stage(number: int) -> Any:
    return patching({"op": "add", "path": f"/data/stage-{number}", "value": "yes"})


@conformance("admission webhooks", "deny custom resource create, update, delete")
def test_deny_a_custom_resources_creation_update_and_deletion(ground: Ground) -> None:
    things = Things(ground, OPEN)

    def guard(request: Json) -> Json:
        seen = (request["object"] or request["oldObject"])["data"]
        return {
            "allowed": "offend" not in seen.values(),
            "status": {"message": "the custom resource contains unwanted data"},
        }

    ground.configure("Validating", "cr", ground.hook("cr", guard, things.rule("CREATE", "UPDATE", "DELETE")))
    unwanted = "the custom resource contains unwanted data"
    assert unwanted in ground.put(things.make("bad", key="offend"), check=False)
    ground.put(things.make("good", key="fine"))
    change = json.dumps({"data": {"key": "offend"}})
    assert unwanted in ground.refused("patch", things.plural, "good", "--type=merge", "-p", change)
    ground("label", "--overwrite", "namespace", ground.name, "ground=elsewhere")
    ground("patch", things.plural, "good", "--type=merge", "-p", change)
    ground("label", "--overwrite", "namespace", ground.name, f"ground={ground.name}")
    assert unwanted in ground.refused("delete", things.plural, "good")
    assert [r["operation"] for r in ground.asked("cr")] == ["CREATE", "CREATE", "UPDATE", "DELETE"]


@conformance("admission webhooks", "mutate a custom resource")
def test_mutate_a_custom_resource(ground: Ground) -> None:
    things = Things(ground, OPEN)
    hooks = [ground.hook(f"m{n}", stage(n), things.rule("CREATE")) for n in (1, 2)]
    ground.configure("Mutating", "cr", *hooks)
    ground.put(things.make("a", start="yes"))
    assert things.data("a") == {"start": "yes", "stage-1": "yes", "stage-2": "yes"}


@conformance("admission webhooks", "mutate a custom resource when the stored version differs")
def test_mutate_a_custom_resource_whose_stored_version_differs(ground: Ground) -> None:
    things = Things(ground, OPEN, ("v1", "v2"))
    ground.configure("Mutating", "cr", ground.hook("m1", stage(1), things.rule("CREATE", "UPDATE")))
    ground.put(things.make("a", start="yes"))
    ground(
        "apply",
        "-f",
        "-",
        "--server-side",
        "--force-conflicts",
        stdin=json.dumps(things.definition(("v1", "v2"), "v2")),
    )
    ground("patch", things.plural, "a", "--type=merge", "-p", '{"data":{"more":"yes"}}')
    ground.put(things.make("b", "v2", start="yes"))
    assert things.data("a") == {"start": "yes", "stage-1": "yes", "more": "yes"}
    assert things.data("b") == {"start": "yes", "stage-1": "yes"}
    last = ground.asked("m1")[-1]
    assert (last["resource"]["version"], last["requestResource"]["version"]) == ("v1", "v2")
    assert last["object"]["apiVersion"].endswith("/v1")


@conformance("admission webhooks", "mutation of a custom resource is pruned by its schema")
def test_a_mutation_is_pruned_by_the_schema(ground: Ground) -> None:
    things = Things(ground, CLOSED)
    hooks = [ground.hook(f"m{n}", stage(n), things.rule("CREATE")) for n in (1, 2, 3)]
    ground.configure("Mutating", "cr", *hooks)
    ground.put(things.make("a", start="yes"))
    assert things.data("a") == {"start": "yes", "stage-1": "yes", "stage-2": "yes"}


def test_a_policy_sees_the_parameters_of_a_custom_resource(ground: Ground) -> None:
    things = Things(ground, OPEN)
    ground.put(things.make("limit", max="2"))
    name = ground.policy(
        "Validating",
        "p",
        rules=[rule("configmaps", "CREATE")],
        paramKind={"apiVersion": f"{things.group}/v1", "kind": "Thing"},
        validations=[{"expression": "size(object.data) <= int(params.data.max)", "message": "too much"}],
    )
    ground.bind(
        "Validating", name, paramRef={"name": "limit", "parameterNotFoundAction": "Deny"}, validationActions=["Deny"]
    )
    ground("create", "configmap", "a", "--from-literal=a=1")
    assert "too much" in ground.refused("create", "configmap", "b", *(f"--from-literal={k}=1" for k in "abc"))
    ground.configure("Validating", "guard", ground.hook("guard", deny("closed"), rule("configmaps", "CREATE")))
    assert "too much" in ground.refused("create", "configmap", "c", *(f"--from-literal={k}=1" for k in "abc"))


def test_the_scale_of_a_custom_resource_is_admitted_as_a_scale(ground: Ground) -> None:
    things = Things(ground, OPEN)
    body = things.definition(("v1",), "v1")
    paths = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
    body["spec"]["versions"][0]["subresources"] = {"scale": paths}
    ground("apply", "-f", "-", "--server-side", "--force-conflicts", stdin=json.dumps(body))
    ground.put(things.make("a") | {"spec": {"size": 1}})
    check = {
        "expression": "object.spec.replicas < 4",
        "messageExpression": "request.kind.kind + ' from ' + string(oldObject.spec.replicas)",
    }
    scales = rule("things/scale", "UPDATE", group=things.group)
    ground.bind(
        "Validating", ground.policy("Validating", "s", rules=[scales], validations=[check]), validationActions=["Deny"]
    )
    assert within(60, lambda: "scaled" in ground("scale", things.plural, "a", "--replicas=3", check=False))
    assert "Scale from 3" in ground.refused("scale", things.plural, "a", "--replicas=4")
    assert ground.get(things.plural, "a")["spec"]["size"] == 3
