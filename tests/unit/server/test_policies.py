"""Admission policies seen by their users: who is denied and in which words, what is changed, and what counts as a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.server.test_engine import CM, Caller, config

from portside.base.pki import ensure_pki
from portside.server.app import ApiServer
from portside.server.bootstrap.apply import Place, bootstrap
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
API = "admissionregistration.k8s.io/v1"
ADMISSION = f"/apis/{API}"
MERGE = "application/merge-patch+json"


@pytest.fixture
async def call(tmp_path: Path) -> AsyncIterator[Caller]:
    pki = ensure_pki(tmp_path)
    server = ApiServer(MemoryBackend(), pki)
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443), pki)
    yield Caller(server)
    await server.stop()


def rules(*operations: str, **more: Any) -> Json:
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": list(operations or ("*",)),
        "resources": ["configmaps"],
    }
    return {"resourceRules": [rule | more]}


def policy(name: str, kind: str = "Validating", **spec: Any) -> Json:
    body = {"failurePolicy": "Fail", "matchConstraints": rules("CREATE", "UPDATE")} | spec
    return {"apiVersion": API, "kind": f"{kind}AdmissionPolicy", "metadata": {"name": name}, "spec": body}


async def put(call: Caller, body: Json, code: int = 201) -> Any:
    got, made = await call("POST", f"{ADMISSION}/{body['kind'].lower()}s".replace("policys", "policies"), body)
    assert got == code, made
    return made


async def bind(call: Caller, name: str, kind: str = "Validating", **spec: Any) -> None:
    actions = {"validationActions": ["Deny"]} if kind == "Validating" else {}
    body = {"apiVersion": API, "kind": f"{kind}AdmissionPolicyBinding", "metadata": {"name": name}}
    await put(call, body | {"spec": {"policyName": name} | actions | spec})


async def validating(call: Caller, name: str, *validations: Json, bound: Json | None = None, **spec: Any) -> None:
    await put(call, policy(name, validations=list(validations), **spec))
    await bind(call, name, **(bound or {}))


async def mutating(call: Caller, name: str, expression: str, patch: str = "ApplyConfiguration", **spec: Any) -> None:
    part = "jsonPatch" if patch == "JSONPatch" else "applyConfiguration"
    mutation = {"patchType": patch, part: {"expression": expression}}
    again = {"reinvocationPolicy": "Never"}
    await put(call, policy(name, "Mutating", mutations=[mutation], **(again | spec)))
    await bind(call, name, "Mutating")


def causes(answer: Json) -> list[str]:
    return [c["message"] for c in answer["details"]["causes"]]


async def test_a_denial_names_policy_and_binding_and_holds_from_the_next_request(call: Caller) -> None:
    await validating(call, "few", {"expression": "size(object.data) < 2", "message": "too many"})
    code, refused = await call("POST", CM, config("a", x="1", y="2"))
    assert (code, refused["reason"]) == (422, "Invalid")
    text = "ValidatingAdmissionPolicy 'few' with binding 'few' denied request: too many"
    assert refused["message"] == f'configmaps "a" is forbidden: {text}' and causes(refused) == [text]
    assert (await call("DELETE", f"{ADMISSION}/validatingadmissionpolicybindings/few"))[0] == 200
    assert (await call("POST", CM, config("a", x="1", y="2")))[0] == 201


@pytest.mark.parametrize(
    ("validation", "code", "message"),
    [
        ({"expression": "false", "reason": "Forbidden", "message": " told "}, 403, "told"),
        ({"expression": "false", "reason": "RequestEntityTooLarge"}, 413, "failed expression: false"),
        ({"expression": "false", "messageExpression": "'by ' + object.metadata.name", "message": "m"}, 422, "by a"),
        ({"expression": "false", "messageExpression": "string(object.none.x)", "message": "m"}, 422, "m"),
        ({"expression": "false", "messageExpression": "'two\\nlines'", "message": "m"}, 422, "m"),
        ({"expression": "object.none"}, None, "must evaluate to bool but got dyn"),
        ({"expression": "object.none == 1"}, 422, "expression 'object.none == 1' resulted in error: no such key: none"),
    ],
)
async def test_reasons_and_messages(call: Caller, validation: Json, code: int | None, message: str) -> None:
    if code is None:
        assert message in (await put(call, policy("p", validations=[validation]), 422))["message"]
        return
    await validating(call, "p", validation)
    got, refused = await call("POST", CM, config("a"))
    assert got == code and refused["message"].endswith(f"denied request: {message}")


async def test_variables_are_evaluated_when_they_are_read_and_no_sooner(call: Caller) -> None:
    variables = [
        {"name": "size", "expression": "size(object.data)"},
        {"name": "broken", "expression": "object.data.none"},
        {"name": "twice", "expression": "variables.size * 2"},
    ]
    check = {
        "expression": "variables.size == 0 || variables.twice == 2",
        "messageExpression": "string(variables.broken)",
    }
    await validating(call, "v", check, variables=variables)
    assert (await call("POST", CM, config("a", x="1")))[0] == 201
    code, refused = await call("POST", CM, config("b", x="1", y="2"))
    assert code == 422 and refused["message"].endswith(f"failed expression: {check['expression']}")
    await validating(call, "w", {"expression": "variables.broken == ''"}, variables=variables)
    _, refused = await call("POST", CM, config("c", x="1"))
    why = 'composited variable "broken" fails to evaluate: no such key: none'
    assert refused["message"].endswith(f"expression 'variables.broken == ''' resulted in error: {why}")


async def test_failures_pass_where_they_are_ignored(call: Caller) -> None:
    await validating(call, "f", {"expression": "object.none == 1"}, failurePolicy="Ignore")
    assert (await call("POST", CM, config("a")))[0] == 201


async def test_a_binding_may_warn_instead_and_denials_come_with_warnings(call: Caller) -> None:
    await validating(
        call, "w", {"expression": "false", "message": "mind"}, bound={"validationActions": ["Warn", "Audit"]}
    )
    answer = await call.raw("POST", CM, config("a"))
    assert answer.code == 201
    text = "Validation failed for ValidatingAdmissionPolicy 'w' with binding 'w': mind"
    assert ("Warning", f'299 - "{text}"') in answer.headers


async def test_match_conditions_and_exclusions_take_requests_out(call: Caller) -> None:
    conditions = [{"name": "mine", "expression": "request.userInfo.username == 'admin'"}, {"name": "x", "expression": "object.metadata.name != 'free'"}]  # fmt: skip
    constraints = rules("CREATE") | {"excludeResourceRules": [rules("*", resourceNames=["out"])["resourceRules"][0]]}
    await validating(call, "m", {"expression": "false"}, matchConditions=conditions, matchConstraints=constraints)
    assert [(await call("POST", CM, config(n)))[0] for n in ("a", "free", "out")] == [422, 201, 201]
    assert (await call("PUT", f"{CM}/free", config("free", a="b")))[0] == 200


async def test_a_deletion_shows_only_the_old_object(call: Caller) -> None:
    await call("POST", CM, config("a"))
    check = {"expression": "object != null || oldObject.metadata.name != 'a'", "message": "stays"}
    await validating(call, "d", check, matchConstraints=rules("DELETE"))
    assert (await call("DELETE", f"{CM}/a"))[1]["message"].endswith("denied request: stays")


async def test_parameters_by_name_and_by_selector(call: Caller) -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    secrets = {
        "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}
        ]
    }
    check = {"expression": "size(object.data) <= int(params.data.max)", "messageExpression": "params.metadata.name + ' allows ' + params.data.max"}  # fmt: skip
    await put(call, policy("p", validations=[check], paramKind=kind, matchConstraints=secrets))
    await bind(call, "p", paramRef={"name": "limit", "parameterNotFoundAction": "Deny"})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "eA==", "b": "eA=="}}
    path = "/api/v1/namespaces/default/secrets?dryRun=All"
    code, refused = await call("POST", path, secret)
    assert code == 422 and refused["message"].endswith(
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    )
    await call("POST", CM, config("limit", max="1"))
    assert (await call("POST", path, secret))[1]["message"].endswith("denied request: limit allows 1")
    await call("PATCH", f"{CM}/limit", {"data": {"max": "2"}}, content_type=MERGE)
    assert (await call("POST", path, secret))[0] == 201
    selector = {"paramRef": {"name": None, "selector": {"matchLabels": {"l": "1"}}, "parameterNotFoundAction": "Allow"}}
    binding = f"{ADMISSION}/validatingadmissionpolicybindings/p"
    assert (await call("PATCH", binding, {"spec": selector}, content_type=MERGE))[0] == 200
    assert (await call("POST", path, secret))[0] == 201
    strict = config("strict", max="0")
    strict["metadata"]["labels"] = {"l": "1"}
    await call("POST", CM, strict)
    assert (await call("POST", path, secret))[1]["message"].endswith("denied request: strict allows 0")


async def test_a_param_kind_that_is_not_served_is_the_policys_fault(call: Caller) -> None:
    await validating(call, "p", {"expression": "true"}, paramKind={"apiVersion": "none.example.com/v1", "kind": "None"})
    _, refused = await call("POST", CM, config("a"))
    why = "failed to find resource referenced by paramKind: 'none.example.com/v1, Kind=None'"
    assert refused["message"].endswith(
        f"ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: {why}"
    )


async def test_the_authorizer_answers_for_the_requester(call: Caller) -> None:
    check = "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()"
    other = "!authorizer.serviceAccount('default', 'nobody').path('/x').check('get').allowed()"
    own = "authorizer.requestResource.check('create').allowed()"
    await validating(call, "a", *({"expression": e} for e in (check, other, own)))
    assert (await call("POST", CM, config("a")))[0] == 201


async def test_expressions_that_cost_too_much_fail(call: Caller) -> None:
    many = "[" + ",".join("1" * 100) + "]"
    heavy = f"{many}.all(a, {many}.all(b, {many}.all(c, {many}.all(d, a + b + c + d > 0))))"
    await validating(call, "h", {"expression": heavy})
    code, refused = await call("POST", CM, config("a"))
    assert code == 422 and refused["message"].endswith("operation cancelled: actual cost limit exceeded")


async def test_policies_do_not_guard_policies(call: Caller) -> None:
    everything = {
        "resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}]
    }
    await validating(call, "all", {"expression": "false"}, matchConstraints=everything)
    assert (await call("POST", CM, config("a")))[0] == 422
    assert (await call("DELETE", f"{ADMISSION}/validatingadmissionpolicies/all"))[0] == 200
    assert (await call("POST", CM, config("a")))[0] == 201


async def test_an_apply_configuration_merges_and_a_json_patch_patches(call: Caller) -> None:
    await mutating(
        call, "a", "Object{metadata: Object.metadata{labels: {'by': 'policy'}}, data: {'n': string(size(object.data))}}"
    )
    patch = "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'x'}]"
    await mutating(call, "b", patch, "JSONPatch", matchConditions=[{"name": "d", "expression": "'k' in object.data"}])
    code, made = await call("POST", CM, config("c", k="v"))
    assert code == 201, made
    assert made["metadata"]["labels"] == {"by": "policy", "a/b": "x"} and made["data"] == {"k": "v", "n": "1"}
    _, refused = await call("POST", CM, config("d"))
    assert refused["message"].endswith("resulted in error: no such key: data")
    assert causes(refused)[0] == refused["message"] and len(causes(refused)) == 2


async def test_a_json_patch_whose_test_fails_changes_nothing(call: Caller) -> None:
    patch = "[JSONPatch{op: 'test', path: '/data/k', value: 'v'}, JSONPatch{op: 'add', path: '/data/x', value: 'y'}]"
    await mutating(call, "t", patch, "JSONPatch")
    assert (await call("POST", CM, config("a", k="v")))[1]["data"] == {"k": "v", "x": "y"}
    assert (await call("POST", CM, config("b", k="w")))[1]["data"] == {"k": "w"}


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        (
            "Object{spec: Object.spec{x: 1}}",
            "failed to convert patch object to typed object: .spec: field not declared in schema",
        ),
        (
            "Object{metadata: Object.wrong{name: 'x'}}",
            'unexpected type name "Object.wrong", expected "Object.metadata"',
        ),
        (
            "Object{metadata: Object.metadata{ownerReferences: [Object.metadata.ownerReferences{uid: object.none}]}}",
            "no such key: none",
        ),
    ],
)
async def test_configurations_that_do_not_fit_are_refused(call: Caller, expression: str, why: str) -> None:
    await mutating(call, "w", expression)
    code, refused = await call("POST", CM, config("a"))
    assert (code, refused["reason"]) == (403, "Invalid")
    assert refused["message"].startswith("policy 'w' with binding 'w' denied request: ") and why in refused["message"]


async def test_atomic_values_are_not_for_apply_configurations(call: Caller) -> None:
    services = {
        "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}
        ]
    }
    await mutating(call, "s", "Object{spec: Object.spec{selector: {'a': 'b'}}}", matchConstraints=services)
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}}
    _, refused = await call("POST", "/api/v1/namespaces/default/services", service)
    assert refused["message"].endswith("may not mutate atomic arrays, maps or structs: .spec.selector")


async def test_a_policy_runs_again_when_it_asked_and_others_changed_the_object(call: Caller) -> None:
    count = "Object{data: {'runs': string(('runs' in object.data ? int(object.data.runs) : 0) + 1)}}"
    await mutating(call, "a", count, reinvocationPolicy="IfNeeded")
    await mutating(call, "b", "Object{data: {'b': '1'}}")
    assert (await call("POST", CM, config("m", k="v")))[1]["data"] == {"k": "v", "runs": "2", "b": "1"}


async def test_what_does_not_compile_is_refused_at_write(call: Caller) -> None:
    refused = await put(
        call,
        policy(
            "bad",
            validations=[
                {"expression": "object.x +"},
                {"expression": "'text'", "reason": "Sad"},
                {"expression": "params.x == 1"},
                {"expression": "true", "messageExpression": "1", "message": "a\nb"},
            ],
            variables=[{"name": "1st", "expression": "1"}, {"name": "ok", "expression": "nobody.x"}],
            auditAnnotations=[{"key": "k", "valueExpression": "1"}],
        ),
        422,
    )
    told = {c["field"]: c["message"] for c in refused["details"]["causes"]}
    assert told["spec.variables[0].name"] == 'Invalid value: "1st": must be a valid CEL identifier'
    assert "undeclared reference to 'nobody' (in container '')" in told["spec.variables[1].expression"]
    assert "Syntax error: mismatched input '<EOF>'" in told["spec.validations[0].expression"]
    assert told["spec.validations[1].expression"] == "Invalid value: \"'text'\": must evaluate to bool but got string"
    assert told["spec.validations[1].reason"].startswith('Unsupported value: "Sad": supported values: "Forbidden"')
    assert "undeclared reference to 'params'" in told["spec.validations[2].expression"]
    assert told["spec.validations[3].messageExpression"] == 'Invalid value: "1": must evaluate to string but got int'
    assert told["spec.validations[3].message"].endswith("message must not contain line breaks")
    assert told["spec.auditAnnotations[0].valueExpression"] == (
        'Invalid value: "1": must evaluate to one of [string null_type] but got int'
    )


async def test_who_is_concerned_is_decided_on_the_object_as_it_came(call: Caller) -> None:
    await mutating(call, "a", "Object{metadata: Object.metadata{labels: {'seen': 'a'}}}")
    labelled = rules("CREATE") | {"objectSelector": {"matchLabels": {"seen": "a"}}}
    await mutating(call, "b", "Object{data: {'b': '1'}}", matchConstraints=labelled)
    condition = [{"name": "seen", "expression": "object.metadata.?labels.seen.orValue('') == 'a'"}]
    await mutating(call, "c", "Object{data: {'c': '1'}}", matchConditions=condition)
    made = (await call("POST", CM, config("m", k="v")))[1]
    assert made["metadata"]["labels"] == {"seen": "a"} and made["data"] == {"k": "v", "c": "1"}
