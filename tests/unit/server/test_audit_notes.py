"""What admission has for the audit log: annotations of policies, webhooks and pod security, named as upstream names them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.unit.server.test_engine import CM, config
from tests.unit.server.test_policies import API, Caller, bind, policy, put, rules
from tests.webhook_server import WebhookServer

from portside.base.pki import ensure_pki
from portside.server.app import ApiServer
from portside.server.bootstrap.apply import Place, bootstrap
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
FAILURES = "validation.policy.admission.k8s.io/validation_failure"
MUTATION = "mutation.webhook.admission.k8s.io/round_0_index_0"


@pytest.fixture
async def call(tmp_path: Path) -> AsyncIterator[Caller]:
    pki = ensure_pki(tmp_path)
    server = ApiServer(MemoryBackend(), pki)
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443), pki)
    yield Caller(server)
    await server.stop()


@pytest.fixture
def hooks() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


async def notes(call: Caller, path: str, body: Json) -> tuple[int, dict[str, str]]:
    """The code of a creation, and the annotations its audit events get."""
    request = call.make(method="POST", path=path, query="", headers={}, body=orjson.dumps(body))
    answer = await call.server.handler(request)
    return answer.code, request.notes


def webhook(kind: str, name: str, client: Json, **more: Any) -> Json:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    hook = {"name": name, "clientConfig": client, "rules": [rule], "sideEffects": "None", "timeoutSeconds": 2}
    hook |= {"admissionReviewVersions": ["v1"]} | more
    metadata = {"name": "mine"}
    return {"apiVersion": API, "kind": f"{kind}WebhookConfiguration", "metadata": metadata, "webhooks": [hook]}


async def test_a_failure_that_is_only_audited_is_noted_and_values_of_bindings_stand_side_by_side(call: Caller) -> None:
    spec = {
        "validations": [{"expression": "true"}, {"expression": "false", "message": "never"}],
        "auditAnnotations": [
            {"key": "size", "valueExpression": "string(size(object.data))"},
            {"key": "none", "valueExpression": "null"},
        ],
        "matchConstraints": rules("CREATE"),
    }
    await put(call, policy("watchful", **spec))
    await bind(call, "watchful", validationActions=["Audit"])
    code, found = await notes(call, CM, config("a", x="1"))
    assert code == 201
    assert orjson.loads(found.pop(FAILURES)) == [
        {
            "message": "never",
            "policy": "watchful",
            "binding": "watchful",
            "expressionIndex": 1,
            "validationActions": ["Audit"],
        }
    ]
    assert found == {"watchful/size": "1"}


async def test_webhooks_note_what_they_did_and_what_they_have_to_say(call: Caller, hooks: WebhookServer) -> None:
    patch = [{"op": "add", "path": "/data/b", "value": "2"}]
    answer = {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(patch)).decode()}
    hooks.on("/change", lambda request: answer | {"auditAnnotations": {"why": "because"}})
    await put(call, webhook("Mutating", "change.example.com", hooks.at("/change")))
    code, found = await notes(call, CM, config("a", x="1"))
    which = {"configuration": "mine", "webhook": "change.example.com"}
    assert code == 201
    assert orjson.loads(found.pop(MUTATION)) == which | {"mutated": True}
    assert orjson.loads(found.pop(f"patch.{MUTATION.removeprefix('mutation.')}")) == which | {
        "patch": patch,
        "patchType": "JSONPatch",
    }
    assert found == {"change.example.com/why": "because"}


@pytest.mark.parametrize("kind", ["Mutating", "Validating"])
async def test_a_webhook_that_failed_and_was_passed_over_is_noted(call: Caller, kind: str) -> None:
    nobody = {"url": "https://127.0.0.1:1/"}
    await put(call, webhook(kind, "gone.example.com", nobody, failurePolicy="Ignore"))
    code, found = await notes(call, CM, config("a", x="1"))
    prefix = {"Mutating": "mutation", "Validating": "validation"}[kind]
    assert (code, found) == (
        201,
        {f"failed-open.{prefix}.webhook.admission.k8s.io/round_0_index_0": "gone.example.com"},
    )


async def test_pods_below_the_audited_level_are_noted_and_old_kinds_too(call: Caller) -> None:
    labels = {"pod-security.kubernetes.io/audit": "restricted", "pod-security.kubernetes.io/enforce": "baseline"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": labels}}
    assert (await call("POST", "/api/v1/namespaces", space))[0] == 201
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    assert (await call("POST", "/api/v1/namespaces/strict/serviceaccounts", account))[0] == 201
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    code, found = await notes(call, "/api/v1/namespaces/strict/pods", {"apiVersion": "v1", "kind": "Pod"} | pod)
    assert code == 201
    assert found["pod-security.kubernetes.io/enforce-policy"] == "baseline:latest"
    said = found["pod-security.kubernetes.io/audit-violations"]
    assert said.startswith('would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false (')
    old = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "e"}}
    _, found = await notes(call, "/api/v1/namespaces/default/endpoints", old)
    assert found == {"k8s.io/deprecated": "true"}
