"""Parts of the pod addresses for nodes."""

from __future__ import annotations

from typing import Any

from portside.client.cache import View
from portside.controllers import nodeipam
from portside.controllers.endpoint import NODES
from portside.controllers.plan import Emit, Op

Json = dict[str, Any]


def node(name: str, cidr: str = "") -> Json:
    return {"metadata": {"name": name}, "spec": {"podCIDR": cidr, "podCIDRs": [cidr]} if cidr else {}}


def given(controller: Any, nodes: list[Json], name: str) -> str:
    steps = controller.plan(View.of({NODES: nodes}), name, 0.0).steps
    if not steps:
        return ""
    (step,) = steps
    if isinstance(step, Emit):
        return step.reason
    assert isinstance(step, Op)
    assert step.body["spec"]["podCIDRs"] == [step.body["spec"]["podCIDR"]]
    return str(step.body["spec"]["podCIDR"])


def test_each_node_gets_the_first_free_part_and_keeps_what_it_has() -> None:
    controller = nodeipam.controller("10.244.0.0/16")
    nodes = [node("a", "10.244.0.0/24"), node("b"), node("c")]
    assert given(controller, nodes, "a") == ""
    assert given(controller, nodes, "b") == "10.244.1.0/24"
    # The first gift may not be seen yet: the next node must not get it as well, nor the same node another one.
    assert given(controller, nodes, "c") == "10.244.2.0/24"
    assert given(controller, nodes, "b") == "10.244.1.0/24"


def test_a_part_is_free_again_when_its_node_is_gone() -> None:
    controller = nodeipam.controller("10.244.0.0/16")
    assert given(controller, [node("b")], "b") == "10.244.0.0/24"
    assert given(controller, [], "b") == ""
    assert given(controller, [node("c")], "c") == "10.244.0.0/24"


def test_parts_of_another_size_are_respected_and_a_full_range_is_said() -> None:
    assert nodeipam.free("10.244.0.0/16", {"10.244.0.0/23"}) == "10.244.2.0/24"
    assert nodeipam.free("10.244.0.0/23", {"10.244.0.0/24", "10.244.1.0/24"}) is None
    controller = nodeipam.controller("10.244.0.0/24")
    assert given(controller, [node("a", "10.244.0.0/24"), node("b")], "b") == "CIDRNotAvailable"
