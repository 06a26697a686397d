"""Addresses of the nodes for LoadBalancer Services, and endpoints of the cluster's name server."""

from __future__ import annotations

from typing import Any

from portside.client.cache import View
from portside.controllers import clusterdns, loadbalancer
from portside.controllers.endpoint import NODES, SERVICES
from portside.controllers.plan import Emit, Op
from portside.controllers.slices import SLICES

Json = dict[str, Any]


def node(name: str, ip: str, ready: str = "True", server: str = "10.244.0.1") -> Json:
    return {
        "metadata": {"name": name, "annotations": {clusterdns.NAME_SERVER: server} if server else {}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": ip}],
            "conditions": [{"type": "Ready", "status": ready}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        },
    }


def service(name: str, port: int = 80, made: str = "2026-01-01T00:00:00Z", **spec: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": "d", "creationTimestamp": made, "uid": name, "resourceVersion": "1"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": port, "protocol": "TCP"}]} | spec,
        "status": {"loadBalancer": {}},
    }


def view(services: list[Json], nodes: list[Json], slices: list[Json] | None = None) -> View:
    return View.of({SERVICES: services, NODES: nodes, SLICES: slices or []})


def ingress(steps: Any) -> Any:
    (op,) = [s for s in steps if isinstance(s, Op)]
    return [i["ip"] for i in op.body["status"]["loadBalancer"].get("ingress") or []]


def test_ready_nodes_that_carry_rules_give_their_addresses() -> None:
    nodes = [node("a", "192.0.2.1"), node("b", "192.0.2.2", "Unknown"), node("c", "192.0.2.3", server="")]
    assert ingress(loadbalancer.plan(view([service("s")], nodes), "d/s", 0).steps) == ["192.0.2.1"]
    assert loadbalancer.plan(view([service("s")], nodes[2:]), "d/s", 0).steps == ()
    classy = service("s", loadBalancerClass="example.com/other")
    assert loadbalancer.plan(view([classy], nodes), "d/s", 0).steps == ()


def test_a_port_has_one_owner_the_older_service() -> None:
    old, new = service("z"), service("a", made="2026-01-02T00:00:00Z")
    nodes = [node("a", "192.0.2.1")]
    assert ingress(loadbalancer.plan(view([old, new], nodes), "d/z", 0).steps) == ["192.0.2.1"]
    (said,) = loadbalancer.plan(view([old, new], nodes), "d/a", 0).steps
    assert isinstance(said, Emit)
    assert "port 80/TCP of the nodes' addresses is taken by service d/z" in said.message


def test_ports_of_the_nodes_themselves_are_not_given_away() -> None:
    for port in (22, 10250):
        (said,) = loadbalancer.plan(view([service("s", port)], [node("a", "192.0.2.1")]), "d/s", 0).steps
        assert isinstance(said, Emit)
        assert said.reason == "SyncLoadBalancerFailed"


def test_addresses_go_when_the_type_changes() -> None:
    was = service("s", type="ClusterIP")
    was["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}}
    assert ingress(loadbalancer.plan(view([was], [node("a", "192.0.2.1")]), "d/s", 0).steps) == []
    foreign = service("s", type="ClusterIP")
    foreign["status"] = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
    assert loadbalancer.plan(view([foreign], [node("a", "192.0.2.1")]), "d/s", 0).steps == ()


def test_local_traffic_policy_names_nodes_with_pods_only() -> None:
    piece = {
        "metadata": {"name": "s-1", "namespace": "d", "labels": {"kubernetes.io/service-name": "s"}},
        "endpoints": [{"addresses": ["10.244.1.2"], "nodeName": "b", "conditions": {"ready": True}}],
    }
    nodes = [node("a", "192.0.2.1"), node("b", "192.0.2.2")]
    near = service("s", externalTrafficPolicy="Local")
    assert ingress(loadbalancer.plan(view([near], nodes, [piece]), "d/s", 0).steps) == ["192.0.2.2"]


def test_name_servers_of_nodes_are_endpoints_first_for_their_own_pods() -> None:
    dns = {"metadata": {"name": "kube-dns", "namespace": "kube-system", "uid": "u"}, "spec": {}}
    nodes = [node("b", "192.0.2.2", "Unknown", "10.244.1.1"), node("a", "192.0.2.1"), node("c", "192.0.2.3", server="")]
    (op,) = clusterdns.plan(view([dns], nodes), clusterdns.KEY, 0).steps
    assert isinstance(op, Op)
    found = [(e["addresses"], e["nodeName"], e["conditions"]["ready"]) for e in op.body["endpoints"]]
    assert found == [(["10.244.0.1"], "a", True), (["10.244.1.1"], "b", False)]
    assert op.body["endpoints"][0]["hints"] == {"forNodes": [{"name": "a"}]}
    assert clusterdns.plan(view([], nodes), clusterdns.KEY, 0).steps == ()
