"""Each node gets its own part of the cluster's pod addresses, as spec.podCIDR: the next free one after the newest node's, so
that a part that came back is given again late, when the routes to it have had time to go."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from portside.api.status import ApiError
from portside.client.cache import View
from portside.client.protocol import Json
from portside.controllers.endpoint import NODES
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Emit, Op, Plan
from portside.controllers.pods import created, is_terminating

MASK = 24  # of one node's part, when nothing else is said
AGAIN = 10.0  # seconds until a node without a part is looked at again


@dataclass(frozen=True, slots=True)
class Parts:
    """A range of IPv4 addresses cut into parts of one size (a prefix length); ``reserved`` networks are never given."""

    cluster: str
    mask: int = MASK
    reserved: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        network = ipaddress.IPv4Network(self.cluster)
        return 1 << max(self.mask - network.prefixlen, 0)

    def part(self, number: int) -> str:
        """The part of this number, from 0."""
        network = ipaddress.IPv4Network(self.cluster)
        mask = max(self.mask, network.prefixlen)
        return str(ipaddress.IPv4Network((int(network.network_address) + (number << (32 - mask)), mask)))

    def free(self, taken: Iterable[str], after: int = 0) -> int | None:
        """The number of the first part from ``after`` on that overlaps nothing taken, then from 0; None when none is left."""
        busy = sorted(span for t in (*taken, *self.reserved) if (span := self._span(t)) is not None)
        for first, end in ((after % self.count, self.count), (0, after % self.count)):
            candidate = first
            for low, high in busy:
                if low <= candidate <= high:
                    candidate = high + 1
            if candidate < end:
                return candidate
        return None

    def newest(self, nodes: Iterable[Json]) -> int:
        """The number of the part that the youngest node has, -1 when none has one."""
        held = [n for n in nodes if (n.get("spec") or {}).get("podCIDR")]
        youngest = max(held, key=lambda n: (created(n), n["metadata"]["name"]), default=None)
        span = self._span(youngest["spec"]["podCIDR"]) if youngest is not None else None
        return -1 if span is None else span[1]

    def _span(self, text: str) -> tuple[int, int] | None:
        """First and last number of the parts a network touches; None outside the range, or when it is no network."""
        network = ipaddress.IPv4Network(self.cluster)
        try:
            other = ipaddress.IPv4Network(text, strict=False)
        except ValueError:
            return None
        if not other.overlaps(network):
            return None
        shift, start = 32 - max(self.mask, network.prefixlen), int(network.network_address)
        low = max(int(other.network_address), start)
        high = min(int(other.broadcast_address), int(network.broadcast_address))
        return (low - start) >> shift, (high - start) >> shift


def _told(node: Json, state: str) -> Emit:
    return Emit(node, "Normal", state, f"Node {node['metadata']['name']} status is now: {state}")


def controller(cluster: str, mask: int = MASK, reserved: tuple[str, ...] = ()) -> Controller:
    """The controller for a cluster's range. One worker: two nodes must not be given the same part."""
    parts = Parts(cluster, mask, reserved)
    given: dict[str, int] = {}  # what was written and may not be in the view yet

    def plan(view: View, key: str, now: float) -> Plan:
        node = view.key(NODES, key)
        name = key.rpartition("/")[2]
        if node is None or is_terminating(node) or (node.get("spec") or {}).get("podCIDR"):
            given.pop(name, None)
            return NOTHING
        taken = {c for n in view.all(NODES) for c in (n.get("spec") or {}).get("podCIDRs") or ()}
        number = given.get(name)
        if number is None:
            after = next(reversed(given.values()), parts.newest(view.all(NODES)))
            number = parts.free(taken | {parts.part(n) for n in given.values()}, after + 1)
            if number is None:
                return Plan([_told(node, "CIDRNotAvailable")], again=AGAIN)
            given[name] = number
        part = parts.part(number)
        body: Json = {"spec": {"podCIDR": part, "podCIDRs": [part]}}

        def failed(error: ApiError) -> list[Emit]:
            return [_told(node, "CIDRAssignmentFailed")]

        return Plan([Op("patch", NODES, name, body=body, patch_type="strategic", failed=failed)])

    return Controller("cidrAllocator", NODES, plan, workers=1)
