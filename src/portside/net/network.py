"""One node's part of the cluster's network: service rules and policies, names, and the way to other nodes' pods."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from portside.api.status import ApiError
from portside.client.protocol import Client, Json
from portside.net import links
from portside.net.dns_table import NameTable
from portside.net.nft import NodeNetwork
from portside.net.proxy import NODES, ServiceProxy, serve_names
from portside.net.routes import Route, Tunnel, commands, wanted_routes

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
    """Keeps the routes to other nodes' pods."""

    def __init__(self, place: NodePlace, bridge: str) -> None:
        self.place, self.bridge = place, bridge
        self.tunnel = Tunnel(links.tunnel_name(bridge), place.address, place.gateway)
        self.standing: set[Route] = set()
        self.changed = asyncio.Event()

    async def keep(self, proxy: ServiceProxy) -> None:
        """Until cancelled."""
        await proxy.nodes.ready.wait()
        while True:
            self.changed.clear()
            try:
                await asyncio.to_thread(self._set, list(proxy.nodes.objects.values()))
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                log.error("pod routes could not be set: %s", error)
            try:
                async with asyncio.timeout(LOOK):  # wait_for would lose a cancellation that comes with the news
                    await self.changed.wait()
            except TimeoutError:
                self.standing = set()  # somebody may have taken routes away: all are set again

    def _set(self, nodes: list[dict[str, object]]) -> None:
        without = (self.bridge, self.tunnel.device)
        wanted = wanted_routes(nodes, self.place.name, links.networks(without))
        for problem in links.run_all(commands(self.standing, wanted, self.tunnel)):
            log.error("pod route: %s", problem)
        self.standing = wanted


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
) -> None:
    """Everything above, until cancelled. ``offer`` is given what makes the rules hold for a pod that is about to start."""
    await asyncio.to_thread(links.prepare, network.bridge, network.service_cidr)
    table = NameTable(zone, (network.service_cidr, network.cluster_cidr))
    proxy = ServiceProxy(client, place.name, network, table)
    offer(proxy.guard)
    routes = PodRoutes(place, network.bridge)
    proxy.nodes.listeners.append(routes.changed.set)
    async with asyncio.TaskGroup() as group:
        group.create_task(proxy.run())
        group.create_task(serve_names(table, place.gateway))
        group.create_task(routes.keep(proxy))
        group.create_task(announce(client, place))


def remove(bridge: str, cluster_cidr: str) -> Iterable[str]:
    """Take away what a node's network left in the kernel; names what could not be removed."""
    links.remove(bridge, cluster_cidr)
    done = subprocess.run(["nft", "delete", "table", "ip", bridge], capture_output=True, text=True)
    return [done.stderr.strip()] if done.returncode and "No such file" not in done.stderr else []
