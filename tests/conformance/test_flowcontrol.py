"""Conformance: the API of priority and fairness, with the real kubectl."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.names import conformance
from tests.conftest import Cluster

Json = dict[str, Any]
API = "flowcontrol.apiserver.k8s.io/v1"
LIMITED = {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}
SUBJECT = {"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}
SCHEMA = {
    "matchingPrecedence": 9999,
    "priorityLevelConfiguration": {"name": "global-default"},
    "distinguisherMethod": {"type": "ByUser"},
    "rules": [{"subjects": [SUBJECT], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}],
}
KINDS = [
    pytest.param(
        "FlowSchema",
        "flowschemas",
        SCHEMA,
        {"matchingPrecedence": 9998},
        marks=conformance("priority and fairness", "FlowSchema API, all verbs + status"),
    ),
    pytest.param(
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        LIMITED,
        {"limited": {"nominalConcurrencyShares": 4}},
        marks=conformance("priority and fairness", "PriorityLevelConfiguration API, all verbs + status"),
    ),
]


@pytest.mark.parametrize(("kind", "plural", "spec", "change"), KINDS, ids=["FlowSchema", "PriorityLevelConfiguration"])
def test_every_verb_and_the_status(simulated: Cluster, kind: str, plural: str, spec: Json, change: Json) -> None:
    k, mark = simulated.kubectl, f"t-{uuid.uuid4().hex[:8]}"

    def get(*words: str) -> Json:
        found: Json = json.loads(k("get", plural, *words, "-o", "json"))
        return found

    def replace(change: Callable[[Json], None], *words: str) -> None:
        """Read, changed and put back; read again when the controller that keeps the conditions wrote in between."""
        while True:
            held = get(first)
            change(held)
            told = simulated.kubectl("replace", *words, "-f", "-", stdin=json.dumps(held), check=False)
            if "replaced" in told:
                return
            assert "Error from server (Conflict)" in told

    groups = json.loads(k("get", "--raw", "/apis"))["groups"]
    assert any(g["name"] == "flowcontrol.apiserver.k8s.io" for g in groups)
    names = [f"{mark}-{n}" for n in range(3)]
    for name in names:
        body = {"apiVersion": API, "kind": kind, "metadata": {"name": name, "labels": {"mark": mark}}, "spec": spec}
        k("create", "-f", "-", stdin=json.dumps(body))
    assert [i["metadata"]["name"] for i in get("-l", f"mark={mark}")["items"]] == names
    raw = f"/apis/{API}/{plural}?watch=1&timeoutSeconds=1&labelSelector=mark={mark}"
    seen = [json.loads(line) for line in k("get", "--raw", raw).splitlines()]
    assert [e["object"]["metadata"]["name"] for e in seen if e["type"] == "ADDED"] == names
    first = names[0]
    k(
        "patch",
        plural,
        first,
        "--type=merge",
        "-p",
        json.dumps({"spec": change, "metadata": {"annotations": {"p": "1"}}}),
    )
    got = get(first)
    assert got["metadata"]["generation"] == 2 and got["metadata"]["annotations"] == {"p": "1"}
    replace(lambda held: held["metadata"]["annotations"].update(u="2"))
    assert get(first)["metadata"]["annotations"] == {"p": "1", "u": "2"}
    condition = {
        "type": "Tested",
        "status": "True",
        "reason": "Test",
        "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    k(
        "patch",
        plural,
        first,
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": {"conditions": [condition]}}),
    )
    assert condition in get(first)["status"]["conditions"]
    replaced = [condition | {"message": "replaced"}]
    replace(lambda held: held["status"].update(conditions=replaced), "--subresource=status")
    assert any(c["message"] == "replaced" for c in get(first)["status"]["conditions"])
    k("delete", plural, first)
    assert [i["metadata"]["name"] for i in get("-l", f"mark={mark}")["items"]] == names[1:]
    k("delete", plural, "-l", f"mark={mark}")
    assert get("-l", f"mark={mark}")["items"] == []
