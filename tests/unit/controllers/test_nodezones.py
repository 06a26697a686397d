"""Nodes that fail lose their pods a zone at a time, and keep them when it is rather we who are cut off."""

from __future__ import annotations

from math import inf
from typing import Any

from portside.client.cache import View
from portside.controllers.nodelifecycle import NODES, REPORTED, TOLD, NodeLifecycle
from portside.controllers.nodezones import LOOK, PERIOD, SLOW_PERIOD, ZONE, Count, Zones
from portside.controllers.plan import Op, Plan

Json = dict[str, Any]


def node(name: str, *, ready: bool = False, zone: str = "a", tainted: bool = False) -> Json:
    meta = {"name": name, "uid": name, "resourceVersion": "1", "labels": {ZONE: zone}}
    taints = [{"key": "node.kubernetes.io/unreachable", "effect": e} for e in ("NoSchedule", "NoExecute")]
    state = (
        {"status": "True", "reason": "KubeletReady"} if ready else {"status": "Unknown", "reason": "NodeStatusUnknown"}
    )
    pressures = [{"type": t, "status": "False" if ready else "Unknown"} for t in REPORTED[1:]]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {**meta, "annotations": {"node.alpha.kubernetes.io/ttl": "0"}},
        "spec": {"taints": taints} if tainted else {},
        "status": {"conditions": [{"type": "Ready", **state}, *pressures]},
    }


def test_a_zone_of_which_most_is_silent_keeps_its_pods_unless_it_is_large() -> None:
    assert Count(ready=2, silent=1).period == PERIOD
    assert Count(ready=1, silent=2).period == PERIOD, "two may always fail"
    assert Count(ready=2, silent=3).period == inf
    assert Count(ready=20, silent=40).period == SLOW_PERIOD
    assert Count(ready=0, silent=5).period == PERIOD, "a whole zone that fails is a zone that fails"


def test_of_a_zone_one_node_after_the_other_loses_its_pods() -> None:
    zones = Zones()
    nodes = [node("x"), node("y"), node("z", zone="b"), *(node(f"r{i}", ready=True) for i in range(4))]
    zones.look(nodes, 100.0)
    assert zones.wait(nodes[0], 100.0) == 0
    assert zones.wait(nodes[1], 104.0) == PERIOD - 4
    assert zones.wait(nodes[2], 104.0) == 0, "zones don't wait for each other"
    assert zones.wait(nodes[1], 100.0 + PERIOD) == 0


def taints(found: Plan) -> list[Json] | None:
    """The taints that a plan writes; None when it writes none."""
    for step in found.steps:
        if isinstance(step, Op) and "taints" in (step.body.get("spec") or {}):
            return list(step.body["spec"]["taints"] or ())
    return None


def planned(*nodes: Json) -> Plan:
    controller = NodeLifecycle(lambda: 1000.0)
    return controller.plan(View.of({NODES: nodes}), nodes[0]["metadata"]["name"], 1_700_000_000.0)


def test_when_no_node_is_heard_of_nothing_is_evicted_and_what_began_is_taken_back() -> None:
    lost = taints(planned(node("x"), node("y", zone="b")))
    assert lost is not None and [t["effect"] for t in lost] == ["NoSchedule"]
    back = planned(node("x", tainted=True), node("y"))
    found = taints(back)
    assert found is not None and [t["effect"] for t in found] == ["NoSchedule"]
    assert back.again is not None and back.again <= LOOK
    alone = taints(planned(node("x"), node("y", ready=True)))
    assert alone is not None and [t["effect"] for t in alone] == ["NoSchedule", "NoExecute"]


def test_nodes_that_come_and_go_are_told_as_events() -> None:
    controller = NodeLifecycle(lambda: 1000.0)
    view = View.of({NODES: [node("x", ready=True)]})
    texts = [str(s) for s in controller.plan(view, "x", 0.0).steps]
    assert any("Node x event: Registered Node x in Controller" in t for t in texts)
    assert not any("Registered" in str(s) for s in controller.plan(view, "x", 0.0).steps)
    (gone,) = controller.plan(View.of({NODES: []}), "x", 0.0).steps
    assert "Node x event: Removing Node x from Controller" in str(gone)


def test_thousands_of_nodes_that_come_together_crowd_out_no_other_events() -> None:
    nodes = [node(f"n{i}", ready=True) for i in range(TOLD + 1)]
    found = NodeLifecycle(lambda: 1000.0).plan(View.of({NODES: nodes}), "n0", 0.0)
    assert not any("Registered" in str(s) for s in found.steps)
