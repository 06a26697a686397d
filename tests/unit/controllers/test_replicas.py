"""A set's pods are counted, not looked at, wherever their number is enough; and the order in which they go."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Generator
from random import Random
from typing import Any

import pytest

from portside.client.cache import PODS, ObjectCache, View, by_controller, key_of, standing
from portside.controllers import pods as of_pods
from portside.controllers import replicas, replicaset
from portside.controllers.plan import Plan, at_once

Json = dict[str, Any]
SETS = ("apps", "v1", "replicasets")
NOW = 1_800_000_000.0


def owner(rng: Random) -> Json:
    labels = {"app": "a", "hash": "h"}
    meta: Json = {"name": "set", "namespace": "default", "uid": "u1", "generation": 1}
    if rng.random() < 0.1:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    spec: Json = {
        "replicas": rng.randrange(12),
        "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": []}},
    }
    if rng.random() < 0.2:
        spec["minReadySeconds"] = 5
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta, "spec": spec, "status": {"replicas": 3}}


def pod(number: int, rng: Random) -> Json:
    labels = rng.choice(
        [{"app": "a", "hash": "h"}] * 4 + [{"hash": "h", "app": "a", "more": "1"}, {"app": "a"}, {"app": "b"}, {}]
    )
    meta: Json = {"name": f"p{number}", "namespace": "default", "uid": f"uid{number}", "labels": labels}
    meta["creationTimestamp"] = f"2026-01-0{rng.randrange(1, 9)}T00:00:00Z"
    if rng.random() < 0.85:
        uid = "u1" if rng.random() < 0.9 else "u2"
        meta["ownerReferences"] = [{"kind": "ReplicaSet", "name": "set", "uid": uid, "controller": True}]
    if rng.random() < 0.15:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    spec: Json = {"nodeName": f"n{rng.randrange(3)}"} if rng.random() < 0.8 else {}
    condition = {"type": "Ready", "status": rng.choice(["True", "True", "False"])}
    condition["lastTransitionTime"] = f"2026-01-0{rng.randrange(1, 9)}T00:00:00Z"
    status: Json = {"phase": rng.choice(["Running", "Running", "Running", "Pending", "Succeeded", "Failed"])}
    if rng.random() < 0.8:
        status["conditions"] = [{"type": "Initialized", "status": "True"}, condition]
        status["containerStatuses"] = [{"restartCount": rng.choice([0, 0, 3])}]
    if rng.random() < 0.2:
        meta["annotations"] = {of_pods.DELETION_COST: rng.choice(["5", "-2", "much"])}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def told(view: View) -> tuple[list[Any], list[Any]]:
    plan = replicaset.plan(view, "default/set", NOW)
    if not isinstance(plan, Plan):
        plan = at_once(plan)
    assert plan.then is not None
    return [(s.verb, s.name, s.body) for s in plan.steps], [s.body for s in plan.then([])]  # type: ignore[union-attr]


def finished(steps: Generator[None, None, list[Json]]) -> list[Json]:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return list(done.value)


@pytest.mark.parametrize("seed", range(300))
def test_counting_pods_plans_the_same_as_looking_at_each(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(seed)
    view = View.of({SETS: [owner(rng)], PODS: [pod(n, rng) for n in range(rng.randrange(14))]})
    counted = told(view)
    monkeypatch.setattr(replicas, "_counted", lambda flavour, view, owner: None)
    assert told(view) == counted
    monkeypatch.setattr(replicas, "MANY", 0)
    monkeypatch.setattr(of_pods, "AT_ONCE", 3)
    assert told(view) == counted


def test_some_of_these_plans_are_made_by_counting() -> None:
    found = []
    for seed in range(300):
        rng = Random(seed)
        held = owner(rng)
        view = View.of({SETS: [held], PODS: [pod(n, rng) for n in range(rng.randrange(14))]})
        found.append(replicas._counted(replicaset.FLAVOUR, view, held) is not None)
    assert 30 < sum(found) < 290


@pytest.mark.parametrize("seed", range(20))
def test_counts_follow_every_change(seed: int) -> None:
    rng, cache = Random(seed), ObjectCache(trait=standing)
    for _ in range(200):
        number = rng.randrange(15)
        if rng.random() < 0.3:
            cache.remove(f"default/p{number}")
        else:
            made = pod(number, rng)
            cache.put(key_of(made), made)
        for value in ("u1", "u2", "-/default"):
            held = [o for o in cache.objects.values() if value in by_controller(o)]
            assert cache.counted(value) == Counter(map(standing, held))
        finished = sum(1 for o in cache.objects.values() if of_pods.is_finished(o))
        assert cache.number(lambda pod: pod.finished) == finished


def _before(a: Json, b: Json, crowd: dict[str, int], now: float) -> int:
    """The order said slowly, one rule after the other."""
    rank = lambda at: int(math.log2((now - at) * 1e9)) if now > at else -1  # noqa: E731
    for check in (
        lambda p: bool(p["spec"].get("nodeName")),
        lambda p: {"Pending": 0, "Unknown": 1, "Running": 2}.get(of_pods.phase(p), 2),
        of_pods.is_ready,
        of_pods._cost,
        lambda p: -crowd.get(p["spec"].get("nodeName", ""), 0),
    ):
        left, right = check(a), check(b)  # type: ignore[no-untyped-call]
        if left != right:
            return -1 if left < right else 1
    by_uid = -1 if a["metadata"]["uid"] < b["metadata"]["uid"] else 1
    if of_pods.is_ready(a):
        since, since2 = of_pods.ready_since(a) or 0.0, of_pods.ready_since(b) or 0.0
        if since != since2:
            return rank(since) - rank(since2) or by_uid
    if of_pods.restarts(a) != of_pods.restarts(b):
        return -1 if of_pods.restarts(a) > of_pods.restarts(b) else 1
    if of_pods.created(a) != of_pods.created(b):
        return rank(of_pods.created(a)) - rank(of_pods.created(b)) or by_uid
    return 0


@pytest.mark.parametrize("seed", range(100))
def test_pods_go_in_the_order_of_the_rules(seed: int) -> None:
    rng = Random(seed)
    held = [pod(n, rng) for n in range(12)]
    crowd = Counter(p["spec"].get("nodeName", "") for p in held if of_pods.is_active(p))
    slow = sorted(held, key=functools.cmp_to_key(lambda a, b: _before(a, b, crowd, NOW)))
    assert of_pods.deletion_order(held, held, NOW) == slow
    for number, obj in enumerate(held):  # upstream's rules are no order where times are equal and restarts are not
        times = f"2026-02-0{rng.randrange(1, 9)}T00:00:{number:02}Z"
        obj["metadata"]["creationTimestamp"] = times
        for condition in obj["status"].get("conditions", ())[1:]:
            condition["lastTransitionTime"] = times
    assert finished(of_pods.first_to_go(held, held, NOW, 4)) == of_pods.deletion_order(held, held, NOW)[:4]
