"""Priority and fairness: whose requests wait, whose do not, and what waiting in line means."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.server.auth_fixture import FakeHost

from portside.server.attributes import Attributes, User
from portside.server.bootstrap import flowcontrol as defaults
from portside.server.flowcontrol import levels
from portside.server.flowcontrol.flows import GROUP, Flow, Flows
from portside.server.flowcontrol.levels import Level, Rejected, Room

Json = dict[str, Any]
ADMIN = User("kubernetes-admin", groups=("system:masters", "system:authenticated"))
SOMEBODY = User("somebody", groups=("system:authenticated",))


def limited(
    name: str, shares: int, *, queues: int = 0, length: int = 50, lend: int = 0, borrow: int | None = None
) -> Json:
    response: Json = {"type": "Reject"}
    if queues:
        response = {"type": "Queue", "queuing": {"queues": queues, "handSize": 1, "queueLengthLimit": length}}
    said = {"nominalConcurrencyShares": shares, "lendablePercent": lend, "limitResponse": response}
    if borrow is not None:
        said["borrowingLimitPercent"] = borrow
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": {"type": "Limited", "limited": said}}


def cluster() -> Flows:
    host = FakeHost()
    for level in defaults.priority_levels():
        host.add("prioritylevelconfigurations", level, GROUP)
    for schema in defaults.flow_schemas("2026-01-01T00:00:00Z"):
        host.add("flowschemas", schema, GROUP)
    return Flows(host.live)


def flow_of(flows: Flows, user: User, verb: str = "get", resource: str = "pods", **more: str) -> Flow:
    found = flows.of(Attributes(user, verb, version="v1", resource=resource, **more))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("user", "asked", "schema", "level"),
    [
        (ADMIN, {}, "exempt", "exempt"),
        (SOMEBODY, {}, "global-default", "global-default"),
        (User("system:kube-scheduler"), {}, "kube-scheduler", "workload-high"),
        (User("system:node:n", groups=("system:nodes",)), {"resource": "nodes", "subresource": "status", "verb": "patch", "name": "n"}, "system-node-high", "node-high"),
        (User("system:node:n", groups=("system:nodes",)), {}, "system-nodes", "system"),
        (User("system:serviceaccount:kube-system:x", groups=("system:serviceaccounts",)), {}, "kube-system-service-accounts", "workload-high"),
        (User("system:serviceaccount:shop:x", groups=("system:serviceaccounts",)), {}, "service-accounts", "workload-low"),
        (User("nobody", groups=("system:unauthenticated",)), {}, "global-default", "global-default"),
    ],
)  # fmt: skip
def test_who_asks_decides_on_the_level(user: User, asked: dict[str, str], schema: str, level: str) -> None:
    found = flow_of(cluster(), user, **asked)
    assert found.headers == (
        ("X-Kubernetes-PF-FlowSchema-UID", f"uid-flowschemas-{schema}"),
        ("X-Kubernetes-PF-PriorityLevel-UID", f"uid-prioritylevelconfigurations-{level}"),
    )
    assert found.exempt == (level == "exempt")


def test_connections_are_not_limited_and_probes_are_exempt() -> None:
    flows = cluster()
    assert flows.of(Attributes(SOMEBODY, "create", version="v1", resource="pods", subresource="exec")) is None
    health = flows.of(
        Attributes(User("x", groups=("system:unauthenticated",)), "get", path="/healthz", is_resource=False)
    )
    assert health is not None and health.exempt


def test_a_new_schema_holds_for_the_next_request() -> None:
    host = FakeHost()
    for level in defaults.priority_levels():
        host.add("prioritylevelconfigurations", level, GROUP)
    flows = Flows(host.live)
    assert flows.of(Attributes(SOMEBODY, "get", version="v1", resource="pods")) is None
    rule = {"subjects": [{"kind": "User", "user": {"name": "somebody"}}], "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["a"]}]}  # fmt: skip
    spec = {"priorityLevelConfiguration": {"name": "workload-low"}, "matchingPrecedence": 5, "rules": [rule]}
    host.add("flowschemas", {"metadata": {"name": "mine"}, "spec": spec}, GROUP)
    assert flow_of(flows, SOMEBODY, namespace="a").headers[0][1] == "uid-flowschemas-mine"
    assert flows.of(Attributes(SOMEBODY, "get", version="v1", resource="pods", namespace="b")) is None
    assert flows.of(Attributes(SOMEBODY, "list", version="v1", resource="pods", namespace="a")) is None


def test_the_seats_of_a_new_level_are_told_with_the_metrics() -> None:
    host = FakeHost()
    flows = Flows(host.live)
    for level in (limited("most", 59, lend=50), limited("mine", 1, borrow=0)):
        host.add("prioritylevelconfigurations", level, GROUP)
    lines = set(flows.render())
    assert 'apiserver_flowcontrol_nominal_limit_seats{priority_level="mine"} 10' in lines
    assert 'apiserver_flowcontrol_lower_limit_seats{priority_level="most"} 295' in lines
    assert 'apiserver_flowcontrol_upper_limit_seats{priority_level="mine"} 10' in lines


def room(*objects: Json, total: int) -> list[Level]:
    return list(Room(list(objects), total).levels.values())


async def test_who_finds_no_seat_waits_and_is_served_in_turn() -> None:
    (level,) = room(limited("a", 1, queues=2, length=2), total=1)
    assert level.take() and not level.take()
    order: list[str] = []

    async def asks(name: str, queue: int) -> None:
        await level.wait((queue,))
        order.append(name)

    waiting = [asyncio.create_task(asks(n, q)) for n, q in (("a1", 0), ("a2", 0), ("b1", 1))]
    await asyncio.sleep(0)
    for _ in range(4):
        level.leave()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order == ["a1", "b1", "a2"]  # the busy flow does not hold up the other
    assert (level.used, level.waiting) == (0, 0)


async def test_full_queues_and_long_waits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "WAIT_SECONDS", 0.02)
    (level,) = room(limited("a", 1, queues=1, length=1), total=1)
    assert level.take()
    waiting = asyncio.create_task(level.wait((0,)))
    await asyncio.sleep(0)
    with pytest.raises(Rejected):
        await level.wait((0,))
    with pytest.raises(Rejected):
        await waiting
    with pytest.raises(Rejected):
        await level.wait(())
    assert (level.used, level.waiting) == (1, 0)
    level.leave()
    assert level.take()


async def test_a_client_that_goes_away_leaves_its_place() -> None:
    (level,) = room(limited("a", 1, queues=1, length=5), total=1)
    assert level.take()
    gone, stays = (asyncio.create_task(level.wait((0,))) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    level.leave()
    await stays
    assert (level.used, level.waiting) == (1, 0)


def test_idle_seats_are_lent_within_limits() -> None:
    rich, poor, modest = room(limited("rich", 8, lend=50), limited("poor", 1), limited("modest", 1, borrow=0), total=10)
    assert (rich.seats, poor.seats) == (8, 1)
    assert [poor.take() for _ in range(6)] == [True] * 5 + [False]  # its own, and half of the rich one's
    assert [modest.take() for _ in range(2)] == [True, False]
    assert all(rich.take() for _ in range(8))  # what is its own is never refused


def test_flows_are_dealt_the_same_few_queues_every_time() -> None:
    (level,) = room(limited("a", 1, queues=64), total=1)
    level.hand = 6
    hands = {name: level.deal("s", name) for name in map(str, range(50))}
    assert all(len(set(hand)) == 6 for hand in hands.values())
    assert hands["7"] == level.deal("s", "7") and len(set(hands.values())) > 45
