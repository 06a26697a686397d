"""The way to other nodes' pods, and which UDP flows must be forgotten."""

from __future__ import annotations

import re
from typing import Any

import pytest

from portside.net.conntrack import stale
from portside.net.routes import (
    Range,
    Route,
    Standing,
    Tunnel,
    Wanted,
    commands,
    link_address,
    standing,
    tunnel_number,
    wanted_routes,
)
from portside.net.services import Backend, HostPort, ServicePort

TUNNEL = Tunnel("v-portside0", "192.0.2.1", "10.244.0.1")
RANGES = Range("10.244.0.0/16", "10.96.0.0/16", "10.244.0.0/24")
NEAR, FAR = Route("10.244.1.0/24", "192.0.2.2", False), Route("10.244.2.0/24", "198.51.100.3", True)
EMPTY = Standing()
LINK = {
    "address": "0a:58:0a:f4:00:01",
    "mtu": 1450,
    "flags": ["BROADCAST", "UP"],
    "linkinfo": {"info_data": {"id": 4096, "port": 8472, "local": "192.0.2.1"}},
}


def node(
    name: str, cidr: str, address: str, *, made: str = "2026-01-01T00:00:00Z", ready: bool = True
) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": address}] if address else []
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    return {
        "metadata": {"name": name, "creationTimestamp": made},
        "spec": {"podCIDR": cidr} if cidr else {},
        "status": {"addresses": addresses, "conditions": conditions},
    }


ME = node("me", "10.244.0.0/24", "192.0.2.1")
VICTIM = node("near", "10.244.1.0/24", "192.0.2.2")
LATER = "2026-02-02T00:00:00Z"


def wanted(*nodes: dict[str, Any]) -> Wanted:
    return wanted_routes([ME, *nodes], "me", ["192.0.2.0/24"], RANGES, "192.0.2.1")


def test_nodes_on_this_network_are_reached_directly_and_others_through_the_tunnel() -> None:
    far = node("far", "10.244.2.0/24", "198.51.100.3")
    found = wanted(VICTIM, far, node("new", "", "192.0.2.9"), node("nowhere", "10.244.5.0/24", ""))
    assert found == Wanted(frozenset({NEAR, FAR}), {})


@pytest.mark.parametrize(
    ("cidr", "why"),
    [
        ("0.0.0.0/0", "overlaps|outside"),
        ("10.96.0.0/16", "outside the cluster's 10.244.0.0/16"),
        ("10.244.0.0/16", "overlaps the part of node me"),
        ("10.244.1.128/25", "overlaps the part of node near"),
        ("10.244.1.0/24", "overlaps the part of node near"),
        ("nonsense", "is no IPv4 network"),
    ],
)
def test_a_node_can_not_draw_others_traffic_to_itself_by_the_part_it_claims(cidr: str, why: str) -> None:
    """It may choose its part when it makes its own Node object."""
    found = wanted(node("rogue", cidr, "192.0.2.66", made=LATER), VICTIM)
    assert found.routes == {NEAR}
    assert re.search(why, found.doubts["rogue"])


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "is no machine's address"),
        ("224.0.0.5", "is no machine's address"),
        ("10.244.1.7", "is an address of the cluster's pods or Services"),
        ("10.96.0.1", "is an address of the cluster's pods or Services"),
        ("192.0.2.1", "is the address of node me"),
        ("192.0.2.2", "is the address of node near"),
        ("1.2.3", "is no IPv4 address"),
    ],
)
def test_a_node_is_not_believed_an_address_that_it_can_not_have(address: str, why: str) -> None:
    found = wanted(node("rogue", "10.244.9.0/24", address, made=LATER), VICTIM)
    assert found.routes == {NEAR}
    assert why in found.doubts["rogue"]


def test_an_address_that_a_lost_node_had_is_believed_of_the_one_that_lives() -> None:
    lost = node("lost", "10.244.3.0/24", "192.0.2.2", made="2025-01-01T00:00:00Z", ready=False)
    found = wanted(lost, VICTIM)
    assert found.routes == {NEAR}
    assert list(found.doubts) == ["lost"]


def test_a_direct_route_is_one_command_and_comes_and_goes() -> None:
    there = Standing(frozenset({NEAR}))
    assert commands(EMPTY, [NEAR], TUNNEL) == [
        ("ip", "route", "replace", "10.244.1.0/24", "via", "192.0.2.2", "protocol", "197")
    ]
    assert commands(there, [NEAR], TUNNEL) == []
    assert commands(there, [], TUNNEL) == [("ip", "route", "delete", "10.244.1.0/24", "protocol", "197")]


def test_the_tunnel_is_made_when_the_first_node_needs_it_and_goes_with_the_last() -> None:
    made = commands(Standing(frozenset({NEAR})), [NEAR, FAR], TUNNEL)
    assert ("ip", "link", "set", "v-portside0", "up") in made
    assert next(c for c in made if c[:3] == ("ip", "link", "add"))[6:8] == ("mtu", "1450")
    far = link_address("10.244.2.1")
    assert far == "0a:58:0a:f4:02:01"
    assert ("bridge", "fdb", "replace", far, "dev", "v-portside0", "dst", "198.51.100.3") in made
    assert made[-1][:4] == ("ip", "route", "replace", "10.244.2.0/24")
    other = Route("10.244.3.0/24", "198.51.100.4", True)
    stands = Standing(frozenset({FAR}), tunnel=True)
    assert not any(c[:2] == ("ip", "link") for c in commands(stands, [FAR, other], TUNNEL))
    assert commands(stands, [], TUNNEL) == [("ip", "link", "delete", "v-portside0")]


def test_a_tunnel_that_is_not_as_it_should_be_is_made_anew_with_all_that_goes_through_it() -> None:
    changed = commands(Standing(frozenset({NEAR, FAR}), tunnel=False), [NEAR, FAR], TUNNEL)
    assert changed[0] == ("ip", "link", "delete", "v-portside0")
    assert changed[-1][:4] == ("ip", "route", "replace", "10.244.2.0/24")
    assert not any("10.244.1.0/24" in c for c in changed)


def test_a_node_that_moved_keeps_its_route_without_a_gap() -> None:
    moved = Route("10.244.1.0/24", "192.0.2.7", False)
    changed = commands(Standing(frozenset({NEAR})), [moved], TUNNEL)
    assert [c[2] for c in changed] == ["replace"]


def test_what_stands_is_read_from_the_kernel_and_strays_are_named() -> None:
    routes = [
        {"dst": "10.96.0.0/16", "dev": "portside0", "scope": "link"},
        {"dst": "10.244.1.0/24", "gateway": "192.0.2.2", "dev": "eth0"},
        {"dst": "10.244.2.0/24", "gateway": "10.244.2.1", "dev": "v-portside0"},
        {"dst": "10.245.7.0/24", "gateway": "192.0.2.8", "dev": "eth0"},  # another cluster's
    ]
    far, old = link_address("10.244.2.1"), link_address("10.244.8.1")
    macs = [{"mac": far, "dst": "198.51.100.3"}, {"mac": old, "dst": "198.51.100.8"}]
    neighbours = [{"dst": "10.244.2.1", "lladdr": far}, {"dst": "10.244.8.1", "lladdr": old}]
    seen = standing(routes, LINK, macs, neighbours, TUNNEL, RANGES)
    assert seen.routes == {NEAR, FAR}
    assert seen.tunnel is True
    assert [c[3] for c in seen.strays] == [old, "10.244.8.1"]
    assert commands(seen, [NEAR, FAR], TUNNEL) == list(seen.strays)
    half = standing(routes, LINK, [], neighbours[:1], TUNNEL, RANGES)
    assert ("bridge", "fdb", "replace", far, "dev", "v-portside0", "dst", "198.51.100.3") in commands(
        half, [NEAR, FAR], TUNNEL
    )
    changes: list[dict[str, Any]] = [{"mtu": 1500}, {"address": "0a:58:0a:f4:00:09"}, {"flags": []}, {"linkinfo": {}}]
    for change in changes:
        assert standing(routes, LINK | change, macs, neighbours, TUNNEL, RANGES).tunnel is False
    assert standing(routes[:2], None, [], [], TUNNEL, RANGES) == Standing(frozenset({NEAR}))


def test_two_clusters_have_tunnels_of_their_own() -> None:
    assert tunnel_number("10.244.0.0/16") == 4096
    assert tunnel_number("10.245.0.0/16") == 4097
    assert 0 < tunnel_number("10.0.0.0/16") < 1 << 24
    small = {tunnel_number(f"10.244.{third}.0/20") for third in (0, 16, 240)}
    assert len(small) == 3 and 4096 not in small and max(small) < 1 << 24


def port(*backends: str, **more: Any) -> ServicePort:
    found = tuple(Backend(b, 53, True) for b in backends)
    values: dict[str, Any] = {
        "name": "d/dns:dns",
        "protocol": "udp",
        "port": 53,
        "cluster_ips": ("10.96.0.5",),
        "load_balancer_ips": (),
        "source_ranges": (),
        "node_port": 0,
        "backends": found,
        "local_backends": found,
        "local_ready": 0,
        "health_port": 0,
        "internal_local": False,
        "external_local": False,
        "affinity_seconds": 0,
    }
    return ServicePort(**(values | more))


def test_flows_to_an_endpoint_that_went_are_forgotten() -> None:
    front = ("--orig-dst", "10.96.0.5", "--orig-port-dst", "53")
    assert stale([port("10.244.0.5", "10.244.0.6")], [port("10.244.0.6")], [], []) == [
        (*front, "--reply-src", "10.244.0.5")
    ]
    assert stale([port("10.244.0.5")], [], [], []) == [(*front, "--reply-src", "10.244.0.5")]
    assert stale([port("10.244.0.5")], [port("10.244.0.5")], [], []) == []
    assert stale([port("10.244.0.5", protocol="tcp")], [], [], []) == []


def test_flows_made_while_nobody_answered_are_forgotten() -> None:
    assert stale([port()], [port("10.244.0.5", node_port=30053)], [], []) == [
        ("--orig-dst", "10.96.0.5", "--orig-port-dst", "53"),
        ("--orig-port-dst", "30053"),
    ]


def test_flows_kept_to_one_node_are_forgotten_by_the_pods_of_that_node() -> None:
    """One of its pods that served while it ended, and flows made while it had none, though other nodes had."""
    front = ("--orig-dst", "10.96.0.5", "--orig-port-dst", "53")
    far, near = (Backend("10.244.1.5", 53, False),), (Backend("10.244.0.5", 53, True),)

    def local(*backends: Backend) -> ServicePort:
        return port(backends=far, local_backends=backends, internal_local=True)

    assert stale([local(*near)], [local()], [], []) == [(*front, "--reply-src", "10.244.0.5")]
    assert stale([local()], [local(*near)], [], []) == [front]
    assert stale([port(backends=far, local_backends=())], [port(backends=far, local_backends=near)], [], []) == []


def test_flows_of_a_changed_host_port_are_forgotten() -> None:
    assert stale([], [], [], [HostPort("", "udp", 5353, "10.244.0.5", 53)]) == [("--orig-port-dst", "5353")]
