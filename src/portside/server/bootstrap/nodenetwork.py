"""What a cluster with real nodes needs beside the defaults: the name server's Service, what nodes must know of the
network, and their right to read what service rules and policies depend on."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from portside.server.bootstrap.objects import ip_address
from portside.server.bootstrap.roles import GROUP, parse_rules

Json = dict[str, Any]
CONFIG = "portside-network"
DOMAIN = "cluster.local"
READS = """
    core : nodes namespaces pods services : list watch
    discovery.k8s.io : endpointslices : list watch
    networking.k8s.io : networkpolicies servicecidrs : list watch
"""


INGRESS_USER = "portside:ingress"
INGRESS = """
    core : services : list watch
    core : secrets : list watch
    discovery.k8s.io : endpointslices : list watch
    networking.k8s.io : ingresses ingressclasses : list watch
    networking.k8s.io : ingresses/status : patch
    core events.k8s.io : events : create patch update
"""


def dns_address(service_cidr: str) -> str:
    """The tenth address of the service range, where clients expect the name server."""
    return str(ipaddress.ip_network(service_cidr).network_address + 10)


def dns_service(service_cidr: str) -> Json:
    """Service kube-system/kube-dns. Each node serves names; a controller writes the endpoints."""
    address = dns_address(service_cidr)
    ports = [
        {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
        {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53},
    ]
    labels = {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {
            "ports": ports,
            "clusterIP": address,
            "clusterIPs": [address],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    }


def config(cluster_cidr: str, service_cidr: str) -> Json:
    """What a node that joins is told."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG, "namespace": "kube-system"},
        "data": {
            "podCIDR": cluster_cidr,
            "serviceCIDR": service_cidr,
            "clusterDNS": dns_address(service_cidr),
            "clusterDomain": DOMAIN,
        },
    }


def _granted(name: str, rules: str, subject: Json) -> Iterator[tuple[str, Json]]:
    api, meta = f"{GROUP}/v1", {"name": name}
    yield "clusterroles", {"apiVersion": api, "kind": "ClusterRole", "metadata": meta, "rules": parse_rules(rules)}
    yield (
        "clusterrolebindings",
        {
            "apiVersion": api,
            "kind": "ClusterRoleBinding",
            "metadata": dict(meta),
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
            "subjects": [subject],
        },
    )


def rights() -> Iterator[tuple[str, Json]]:
    """RBAC objects with their plurals: for group system:nodes, and for the Ingress proxy of the first machine."""
    name = "portside:node-network"
    subject = {"apiGroup": GROUP, "kind": "Group", "name": "system:nodes"}
    api = f"{GROUP}/v1"
    yield from _granted(name, READS, subject)
    yield from _granted(INGRESS_USER, INGRESS, {"apiGroup": GROUP, "kind": "User", "name": INGRESS_USER})
    place = {"name": name, "namespace": "kube-system"}
    rules = parse_rules(f"core : configmaps : get : {CONFIG}")
    yield "roles", {"apiVersion": api, "kind": "Role", "metadata": place, "rules": rules}
    yield (
        "rolebindings",
        {
            "apiVersion": api,
            "kind": "RoleBinding",
            "metadata": dict(place),
            "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": name},
            "subjects": [dict(subject)],
        },
    )


def dns_record(service_cidr: str) -> Json:
    return ip_address(dns_address(service_cidr), "kube-system", "kube-dns")
