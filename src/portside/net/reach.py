"""Whether other nodes' pods are really reached: each node asks the others' name servers over the pod routes, and tells what fails.

A route in the kernel says nothing of a firewall on the way that drops the tunnel or packets of pods.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping

from portside.client.protocol import Json
from portside.net.proxy import ServiceProxy
from portside.net.routes import VXLAN_PORT, Route

LOOK = 60.0  # seconds between looks
TRIES = 2  # looks that must fail one after the other
REMIND = 5  # looks between two events about the same node: events of one object are written no faster
MOST = 32  # nodes asked per look, drawn by lot
SECONDS = 3.0  # for an answer
FAILS, WORKS = "PodRouteFails", "PodRouteWorks"
Tell = Callable[[str, str, str], None]  # type, reason and message of an event about this node


async def knock(gateway: str, port: int = 53) -> bool:
    """Whether the name server of another node's pods takes a connection."""
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(gateway, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def serving(nodes: Iterable[Json], routes: Iterable[Route], annotation: str) -> dict[str, Route]:
    """The routes to nodes that are ready and say that they answer names, by node."""
    by_part = {route.pod_cidr: route for route in routes}
    found = {}
    for node in nodes:
        route = by_part.get((node.get("spec") or {}).get("podCIDR") or "")
        conditions = (node.get("status") or {}).get("conditions") or ()
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        if route and ready and (node["metadata"].get("annotations") or {}).get(annotation) == route.gateway:
            found[node["metadata"]["name"]] = route
    return found


def failure(name: str, route: Route, own: str) -> str:
    """What is told of a node whose pods are not reached."""
    begin = f"pods of node {name} ({route.pod_cidr}) are not reached from here: "
    if route.tunnelled:
        return begin + f"something between {own} and {route.node_address} may drop UDP {VXLAN_PORT} (VXLAN)"
    return begin + f"something between {own} and {route.node_address} may drop packets with addresses of pods"


class Reach:
    """Remembers which nodes did not answer."""

    def __init__(self, own: str, tell: Tell, ask: Callable[[str], Awaitable[bool]] = knock) -> None:
        self.own, self.tell, self.ask = own, tell, ask
        self.failed: dict[str, int] = {}

    async def look(self, nodes: Mapping[str, Route]) -> None:
        """Ask them all at once. What still fails is told now and then, so that the event stays new."""
        self.failed = {name: count for name, count in self.failed.items() if name in nodes}
        names = random.sample(sorted(nodes), min(MOST, len(nodes)))
        answers = await asyncio.gather(*(self.ask(nodes[name].gateway) for name in names))
        for name, there in zip(names, answers, strict=True):
            if there:
                if self.failed.pop(name, 0) >= TRIES:
                    self.tell("Normal", WORKS, f"pods of node {name} ({nodes[name].pod_cidr}) are reached again")
                continue
            self.failed[name] = self.failed.get(name, 0) + 1
            if self.failed[name] >= TRIES and (self.failed[name] - TRIES) % REMIND == 0:
                self.tell("Warning", FAILS, failure(name, nodes[name], self.own))

    async def keep(self, proxy: ServiceProxy, routes: Callable[[], Iterable[Route]], annotation: str) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK * random.uniform(0.8, 1.2))
            await self.look(serving(proxy.nodes.objects.values(), routes(), annotation))
