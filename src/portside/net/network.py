"""One node's part of the cluster's network: service rules and policies, names, and the way to other nodes' pods."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from portside.api.status import ApiError
from portside.client.protocol import Client, Json
from portside.net import links
from portside.net.dns_table import NameTable
from portside.net.nft import NodeNetwork
from portside.net.proxy import NODES, ServiceProxy, serve_names
from portside.net.reach import Reach, Tell
from portside.net.routes import VXLAN_OVERHEAD, Range, Route, Tunnel, commands, tunnel_number, wanted_routes

log = logging.getLogger("portside.net")
NAME_SERVER = "net.portside.io/name-server"  # the Node's annotation: where its name server listens
AGAIN = 10.0  # seconds until something that failed is tried again
LOOK = 60.0  # seconds between looks at the routes when nothing is told


@dataclass(frozen=True, slots=True)
class NodePlace:
    """This node: its name, the address other nodes reach it at, and the gateway address of its pods."""

    name: str
    address: str
    gateway: str


class PodRoutes:
    """Keeps the routes to other nodes' pods: what the Nodes say is held against what the kernel has."""

    def __init__(self, place: NodePlace, bridge: str, ranges: Range) -> None:
        self.place, self.bridge, self.ranges = place, bridge, ranges
        self.tunnel = Tunnel(links.tunnel_name(bridge), place.address, place.gateway, number=tunnel_number(ranges.pods))
        self.doubts: dict[str, str] = {}
        self.wanted: frozenset[Route] = frozenset()
        self.changed = asyncio.Event()

    async def keep(self, proxy: ServiceProxy) -> None:
        """Until cancelled. Routes that somebody else takes away come back at the next look."""
        await proxy.nodes.ready.wait()
        while True:
            self.changed.clear()
            try:
                whole = await asyncio.to_thread(self.set, list(proxy.nodes.objects.values()))
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                log.error("pod routes could not be set: %s", error)
                whole = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK if whole else AGAIN):  # wait_for would lose a cancellation that comes
                    await self.changed.wait()  # with the news

    def set(self, nodes: list[Json]) -> bool:
        """Whether all routes stand afterwards."""
        present = links.interfaces((self.bridge, self.tunnel.device))
        mtu = present.mtus.get(self.place.address, links.USUAL_MTU) - VXLAN_OVERHEAD
        tunnel = self.tunnel = replace(self.tunnel, mtu=mtu)
        wanted = wanted_routes(nodes, self.place.name, present.networks, self.ranges, self.place.address)
        for name, doubt in wanted.doubts.items():
            if self.doubts.get(name) != doubt:
                log.warning("node %s gets no pod route: %s", name, doubt)
        self.doubts, self.wanted = wanted.doubts, wanted.routes
        problems = links.run_all(commands(links.stands(tunnel, self.ranges), wanted.routes, tunnel))
        for problem in problems:
            log.error("pod route: %s", problem)
        return not problems


async def announce(client: Client, place: NodePlace) -> None:
    """Tell the cluster where this node answers names. Tried until it is said."""
    body = {"metadata": {"annotations": {NAME_SERVER: place.gateway}}}
    while True:
        try:
            await client.patch(NODES, place.name, body, patch_type="merge")
            return
        except (ApiError, OSError, TimeoutError) as error:
            log.debug("the name server could not be announced yet: %s", error)
        await asyncio.sleep(0.5)


Guard = Callable[[Json, tuple[str, ...]], Awaitable[None]]


async def run(
    client: Client,
    place: NodePlace,
    network: NodeNetwork,
    *,
    zone: str = "cluster.local",
    offer: Callable[[Guard], None] = lambda guard: None,
    tell: Tell = lambda kind, reason, message: None,
) -> None:
    """Everything above, until cancelled. ``offer`` is given what makes the rules hold for a pod that is about to start;
    ``tell`` what is to be known of this node's network as an event."""
    await asyncio.to_thread(links.prepare, network.bridge, network.service_cidr)
    table = NameTable(zone, (network.service_cidr, network.cluster_cidr))
    proxy = ServiceProxy(client, place.name, network, table)
    offer(proxy.guard)
    routes = PodRoutes(place, network.bridge, Range(network.cluster_cidr, network.service_cidr, network.pod_cidr))
    proxy.nodes.listeners.append(routes.changed.set)
    async with asyncio.TaskGroup() as group:
        group.create_task(proxy.run())
        group.create_task(serve_names(table, place.gateway))
        group.create_task(routes.keep(proxy))
        group.create_task(Reach(place.address, tell).keep(proxy, lambda: routes.wanted, NAME_SERVER))
        group.create_task(announce(client, place))


def remove(bridge: str, cluster_cidr: str) -> Iterable[str]:
    """Take away what a node's network left in the kernel; names what could not be removed."""
    links.remove(bridge, cluster_cidr)
    done = subprocess.run(["nft", "delete", "table", "ip", bridge], capture_output=True, text=True)
    return [done.stderr.strip()] if done.returncode and "No such file" not in done.stderr else []
