"""The audit log: what a policy's rules fit, and what an event says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.server.auth_fixture import FixedClock

from portside.base.errors import PortsideError
from portside.server.attributes import Attributes, User
from portside.server.audit import AuditLog, audited, read_policy
from portside.server.auth.rbac import Decision
from portside.server.request import Request, Response

JANE = User("jane", groups=("devs", "system:authenticated"))
POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: [system:kube-proxy]}
- {level: None, nonResourceURLs: ["/healthz*"]}
- level: RequestResponse
  verbs: [create, update, delete]
  resources: [{group: "", resources: [secrets, "pods/*"]}]
- {level: Metadata, userGroups: [devs]}
"""


def _asked(verb: str, resource: str, sub: str = "", user: User = JANE) -> Attributes:
    return Attributes(user, verb, "", "v1", resource, sub, "default", "a", f"/api/v1/{resource}")


@pytest.mark.parametrize(("attributes", "level"), [
    (_asked("create", "secrets"), "RequestResponse"),
    (_asked("create", "pods", "exec"), "RequestResponse"),
    (_asked("create", "pods"), "RequestResponse"),  # as upstream: pods/* is pods too
    (_asked("create", "configmaps"), "Metadata"),
    (_asked("get", "secrets"), "Metadata"),
    (_asked("get", "secrets", user=User("system:kube-proxy")), None),
    (_asked("get", "secrets", user=User("nobody")), None),
    (Attributes(JANE, "get", path="/healthz/etcd", is_resource=False), None),
    (Attributes(JANE, "get", path="/version", is_resource=False), "Metadata"),
])  # fmt: skip
def test_the_first_rule_that_fits_decides(attributes: Attributes, level: str | None) -> None:
    rule = read_policy(POLICY, "policy").of(attributes)
    assert (rule.level if rule else None) == level


DENIED = User("eve", groups=("devs",))


def _decide(attributes: Attributes) -> Decision:
    return Decision(False, "no") if attributes.user is DENIED else Decision(True, "RBAC: allowed")


class Written:
    """A log in a folder, and what it has written."""

    def __init__(self, folder: Path, policy: str = POLICY) -> None:
        self.path = folder / "audit.log"
        self.log = AuditLog(read_policy(policy, "policy"), self.path, _decide)

    def of(self, request: Request, response: Response) -> list[Any]:
        """Events of one request that the handler answers so."""

        async def handler(_: Request) -> Response:
            return response

        async def known(request: Request) -> None:
            request.authenticated = True

        clock = FixedClock(1_800_000_000.5)
        asyncio.run(cast(Any, audited(handler, self.log, clock, known)(request)))
        if response.ended is not None:
            response.ended()
        self.log.close()
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []


def test_an_event_says_who_asked_for_what_and_how_it_was_answered(tmp_path: Path) -> None:
    request = Request(
        "POST", "/api/v1/namespaces/default/secrets", headers={"user-agent": "t"}, body=b'{"kind":"Secret"}'
    )
    request.user = DENIED
    status = b'{"kind":"Status","status":"Failure","reason":"Forbidden","message":"no","code":403}'
    answer = Response(403, status)
    (event,) = Written(tmp_path).of(request, answer)
    assert (event["level"], event["stage"], event["verb"]) == ("RequestResponse", "ResponseComplete", "create")
    assert event["user"]["username"] == "eve"
    assert event["objectRef"] == {"resource": "secrets", "namespace": "default", "apiVersion": "v1"}
    assert event["responseStatus"] == {
        "metadata": {},
        "code": 403,
        "status": "Failure",
        "message": "no",
        "reason": "Forbidden",
    }
    assert event["requestObject"] == {"kind": "Secret"}
    assert event["annotations"] == {"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": "no"}
    assert event["stageTimestamp"] == "2027-01-15T08:00:00.500000Z"
    assert ("Audit-Id", event["auditID"]) in answer.headers


def test_a_refusal_by_admission_was_allowed_by_authorization(tmp_path: Path) -> None:
    request = Request("POST", "/api/v1/namespaces/default/secrets")
    request.user, request.attributes = JANE, _asked("create", "secrets")
    request.notes["policy/key"] = "value"
    (event,) = Written(tmp_path).of(request, Response(403, b"{}"))
    assert event["annotations"] == {
        "authorization.k8s.io/decision": "allow",
        "authorization.k8s.io/reason": "RBAC: allowed",
        "policy/key": "value",
    }


def test_a_stream_has_a_beginning_and_an_end(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b""

    request = Request("GET", "/api/v1/pods", "watch=true", headers={"audit-id": "mine"})
    request.user = JANE
    policy = POLICY.replace("omitStages: [RequestReceived]", "")
    events = Written(tmp_path, policy).of(request, Response(200, stream=pieces()))
    assert [e["stage"] for e in events] == ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    assert {(e["auditID"], e["verb"]) for e in events} == {("mine", "watch")}
    assert "responseStatus" not in events[0] and events[2]["responseStatus"]["code"] == 200


def test_rules_speak_of_who_asked_not_of_whom_they_act_as(tmp_path: Path) -> None:
    request = Request("GET", "/api/v1/namespaces/default/pods/a")
    request.user = JANE
    policy = POLICY.replace("omitStages: [RequestReceived]", "")

    async def acts(request: Request) -> Response:
        request.impersonator, request.user = JANE, User("system:kube-proxy")
        request.attributes = _asked("get", "pods", user=request.user)
        return Response(200, b"{}")

    written = Written(tmp_path, policy)

    async def known(_: Request) -> None:
        return None

    asyncio.run(cast(Any, audited(acts, written.log, FixedClock(), known)(request)))
    written.log.close()
    came, answered = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert (came["user"]["username"], answered["user"]["username"]) == ("jane", "jane")
    assert "impersonatedUser" not in came
    assert answered["impersonatedUser"] == {"username": "system:kube-proxy", "groups": []}


def test_a_refused_impersonation_names_both(tmp_path: Path) -> None:
    headers = {"impersonate-user": "root", "impersonate-group": "a\nb"}
    request = Request("GET", "/api/v1/namespaces/default/pods/a", headers=headers)
    request.user = JANE
    (event,) = Written(tmp_path).of(request, Response(403, b"{}"))
    assert event["user"]["username"] == "jane"
    assert event["impersonatedUser"] == {"username": "root", "groups": ["a", "b"]}


def test_a_full_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portside.server.audit.MOST_BYTES", 1200)
    for _ in range(4):
        request = Request("GET", "/api/v1/namespaces/default/pods/a")
        request.user, request.attributes = JANE, _asked("get", "pods")
        Written(tmp_path).of(request, Response(200, b"{}"))
    assert (tmp_path / "audit.log.1").exists()
    assert (tmp_path / "audit.log").stat().st_size <= 1200


@pytest.mark.parametrize(("text", "why"), [
    ("kind: Policy\nrules: [{level: Some}]", "rules[0].level is 'Some'"),
    ("kind: Policy", "it has no kind Policy or no rules"),
    ("kind: Policy\nomitStages: [Never]\nrules: [{level: None}]", "omitStages has 'Never'"),
    ("kind: [", "can't be read"),
])  # fmt: skip
def test_a_policy_that_is_none_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(PortsideError, match=why.replace("[", r"\[").replace("]", r"\]")):
        read_policy(text, "policy.yaml")
