"""The audit log: what a policy's rules fit, and what an event says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from portside.base.errors import PortsideError
from portside.server.attributes import Attributes, User
from portside.server.audit import AuditLog, read_policy
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


def test_an_event_says_who_asked_for_what_and_how_it_was_answered(tmp_path: Path) -> None:
    log = AuditLog(read_policy(POLICY, "policy"), tmp_path / "audit.log")
    request = Request(
        "POST", "/api/v1/namespaces/default/secrets", headers={"user-agent": "t"}, body=b'{"kind":"Secret"}'
    )
    request.user, request.impersonator = JANE, User("admin")
    request.attributes = _asked("create", "secrets")
    status = b'{"kind":"Status","status":"Failure","reason":"Forbidden","message":"no","code":403}'
    log.answered(request, Response(403, status), 1_800_000_000.0, 1_800_000_000.5)
    log.close()
    event = json.loads((tmp_path / "audit.log").read_text())
    assert (event["level"], event["stage"], event["verb"]) == ("RequestResponse", "ResponseComplete", "create")
    assert (event["user"]["username"], event["impersonatedUser"]["username"]) == ("admin", "jane")
    assert event["objectRef"] == {"resource": "secrets", "namespace": "default", "name": "a", "apiVersion": "v1"}
    assert event["responseStatus"] == {
        "metadata": {},
        "code": 403,
        "status": "Failure",
        "message": "no",
        "reason": "Forbidden",
    }
    assert event["requestObject"] == {"kind": "Secret"}
    assert event["annotations"] == {"authorization.k8s.io/decision": "forbid"}
    assert event["stageTimestamp"] == "2027-01-15T08:00:00.500000Z"


def test_a_refused_impersonation_names_both(tmp_path: Path) -> None:
    log = AuditLog(read_policy(POLICY, "policy"), tmp_path / "audit.log")
    headers = {"impersonate-user": "root", "impersonate-group": "a\nb"}
    request = Request("GET", "/api/v1/namespaces/default/pods/a", headers=headers)
    request.user = JANE
    log.answered(request, Response(403, b"{}"), 0.0, 0.0)
    log.close()
    event = json.loads((tmp_path / "audit.log").read_text())
    assert event["user"]["username"] == "jane"
    assert event["impersonatedUser"] == {"username": "root", "groups": ["a", "b"]}


def test_a_full_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portside.server.audit.MOST_BYTES", 1000)
    log = AuditLog(read_policy(POLICY, "policy"), tmp_path / "audit.log")
    request = Request("GET", "/api/v1/namespaces/default/pods/a")
    request.user, request.attributes = JANE, _asked("get", "pods")
    for _ in range(4):
        log.answered(request, Response(200, b"{}"), 0.0, 0.0)
    log.close()
    assert (tmp_path / "audit.log.1").exists()
    assert (tmp_path / "audit.log").stat().st_size <= 1000


@pytest.mark.parametrize(("text", "why"), [
    ("kind: Policy\nrules: [{level: Some}]", "rules[0].level is 'Some'"),
    ("kind: Policy", "it has no kind Policy or no rules"),
    ("kind: [", "can't be read"),
])  # fmt: skip
def test_a_policy_that_is_none_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(PortsideError, match=why.replace("[", r"\[").replace("]", r"\]")):
        read_policy(text, "policy.yaml")
