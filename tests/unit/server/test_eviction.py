"""Evictions: what a budget allows, what it refuses and in which words, and what a pod that changes meanwhile means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.server.test_engine import Caller

from portside.base.pki import ensure_pki
from portside.server.app import ApiServer
from portside.server.bootstrap.apply import Place, bootstrap
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
STAMP = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def pki_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    ensure_pki(home)
    return home


@pytest.fixture
async def call(pki_home: Path) -> Any:
    pki = ensure_pki(pki_home)
    server = ApiServer(MemoryBackend(), pki)
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443), pki)
    caller = Caller(server)
    account = {"metadata": {"name": "default"}}
    assert (await caller("POST", "/api/v1/namespaces/default/serviceaccounts", account))[0] == 201
    yield caller
    await server.stop()


async def pod(call: Caller, name: str = "p", *, ready: bool = True, phase: str = "Running") -> Json:
    spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}
    meta = {"name": name, "labels": {"app": "web"}, "finalizers": ["example.com/hold"]}
    assert (await call("POST", PODS, {"metadata": meta, "spec": spec}))[0] == 201
    found = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": STAMP}
    body = {"status": {"phase": phase, "conditions": [found]}}
    code, made = await call("PATCH", f"{PODS}/{name}/status", body, content_type="application/merge-patch+json")
    assert code == 200
    return dict(made)


async def budget(call: Caller, name: str = "b", *, policy: str = "", **status: Any) -> None:
    spec: Json = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    if policy:
        spec["unhealthyPodEvictionPolicy"] = policy
    assert (await call("POST", BUDGETS, {"metadata": {"name": name}, "spec": spec}))[0] == 201
    counts = {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1}
    body = {"status": {**counts, "expectedPods": 1, **status}}
    patched = await call("PATCH", f"{BUDGETS}/{name}/status", body, content_type="application/merge-patch+json")
    assert patched[0] == 200


async def evict(call: Caller, name: str = "p", **options: Any) -> tuple[int, Json]:
    body: Json = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    if options:
        body["deleteOptions"] = options
    code, answer = await call("POST", f"{PODS}/{name}/eviction", body)
    return code, dict(answer)


async def leaving(call: Caller, name: str = "p") -> bool:
    _, found = await call("GET", f"{PODS}/{name}")
    return "deletionTimestamp" in found["metadata"]


def cause(answer: Json) -> str:
    return str(answer["details"]["causes"][0]["message"])


async def test_a_spent_budget_says_so_in_its_condition_and_the_pod_why_it_goes(call: Caller) -> None:
    await pod(call)
    await budget(call, disruptionsAllowed=1, currentHealthy=2)
    assert (await evict(call))[0] == 201 and await leaving(call)
    _, held = await call("GET", f"{BUDGETS}/b")
    (condition,) = held["status"]["conditions"]
    assert held["status"]["disruptionsAllowed"] == 0 and list(held["status"]["disruptedPods"]) == ["p"]
    assert (condition["type"], condition["status"]) == ("DisruptionAllowed", "False")
    _, found = await call("GET", f"{PODS}/p")
    target = next(c for c in found["status"]["conditions"] if c["type"] == "DisruptionTarget")
    assert (target["status"], target["reason"]) == ("True", "EvictionByEvictionAPI")


async def test_each_refusal_names_its_reason(call: Caller) -> None:
    await pod(call)
    await budget(call)
    code, answer = await evict(call)
    assert code == 429 and cause(answer) == "The disruption budget b needs 1 healthy pods and has 1 currently"
    failed = {"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "no scale"}
    for status, words, wanted in (
        ({"conditions": [failed | {"lastTransitionTime": STAMP}]}, "because it failed sync: no scale", 429),
        ({"conditions": [], "currentHealthy": 5}, "does not allow evicting pods currently", 429),
        ({"observedGeneration": 0}, "is still being processed by the server.", 429),
        ({"observedGeneration": 1, "disruptedPods": {f"p{i}": STAMP for i in range(2001)}}, "too many pending", 403),
    ):
        body = {"status": status}
        await call("PATCH", f"{BUDGETS}/b/status", body, content_type="application/merge-patch+json")
        code, answer = await evict(call)
        assert code == wanted and words in cause(answer)
    assert not await leaving(call)


async def test_two_budgets_over_one_pod_let_nobody_evict_it(call: Caller) -> None:
    await pod(call)
    await budget(call, "b", disruptionsAllowed=1)
    await budget(call, "c", disruptionsAllowed=1)
    code, answer = await evict(call)
    assert code == 500 and answer["message"] == (
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    )
    assert not await leaving(call)


async def test_unhealthy_pods_go_without_the_budget_if_it_is_met_or_always(call: Caller) -> None:
    await pod(call, "ill", ready=False)
    await budget(call, currentHealthy=0)
    assert (await evict(call, "ill"))[0] == 429
    await call(
        "PATCH", f"{BUDGETS}/b/status", {"status": {"currentHealthy": 1}}, content_type="application/merge-patch+json"
    )
    assert (await evict(call, "ill"))[0] == 201 and await leaving(call, "ill")
    await call("DELETE", f"{BUDGETS}/b")
    await pod(call, "worse", ready=False)
    await budget(call, policy="AlwaysAllow", currentHealthy=0)
    assert (await evict(call, "worse"))[0] == 201 and await leaving(call, "worse")
    _, held = await call("GET", f"{BUDGETS}/b")
    assert "disruptedPods" not in held["status"]


async def test_pods_that_have_ended_or_not_begun_need_no_budget(call: Caller) -> None:
    await budget(call)
    for phase in ("Pending", "Succeeded", "Failed"):
        await pod(call, phase.lower(), phase=phase)
        assert (await evict(call, phase.lower()))[0] == 201 and await leaving(call, phase.lower())


async def test_preconditions_hold_before_the_pod_is_marked_and_a_right_version_evicts(call: Caller) -> None:
    made = await pod(call)
    code, answer = await evict(call, preconditions={"uid": "another"})
    assert code == 409 and "does not match the UID in record" in answer["message"]
    assert (await evict(call, preconditions={"resourceVersion": "1"}))[0] == 409
    _, found = await call("GET", f"{PODS}/p")
    assert found == made, "nothing was written"
    version = made["metadata"]["resourceVersion"]
    assert (await evict(call, preconditions={"resourceVersion": version}))[0] == 201 and await leaving(call)


async def test_a_dry_run_changes_neither_pod_nor_budget(call: Caller) -> None:
    made = await pod(call)
    await budget(call, disruptionsAllowed=1)
    _, before = await call("GET", f"{BUDGETS}/b")
    assert (await evict(call, dryRun=["All"]))[0] == 201
    assert (await call("GET", f"{PODS}/p"))[1] == made and (await call("GET", f"{BUDGETS}/b"))[1] == before
