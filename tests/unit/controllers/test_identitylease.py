"""The lease of the API server: made, renewed in time, and taken away where its server is lost."""

from __future__ import annotations

from typing import Any

from portside.base.clock import rfc3339
from portside.client.cache import View
from portside.controllers.identitylease import LABEL, LEASES, RENEW, controller, name_of
from portside.controllers.plan import Op, Plan

Json = dict[str, Any]
NOW = 1_790_000_000.0


def planned(keeper: Any, name: str, *leases: Json, now: float = NOW) -> Plan:
    found: Plan = keeper.plan(View.of({LEASES: leases}), f"kube-system/{name}", now)
    return found


def lease(name: str, age: float, **labels: str) -> Json:
    meta = {"name": name, "namespace": "kube-system", "uid": name, "labels": labels}
    return {"metadata": meta, "spec": {"renewTime": rfc3339(NOW - age), "leaseDurationSeconds": 3600}}


def test_the_own_lease_is_made_renewed_in_time_and_taken_over_after_a_restart() -> None:
    keeper, name = controller("one"), name_of("one")
    made = planned(keeper, name)
    (step,) = made.steps
    assert isinstance(step, Op) and step.verb == "create" and made.again == RENEW
    body = step.body
    assert body["metadata"]["labels"] == {LABEL: "kube-apiserver", "kubernetes.io/hostname": "one"}
    assert body["spec"]["leaseDurationSeconds"] == 3600 and body["spec"]["holderIdentity"].startswith(f"{name}_")
    early = planned(keeper, name, body, now=NOW + 4)
    assert early.steps == () and early.again == 6.0
    (step,) = planned(keeper, name, body, now=NOW + 11).steps
    assert isinstance(step, Op) and step.verb == "patch"
    (step,) = planned(controller("one"), name, body, now=NOW + 1).steps
    assert isinstance(step, Op) and step.body["spec"]["holderIdentity"] != body["spec"]["holderIdentity"]


def test_leases_of_lost_servers_end_and_those_of_others_stay() -> None:
    keeper = controller("one")
    label = {LABEL: "kube-apiserver"}
    waits = planned(keeper, "lost", lease("lost", 3000, **label))
    assert waits.steps == () and waits.again is not None and 600 <= waits.again < 601
    (step,) = planned(keeper, "lost", lease("lost", 3601, **label)).steps
    assert isinstance(step, Op) and step.verb == "delete"
    assert planned(keeper, "kube-scheduler", lease("kube-scheduler", 9999)).steps == ()


def test_the_name_is_the_one_upstream_gives_a_host() -> None:
    assert len(name_of("one")) == len("apiserver-") + 26 and name_of("one") == name_of("one") != name_of("two")
