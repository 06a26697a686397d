"""Services on real pods: who gets traffic, under which address, for how long, and what is given back."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable

import pytest

from tests.conformance.names import conformance
from tests.real.neighbourhood import (
    Echo,
    Neighbourhood,
    endpoint_slice,
    fetch,
    http_status,
    names,
    pod,
    server,
    service,
    udp,
    until,
    web,
)

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="running containers needs root"),
]
WEBS = {"web-0", "web-1", "web-2"}


def who(address: str, port: int, times: int = 30) -> set[str]:
    return names([fetch(address, port) for _ in range(times)])


def reached(address: str, port: int, wanted: set[str]) -> None:
    until(lambda: who(address, port), lambda found: found == wanted)


def alone(address: str, port: int) -> set[str]:
    """Ask until one pod answers twenty times in a row, which by chance happens never: who."""
    return until(lambda: who(address, port, 20), lambda found: len(found) == 1 and found <= WEBS)


def silent(address: str, port: int) -> None:
    until(lambda: fetch(address, port, timeout=0.5), lambda a: a in ("refused", "no answer"))


def spec_of(town: Neighbourhood, name: str) -> dict[str, object]:
    return dict(town.get("service", name)["spec"])


def test_a_service_spreads_over_its_pods_from_the_node_and_from_pods(town: Neighbourhood) -> None:
    address = str(spec_of(town, "web")["clusterIP"])
    reached(address, 80, WEBS)
    answers = town.sh("box", f"for i in $(seq 60); do wget -qO- http://{address}/; done").splitlines()
    assert names(answers) == WEBS
    until(lambda: town.ask("box", "http://web/").split()[1:], lambda words: words == ["GET", "/"])


def test_a_pod_reaches_itself_through_its_service(town: Neighbourhood) -> None:
    town.apply(service("mirror", {"statefulset": "one"}))
    town.kubectl("label", "pod", "web-0", "statefulset=one")
    address = str(spec_of(town, "mirror")["clusterIP"])
    reached(address, 80, {"web-0"})
    for _ in range(3):
        town.gets("web-0", f"http://{address}/", "web-0 GET /")
    town.remove("service", "mirror")


@conformance("Network", "ClusterIP to ExternalName")
def test_cluster_ip_to_external_name_gives_the_address_back(town: Neighbourhood) -> None:
    town.apply(service("turn", {"app": "web"}))
    address = str(spec_of(town, "turn")["clusterIP"])
    reached(address, 80, WEBS)
    town.patch(
        "service",
        "turn",
        {"spec": {"type": "ExternalName", "externalName": "a.example.com", "clusterIP": "", "clusterIPs": None}},
    )
    silent(address, 80)
    assert "clusterIP" not in spec_of(town, "turn")
    until(lambda: town.cluster.kubectl("get", "ipaddress", address, check=False), lambda a: "NotFound" in a)
    # The address is free for somebody else.
    town.apply(service("heir", {"app": "web"}, clusterIP=address))
    reached(address, 80, WEBS)
    town.remove("service", "heir", "turn")


@conformance("Network", "ExternalName to ClusterIP")
def test_external_name_to_cluster_ip(town: Neighbourhood) -> None:
    town.apply(service("turn", None, type="ExternalName", externalName="a.example.com"))
    town.patch("service", "turn", {"spec": {"type": "ClusterIP", "externalName": None, "selector": {"app": "web"}}})
    reached(str(spec_of(town, "turn")["clusterIP"]), 80, WEBS)
    until(lambda: town.ask("box", "http://turn/"), lambda a: names([a]) <= WEBS and "GET" in a)
    town.remove("service", "turn")


@conformance("Network", "ExternalName to NodePort", "NodePort to ExternalName")
def test_external_name_to_node_port_and_back(town: Neighbourhood) -> None:
    town.apply(service("turn", None, type="ExternalName", externalName="a.example.com"))
    town.patch("service", "turn", {"spec": {"type": "NodePort", "externalName": None, "selector": {"app": "web"}}})
    spec = json.loads(town.kubectl("get", "service", "turn", "-o", "json"))["spec"]
    number = int(spec["ports"][0]["nodePort"])
    reached(town.address, number, WEBS)
    changes = {"type": "ExternalName", "externalName": "a.example.com", "clusterIP": "", "clusterIPs": None}
    town.patch("service", "turn", {"spec": changes | {"ports": None}})
    silent(town.address, number)
    silent(str(spec["clusterIP"]), 80)
    # The port is free for somebody else.
    town.apply(service("heir", {"app": "web"}, {"port": 80, "targetPort": 8080, "nodePort": number}, type="NodePort"))
    reached(town.address, number, WEBS)
    town.remove("service", "heir", "turn")


@conformance("Network", "NodePort service works by name, cluster IP, node IP")
def test_a_node_port_answers_by_name_cluster_address_and_node_address_but_not_on_loopback(town: Neighbourhood) -> None:
    town.apply(service("port", {"app": "web"}, type="NodePort"))
    spec = json.loads(town.kubectl("get", "service", "port", "-o", "json"))["spec"]
    number = int(spec["ports"][0]["nodePort"])
    reached(town.address, number, WEBS)
    reached(spec["clusterIP"], 80, WEBS)
    town.gets("box", "http://port/", "GET /")
    town.gets("box", f"http://{town.address}:{number}/", "GET /")
    assert fetch("127.0.0.1", number) == "refused"
    town.remove("service", "port")


@conformance(
    "Network",
    "session affinity switched, NodePort",
    "session affinity switched, ClusterIP",
    "session affinity ClientIP, NodePort",
    "session affinity ClientIP, ClusterIP",
)
@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_session_affinity_holds_and_is_switched_live(town: Neighbourhood, kind: str) -> None:
    town.apply(service("sticky", {"app": "web"}, type=kind, sessionAffinity="ClientIP"))
    spec = json.loads(town.kubectl("get", "service", "sticky", "-o", "json"))["spec"]
    assert spec["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    address, number = spec["clusterIP"], 80
    if kind == "NodePort":
        address, number = town.address, spec["ports"][0]["nodePort"]
    until(lambda: fetch(address, number), lambda a: "GET" in a)
    alone(address, number)
    asked = f"for i in $(seq 20); do wget -qO- http://{address}:{number}/; done"
    until(lambda: town.sh("box", asked).splitlines(), lambda told: len(told) == 20 and len(names(told)) == 1)
    town.patch("service", "sticky", {"spec": {"sessionAffinity": "None"}})
    reached(address, number, WEBS)
    town.patch("service", "sticky", {"spec": {"sessionAffinity": "ClientIP"}})
    alone(address, number)
    town.remove("service", "sticky")


def test_session_affinity_ends_with_its_time(town: Neighbourhood) -> None:
    config = {"clientIP": {"timeoutSeconds": 2}}
    port = {"name": "a", "port": 80, "targetPort": 8080}
    town.apply(service("brief", {"app": "web"}, port, sessionAffinity="ClientIP", sessionAffinityConfig=config))
    address = str(spec_of(town, "brief")["clusterIP"])
    until(lambda: fetch(address, 80), lambda a: "GET" in a)
    alone(address, 80)

    def after_a_pause() -> str:
        time.sleep(2.5)
        return fetch(address, 80)

    seen: set[str] = set()
    until(after_a_pause, lambda a: bool(seen.update(names([a]) & WEBS)) or len(seen) > 1)
    # A longer time takes effect on a Service that stands: in force when the port that came with it answers.
    longer = {"clientIP": {"timeoutSeconds": 600}}
    ports = [port, {"name": "b", "port": 81, "targetPort": 8080}]
    town.patch("service", "brief", {"spec": {"sessionAffinityConfig": longer, "ports": ports}})
    until(lambda: fetch(address, 81), lambda a: "GET" in a)
    before = alone(address, 80)
    time.sleep(2.5)
    assert alone(address, 80) == before
    town.remove("service", "brief")


@conformance("Network", "same port number on TCP and UDP, added and removed")
def test_one_port_number_on_tcp_and_udp_added_and_removed(town: Neighbourhood) -> None:
    echo = Echo(town.address, "udp here")
    tcp = {"name": "tcp", "port": 8053, "targetPort": 8080, "protocol": "TCP"}
    town.apply(service("both", None, tcp))
    address = str(spec_of(town, "both")["clusterIP"])
    town.apply(
        endpoint_slice(
            "both-tcp", "both", [{"name": "tcp", "port": 8080, "protocol": "TCP"}], town.address_of("web-1")
        ),
        endpoint_slice("both-udp", "both", [{"name": "udp", "port": echo.port, "protocol": "UDP"}], town.address),
    )
    reached(address, 8053, {"web-1"})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        assert udp(link, address, 8053) != "udp here"
        town.patch("service", "both", {"spec": {"ports": [tcp, {"name": "udp", "port": 8053, "protocol": "UDP"}]}})
        until(lambda: udp(link, address, 8053), lambda a: a == "udp here")
        reached(address, 8053, {"web-1"})
        town.patch("service", "both", {"spec": {"ports": [{"name": "udp", "port": 8053, "protocol": "UDP"}]}})
        silent(address, 8053)
        until(lambda: udp(link, address, 8053), lambda a: a == "udp here")
    echo.close()
    town.remove("service", "both")
    town.remove("endpointslice", "both-tcp", "both-udp")


def test_a_udp_client_that_never_stops_asking_moves_to_the_new_endpoint(town: Neighbourhood) -> None:
    """Its flow is in the kernel's memory and must be forgotten, from an endpoint that went and from none at all."""
    first, second = Echo(town.address, "first"), Echo(town.address, "second")
    town.apply(service("moving", None, {"port": 99, "protocol": "UDP"}))
    address = str(spec_of(town, "moving")["clusterIP"])
    # The second endpoint has another address, so that the flow's end tells them apart.
    port = [{"name": "", "protocol": "UDP"}]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        udp(link, address, 99)
        town.apply(endpoint_slice("moving", "moving", [port[0] | {"port": first.port}], town.address))
        until(lambda: udp(link, address, 99), lambda a: a == "first")
        town.apply(endpoint_slice("moving", "moving", [port[0] | {"port": second.port}], town.address))
        until(lambda: udp(link, address, 99), lambda a: a == "second")
    first.close()
    second.close()
    town.remove("service", "moving")
    town.remove("endpointslice", "moving")


@conformance("Network", "multi-port endpoints")
def test_several_ports_of_a_service_lead_to_their_own_container_ports(town: Neighbourhood) -> None:
    script = server(81) + " & " + server(82).replace("/answer", "/other")
    town.apply(pod("two", script, labels={"app": "two"}))
    town.ready("two")
    ports = [{"name": "a", "port": 8081, "targetPort": 81}, {"name": "b", "port": 8082, "targetPort": 82}]
    town.apply(service("two", {"app": "two"}, *ports))
    address = str(spec_of(town, "two")["clusterIP"])
    for number in (8081, 8082):
        reached(address, number, {"two"})
    town.patch("service", "two", {"spec": {"ports": ports[:1]}})
    silent(address, 8082)
    reached(address, 8081, {"two"})
    town.remove("service", "two")
    town.remove("pod", "two")


@conformance(
    "Network",
    "Service over several hand-made EndpointSlices, different IPs",
    "Service over several hand-made EndpointSlices, different ports",
)
def test_several_hand_made_slices_with_other_addresses_and_other_ports(town: Neighbourhood) -> None:
    town.apply(web("odd", 9090))
    town.ready("odd")
    town.apply(service("hand", None, {"name": "http", "port": 80, "protocol": "TCP"}))
    address = str(spec_of(town, "hand")["clusterIP"])
    usual, other = ([{"name": "http", "port": p, "protocol": "TCP"}] for p in (8080, 9090))
    town.apply(
        endpoint_slice("hand-a", "hand", usual, town.address_of("web-0")),
        endpoint_slice("hand-b", "hand", usual, town.address_of("web-1")),
        endpoint_slice("hand-c", "hand", other, town.address_of("odd")),
    )
    reached(address, 80, {"web-0", "web-1", "odd"})
    town.remove("endpointslice", "hand-b")
    reached(address, 80, {"web-0", "odd"})
    town.remove("service", "hand")
    town.remove("endpointslice", "hand-a", "hand-c")
    town.remove("pod", "odd")


@conformance("Network", "endpoints follow pods coming and going")
def test_endpoints_follow_pods_coming_and_going(town: Neighbourhood) -> None:
    town.apply(service("tide", {"app": "tide"}))
    address = str(spec_of(town, "tide")["clusterIP"])
    until(lambda: fetch(address, 80), lambda a: a == "refused")
    for name in ("tide-1", "tide-2"):
        town.apply(web(name, labels={"app": "tide"}))
    reached(address, 80, {"tide-1", "tide-2"})
    town.remove("pod", "tide-1")
    reached(address, 80, {"tide-2"})
    town.remove("pod", "tide-2")
    until(lambda: fetch(address, 80), lambda a: a == "refused")
    town.remove("service", "tide")


def test_unready_pods_get_traffic_only_when_asked_for(town: Neighbourhood) -> None:
    never = {"readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}}
    town.apply(pod("unready", server(), container=never), service("unready", {"app": "unready"}))
    until(lambda: town.get("pod", "unready")["status"].get("podIP"), bool)
    address = str(spec_of(town, "unready")["clusterIP"])
    until(lambda: fetch(address, 80), lambda a: a == "refused")
    town.patch("service", "unready", {"spec": {"publishNotReadyAddresses": True}})
    reached(address, 80, {"unready"})
    town.remove("service", "unready")
    town.remove("pod", "unready")


def test_the_last_pod_serves_while_it_ends(town: Neighbourhood) -> None:
    script = server().replace("exit 0", "sleep 600; exit 0")
    probe = {"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}
    town.apply(
        pod("last", script, container=probe, terminationGracePeriodSeconds=600), service("last", {"app": "last"})
    )
    town.ready("last")
    address = str(spec_of(town, "last")["clusterIP"])
    reached(address, 80, {"last"})
    town.kubectl("delete", "pod", "last", "--wait=false")
    conditions = "jsonpath={.items[0].endpoints[0].conditions.terminating}"
    label = "kubernetes.io/service-name=last"
    until(lambda: town.kubectl("get", "endpointslices", "-l", label, "-o", conditions), lambda a: a == "true")
    until(lambda: fetch(address, 80), lambda a: a.startswith("last GET"))
    town.remove("pod", "last")
    town.remove("service", "last")


@conformance("Network", "hostPort: same port, other hostIP or protocol don't clash")
def test_host_ports_with_one_number_do_not_clash_on_other_addresses_and_protocols(town: Neighbourhood) -> None:
    def publishing(name: str, host_ip: str, protocol: str) -> dict[str, object]:
        port = {"containerPort": 8080, "hostPort": 54323, "hostIP": host_ip, "protocol": protocol}
        return web(name, container={"ports": [port]})

    town.apply(
        publishing("hp-loopback", "127.0.0.1", "TCP"),
        publishing("hp-node", town.address, "TCP"),
        publishing("hp-udp", town.address, "UDP"),
    )
    town.ready("hp-loopback", "hp-node", "hp-udp")
    until(lambda: fetch(town.address, 54323), lambda a: a.startswith("hp-node "))
    until(lambda: fetch("127.0.0.1", 54323), lambda a: a.startswith("hp-loopback "))
    until(lambda: fetch("127.0.0.1", 54323, source=town.address), lambda a: a.startswith("hp-loopback "))
    until(lambda: town.ask("box", f"http://{town.address}:54323/"), lambda a: a.startswith("hp-node "))
    town.remove("pod", "hp-loopback", "hp-node", "hp-udp")
    silent(town.address, 54323)


def test_external_traffic_policy_local_and_its_health_check(town: Neighbourhood) -> None:
    """On a node with pods they keep the client's address; without pods the port is silent and the check says so."""
    town.apply(service("edge", {"app": "web"}, type="LoadBalancer", externalTrafficPolicy="Local"))
    spec = json.loads(town.kubectl("get", "service", "edge", "-o", "json"))["spec"]
    check = f"http://{town.address}:{spec['healthCheckNodePort']}/healthz"
    until(lambda: http_status(check), lambda code: code == 200)
    reached(town.address, spec["ports"][0]["nodePort"], WEBS)
    town.patch("service", "edge", {"spec": {"selector": {"app": "nobody"}}})
    until(lambda: http_status(check), lambda code: code == 503)
    silent(town.address, spec["ports"][0]["nodePort"])
    town.remove("service", "edge")
    until(lambda: http_status(check), lambda code: code == 0)


def test_internal_traffic_policy_local_uses_this_nodes_pods(town: Neighbourhood) -> None:
    town.apply(service("near", {"app": "web"}, internalTrafficPolicy="Local"))
    reached(str(spec_of(town, "near")["clusterIP"]), 80, WEBS)
    town.remove("service", "near")


def test_a_load_balancer_gets_the_nodes_address_and_gives_it_back(town: Neighbourhood) -> None:
    def ingress(name: str) -> list[dict[str, str]]:
        return list(town.get("service", name)["status"]["loadBalancer"].get("ingress") or [])

    port = {"port": 8888, "targetPort": 8080}
    town.apply(service("lb", {"app": "web"}, port, type="LoadBalancer", allocateLoadBalancerNodePorts=False))
    assert until(lambda: ingress("lb"), bool) == [{"ip": town.address, "ipMode": "VIP"}]
    assert "nodePort" not in town.get("service", "lb")["spec"]["ports"][0]
    reached(town.address, 8888, WEBS)
    town.apply(service("rival", {"app": "web"}, port, type="LoadBalancer"))
    told = until(lambda: town.kubectl("describe", "service", "rival"), lambda a: "SyncLoadBalancerFailed" in a)
    assert re.search(rf"port 8888/TCP of the nodes' addresses is taken by service {town.namespace}/lb", told)
    assert ingress("rival") == []
    town.patch("service", "lb", {"spec": {"type": "ClusterIP"}})
    until(lambda: ingress("lb"), lambda found: not found)
    until(lambda: ingress("rival"), bool)
    town.remove("service", "lb", "rival")
    silent(town.address, 8888)


def test_an_address_of_no_service_is_silent_and_a_port_of_none_is_refused(town: Neighbourhood) -> None:
    address = str(spec_of(town, "web")["clusterIP"])

    def asked() -> tuple[str, float]:
        began = time.monotonic()
        return fetch(address, 4444), time.monotonic() - began

    until(asked, lambda found: found[0] == "refused" and found[1] < 1)


@conformance(
    "Network",
    "kubernetes.default has Endpoints and EndpointSlices of each API server",
    '"kubernetes" service exists with https',
    "kubernetes service found when listing all namespaces",
)
def test_the_kubernetes_service_has_the_api_servers_endpoint(town: Neighbourhood) -> None:
    kubectl: Callable[..., str] = town.cluster.kubectl
    ports = json.loads(kubectl("get", "service", "kubernetes", "-n", "default", "-o", "json"))["spec"]["ports"]
    assert [(p["name"], p["port"]) for p in ports] == [("https", 443)]
    (subset,) = json.loads(kubectl("get", "endpoints", "kubernetes", "-n", "default", "-o", "json"))["subsets"]
    assert subset["addresses"] == [{"ip": town.address}]
    (piece,) = json.loads(kubectl("get", "endpointslice", "kubernetes", "-n", "default", "-o", "json"))["endpoints"]
    assert piece["addresses"] == [town.address]
    town.prints("box", "timeout 10 nc kubernetes.default 443 </dev/null && echo open", "open")
    assert "kubernetes" in kubectl("get", "services", "--all-namespaces")


@conformance("Network", "service endpoint latency over 100 services (p50 20 s, p90 50 s)")
def test_services_answer_soon_after_their_creation(town: Neighbourhood) -> None:
    """A hundred at once have their endpoints within the patience of any other wait."""
    every = {f"quick-{number}" for number in range(100)}
    town.apply(*(service(name, {"app": "web"}) for name in sorted(every)))
    wanted = "jsonpath={range .items[?(@.endpoints)]}{.metadata.labels.kubernetes\\.io/service-name} {end}"

    def served() -> bool:
        return every <= set(town.kubectl("get", "endpointslices", "-o", wanted).split())

    until(served, bool)
    town.remove("service", *every)
