"""Service rules as an nftables table: rendered whole, applied as the difference to what stands. Pure.

Lookups are verdict maps (address . protocol . port -> chain), so cost does not grow with the number of Services. Every
change is one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from portside.net.policy import PolicyRules
from portside.net.services import Backend, HostPort, ServicePort

MARK = "0x4000"  # set on connections that must leave with the node's address


@dataclass(slots=True)
class Table:
    """A rendered table: rules per chain, elements per map, definitions of sets (session affinity, policies), and the
    members of those sets that have fixed ones."""

    chains: dict[str, list[str]] = field(default_factory=dict)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """What the rules must know of the node: its pods' range, the cluster's ranges, and the pods' bridge."""

    table: str
    pod_cidr: str
    cluster_cidr: str
    service_cidr: str
    bridge: str


MAPS = {
    "services": "type ipv4_addr . inet_proto . inet_service : verdict",
    "node-ports": "type inet_proto . inet_service : verdict",
    "host-ports": "type inet_proto . inet_service : verdict",
    "refused": "type ipv4_addr . inet_proto . inet_service : verdict",
    "refused-ports": "type inet_proto . inet_service : verdict",
    "policy-in": "type ipv4_addr : verdict",
    "policy-out": "type ipv4_addr : verdict",
}
FIXED_SETS = {"cluster-ips": "type ipv4_addr"}
CALLERS = ("fw-", "ext", "svc", "all", "hp-", "np-", "ep-")  # chains in the order in which they may be deleted


def render_service(ports: Iterable[ServicePort], cluster_cidr: str) -> Table:
    """The part of the table that one Service makes."""
    table = Table(maps={name: {} for name in MAPS}, members={name: set() for name in FIXED_SETS})
    for port in ports:
        table.members["cluster-ips"].update(port.cluster_ips)
        _render_port(table, port, cluster_cidr)
    return table


def combine(parts: Iterable[Table], published: Iterable[HostPort], policies: PolicyRules | None = None) -> Table:
    """The table's changing part: those of the Services, host ports and policies together."""
    table = Table(maps={name: {} for name in MAPS}, members={name: set() for name in FIXED_SETS})
    for part in parts:
        table.chains.update(part.chains)
        table.sets.update(part.sets)
        for name, elements in part.maps.items():
            if elements:
                table.maps[name].update(elements)
        table.members["cluster-ips"] |= part.members["cluster-ips"]
    by_port: dict[tuple[str, int], list[HostPort]] = {}
    for entry in published:
        by_port.setdefault((entry.protocol, entry.port), []).append(entry)
    for (protocol, number), entries in by_port.items():
        chain = f"hp-{protocol}-{number}"
        rules = []
        for entry in sorted(entries, key=lambda e: not e.host_ip):
            limit = f"ip daddr {entry.host_ip} " if entry.host_ip else ""
            rules.append(f"{limit}ip saddr {{ {entry.pod_ip}, 127.0.0.0/8 }} meta mark set meta mark or {MARK}")
            rules.append(f"{limit}meta l4proto {protocol} dnat to {entry.pod_ip}:{entry.container_port}")
        table.chains[chain] = rules
        table.maps["host-ports"][f"{protocol} . {number}"] = f"goto {chain}"
    if policies is not None:
        table.chains |= policies.chains
        table.maps |= {"policy-in": policies.inward, "policy-out": policies.outward}
        table.sets |= policies.sets
        table.members |= policies.members
    return table


def _render_port(table: Table, port: ServicePort, cluster_cidr: str) -> None:
    inside = port.local_backends if port.internal_local else port.backends
    for backend in {*port.backends, *port.local_backends}:
        _render_backend(table, port, backend)
    if inside:
        _render_choice(table, f"svc-{port.chain}", port, inside)
    outside = _render_outside(table, port, cluster_cidr)
    for address in port.cluster_ips:
        element = f"{address} . {port.protocol} . {port.port}"
        _point(table, ("services", "refused"), element, f"svc-{port.chain}" if inside else "", port)
    for address in port.load_balancer_ips:
        chain = outside
        if port.source_ranges and outside:
            chain = f"fw-{port.chain}"
            # A nat chain can't drop: what is not let through keeps its address and is refused by the filter.
            table.chains[chain] = [f"ip saddr {{ {', '.join(port.source_ranges)} }} goto {outside}"]
            table.maps["refused"][f"{address} . {port.protocol} . {port.port}"] = "goto silence"
        _point(table, ("services", "refused"), f"{address} . {port.protocol} . {port.port}", chain, port)
    if port.node_port:
        _point(table, ("node-ports", "refused-ports"), f"{port.protocol} . {port.node_port}", outside, port)


def _render_outside(table: Table, port: ServicePort, cluster_cidr: str) -> str:
    """The chain for traffic that comes in at node ports and outside addresses; "" when nothing is behind it.

    It keeps its source address only with externalTrafficPolicy Local; pods and the node itself may use every backend
    even then (KEP-2438's short cut).
    """
    chain, mark = f"ext-{port.chain}", f"meta mark set meta mark or {MARK}"
    if not port.external_local:
        if port.backends:
            _render_choice(table, chain, port, port.backends, [mark])
        return chain if port.backends else ""
    if not port.local_backends and not port.backends:
        return ""
    lead = []
    if port.backends:
        _render_choice(table, f"all-{port.chain}", port, port.backends)
        lead = [
            f"ip saddr {cluster_cidr} goto all-{port.chain}",
            f"fib saddr type local {mark} goto all-{port.chain}",
        ]
    if port.local_backends:
        _render_choice(table, chain, port, port.local_backends, lead)
    else:
        table.chains[chain] = lead
        for address in port.load_balancer_ips:
            table.maps["refused"][f"{address} . {port.protocol} . {port.port}"] = "goto silence"
        if port.node_port:
            table.maps["refused-ports"][f"{port.protocol} . {port.node_port}"] = "goto silence"
    return chain


def _point(table: Table, maps: tuple[str, str], element: str, chain: str, port: ServicePort) -> None:
    """What has backends is sent there. What has none is refused, or dropped when backends exist on other nodes only."""
    wanted, refused = maps
    if chain:
        table.maps[wanted][element] = f"goto {chain}"
    else:
        table.maps[refused][element] = "goto silence" if port.backends or port.local_backends else "goto refuse"


def _backend_name(port: ServicePort, backend: Backend) -> str:
    return f"{port.chain}-{backend.address.replace('.', '-')}-{backend.port}"


def _render_backend(table: Table, port: ServicePort, backend: Backend) -> None:
    name = _backend_name(port, backend)
    # A pod that reaches itself through its Service must see another source address than its own.
    rules = [f"ip saddr {backend.address} meta mark set meta mark or {MARK}"]
    if port.affinity_seconds:
        known = _affinity(port, backend)
        table.sets[known] = f"type ipv4_addr; flags dynamic,timeout; timeout {port.affinity_seconds}s"
        rules.append(f"update @{known} {{ ip saddr }}")
    rules.append(f"meta l4proto {port.protocol} dnat to {backend.address}:{backend.port}")
    table.chains[f"ep-{name}"] = rules


def _affinity(port: ServicePort, backend: Backend) -> str:
    """The set of a backend's clients. A set's time can't be changed, so it is part of the name."""
    return f"af-{port.affinity_seconds}-{_backend_name(port, backend)}"


def _render_choice(
    table: Table, chain: str, port: ServicePort, backends: tuple[Backend, ...], lead: list[str] | None = None
) -> None:
    names = [_backend_name(port, b) for b in backends]
    rules = list(lead or ())
    if port.affinity_seconds:
        rules += [f"ip saddr @{_affinity(port, b)} goto ep-{_backend_name(port, b)}" for b in backends]
    choices = ", ".join(f"{i} : goto ep-{name}" for i, name in enumerate(names))
    rules.append(f"numgen random mod {len(names)} vmap {{ {choices} }}")
    table.chains[chain] = rules


def base(node: NodeNetwork) -> str:
    """The table's fixed part.

    Node ports do not answer on loopback; host ports do, and only this node's own processes may use it. Services with
    nothing behind them refuse at once; an address that is no Service's (yet) is dropped, so that a client's next try
    finds the one that comes into being.
    """
    maps = "\n".join(f"  map {name} {{ {text}; }}" for name, text in MAPS.items())
    sets = "\n".join(f"  set {name} {{ {text}; }}" for name, text in FIXED_SETS.items())
    return f"""table ip {node.table} {{
  comment "pods {node.cluster_cidr} services {node.service_cidr}"
{maps}
{sets}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject
  }}
  chain silence {{ drop; }}
  chain dispatch {{
    ip daddr . meta l4proto . th dport vmap @services
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @host-ports
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @node-ports
  }}
  chain dispatch-refused {{
    ip daddr . meta l4proto . th dport vmap @refused
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @refused-ports
    ip daddr @cluster-ips reject
    ip daddr {node.service_cidr} drop
  }}
  chain nat-in {{ type nat hook prerouting priority dstnat; policy accept; jump dispatch; }}
  chain nat-own {{
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.0/8 meta l4proto . th dport vmap @host-ports
    jump dispatch
  }}
  chain filter-in {{
    type filter hook input priority -110; policy accept;
    iifname "{node.bridge}" ip daddr 127.0.0.0/8 ct state != {{ established, related }} drop
    ct state new jump dispatch-refused
  }}
  chain filter-through {{ type filter hook forward priority -110; policy accept; ct state new jump dispatch-refused; }}
  chain filter-own {{ type filter hook output priority -90; policy accept; ct state new jump dispatch-refused; }}
  chain policy-from {{
    type filter hook forward priority -100; policy accept;
    ct state established,related accept
    ip saddr vmap @policy-out
  }}
  chain policy-to {{
    type filter hook forward priority -99; policy accept;
    ct state established,related accept
    ip daddr vmap @policy-in
  }}
  chain nat-out {{
    type nat hook postrouting priority srcnat; policy accept;
    meta mark and {MARK} == {MARK} meta mark set meta mark xor {MARK} masquerade fully-random
    ip saddr {node.pod_cidr} ip daddr != {{ {node.cluster_cidr}, 224.0.0.0/4 }} oifname != "{node.bridge}" masquerade
    ip saddr != {node.cluster_cidr} oifname "{node.bridge}" ct status dnat fib saddr type local masquerade
  }}
}}
"""


def script(node: NodeNetwork, old: Table | None, new: Table) -> str:
    """The transaction that turns ``old`` into ``new``; with ``old`` None everything is made anew. "" when nothing changes."""
    lines: list[str] = []
    if old is None:
        # Adding before deleting makes the deletion succeed whether the table was there or not.
        lines += [f"add table ip {node.table}", f"delete table ip {node.table}", base(node)]
        old = Table(maps={name: {} for name in MAPS}, members={name: set() for name in FIXED_SETS})
    at = f"ip {node.table}"
    lines += [f"add set {at} {name} {{ {text}; }}" for name, text in new.sets.items() if name not in old.sets]
    for name, wanted in new.members.items():
        lines += _elements(
            at, name, sorted(old.members.get(name, set()) - wanted), sorted(wanted - old.members.get(name, set()))
        )
    lines += [f"add chain {at} {name}" for name in new.chains if name not in old.chains]
    for name, rules in new.chains.items():
        if old.chains.get(name) != rules:
            if name in old.chains:
                lines.append(f"flush chain {at} {name}")
            lines += [f"add rule {at} {name} {rule}" for rule in rules]
    for name, elements in new.maps.items():
        gone = [k for k, v in old.maps[name].items() if elements.get(k) != v]
        come = [f"{k} : {v}" for k, v in elements.items() if old.maps[name].get(k) != v]
        lines += _elements(at, name, gone, come)
    removed = [name for name in old.chains if name not in new.chains]
    lines += [f"flush chain {at} {name}" for name in removed]
    lines += [f"delete chain {at} {name}" for name in sorted(removed, key=lambda n: CALLERS.index(n[:3]))]
    lines += [f"delete set {at} {name}" for name in old.sets if name not in new.sets]
    return "\n".join(lines) + "\n" if lines else ""


def _elements(at: str, name: str, gone: list[str], come: list[str]) -> list[str]:
    lines = []
    if gone:
        lines.append(f"delete element {at} {name} {{ {', '.join(gone)} }}")
    if come:
        lines.append(f"add element {at} {name} {{ {', '.join(come)} }}")
    return lines
