"""Conformance: admission policies in CEL, with the real kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.admission_fixture import API, Ground, rule
from tests.conformance.names import conformance
from tests.conftest import Cluster
from tests.webhook_server import WebhookServer, within

Json = dict[str, Any]
DEPLOYMENTS = [rule("deployments", group="apps")]
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "x:1"}]},
        },
    },
}


@pytest.fixture
def ground(simulated: Cluster) -> Iterator[Ground]:
    made = Ground(simulated, WebhookServer())  # never started: policies need none
    yield made
    made.leave()


def deployment(name: str, **spec: Any) -> Json:
    return DEPLOYMENT | {"metadata": {"name": name}, "spec": DEPLOYMENT["spec"] | spec}  # type: ignore[operator]


@conformance("admission policies", "ValidatingAdmissionPolicy validates a Deployment")
def test_a_validating_policy_validates_a_deployment(ground: Ground) -> None:
    checks = [
        {"expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + string(object.spec.replicas)"},
        {"expression": "namespaceObject.metadata.name == '" + ground.name + "'", "message": "another namespace"},
    ]  # fmt: skip
    name = ground.bind(
        "Validating",
        ground.policy("Validating", "v", rules=DEPLOYMENTS, validations=checks),
        validationActions=["Deny"],
    )
    said = ground.put(deployment("web", replicas=1), check=False)
    assert f"ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: wants replicas > 1, got 1" in said
    ground.put(deployment("web"))
    assert "wants replicas > 1, got 1" in ground.refused("patch", "deployment", "web", "-p", '{"spec":{"replicas":1}}')
    ground("delete", "validatingadmissionpolicybinding", name)
    ground.put(deployment("other", replicas=1))


@conformance("admission policies", "ValidatingAdmissionPolicy variables in expressions")
def test_variables_in_expressions(ground: Ground) -> None:
    variables = [
        {"name": "replicas", "expression": "object.spec.replicas"},
        {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
    ]
    checks = [
        {"expression": "variables.replicas > 1"},
        {"expression": "variables.oddReplicas", "message": "replicas must be odd"},
    ]
    made = ground.policy("Validating", "vars", rules=DEPLOYMENTS, variables=variables, validations=checks)
    ground.bind("Validating", made, validationActions=["Deny"])
    assert "failed expression: variables.replicas > 1" in ground.put(deployment("a", replicas=1), check=False)
    assert "replicas must be odd" in ground.put(deployment("b", replicas=2), check=False)
    ground.put(deployment("c", replicas=3))


def verbs(ground: Ground, plural: str, name: str, change: Json, field: str) -> None:
    """Every verb on one object of a cluster-scoped kind, in the order of its life."""
    api = f"/apis/{API}/{plural}"
    assert any(r["name"] == plural for r in json.loads(ground("get", "--raw", f"/apis/{API}"))["resources"])
    assert ground.get(plural, name)["metadata"]["name"] == name
    assert [i["metadata"]["name"] for i in ground.get(plural, "-l", f"ground={ground.name}")["items"]] == [name]
    assert json.loads(ground("get", "--raw", f"{api}?watch=1&timeoutSeconds=1&fieldSelector=metadata.name={name}").splitlines()[0])["type"] == "ADDED"  # fmt: skip
    ground("patch", plural, name, "--type=merge", "-p", json.dumps({"spec": change}))
    assert ground.get(plural, name)["spec"][field] == change[field]
    assert ground.get(plural, name)["metadata"]["generation"] == 2
    ground.replace(plural, name, lambda body: body["metadata"].update(annotations={"updated": "yes"}))
    assert ground.get(plural, name)["metadata"]["annotations"] == {"updated": "yes"}
    ground("delete", plural, name)
    assert "not found" in ground("get", plural, name, check=False)


@conformance("admission policies", "ValidatingAdmissionPolicy API + status")
def test_the_validating_policy_api_and_its_status(ground: Ground) -> None:
    plural = "validatingadmissionpolicies"
    name = ground.policy(
        "Validating", "api", rules=DEPLOYMENTS, validations=[{"expression": "object.spec.nothere == 1"}]
    )

    def checked() -> bool:
        return bool((ground.get(plural, name).get("status") or {}).get("typeChecking"))

    assert within(60, checked)
    status = ground.get(plural, name)["status"]
    assert status["observedGeneration"] == 1
    (warning,) = status["typeChecking"]["expressionWarnings"]
    assert warning["fieldRef"] == "spec.validations[0].expression" and "undefined field 'nothere'" in warning["warning"]
    condition = {
        "type": "Seen",
        "status": "True",
        "reason": "Test",
        "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    ground(
        "patch",
        plural,
        name,
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": {"conditions": [condition]}}),
    )
    assert ground.get(plural, name)["status"]["conditions"] == [condition]
    told = {"message": "replaced"}
    ground.replace(plural, name, lambda body: body["status"]["conditions"][0].update(told), "--subresource=status")
    assert ground.get(plural, name)["status"]["conditions"][0]["message"] == "replaced"
    verbs(ground, plural, name, {"failurePolicy": "Ignore"}, "failurePolicy")


@conformance("admission policies", "ValidatingAdmissionPolicyBinding API")
def test_the_validating_binding_api(ground: Ground) -> None:
    name = ground.bind("Validating", f"none-{ground.name}", validationActions=["Deny"])
    verbs(ground, "validatingadmissionpolicybindings", name, {"validationActions": ["Warn"]}, "validationActions")


def mutation(expression: str, kind: str = "ApplyConfiguration") -> Json:
    return {"patchType": kind, "jsonPatch" if kind == "JSONPatch" else "applyConfiguration": {"expression": expression}}


@conformance("admission policies", "MutatingAdmissionPolicy mutates a Deployment")
def test_a_mutating_policy_mutates_a_deployment(ground: Ground) -> None:
    change = mutation("Object{spec: Object.spec{replicas: object.spec.replicas + 10}}")
    made = ground.policy("Mutating", "m", rules=DEPLOYMENTS, mutations=[change], reinvocationPolicy="Never")
    ground.bind("Mutating", made)
    ground.put(deployment("web", replicas=1))
    assert ground.get("deployment", "web")["spec"]["replicas"] == 11


@conformance("admission policies", "MutatingAdmissionPolicy adds annotations")
def test_a_mutating_policy_adds_annotations(ground: Ground) -> None:
    first = mutation("Object{metadata: Object.metadata{annotations: {'a': variables.who}}}")
    second = mutation(
        "[JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('x/y'), value: 'z'}]", "JSONPatch"
    )
    who = {"name": "who", "expression": "request.userInfo.username"}
    made = ground.policy(
        "Mutating", "n", rules=[rule("configmaps")], mutations=[first, second], variables=[who], reinvocationPolicy="IfNeeded"
    )  # fmt: skip
    ground.bind("Mutating", made)
    ground("create", "configmap", "c", "--from-literal=k=v")
    assert ground.get("configmap", "c")["metadata"]["annotations"] == {"a": "kubernetes-admin", "x/y": "z"}


@conformance("admission policies", "MutatingAdmissionPolicy API")
def test_the_mutating_policy_api(ground: Ground) -> None:
    name = ground.policy(
        "Mutating", "api", rules=DEPLOYMENTS, mutations=[mutation("Object{}")], reinvocationPolicy="Never"
    )
    verbs(ground, "mutatingadmissionpolicies", name, {"reinvocationPolicy": "IfNeeded"}, "reinvocationPolicy")


@conformance("admission policies", "MutatingAdmissionPolicyBinding API")
def test_the_mutating_binding_api(ground: Ground) -> None:
    name = ground.bind("Mutating", f"none-{ground.name}")
    verbs(ground, "mutatingadmissionpolicybindings", name, {"policyName": "other"}, "policyName")
