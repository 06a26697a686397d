"""Service rules: which backends get traffic, and transactions that nftables can take."""

from __future__ import annotations

from typing import Any

from portside.net.health import health_ports
from portside.net.nft import NodeNetwork, Table, combine, render_service, script
from portside.net.services import Backend, HostPort, ServicePort, host_ports, ports_of

Json = dict[str, Any]
NETWORK = NodeNetwork("portside-t", "10.244.0.0/24", "10.244.0.0/16", "10.96.0.0/16", "ps0")


def render(ports: list[ServicePort], published: list[HostPort]) -> Table:
    return combine([render_service([port], NETWORK.cluster_cidr) for port in ports], published)


def service(name: str = "web", ip: str = "10.96.0.5", **spec: Any) -> Json:
    port = {"name": "http", "port": 80, "protocol": "TCP", "nodePort": spec.pop("node_port", 0)}
    return {
        "metadata": {"name": name, "namespace": "d"},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [port], **spec},
    }


def slice_of(*endpoints: Json) -> Json:
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return {
        "metadata": {"name": "web-1", "namespace": "d"},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": list(endpoints),
    }


def endpoint(address: str, node: str = "n1", **conditions: bool) -> Json:
    return {"addresses": [address], "nodeName": node, "conditions": {"ready": True} | conditions}


def test_ready_endpoints_get_traffic_and_terminating_ones_only_when_alone() -> None:
    dying = endpoint("10.244.0.9", ready=False, serving=True, terminating=True)
    (port,) = ports_of(service(), [slice_of(endpoint("10.244.0.5"), endpoint("10.244.0.6", ready=False), dying)], "n1")
    assert port.backends == (Backend("10.244.0.5", 8080, True),)
    (port,) = ports_of(service(), [slice_of(dying)], "n1")
    assert [b.address for b in port.backends] == ["10.244.0.9"]


def test_headless_external_name_and_foreign_proxies_have_no_rules() -> None:
    assert ports_of(service(ip="None"), [], "n1") == []
    assert ports_of(service(type="ExternalName"), [], "n1") == []
    for label in ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"):
        claimed = service()
        claimed["metadata"]["labels"] = {label: ""}
        assert ports_of(claimed, [], "n1") == []
    labelled = slice_of(endpoint("10.244.0.5"))
    labelled["metadata"]["labels"] = {"service.kubernetes.io/headless": ""}
    assert [port.backends for port in ports_of(service(), [labelled], "n1")] == [()]


def test_an_external_address_of_a_service_takes_no_traffic() -> None:
    """Whoever may write a Service could name any address and read what pods send there."""
    (port,) = ports_of(service(externalIPs=["203.0.113.9"]), [slice_of(endpoint("10.244.0.5"))], "n1")
    assert "203.0.113.9" not in script(NETWORK, None, render([port], []))


def test_nothing_behind_a_service_refuses_at_once() -> None:
    table = render(ports_of(service(node_port=30080, type="NodePort"), [], "n1"), [])
    assert table.maps["refused"] == {"10.96.0.5 . tcp . 80": "goto refuse"}
    assert table.maps["refused-ports"] == {"tcp . 30080": "goto refuse"}
    assert not table.maps["services"]


def test_local_traffic_policy_uses_this_nodes_pods_and_keeps_the_client_address() -> None:
    slices = [slice_of(endpoint("10.244.0.5"), endpoint("10.244.1.5", "n2"))]
    (port,) = ports_of(service(type="NodePort", node_port=30080, externalTrafficPolicy="Local"), slices, "n2")
    table = render([port], [])
    outside = table.chains[f"ext-{port.chain}"]
    assert "10-244-1-5" in outside[-1]
    assert "10-244-0-5" not in outside[-1]
    # Pods and the node itself may use all backends; only the node's own connections change their source.
    assert outside[0] == f"ip saddr 10.244.0.0/16 goto all-{port.chain}"
    assert [rule for rule in outside if "mark" in rule] == [outside[1]]
    assert outside[1].startswith("fib saddr type local ")
    assert "mod 2" in table.chains[f"all-{port.chain}"][-1]
    assert "mod 2" in table.chains[f"svc-{port.chain}"][-1]


def test_pods_that_end_still_serve_but_the_health_check_port_sends_balancers_elsewhere() -> None:
    """A pod with two addresses' worth of slices counts once; one that only terminates does not count."""
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999}
    dying = endpoint("10.244.0.9", ready=False, serving=True, terminating=True)
    (port,) = ports_of(service(**spec), [slice_of(dying), slice_of(endpoint("10.244.1.5", "n2"))], "n1")
    assert [b.address for b in port.local_backends] == ["10.244.0.9"]
    assert health_ports([port])[30999].answer().startswith(b"HTTP/1.1 503 ")
    (port,) = ports_of(
        service(**spec), [slice_of(endpoint("10.244.0.5"), dying), slice_of(endpoint("10.244.0.5"))], "n1"
    )
    assert health_ports([port])[30999].local == 1


def test_local_traffic_policy_without_pods_here_is_silent_rather_than_refused() -> None:
    slices = [slice_of(endpoint("10.244.0.5"))]
    (port,) = ports_of(service(type="NodePort", node_port=30080, externalTrafficPolicy="Local"), slices, "n2")
    table = render([port], [])
    assert table.maps["refused-ports"] == {"tcp . 30080": "goto silence"}
    assert table.maps["node-ports"] == {"tcp . 30080": f"goto ext-{port.chain}"}
    (port,) = ports_of(service(internalTrafficPolicy="Local"), slices, "n2")
    assert render([port], []).maps["refused"] == {"10.96.0.5 . tcp . 80": "goto silence"}


def test_a_local_pod_that_ends_serves_before_ready_pods_elsewhere_when_traffic_must_stay() -> None:
    dying = endpoint("10.244.1.9", "n2", ready=False, serving=True, terminating=True)
    (port,) = ports_of(service(externalTrafficPolicy="Local"), [slice_of(endpoint("10.244.0.5"), dying)], "n2")
    assert [b.address for b in port.local_backends] == ["10.244.1.9"]
    assert [b.address for b in port.backends] == ["10.244.0.5"]


def test_hints_keep_traffic_near_and_are_ignored_when_incomplete() -> None:
    def hinted(address: str, **hints: Any) -> Json:
        return endpoint(address) | {"hints": {k: [{"name": v}] for k, v in hints.items()}}

    near, far = hinted("10.244.0.5", forNodes="n1"), hinted("10.244.1.5", forNodes="n2")
    (port,) = ports_of(service(), [slice_of(near, far)], "n2")
    assert [b.address for b in port.backends] == ["10.244.1.5"]
    (port,) = ports_of(service(), [slice_of(near, far)], "n3")
    assert len(port.backends) == 2
    (port,) = ports_of(service(), [slice_of(near, endpoint("10.244.1.5"))], "n1")
    assert len(port.backends) == 2
    zones = [slice_of(hinted("10.244.0.5", forZones="a"), hinted("10.244.1.5", forZones="b"))]
    (port,) = ports_of(service(), zones, "n9", "b")
    assert [b.address for b in port.backends] == ["10.244.1.5"]


def test_session_affinity_remembers_the_backend() -> None:
    spec = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    (port,) = ports_of(service(**spec), [slice_of(endpoint("10.244.0.5"))], "n1")
    table = render([port], [])
    (name,) = table.sets
    assert "timeout 60s" in table.sets[name]
    assert any(f"ip saddr @{name}" in rule for rule in table.chains[f"svc-{port.chain}"])
    # Another time is another set: the kernel can't change a set's.
    spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 61}}
    (port,) = ports_of(service(**spec), [slice_of(endpoint("10.244.0.5"))], "n1")
    text = script(NETWORK, table, render([port], []))
    assert "timeout 61s" in text
    assert f"delete set ip portside-t {name}" in text


def test_a_change_is_the_difference_and_nothing_when_equal() -> None:
    before = render(ports_of(service(), [slice_of(endpoint("10.244.0.5"))], "n1"), [])
    after = render(ports_of(service(), [slice_of(endpoint("10.244.0.6"))], "n1"), [])
    assert script(NETWORK, before, before) == ""
    text = script(NETWORK, before, after)
    assert "delete table" not in text
    assert "element" not in text  # the map still points to the same chain
    assert text.index("flush chain ip portside-t svc-") < text.index("delete chain ip portside-t ep-")
    assert script(NETWORK, None, after).startswith("add table ip portside-t\ndelete table ip portside-t\n")


def test_host_ports_of_this_nodes_running_pods() -> None:
    def pod(name: str, node: str, **more: Any) -> Json:
        ports = [{"containerPort": 80, "hostPort": 8080}]
        return {
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports}], **more},
            "status": {"podIP": "10.244.0.7", "phase": "Running"},
        }

    found = host_ports([pod("a", "n1"), pod("b", "n2"), pod("c", "n1", hostNetwork=True)], "n1")
    assert found == [HostPort("", "tcp", 8080, "10.244.0.7", 80)]
    table = render([], found)
    assert table.maps["host-ports"] == {"tcp . 8080": "goto hp-tcp-8080"}
