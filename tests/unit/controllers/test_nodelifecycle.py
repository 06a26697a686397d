"""Silent nodes: told apart from talking ones by when we heard of them, whatever the wall clock does meanwhile."""

from __future__ import annotations

from typing import Any

from portside.base.clock import rfc3339
from portside.client.cache import View
from portside.controllers.nodelifecycle import GRACE, LEASES, NODES, NodeLifecycle
from portside.controllers.plan import Plan

START = 1_700_000_000.0
DAY = 86_400.0


class Watched:
    """One node seen by a life-cycle controller whose two clocks the test moves."""

    def __init__(self) -> None:
        self.steady = 100.0
        self.wall = START
        self.controller = NodeLifecycle(lambda: self.steady)
        self.renewed = rfc3339(START)

    def wait(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds

    def beat(self) -> None:
        self.renewed = rfc3339(self.wall)

    def plan(self) -> Plan:
        node: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": "n",
                "uid": "u",
                "resourceVersion": "1",
                "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
            },
            "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": rfc3339(START)}]},
        }
        lease = {
            "metadata": {"name": "n", "namespace": "kube-node-lease"},
            "spec": {"renewTime": self.renewed},
        }
        return self.controller.plan(View.of({NODES: [node], LEASES: [lease]}), "n", self.wall)

    def called_silent(self) -> bool:
        return any("NodeStatusUnknown" in str(step) for step in self.plan().steps)


def test_a_node_that_says_nothing_for_the_grace_period_becomes_unknown():
    node = Watched()
    assert not node.called_silent()
    node.wait(GRACE - 1)
    assert not node.called_silent()
    node.wait(2)
    assert node.called_silent()


def test_a_wall_clock_that_jumps_ahead_makes_no_node_silent():
    node = Watched()
    assert not node.called_silent()
    node.wall += DAY
    assert not node.called_silent()
    node.wait(10)
    node.beat()
    assert not node.called_silent()


def test_a_wall_clock_that_jumps_back_hides_no_silence():
    node = Watched()
    node.beat()
    assert not node.called_silent()
    node.wall -= DAY
    node.wait(GRACE + 1)
    assert node.called_silent()
