"""Resizing running containers: what is granted, what is said meanwhile, who is restarted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.agent.cluster import eventually, pod
from tests.unit.agent.node import Node

from portside.agent.resize import conditions, differs, judged, needs_restart, reported, with_allocation

Json = dict[str, Any]
ALLOCATABLE = {"cpu": "2", "memory": "4Gi", "pods": "110", "ephemeral-storage": "100Gi"}


def resources(cpu: str, memory: str = "64Mi") -> Json:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


def resize(node: Node, name: str, cpu: str, memory: str = "64Mi") -> None:
    """As pods/resize does: new resources, next generation."""
    found = node.api.pod(name)
    assert found is not None
    found["spec"]["containers"][0]["resources"] = resources(cpu, memory)
    found["metadata"]["generation"] += 1
    node.api._emit("MODIFIED", "pods", found)


async def test_a_resize_is_applied_without_a_restart(node: Node) -> None:
    """Status and runtime come to the new figures; the container stays the same."""
    node.api.add("pods", pod("p", {"command": ["sleep", "100000"], "resources": resources("100m")}))
    await node.until("p", "Running")
    before = node.container("p")
    assert before["resources"] == resources("100m") and before["allocatedResources"]["cpu"] == "100m"
    resize(node, "p", "150m")
    await eventually(lambda: node.container("p").get("resources") == resources("150m"))
    assert (node.container("p")["restartCount"], node.container("p")["containerID"]) == (0, before["containerID"])
    await eventually(lambda: "ResizeCompleted" in node.api.reasons())
    await eventually(lambda: not [c for c in node.status("p")["conditions"] if c["type"].startswith("PodResize")])
    assert node.status("p")["observedGeneration"] == 2


async def test_a_resize_policy_can_ask_for_a_restart(node: Node) -> None:
    """The container is ended and started anew with the new figures, whatever its restart policy."""
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    container = {"command": ["sleep", "100000"], "resources": resources("100m"), "resizePolicy": policy}
    node.api.add("pods", pod("p", container, restartPolicy="OnFailure"))
    await node.until("p", "Running")
    resize(node, "p", "100m", "80Mi")
    await eventually(lambda: node.container("p").get("restartCount") == 1 and "running" in node.container("p")["state"])
    assert node.container("p")["resources"] == resources("100m", "80Mi")


async def test_a_resize_beyond_the_node_says_so_and_goes_when_taken_back(node: Node) -> None:
    """Infeasible with the figures; the container keeps what it has."""
    node.api.add("pods", pod("p", {"command": ["sleep", "100000"], "resources": resources("100m")}))
    await node.until("p", "Running")
    resize(node, "p", "100000")

    def pending() -> Json:
        return next((c for c in node.status("p")["conditions"] if c["type"] == "PodResizePending"), {})

    await eventually(lambda: pending().get("reason") == "Infeasible")
    assert pending()["message"].startswith("Node didn't have enough capacity: cpu, requested: 100000000, capacity: ")
    assert node.container("p")["resources"] == resources("100m")
    resize(node, "p", "100m")
    await eventually(lambda: not pending())


def test_a_resize_that_fits_later_is_deferred() -> None:
    """The room of others counts; equal values are no change."""
    mine = pod("p", {"resources": resources("1500m")})
    mine["metadata"]["uid"] = "1"
    other = pod("q", {"resources": resources("1")})
    verdict = judged(mine, [other], ALLOCATABLE)
    assert verdict is not None and verdict.reason == "Deferred"
    assert verdict.message == "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000"
    assert judged(mine, [], ALLOCATABLE) is None
    assert not differs({"c": resources("1")}, {"c": resources("1000m")})


def test_the_pod_a_node_runs_has_what_was_allocated() -> None:
    """Only resources are exchanged; a restarted agent reads them from the status."""
    body = pod("p", {"resources": resources("2")})
    body["status"]["containerStatuses"] = [
        {"name": "c0", "containerID": "x://1", "state": {"running": {}}, "resources": resources("1")}
    ]
    allocated, applied = reported(body)
    assert (allocated, applied) == ({"c0": resources("1")}, {"1": resources("1")})
    assert with_allocation(body, allocated)["spec"]["containers"][0]["resources"] == resources("1")
    assert body["spec"]["containers"][0]["resources"] == resources("2")
    assert needs_restart({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}, {"cpu"})


def test_conditions_of_a_resize_name_their_generation() -> None:
    """Pending and in progress may stand side by side; an error is the progress's reason."""
    from portside.agent.resize import Pending, ResizeState

    state = ResizeState(pending=Pending("Deferred", "later", 3), generation=2, error="no")
    first, second = conditions(state)
    assert (first["type"], first["reason"], first["observedGeneration"]) == ("PodResizePending", "Deferred", 3)
    assert (second["type"], second["reason"], second["message"]) == ("PodResizeInProgress", "Error", "no")
    assert conditions(ResizeState()) == []


async def test_a_pod_that_has_ended_holds_no_room(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The successor of a deleted pod is taken although the node still clears up after the old one."""
    remove = node.runtime.remove_sandbox

    async def slowly(sandbox_id: str) -> None:
        await asyncio.sleep(0.3)
        await remove(sandbox_id)

    monkeypatch.setattr(node.runtime, "remove_sandbox", slowly)
    cores = node.agent.keeper.allocatable["cpu"]
    for name in ("first", "second", "third"):
        node.api.add("pods", pod(name, {"command": ["sleep", "100000"], "resources": resources(cores)}))
        await node.until(name, "Running")
        await node.api.delete(("", "v1", "pods"), name, namespace="default", options={"gracePeriodSeconds": 1})
        while node.api.pod(name) is not None:
            await asyncio.sleep(0)
