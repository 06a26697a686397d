"""NetworkPolicies of this node's pods, worked out as chains and address sets. Pure.

A pod that a policy selects has a chain per direction; pods with the same policies share it. Peers given by selectors are
sets of addresses, one per selector, so that a pod that comes or goes is one element, and rules stay as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from portside.api.selector import from_object

Json = dict[str, Any]
SET_TYPE = "type ipv4_addr"
PORT_SET_TYPE = "type ipv4_addr . inet_proto . inet_service"


@dataclass(slots=True)
class PolicyRules:
    """What policies add to the node's table: chains, who is sent to them, and the sets they look at."""

    chains: dict[str, list[str]] = field(default_factory=dict)
    inward: dict[str, str] = field(default_factory=dict)
    outward: dict[str, str] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)


@dataclass(slots=True)
class Cluster:
    """What policies are judged by: all pods with an address of the pod network, by namespace, and the namespaces' labels."""

    pods: dict[str, list[Json]]
    namespaces: Mapping[str, Mapping[str, str]]

    def matching(self, peer: Json, namespace: str) -> list[Json]:
        """The pods a peer names, seen from a policy's namespace."""
        chosen = from_object(peer["podSelector"]) if peer.get("podSelector") is not None else None
        spaces: Iterable[str] = (namespace,)
        if peer.get("namespaceSelector") is not None:
            space = from_object(peer["namespaceSelector"])
            spaces = [name for name, labels in self.namespaces.items() if space.matches(labels)]
        return [
            pod
            for name in spaces
            for pod in self.pods.get(name, ())
            if chosen is None or chosen.matches(pod["metadata"].get("labels") or {})
        ]


def on_network(pod: Json) -> bool:
    """Whether a pod has an address of its own that is still its."""
    status = pod.get("status") or {}
    ended = status.get("phase") in ("Succeeded", "Failed")
    return bool(status.get("podIP")) and not pod["spec"].get("hostNetwork") and not ended


def survey(pods: Iterable[Json], namespaces: Iterable[Json]) -> Cluster:
    """The cluster as policies see it."""
    found: dict[str, list[Json]] = {}
    for pod in pods:
        if on_network(pod):
            found.setdefault(pod["metadata"]["namespace"], []).append(pod)
    return Cluster(found, {n["metadata"]["name"]: n["metadata"].get("labels") or {} for n in namespaces})


def _mark(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def kinds(policy: Json) -> tuple[str, ...]:
    """The directions a policy is about; Ingress, and Egress when it has such rules, when it does not say."""
    spec = policy["spec"]
    return tuple(spec.get("policyTypes") or (("Ingress", "Egress") if spec.get("egress") else ("Ingress",)))


def render_policies(policies: Iterable[Json], cluster: Cluster, node: str) -> PolicyRules:
    """Chains and sets for this node's pods. A policy that is gone while a pod of its namespace ends still has no effect
    on others; a pod keeps its chain until its address is given back."""
    rules = PolicyRules()
    by_space: dict[str, list[Json]] = {}
    for policy in policies:
        by_space.setdefault(policy["metadata"]["namespace"], []).append(policy)
    for namespace, own in sorted(by_space.items()):
        own.sort(key=lambda p: p["metadata"]["name"])
        selectors = [from_object(p["spec"].get("podSelector") or {}) for p in own]
        for pod in cluster.pods.get(namespace, ()):
            if pod["spec"].get("nodeName") != node:
                continue
            labels = pod["metadata"].get("labels") or {}
            chosen = [p for p, selector in zip(own, selectors, strict=True) if selector.matches(labels)]
            for kind, pointers in (("Ingress", rules.inward), ("Egress", rules.outward)):
                if mine := [p for p in chosen if kind in kinds(p)]:
                    chain = _chain(rules, kind, mine, pod, cluster)
                    for address in _addresses(pod):
                        pointers[address] = f"goto {chain}"
    return rules


def _addresses(pod: Json) -> list[str]:
    status = pod["status"]
    ips = [entry["ip"] for entry in status.get("podIPs") or ()] or [status["podIP"]]
    return [ip for ip in ips if ":" not in ip]


def _named_ports(pod: Json) -> dict[tuple[str, str], int]:
    """Container ports by protocol and name."""
    containers = [*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())]
    return {
        (port.get("protocol", "TCP"), port["name"]): int(port["containerPort"])
        for container in containers
        for port in container.get("ports") or ()
        if port.get("name")
    }


def _chain(rules: PolicyRules, kind: str, policies: list[Json], pod: Json, cluster: Cluster) -> str:
    """The chain of a pod's policies of one direction."""
    own_ports = _named_ports(pod)
    lines: list[str] = []
    for policy in policies:
        for rule in policy["spec"].get(kind.lower()) or ():
            for line in _rule(rules, kind, rule, policy["metadata"]["namespace"], own_ports, cluster):
                if line not in lines:
                    lines.append(line)
    name = f"np-{kind[:2].lower()}-{_mark(kind, lines)}"
    rules.chains[name] = [*lines, "drop"]
    return name


def _rule(
    rules: PolicyRules, kind: str, rule: Json, namespace: str, own_ports: dict[tuple[str, str], int], cluster: Cluster
) -> list[str]:
    """What one ingress or egress rule lets through: any of its peers with any of its ports."""
    side, peers = ("saddr", "from") if kind == "Ingress" else ("daddr", "to")
    lines = []
    for peer in rule.get(peers) or (None,):
        pods = cluster.matching(peer, namespace) if peer is not None and not peer.get("ipBlock") else None
        where = _peer(rules, peer, pods, namespace, side)
        if where is None:
            continue
        for port in rule.get("ports") or (None,):
            if port is not None and isinstance(port.get("port"), str) and kind == "Egress":
                # A name means each peer's own port of that name.
                lines += _named(rules, port, pods if pods is not None else _everyone(cluster), namespace, peer)
            elif (match := _port(port, own_ports)) is not None:
                lines.append(" ".join(filter(None, (where, match, "accept"))))
    return lines


def _everyone(cluster: Cluster) -> list[Json]:
    return [pod for pods in cluster.pods.values() for pod in pods]


def _peer(rules: PolicyRules, peer: Json | None, pods: list[Json] | None, namespace: str, side: str) -> str | None:
    """A match of the peer's addresses; None when it can match nothing (another address family)."""
    if peer is None:
        return ""
    if block := peer.get("ipBlock"):
        if ":" in block["cidr"]:
            return None
        without = [c for c in block.get("except") or () if ":" not in c]
        more = f" ip {side} != {{ {', '.join(without)} }}" if without else ""
        return f"ip {side} {block['cidr']}{more}"
    name = f"np-{_mark('pods', peer, namespace if peer.get('namespaceSelector') is None else '')}"
    rules.sets[name] = SET_TYPE
    rules.members[name] = {ip for pod in pods or () for ip in _addresses(pod)}
    return f"ip {side} @{name}"


def _port(port: Json | None, named: dict[tuple[str, str], int]) -> str | None:
    """A match of the port; None when a name means nothing here."""
    if port is None:
        return ""
    protocol = port.get("protocol") or "TCP"
    number = port.get("port")
    if number is None:
        return f"meta l4proto {protocol.lower()}"
    if isinstance(number, str) and (number := named.get((protocol, number))) is None:
        return None
    last = f"-{port['endPort']}" if port.get("endPort") else ""
    return f"{protocol.lower()} dport {number}{last}"


def _named(rules: PolicyRules, port: Json, pods: list[Json], namespace: str, peer: Json | None) -> list[str]:
    protocol, number = port.get("protocol") or "TCP", port["port"]
    name = f"np-{_mark('named', peer, namespace, protocol, number)}"
    rules.sets[name] = PORT_SET_TYPE
    rules.members[name] = {
        f"{ip} . {protocol.lower()} . {found}"
        for pod in pods
        if (found := _named_ports(pod).get((protocol, number))) is not None
        for ip in _addresses(pod)
    }
    return [f"ip daddr . meta l4proto . th dport @{name} accept"]
