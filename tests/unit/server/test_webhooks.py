"""Admission webhooks seen by their users: who is called, with what, in which order, and what follows from the answer."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.unit.server.test_engine import CM, Caller, config
from tests.webhook_server import Decide, WebhookServer, allow, deny, patching

from portside.base.pki import ensure_pki
from portside.server.admission import webhook_review as wire
from portside.server.app import ApiServer
from portside.server.bootstrap.apply import Place, bootstrap
from portside.server.warningheaders import warning_headers
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
CONFIG_MAPS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}
PODS = "/api/v1/namespaces/default/pods"
HPA = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"


@pytest.fixture(scope="module")
def hooks() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


@pytest.fixture
async def call(tmp_path: Path) -> AsyncIterator[Caller]:
    pki = ensure_pki(tmp_path)
    server = ApiServer(MemoryBackend(), pki)
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443), pki)
    yield Caller(server)
    await server.stop()


class Hooks:
    """Registers webhooks, each at a path of its name."""

    def __init__(self, call: Caller, server: WebhookServer) -> None:
        self.call = call
        self.server = server

    async def add(
        self,
        name: str,
        decide: Decide,
        *rules: Json,
        mutating: bool = False,
        delay: float = 0,
        together: asyncio.Barrier | None = None,
        **more: Any,
    ) -> None:
        self.server.on(f"/{name}", decide, delay=delay, together=together)
        hook = {
            "name": f"{name}.example.com",
            "clientConfig": self.server.at(f"/{name}"),
            "rules": list(rules) or [CONFIG_MAPS],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        kind = "MutatingWebhookConfiguration" if mutating else "ValidatingWebhookConfiguration"
        body = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
        code, made = await self.call("POST", f"{ADMISSION}/{kind.lower()}s", body | {"webhooks": [hook | more]})
        assert code == 201, made

    def asked(self, name: str) -> list[Json]:
        return [review["request"] for review in self.server.asked[f"/{name}"]]


@pytest.fixture
def add(call: Caller, hooks: WebhookServer) -> Hooks:
    return Hooks(call, hooks)


async def test_a_denial_is_told_in_upstreams_words_and_holds_at_once(call: Caller, add: Hooks) -> None:
    await add.add("no", deny("not today"))
    code, refused = await call("POST", CM, config("a"))
    assert code == 400 and refused["code"] == 400 and "reason" not in refused
    assert refused["message"] == 'admission webhook "no.example.com" denied the request: not today'
    assert (await call("GET", f"{CM}/a"))[0] == 404
    assert (await call("DELETE", f"{ADMISSION}/validatingwebhookconfigurations/no"))[0] == 200
    assert (await call("POST", CM, config("a")))[0] == 201


async def test_the_status_of_a_denial_is_the_webhooks_own(call: Caller, add: Hooks) -> None:
    status = {"code": 403, "reason": "Forbidden", "details": {"name": "x"}}
    await add.add("own", lambda r: {"allowed": False, "status": status})
    code, refused = await call("POST", CM, config("a"))
    assert (code, refused["reason"], refused["details"]) == (403, "Forbidden", {"name": "x"})
    assert refused["message"] == 'admission webhook "own.example.com" denied the request: Forbidden'


async def test_the_request_says_everything_about_an_update(call: Caller, add: Hooks) -> None:
    await call("POST", CM, config("a", k="1"))
    await add.add("see", allow)
    patch = {"data": {"k": "2"}}
    merge = "application/merge-patch+json"
    await call("PATCH", f"{CM}/a?dryRun=All&fieldManager=me", patch, content_type=merge)
    (asked,) = add.asked("see")
    version = {"group": "", "version": "v1"}
    assert asked["kind"] == asked["requestKind"] == version | {"kind": "ConfigMap"}
    assert asked["resource"] == asked["requestResource"] == version | {"resource": "configmaps"}
    assert (asked["name"], asked["namespace"], asked["operation"]) == ("a", "default", "UPDATE")
    assert asked["userInfo"] == {"username": "admin", "groups": ["system:masters"]}
    assert (asked["oldObject"]["data"], asked["object"]["data"]) == ({"k": "1"}, {"k": "2"})
    assert asked["dryRun"] is True and asked["options"] == {
        "kind": "UpdateOptions",
        "apiVersion": "meta.k8s.io/v1",
        "dryRun": ["All"],
        "fieldManager": "me",
    }


async def test_a_deletion_shows_the_old_object_and_its_options(call: Caller, add: Hooks) -> None:
    await call("POST", CM, config("a"))
    await add.add("gone", allow)
    assert (await call("DELETE", f"{CM}/a?gracePeriodSeconds=3"))[0] == 200
    (asked,) = add.asked("gone")
    assert asked["object"] is None and asked["oldObject"]["metadata"]["name"] == "a"
    assert asked["options"]["gracePeriodSeconds"] == 3


async def test_mutating_webhooks_run_in_order_of_their_names_on_each_others_work(call: Caller, add: Hooks) -> None:
    def second(request: Json) -> Json:
        seen = request["object"]["data"].get("first", "missing")
        return patching({"op": "add", "path": "/data/second", "value": seen})(request)  # type: ignore[return-value]

    await add.add("b", second, mutating=True)
    await add.add("a", patching({"op": "add", "path": "/data/first", "value": "yes"}), mutating=True)
    code, made = await call("POST", CM, config("m", k="1"))
    assert code == 201 and made["data"] == {"k": "1", "first": "yes", "second": "yes"}


async def test_a_webhook_is_called_again_only_if_it_asked_and_something_changed(call: Caller, add: Hooks) -> None:
    again = {"mutating": True, "reinvocationPolicy": "IfNeeded"}
    await add.add("a-again", patching({"op": "add", "path": "/data/a", "value": "1"}), **again)
    await add.add("b-once", patching({"op": "add", "path": "/data/b", "value": "1"}), mutating=True)
    await call("POST", CM, config("m", k="1"))
    assert [sorted(r["object"]["data"]) for r in add.asked("a-again")] == [["k"], ["a", "b", "k"]]
    assert len(add.asked("b-once")) == 1


async def test_defaults_and_pruning_follow_a_mutation(call: Caller, add: Hooks) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await call("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    container = {"name": "added", "image": "x:1", "nosuchfield": 1}
    await add.add(
        "inject", patching({"op": "add", "path": "/spec/containers/-", "value": container}), pods, mutating=True
    )
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    code, made = await call("POST", PODS, pod)
    assert code == 201, made
    added = made["spec"]["containers"][1]
    assert added["terminationMessagePath"] == "/dev/termination-log" and added["imagePullPolicy"] == "IfNotPresent"
    assert "nosuchfield" not in added
    # Built-in plugins have seen the new container too.
    assert added["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.mark.parametrize(("policy", "code"), [("Fail", 500), ("Ignore", 201)])
async def test_failures_are_refusals_unless_they_are_ignored(call: Caller, add: Hooks, policy: str, code: int) -> None:
    await add.add("bad", lambda r: web.Response(status=500, text="boom"), failurePolicy=policy)
    got, answer = await call("POST", CM, config("a"))
    assert got == code
    if policy == "Fail":
        why = 'an error on the server ("boom") has prevented the request from succeeding'
        text = f'failed calling webhook "bad.example.com": failed to call webhook: {why}'
        assert answer["message"] == f"Internal error occurred: {text}" and answer["reason"] == "InternalError"
        assert answer["details"] == {"causes": [{"message": text}]}


async def test_a_hanging_webhook_costs_exactly_its_time(call: Caller, add: Hooks) -> None:
    await add.add("hang", allow, delay=60, timeoutSeconds=1)
    began = time.monotonic()
    code, answer = await call("POST", CM, config("a"))
    assert code == 500 and answer["message"].endswith('/hang?timeout=1s": context deadline exceeded')
    assert 0.9 < time.monotonic() - began < 10, "10 s is what a webhook gets that says nothing"


async def test_validating_webhooks_are_asked_side_by_side(call: Caller, add: Hooks) -> None:
    together = asyncio.Barrier(3)
    for name in ("v1", "v2", "v3"):
        await add.add(name, allow, together=together, timeoutSeconds=30)
    assert (await call("POST", CM, config("a")))[0] == 201


async def test_answers_that_are_none_count_as_failures(call: Caller, add: Hooks) -> None:
    await add.add("odd", lambda r: web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}))
    code, answer = await call("POST", CM, config("a"))
    assert code == 500 and answer["message"].endswith("received invalid webhook response: webhook response was absent")
    await add.add("a-uid", lambda r: {"allowed": True, "uid": "other"}, mutating=True)
    code, answer = await call("POST", CM, config("a"))
    assert 'expected response.uid="' in answer["message"] and answer["message"].endswith('", got "other"')


async def test_a_patch_of_a_deletion_or_a_dry_run_with_side_effects_is_an_error(call: Caller, add: Hooks) -> None:
    await call("POST", CM, config("a"))
    patch = base64.b64encode(json.dumps([{"op": "add", "path": "/data/x", "value": "1"}]).encode()).decode()
    await add.add("p", lambda r: {"allowed": True, "patchType": "JSONPatch", "patch": patch}, mutating=True)
    code, answer = await call("DELETE", f"{CM}/a")
    assert (
        code == 500 and "attempted to modify the object, which is not supported for this operation" in answer["message"]
    )


@pytest.mark.parametrize(
    ("rule", "hits"),
    [
        ({"resources": ["*"]}, 1),
        ({"resources": ["*/*"]}, 1),
        ({"resources": ["configmaps/*"]}, 1),
        ({"resources": ["secrets"]}, 0),
        ({"operations": ["UPDATE"]}, 0),
        ({"apiVersions": ["v2"]}, 0),
        ({"apiGroups": ["apps"]}, 0),
        ({"scope": "Cluster"}, 0),
        ({"scope": "Namespaced"}, 1),
    ],
)
async def test_rules_select(call: Caller, add: Hooks, rule: Json, hits: int) -> None:
    await add.add("sel", allow, CONFIG_MAPS | rule)
    assert (await call("POST", CM, config("a")))[0] == 201
    assert len(add.asked("sel")) == hits


async def test_selectors_look_at_the_namespace_and_at_both_objects(call: Caller, add: Hooks) -> None:
    label = "kubernetes.io/metadata.name"
    await add.add("ns", allow, namespaceSelector={"matchLabels": {label: "kube-system"}})
    await add.add("obj", allow, objectSelector={"matchLabels": {"watch": "me"}})
    await call("POST", CM, config("a") | {"metadata": {"name": "a", "labels": {"watch": "me"}}})
    await call("PUT", f"{CM}/a", config("a", k="1"))
    await call("POST", CM, config("b"))
    assert len(add.asked("ns")) == 0 and [r["operation"] for r in add.asked("obj")] == ["CREATE", "UPDATE"]


async def test_another_version_of_the_kind_is_shown_in_the_rules_version(call: Caller, add: Hooks) -> None:
    rule = {"apiGroups": ["autoscaling"], "apiVersions": ["v2"], "operations": ["CREATE"], "resources": ["*"]}
    await add.add("eq", allow, rule)
    await add.add("ex", allow, rule, matchPolicy="Exact")
    patch = patching({"op": "replace", "path": "/spec/maxReplicas", "value": 7})
    await add.add("m", patch, rule, mutating=True)
    body = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}},
    }
    code, made = await call("POST", HPA.format("v1"), body)
    assert code == 201 and made["apiVersion"] == "autoscaling/v1" and made["spec"]["maxReplicas"] == 7
    (asked,) = add.asked("eq")
    assert asked["object"]["apiVersion"] == "autoscaling/v2"
    assert (asked["resource"]["version"], asked["requestResource"]["version"]) == ("v2", "v1")
    assert add.asked("ex") == []


async def test_a_scale_is_shown_as_a_scale_and_may_be_changed(call: Caller, add: Hooks) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    assert (await call("POST", "/apis/apps/v1/namespaces/default/deployments", deployment))[0] == 201
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments/scale"]}
    await add.add("s", patching({"op": "replace", "path": "/spec/replicas", "value": 3}), rule, mutating=True)
    path = "/apis/apps/v1/namespaces/default/deployments/d/scale"
    code, made = await call("PATCH", path, {"spec": {"replicas": 9}}, content_type="application/merge-patch+json")
    assert code == 200 and made["spec"] == {"replicas": 3}
    (asked,) = add.asked("s")
    assert asked["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert (asked["subResource"], asked["oldObject"]["spec"]["replicas"]) == ("scale", 1)


async def test_connections_are_asked_about_before_anybody_looks_for_the_pod(call: Caller, add: Hooks) -> None:
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CONNECT"],
        "resources": ["pods/exec", "pods/attach"],
    }
    await add.add("shell", deny("no shells"), rule)
    code, refused = await call("POST", f"{PODS}/none/exec?command=sh&command=-c&container=c&stdin=1")
    assert code == 400 and refused["message"].endswith("denied the request: no shells")
    (asked,) = add.asked("shell")
    assert asked["object"] == {
        "kind": "PodExecOptions",
        "apiVersion": "v1",
        "stdin": True,
        "stdout": True,
        "stderr": True,
        "container": "c",
        "command": ["sh", "-c"],
    }
    assert (asked["name"], asked["operation"], asked["options"]) == ("none", "CONNECT", None)
    assert (await call("POST", f"{PODS}/none/portforward"))[0] == 404


async def test_what_decides_on_admission_can_always_be_mended(call: Caller, add: Hooks) -> None:
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
    await add.add("wall", deny("no"), everything)
    await add.add("wallm", deny("no"), everything, mutating=True)
    assert (await call("POST", CM, config("a")))[0] == 400
    for kind, name in (("validating", "wall"), ("mutating", "wallm")):
        path = f"{ADMISSION}/{kind}webhookconfigurations/{name}"
        patch = {"metadata": {"labels": {"a": "b"}}}
        assert (await call("PATCH", path, patch, content_type="application/merge-patch+json"))[0] == 200
        assert (await call("DELETE", path))[0] == 200
    assert (await call("POST", CM, config("a")))[0] == 201


async def test_warnings_reach_the_client_with_a_denial_too(call: Caller, add: Hooks) -> None:
    await add.add("w", lambda r: {"allowed": False, "warnings": ["mind the gap"]})
    answer = await call.raw("POST", CM, config("a"))
    assert ("Warning", '299 - "mind the gap"') in answer.headers
    assert b"denied the request without explanation" in answer.body


async def test_spoilt_field_managers_are_put_back_with_a_warning(call: Caller, add: Hooks) -> None:
    spoil = patching({"op": "replace", "path": "/metadata/managedFields/0/operation", "value": "Nonsense"})
    await add.add("spoil", spoil, mutating=True)
    answer = await call.raw("POST", CM, config("a", k="v"))
    assert answer.code == 201 and b'"operation":"Update"' in answer.body
    (warning,) = (text for name, text in answer.headers if name == "Warning")
    assert ".metadata.managedFields was in an invalid state after admission" in warning


def test_many_words_of_warning_are_cut_and_control_characters_never_pass() -> None:
    assert warning_headers(["a", "a", 'b "c"', "d\ne", ""]) == [
        ("Warning", '299 - "a"'),
        ("Warning", '299 - "b \\"c\\""'),
    ]
    long = warning_headers([str(n) * 400 for n in range(10)] + ["x" * 1000])
    assert len(long) == 11 and all(len(text) <= 256 + len('299 - ""') for _, text in long[:10])
    assert len(warning_headers([f"{n:04}" * 100 for n in range(50)])) == 16


def test_a_patch_is_looked_at_only_when_the_webhook_allows() -> None:
    def answer(**response: Any) -> bytes:
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": "1"} | response}
        return json.dumps(review).encode()

    odd = base64.b64encode(b'{"op": "add"}').decode()
    denied = wire.read(answer(allowed=False, patchType="JSONPatch", patch=odd), "v1", "1", mutating=True)
    assert not denied.allowed
    with pytest.raises(wire.BadPatch, match=r"cannot unmarshal object into Go value of type jsonpatch\.Patch"):
        wire.operations(denied.patch)
    with pytest.raises(wire.BadAnswer, match="illegal base64"):
        wire.read(answer(allowed=True, patchType="JSONPatch", patch="!"), "v1", "1", mutating=True)
    with pytest.raises(wire.BadAnswer, match=r"validating webhook may not return response\.patch"):
        wire.read(answer(allowed=True, patch=odd), "v1", "1", mutating=False)
    with pytest.raises(wire.BadAnswer, match=r"expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview"):
        wire.read(b'{"apiVersion": "v1", "kind": "Pod"}', "v1", "1", mutating=True)
    assert wire.operations(b"") == wire.operations(b"null") == []


async def test_a_token_request_may_be_shortened(call: Caller, add: Hooks) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    await call("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["serviceaccounts/token"]}
    await add.add(
        "short", patching({"op": "replace", "path": "/spec/expirationSeconds", "value": 700}), rule, mutating=True
    )
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    code, made = await call("POST", "/api/v1/namespaces/default/serviceaccounts/robot/token", body)
    assert code == 201 and made["spec"]["expirationSeconds"] == 700 and made["status"]["token"]
    (asked,) = add.asked("short")
    assert asked["kind"] == {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}


async def test_an_eviction_is_shown_as_one_and_may_be_refused(call: Caller, add: Hooks) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/eviction"]}
    await add.add("stay", deny("stay"), rule)
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}}
    code, refused = await call("POST", f"{PODS}/p/eviction", body)
    assert code == 400 and refused["message"].endswith("denied the request: stay")
    (asked,) = add.asked("stay")
    assert asked["kind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}
    assert (asked["subResource"], asked["object"]["metadata"]["name"]) == ("eviction", "p")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (None, ""),
        ("", ""),
        ("/", ""),
        ("/a/b.c/", ""),
        ("a", "Invalid value: \"a\": must start with a '/'"),
        ("/a//b", 'Invalid value: "/a//b": segment[1] may not be empty'),
    ],
)
async def test_the_path_of_a_service_may_be_left_out_or_empty(call: Caller, path: str | None, told: str) -> None:
    service = {"name": "hook", "namespace": "default"} | ({} if path is None else {"path": path})
    hook = {"name": "a.example.com", "clientConfig": {"service": service}, "sideEffects": "None"}
    body = {"metadata": {"name": "a"}, "webhooks": [hook | {"admissionReviewVersions": ["v1"]}]}
    code, answer = await call("POST", f"{ADMISSION}/validatingwebhookconfigurations", body)
    assert code == (422 if told else 201)
    assert told in answer.get("message", "")
