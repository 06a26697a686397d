"""Parts of the pod addresses for nodes."""

from __future__ import annotations

from typing import Any

from portside.api.status import ApiError
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


def test_a_part_that_came_back_is_given_again_late() -> None:
    kept = [node("b", "10.244.1.0/24"), node("c", "10.244.2.0/24")]
    for known in (nodeipam.controller("10.244.0.0/22"), None):
        controller = known or nodeipam.controller("10.244.0.0/22")  # a restart changes nothing
        assert given(controller, [*kept, node("d")], "d") == "10.244.3.0/24"
    kept.append(node("d", "10.244.3.0/24"))
    assert given(nodeipam.controller("10.244.0.0/22"), [*kept, node("e")], "e") == "10.244.0.0/24"


def test_after_a_restart_what_nodes_have_stays_theirs() -> None:
    nodes = [node("a", "10.244.0.0/24"), node("b", "10.244.1.0/24"), node("c")]
    assert given(nodeipam.controller("10.244.0.0/16"), nodes, "c") == "10.244.2.0/24"


def test_parts_have_the_size_that_was_chosen_and_nothing_of_what_is_reserved() -> None:
    controller = nodeipam.controller("10.128.0.0/14", 22, ("10.128.0.0/21",))
    assert given(controller, [node("a")], "a") == "10.128.8.0/22"
    parts = nodeipam.Parts("10.0.0.0/8", 28)
    assert parts.count == 1 << 20 and parts.part(parts.count - 1) == "10.255.255.240/28"
    assert parts.free(["10.0.0.0/9"]) == 1 << 19, "no matter how many there are"


def test_parts_of_another_size_are_respected_and_a_full_range_is_said() -> None:
    assert nodeipam.Parts("10.244.0.0/16").free({"10.244.0.0/23", "fd00::/64", "192.168.0.0/16", "none"}) == 2
    assert nodeipam.Parts("10.244.0.0/23").free({"10.244.0.0/24", "10.244.1.128/25"}) is None
    assert nodeipam.Parts("10.244.0.0/22").free({"10.244.2.0/23"}, after=2) == 0
    controller = nodeipam.controller("10.244.0.0/24")
    assert given(controller, [node("a", "10.244.0.0/24"), node("b")], "b") == "CIDRNotAvailable"


def test_a_refused_assignment_is_told() -> None:
    (step,) = nodeipam.controller("10.244.0.0/24").plan(View.of({NODES: [node("a")]}), "a", 0.0).steps  # type: ignore[misc]
    assert isinstance(step, Op) and step.failed is not None
    (event,) = step.failed(ApiError(403, "Forbidden", "no"))
    assert (event.reason, event.message) == ("CIDRAssignmentFailed", "Node a status is now: CIDRAssignmentFailed")
