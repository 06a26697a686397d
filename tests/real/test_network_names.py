"""Names as pods resolve them: by the cluster's name server, at its Service's address."""

from __future__ import annotations

import json
import os
import re

import pytest

from tests.conformance.names import conformance
from tests.real.neighbourhood import SLEEP, Neighbourhood, pod, service, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="running containers needs root"),
]


def addresses(answer: str) -> set[str]:
    return set(re.findall(r"^Address:\s+(\d+\.\d+\.\d+\.\d+)$", answer.partition("\n\n")[2], re.MULTILINE))


def test_the_name_server_is_a_service_at_the_tenth_address(town: Neighbourhood) -> None:
    found = json.loads(town.cluster.kubectl("get", "service", "-n", "kube-system", "kube-dns", "-o", "json"))
    address = found["spec"]["clusterIP"]
    assert address.endswith(".0.10")
    assert [(p["port"], p["protocol"]) for p in found["spec"]["ports"]] == [(53, "UDP"), (53, "TCP")]
    settings = town.sh("box", "cat /etc/resolv.conf")
    assert f"nameserver {address}\n" in settings
    assert f"search {town.namespace}.svc.cluster.local svc.cluster.local cluster.local" in settings
    assert "options ndots:5" in settings
    until(lambda: town.look_up("box", "kube-dns.kube-system.svc.cluster.local"), lambda told: address in told)


@conformance("Network", "DNS: partially qualified names", "DNS: cluster names")
def test_services_by_every_partial_name(town: Neighbourhood) -> None:
    address = str(town.get("service", "web")["spec"]["clusterIP"])
    full = f"web.{town.namespace}.svc.cluster.local"
    until(lambda: addresses(town.look_up("box", full)), lambda found: found == {address})
    for name in ("web", f"web.{town.namespace}", f"web.{town.namespace}.svc", full):
        town.prints("box", f"ping -c 1 -W 1 {name} 2>&1", f"PING {name} ({address})")
    until(lambda: town.look_up("box", f"nobody.{town.namespace}.svc.cluster.local"), lambda told: "NXDOMAIN" in told)
    until(lambda: town.look_up("box", address, ""), lambda told: f"name = {full}" in told)
    unknown = ".".join([*address.split(".")[:2], "255", "254"])
    until(lambda: town.look_up("box", unknown, ""), lambda told: "NXDOMAIN" in told)


@conformance("Network", "DNS: services, headless and normal, A and SRV")
def test_headless_services_name_their_pods_and_ports(town: Neighbourhood) -> None:
    port = {"name": "http", "port": 80, "targetPort": 8080}
    town.apply(service("front", {"app": "web"}, port, clusterIP="None"), service("named", {"app": "web"}, port))
    full = f"front.{town.namespace}.svc.cluster.local"
    wanted = {town.address_of(f"web-{n}") for n in range(3)}
    until(lambda: addresses(town.look_up("box", full)), lambda found: found == wanted)
    pattern = rf"service = 0 \d+ 8080 [0-9-]+\.{re.escape(full)}"
    until(lambda: re.findall(pattern, town.look_up("box", f"_http._tcp.{full}", "srv")), lambda found: len(found) == 3)
    named = f"named.{town.namespace}.svc.cluster.local"
    pattern = rf"service = 0 \d+ 80 {re.escape(named)}"
    until(lambda: town.look_up("box", f"_http._tcp.{named}", "srv"), lambda told: bool(re.search(pattern, told)))
    one = next(iter(wanted))
    until(lambda: town.look_up("box", one, ""), lambda told: f"{one.replace('.', '-')}.{full}" in told)
    until(
        lambda: addresses(town.look_up("box", f"{one.replace('.', '-')}.{town.namespace}.pod.cluster.local")),
        lambda found: found == {one},
    )
    until(lambda: town.look_up("box", full, "aaaa"), lambda told: "Can't find" not in told)
    town.remove("service", "front", "named")


@conformance("Network", "DNS: pod hostname via headless service", "DNS: pod subdomain", "/etc/hosts entries in pods")
def test_a_pods_own_name_by_hostname_and_subdomain(town: Neighbourhood) -> None:
    town.apply(service("sub", {"app": "host"}, clusterIP="None"))
    town.apply(pod("host", SLEEP, hostname="querier", subdomain="sub"))
    town.ready("host")
    full = f"querier.sub.{town.namespace}.svc.cluster.local"
    own = town.address_of("host")
    until(lambda: addresses(town.look_up("box", full)), lambda found: found == {own})
    assert town.sh("host", "hostname; hostname -f") == f"querier\n{full}\n"
    assert f"{own}\t{full}\tquerier\n" in town.sh("host", "cat /etc/hosts")
    town.remove("service", "sub")
    town.remove("pod", "host")


@conformance("Network", "DNS: ExternalName changes, then ClusterIP")
def test_external_names_change_and_become_addresses(town: Neighbourhood) -> None:
    town.apply(service("away", None, type="ExternalName", externalName="foo.example.com"))
    full = f"away.{town.namespace}.svc.cluster.local"

    def alias() -> str:
        return town.look_up("box", full, "cname")

    until(alias, lambda a: "canonical name = foo.example.com" in a)
    town.patch("service", "away", {"spec": {"externalName": "bar.example.com"}})
    until(alias, lambda a: "canonical name = bar.example.com" in a)
    # A name inside the cluster is followed at once.
    town.patch("service", "away", {"spec": {"externalName": f"web.{town.namespace}.svc.cluster.local"}})
    web = str(town.get("service", "web")["spec"]["clusterIP"])
    until(lambda: town.look_up("box", full), lambda a: web in a)
    changes = {"type": "ClusterIP", "externalName": None, "ports": [{"port": 80, "protocol": "TCP"}]}
    town.patch("service", "away", {"spec": changes})
    address = str(town.get("service", "away")["spec"]["clusterIP"])
    until(lambda: addresses(town.look_up("box", full)), lambda found: found == {address})
    town.remove("service", "away")


@conformance("Network", "DNS: dnsPolicy None with custom nameservers and searches")
def test_dns_policies_and_own_settings(town: Neighbourhood) -> None:
    own = {
        "nameservers": ["192.0.2.1"],
        "searches": ["ns1.svc.cluster-domain.example", "my.dns.search.suffix"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    town.apply(
        pod("none", SLEEP, dnsPolicy="None", dnsConfig=own),
        pod("hosted", SLEEP, dnsPolicy="ClusterFirstWithHostNet", hostNetwork=True),
        pod("plain", SLEEP, dnsPolicy="Default"),
    )
    town.ready("none", "hosted", "plain")
    assert town.sh("none", "cat /etc/resolv.conf") == (
        "search ns1.svc.cluster-domain.example my.dns.search.suffix\nnameserver 192.0.2.1\noptions ndots:2 edns0\n"
    )
    address = str(town.get("service", "web")["spec"]["clusterIP"])
    town.prints("hosted", "ping -c 1 -W 1 web 2>&1", f"PING web ({address})")
    assert "cluster.local" not in town.sh("plain", "cat /etc/resolv.conf")
    town.remove("pod", "none", "hosted", "plain")
