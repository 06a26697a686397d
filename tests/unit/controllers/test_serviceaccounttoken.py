"""Secrets with a service account's token: filled, kept, and gone with the account."""

from __future__ import annotations

import base64
from typing import Any

from portside.client.cache import View
from portside.controllers.plan import Op
from portside.controllers.serviceaccount import ACCOUNTS
from portside.controllers.serviceaccounttoken import NAME, SECRETS, TYPE, UID, controller


def secret(account: str = "robot", **data: str) -> dict[str, Any]:
    held = {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}
    meta = {"name": "tok", "namespace": "ns", "uid": "s", "resourceVersion": "1", "annotations": {NAME: account}}
    return {"kind": "Secret", "metadata": meta, "type": TYPE, "data": held}


def steps(*secrets: dict[str, Any], account: str = "robot") -> list[Op]:
    accounts = [{"metadata": {"name": account, "namespace": "ns", "uid": "a"}}]
    plan = controller("CA", lambda *facts: "/".join(facts)).plan
    assert plan is not None
    found = plan(View.of({SECRETS: secrets, ACCOUNTS: accounts}), "ns/tok", 0.0)
    return [s for s in found.steps if isinstance(s, Op)]


def test_an_empty_secret_gets_token_ca_and_namespace() -> None:
    (step,) = steps(secret())
    assert {k: base64.b64decode(v).decode() for k, v in step.body["data"].items()} == {
        "ca.crt": "CA",
        "namespace": "ns",
        "token": "ns/robot/a/tok",
    }
    assert step.body["metadata"]["annotations"] == {NAME: "robot", UID: "a"}


def test_what_is_there_stays_but_an_old_authority_is_replaced() -> None:
    assert steps(secret(token="t", namespace="n", **{"ca.crt": "CA"})) == []
    (step,) = steps(secret(token="t", namespace="n", **{"ca.crt": "old"}))
    assert list(step.body["data"]) == ["ca.crt"]


def test_a_secret_without_its_account_or_of_an_earlier_one_goes() -> None:
    assert [s.verb for s in steps(secret("nobody"))] == ["delete"]
    earlier = secret()
    earlier["metadata"]["annotations"][UID] = "before"
    assert [s.verb for s in steps(earlier)] == ["delete"]


def test_other_secrets_are_left_alone() -> None:
    assert steps({**secret("nobody"), "type": "Opaque"}) == []
