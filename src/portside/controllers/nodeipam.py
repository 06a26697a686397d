"""Each node gets its own part of the cluster's pod addresses, as spec.podCIDR."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from portside.client.cache import View
from portside.client.protocol import Json
from portside.controllers.endpoint import NODES
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Emit, Op, Plan
from portside.controllers.pods import is_terminating

MASK = 24  # of one node's part


def parts(cluster: str, mask: int = MASK) -> Iterator[str]:
    """The parts of a range, in order."""
    network = ipaddress.ip_network(cluster)
    for part in network.subnets(new_prefix=max(mask, network.prefixlen)):
        yield str(part)


def free(cluster: str, taken: set[str]) -> str | None:
    """The first part that nobody has, None when all are given away."""
    busy = [ipaddress.ip_network(t) for t in taken]
    used = {str(n) for n in busy}
    odd = [n for n in busy if n.prefixlen != MASK]
    for part in parts(cluster):
        if part not in used and not any(ipaddress.ip_network(part).overlaps(n) for n in odd):
            return part
    return None


def controller(cluster: str) -> Controller:
    """The controller for a cluster's range. One worker: two nodes must not be given the same part."""
    given: dict[str, str] = {}  # what was written and may not be in the view yet

    def plan(view: View, key: str, now: float) -> Plan:
        node = view.key(NODES, key)
        name = key.rpartition("/")[2]
        if node is None or is_terminating(node):
            given.pop(name, None)
            return NOTHING
        if (node.get("spec") or {}).get("podCIDR"):
            given.pop(name, None)
            return NOTHING
        taken = {c for n in view.all(NODES) for c in (n.get("spec") or {}).get("podCIDRs") or ()} | set(given.values())
        part = given.get(name) or free(cluster, {t for t in taken if ":" not in t})
        if part is None:
            why = f"Node {name} status is now: CIDRNotAvailable"
            return Plan([Emit(node, "Normal", "CIDRNotAvailable", why)], again=60.0)
        given[name] = part
        body: Json = {"spec": {"podCIDR": part, "podCIDRs": [part]}}
        return Plan([Op("patch", NODES, name, body=body, patch_type="strategic")])

    return Controller("node-ipam-controller", NODES, plan, workers=1)
