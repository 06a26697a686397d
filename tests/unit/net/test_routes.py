"""The way to other nodes' pods, and which UDP flows must be forgotten."""

from __future__ import annotations

from typing import Any

from portside.net.conntrack import stale
from portside.net.routes import Route, Tunnel, commands, link_address, wanted_routes
from portside.net.services import Backend, HostPort, ServicePort

TUNNEL = Tunnel("v-portside0", "192.0.2.1", "10.244.0.1")
NEAR, FAR = Route("10.244.1.0/24", "192.0.2.2", False), Route("10.244.2.0/24", "198.51.100.3", True)


def node(name: str, cidr: str, address: str) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": address}] if address else []
    return {"metadata": {"name": name}, "spec": {"podCIDR": cidr} if cidr else {}, "status": {"addresses": addresses}}


def test_nodes_on_this_network_are_reached_directly_and_others_through_the_tunnel() -> None:
    nodes = [
        node("me", "10.244.0.0/24", "192.0.2.1"),
        node("near", "10.244.1.0/24", "192.0.2.2"),
        node("far", "10.244.2.0/24", "198.51.100.3"),
        node("new", "", "192.0.2.9"),
        node("nowhere", "10.244.5.0/24", ""),
    ]
    assert wanted_routes(nodes, "me", ["192.0.2.0/24"]) == {NEAR, FAR}


def test_a_direct_route_is_one_command_and_comes_and_goes() -> None:
    assert commands([], [NEAR], TUNNEL) == [
        ("ip", "route", "replace", "10.244.1.0/24", "via", "192.0.2.2", "protocol", "197")
    ]
    assert commands([NEAR], [NEAR], TUNNEL) == []
    assert commands([NEAR], [], TUNNEL) == [("ip", "route", "delete", "10.244.1.0/24", "protocol", "197")]


def test_the_tunnel_is_made_when_the_first_node_needs_it() -> None:
    made = commands([NEAR], [NEAR, FAR], TUNNEL)
    assert ("ip", "link", "set", "v-portside0", "up") in made
    far = link_address("10.244.2.1")
    assert far == "0a:58:0a:f4:02:01"
    assert ("bridge", "fdb", "replace", far, "dev", "v-portside0", "dst", "198.51.100.3") in made
    assert made[-1][:4] == ("ip", "route", "replace", "10.244.2.0/24")
    other = Route("10.244.3.0/24", "198.51.100.4", True)
    assert not any(c[:3] == ("ip", "link", "add") for c in commands([FAR], [FAR, other], TUNNEL))


def test_a_node_that_moved_keeps_its_route_without_a_gap() -> None:
    moved = Route("10.244.1.0/24", "192.0.2.7", False)
    changed = commands([NEAR], [moved], TUNNEL)
    assert [c[2] for c in changed] == ["replace"]


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
