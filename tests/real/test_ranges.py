"""A cluster whose pods have addresses of a chosen range, cut into small parts, on two machines."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.machines import Machine, Town, machines
from tests.real.neighbourhood import SLEEP, pod, service, web

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
CHOSEN = ("--cluster-cidr", "10.199.16.0/20", "--node-cidr-mask-size", "26")


@pytest.fixture(scope="module")
def two(tools: Path) -> Iterator[list[Machine]]:
    with machines(tools) as made:
        made[0].portside("up", *CHOSEN)
        words = made[0].portside("token", "create").stdout.split()
        made[1].portside(*words[1:], "--name", "worker-1")
        yield made[:2]


def test_nodes_get_parts_of_the_chosen_size_and_their_pods_reach_each_other(two: list[Machine]) -> None:
    first = two[0]
    nodes = {n["metadata"]["name"]: n for n in json.loads(first.kubectl("get", "nodes", "-o", "json"))["items"]}
    parts = {name: node["spec"]["podCIDR"] for name, node in nodes.items()}
    assert sorted(parts.values()) == ["10.199.16.0/26", "10.199.16.64/26"]
    first.kubectl("create", "namespace", "town")
    first.kubectl("wait", "--for=create", "serviceaccount/default", "-n", "town", "--timeout=60s")
    town = Town(first, "town")
    (other,) = set(nodes) - {"worker-1"}
    far = web("far", labels={"app": "web"})
    far["spec"]["nodeName"] = "worker-1"
    town.apply(far, pod("near", SLEEP, nodeName=other), service("web", {"app": "web"}))
    town.ready("far", "near")
    address = town.get("pod", "far")["status"]["podIP"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(parts["worker-1"])
    town.gets("near", f"http://{address}:8080/", "far")
    town.gets("near", "http://web.town.svc.cluster.local/", "far")


def test_the_range_is_kept_over_a_restart_and_another_one_is_refused(two: list[Machine]) -> None:
    two[0].portside("up", *CHOSEN)
    refused = two[0].portside("up", "--cluster-cidr", "10.200.0.0/16", check=False)
    assert refused.returncode == 2 and "--cluster-cidr can't change: it is 10.199.16.0/20" in refused.stderr
