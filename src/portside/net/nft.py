"""Service rules as an nftables table: rendered whole, applied as the difference to what stands. Pure.

Lookups are verdict maps (address . protocol . port -> chain), so cost does not grow with the number of Services. Every
change is one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from portside.net.services import Backend, HostPort, ServicePort

MARK = "0x4000"  # set on connections that must leave with the node's address


@dataclass(slots=True)
class Table:
    """A rendered table: rules per chain, elements per map, and the dynamic sets of session affinity."""

    chains: dict[str, list[str]] = field(default_factory=dict)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)


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
}


def render(ports: Iterable[ServicePort], published: Iterable[HostPort]) -> Table:
    """The table's changing part for these service ports and host ports."""
    table = Table(maps={name: {} for name in MAPS})
    for port in ports:
        _render_port(table, port)
    by_port: dict[tuple[str, int], list[HostPort]] = {}
    for entry in published:
        by_port.setdefault((entry.protocol, entry.port), []).append(entry)
    for (protocol, number), entries in by_port.items():
        chain = f"hp-{protocol}-{number}"
        rules = []
        for entry in sorted(entries, key=lambda e: not e.host_ip):
            limit = f"ip daddr {entry.host_ip} " if entry.host_ip else ""
            rules.append(f"{limit}ip saddr {entry.pod_ip} meta mark set meta mark or {MARK}")
            rules.append(f"{limit}meta l4proto {protocol} dnat to {entry.pod_ip}:{entry.container_port}")
        table.chains[chain] = rules
        table.maps["host-ports"][f"{protocol} . {number}"] = f"goto {chain}"
    return table


def _render_port(table: Table, port: ServicePort) -> None:
    inside = port.local_backends if port.internal_local else port.backends
    outside = port.local_backends if port.external_local else port.backends
    for backend in port.backends:
        _render_backend(table, port, backend)
    if inside:
        _render_choice(table, f"svc-{port.chain}", port, inside)
    # Traffic from outside keeps its source address only with externalTrafficPolicy Local.
    if outside:
        lead = [] if port.external_local else [f"meta mark set meta mark or {MARK}"]
        _render_choice(table, f"ext-{port.chain}", port, outside, lead)
    for address in port.cluster_ips:
        _point(
            table,
            "services",
            "refused",
            f"{address} . {port.protocol} . {port.port}",
            f"svc-{port.chain}" if inside else "",
        )
    for address in (*port.external_ips, *port.load_balancer_ips):
        chain = f"ext-{port.chain}"
        if address in port.load_balancer_ips and port.source_ranges and outside:
            table.chains[f"fw-{port.chain}"] = [
                f"ip saddr {{ {', '.join(port.source_ranges)} }} goto ext-{port.chain}",
                f"meta mark set meta mark or {MARK}",
                "drop",
            ]
            chain = f"fw-{port.chain}"
        _point(table, "services", "refused", f"{address} . {port.protocol} . {port.port}", chain if outside else "")
    if port.node_port:
        _point(
            table,
            "node-ports",
            "refused-ports",
            f"{port.protocol} . {port.node_port}",
            f"ext-{port.chain}" if outside else "",
        )


def _point(table: Table, wanted: str, refused: str, element: str, chain: str) -> None:
    if chain:
        table.maps[wanted][element] = f"goto {chain}"
    else:
        table.maps[refused][element] = "goto refuse"


def _backend_name(port: ServicePort, backend: Backend) -> str:
    return f"{port.chain}-{backend.address.replace('.', '-')}-{backend.port}"


def _render_backend(table: Table, port: ServicePort, backend: Backend) -> None:
    name = _backend_name(port, backend)
    # A pod that reaches itself through its Service must see another source address than its own.
    rules = [f"ip saddr {backend.address} meta mark set meta mark or {MARK}"]
    if port.affinity_seconds:
        table.sets[f"af-{name}"] = f"type ipv4_addr; flags dynamic,timeout; timeout {port.affinity_seconds}s"
        rules.append(f"update @af-{name} {{ ip saddr }}")
    rules.append(f"meta l4proto {port.protocol} dnat to {backend.address}:{backend.port}")
    table.chains[f"ep-{name}"] = rules


def _render_choice(
    table: Table, chain: str, port: ServicePort, backends: tuple[Backend, ...], lead: list[str] | None = None
) -> None:
    names = [_backend_name(port, b) for b in backends]
    rules = list(lead or ())
    if port.affinity_seconds:
        rules += [f"ip saddr @af-{name} goto ep-{name}" for name in names]
    choices = ", ".join(f"{i} : goto ep-{name}" for i, name in enumerate(names))
    rules.append(f"numgen random mod {len(names)} vmap {{ {choices} }}")
    table.chains[chain] = rules


def base(node: NodeNetwork) -> str:
    """The table's fixed part. Node ports do not answer on loopback; unreachable services refuse at once."""
    maps = "\n".join(f"  map {name} {{ {text}; }}" for name, text in MAPS.items())
    return f"""table ip {node.table} {{
{maps}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject
  }}
  chain dispatch {{
    ip daddr . meta l4proto . th dport vmap @services
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @host-ports
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @node-ports
  }}
  chain dispatch-refused {{
    ip daddr . meta l4proto . th dport vmap @refused
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @refused-ports
  }}
  chain nat-in {{ type nat hook prerouting priority dstnat; policy accept; jump dispatch; }}
  chain nat-own {{ type nat hook output priority -100; policy accept; jump dispatch; }}
  chain filter-in {{ type filter hook input priority -110; policy accept; ct state new jump dispatch-refused; }}
  chain filter-through {{ type filter hook forward priority -110; policy accept; ct state new jump dispatch-refused; }}
  chain filter-own {{ type filter hook output priority -110; policy accept; ct state new jump dispatch-refused; }}
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
        old = Table(maps={name: {} for name in MAPS})
    at = f"ip {node.table}"
    lines += [
        f"add set {at} {name} {{ {text}; }}"
        for name, text in new.sets.items()
        if old.sets.get(name) != text and name not in old.sets
    ]
    lines += [f"add chain {at} {name}" for name in new.chains if name not in old.chains]
    for name, rules in new.chains.items():
        if old.chains.get(name) != rules:
            if name in old.chains:
                lines.append(f"flush chain {at} {name}")
            lines += [f"add rule {at} {name} {rule}" for rule in rules]
    for name, elements in new.maps.items():
        gone = [k for k, v in old.maps[name].items() if elements.get(k) != v]
        come = [f"{k} : {v}" for k, v in elements.items() if old.maps[name].get(k) != v]
        if gone:
            lines.append(f"delete element {at} {name} {{ {', '.join(gone)} }}")
        if come:
            lines.append(f"add element {at} {name} {{ {', '.join(come)} }}")
    removed = [name for name in old.chains if name not in new.chains]
    lines += [f"flush chain {at} {name}" for name in removed]
    # A choosing chain jumps to backend chains: those that are jumped to go last.
    lines += [
        f"delete chain {at} {name}"
        for name in sorted(removed, key=lambda n: ("fw-", "ext", "svc", "hp-", "ep-").index(n[:3]))
    ]
    lines += [f"delete set {at} {name}" for name in old.sets if name not in new.sets]
    return "\n".join(lines) + "\n" if lines else ""
