"""Hints by annotation: endpoints are shared out to zones by their processors, or not at all, and then it is said why."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from portside.client.cache import View
from portside.controllers.endpoint import NODES, SERVICES
from portside.controllers.endpointslice import EndpointSlices
from portside.controllers.plan import Emit, Op
from portside.controllers.pods import PODS
from portside.controllers.slices import SLICES
from portside.controllers.topologyhints import ZONE, hinted, shares

Json = dict[str, Any]


def node(name: str, zone: str = "a", cpu: str = "4", **labels: str) -> Json:
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": cpu}}
    return {"metadata": {"name": name, "uid": name, "labels": {ZONE: zone, **labels}}, "status": status}


def endpoints(**zones: int) -> list[Json]:
    return [
        {"addresses": [f"{z}{i}"], "zone": z, "conditions": {"ready": True}} for z, n in zones.items() for i in range(n)
    ]


def zones_of(found: list[Json]) -> Counter[str]:
    return Counter(e["hints"]["forZones"][0]["name"] for e in found)


def test_zones_share_by_their_processors() -> None:
    assert shares([node("1"), node("2", "b"), node("3", "b")]) == {"a": 1 / 3, "b": 2 / 3}
    assert shares([node("1"), node("2", "b"), node("3", "c", **{"node-role.kubernetes.io/control-plane": ""})]) == {
        "a": 0.5,
        "b": 0.5,
    }
    assert shares([node("1"), node("2")]) == {}, "one zone needs no hints"
    assert shares([node("1"), node("2", "")]) == {}


def test_endpoints_stay_in_their_zone_as_far_as_the_shares_allow() -> None:
    even = {"a": 0.5, "b": 0.5}
    assert zones_of(hinted(endpoints(a=3, b=3), even).endpoints) == {"a": 3, "b": 3}
    assert zones_of(hinted(endpoints(a=5, b=1), even).endpoints) == {"a": 3, "b": 3}
    third = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    assert zones_of(hinted(endpoints(a=6, b=3), third).endpoints) == {"a": 3, "b": 3, "c": 3}


@pytest.mark.parametrize(("given", "zones", "why"), [
    (endpoints(a=3), {}, "Insufficient Node information"),
    (endpoints(a=1), {"a": 0.5, "b": 0.5}, "Insufficient number of endpoints (1 endpoints, 2 zones)"),
    (endpoints(a=3), {"a": 0.5, "b": 0.5}, "Unable to allocate minimum required endpoints"),
    ([{"addresses": ["x"]}, {"addresses": ["y"]}], {"a": 0.5, "b": 0.5}, "do not have a zone specified"),
])  # fmt: skip
def test_without_a_fair_share_there_are_no_hints(given: list[Json], zones: dict[str, float], why: str) -> None:
    found = hinted(given, zones)
    assert why in found.why
    assert not any("hints" in e for e in found.endpoints)


def test_hints_come_with_the_annotation_and_go_with_it_and_both_are_told() -> None:
    def pod(name: str, where: str) -> Json:
        ready = {"type": "Ready", "status": "True"}
        meta = {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "w"}}
        return {
            "metadata": meta,
            "spec": {"nodeName": where},
            "status": {"podIPs": [{"ip": f"10.0.0.{name}"}], "conditions": [ready]},
        }

    service: Json = {
        "metadata": {"name": "s", "namespace": "ns", "uid": "s", "annotations": {}},
        "spec": {"selector": {"app": "w"}, "ports": [{"port": 80}], "ipFamilies": ["IPv4"]},
    }
    nodes, pods = [node("n1"), node("n2", "b")], [pod("1", "n1"), pod("2", "n2")]
    controller = EndpointSlices()

    def planned(**notes: str) -> tuple[list[Json], list[str]]:
        held = {**service, "metadata": {**service["metadata"], "annotations": notes}}
        steps = controller.plan(View.of({SERVICES: [held], NODES: nodes, PODS: pods, SLICES: []}), "ns/s", 0.0).steps
        made = [e for s in steps if isinstance(s, Op) for e in s.body["endpoints"]]
        return made, [f"{s.reason}: {s.message}" for s in steps if isinstance(s, Emit)]

    made, told = planned(**{"service.kubernetes.io/topology-mode": "Auto"})
    assert zones_of(made) == {"a": 1, "b": 1}
    assert told == ["TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, addressType: IPv4"]
    assert planned(**{"service.kubernetes.io/topology-mode": "Auto"})[1] == []
    made, told = planned()
    assert not any("hints" in e for e in made)
    assert told == ["TopologyAwareHintsDisabled: Topology Aware Hints has been disabled, addressType: IPv4"]
