"""Keeps the node's service rules and names true to the cluster: reads Services, EndpointSlices and pods, applies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from portside.api.status import ApiError
from portside.client.protocol import Client, Json, Resource
from portside.net.dns_server import DnsServer, resolvers
from portside.net.dns_table import NameTable
from portside.net.nft import NodeNetwork, Table, render, script
from portside.net.services import ServicePort, group_slices, host_ports, ports_of

log = logging.getLogger("portside.net")

SERVICES: Resource = ("", "v1", "services")
SLICES: Resource = ("discovery.k8s.io", "v1", "endpointslices")
PODS: Resource = ("", "v1", "pods")
SETTLE = 0.02  # seconds to gather changes that come together
RETRY = 5.0
NFT_TIMEOUT = 30.0


def apply_nft(text: str) -> None:
    """Run one nftables transaction. Raises RuntimeError with nft's words; nothing was changed then."""
    done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, timeout=NFT_TIMEOUT)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"nft ended with {done.returncode}")


class ServiceProxy:
    """Mirrors three resources; on change it renders the rules and applies the difference."""

    def __init__(
        self,
        client: Client,
        node: str,
        network: NodeNetwork,
        table: NameTable,
        apply: Callable[[str], None] = apply_nft,
    ) -> None:
        self.client = client
        self.node = node
        self.network = network
        self.names = table
        self.apply = apply
        self.objects: dict[str, dict[tuple[str, str], Json]] = {"services": {}, "endpointslices": {}, "pods": {}}
        self.synced: set[str] = set()
        self.changed = asyncio.Event()
        self.standing: Table | None = None
        self.seconds_of_last_apply = 0.0

    async def run(self) -> None:
        """Until cancelled; the rules stay when the proxy ends, so that connections live on."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._mirror(SERVICES, ""))
            group.create_task(self._mirror(SLICES, ""))
            group.create_task(self._mirror(PODS, f"spec.nodeName={self.node}"))
            group.create_task(self._follow_changes())

    async def _mirror(self, resource: Resource, selector: str) -> None:
        kind = resource[2]
        while True:
            fresh: dict[tuple[str, str], Json] | None = {}
            try:
                async for event in self.client.watch(resource, field_selector=selector, send_initial_events=True):
                    meta = event.object.get("metadata") or {}
                    if event.type == "BOOKMARK":
                        if (
                            fresh is not None
                            and (meta.get("annotations") or {}).get("k8s.io/initial-events-end") == "true"
                        ):
                            self.objects[kind], fresh = fresh, None
                            self.synced.add(kind)
                            self.changed.set()
                        continue
                    target = self.objects[kind] if fresh is None else fresh
                    if event.type == "DELETED":
                        target.pop((meta["namespace"], meta["name"]), None)
                    else:
                        target[(meta["namespace"], meta["name"])] = event.object
                    if fresh is None:
                        self.changed.set()
            except (ApiError, OSError, TimeoutError) as error:
                log.debug("watch of %s broke off: %s", kind, error)
            await asyncio.sleep(0.5)

    async def _follow_changes(self) -> None:
        while True:
            await self.changed.wait()
            await asyncio.sleep(SETTLE)
            self.changed.clear()
            if len(self.synced) < len(self.objects):
                continue
            self.names.build(self.objects["services"].values(), self.objects["endpointslices"].values())
            try:
                await self._apply()
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                log.error("service rules could not be applied: %s", error)
                self.standing = None
                await asyncio.sleep(RETRY)
                self.changed.set()

    def service_ports(self) -> list[ServicePort]:
        grouped = group_slices(self.objects["endpointslices"].values())
        return [
            port
            for key, service in sorted(self.objects["services"].items())
            for port in ports_of(service, grouped.get(key, []), self.node)
        ]

    async def _apply(self) -> None:
        wanted = render(self.service_ports(), host_ports(self.objects["pods"].values(), self.node))
        if text := script(self.network, self.standing, wanted):
            started = time.monotonic()
            await asyncio.get_running_loop().run_in_executor(None, self.apply, text)
            self.seconds_of_last_apply = time.monotonic() - started
        self.standing = wanted


async def run(
    client: Client, node: str, network: NodeNetwork, dns_address: str, *, zone: str = "cluster.local"
) -> None:
    """Service rules and the name server of one node, until cancelled."""
    table = NameTable(zone)

    def upstream() -> list[str]:
        with contextlib.suppress(OSError):
            return resolvers(Path("/etc/resolv.conf").read_text(), {dns_address})
        return []

    server = DnsServer(table, upstream)
    proxy = ServiceProxy(client, node, network, table)
    async with asyncio.TaskGroup() as group:
        group.create_task(proxy.run())
        group.create_task(_serve(server, dns_address))


async def _serve(server: DnsServer, address: str) -> None:
    """Serve names at the address, which may come into being a little later than we do."""
    said = False
    while True:
        try:
            await server.start(address)
            break
        except OSError as error:
            if not said:
                log.warning("the name server can't listen on %s yet: %s", address, error)
                said = True
            await asyncio.sleep(1.0)
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()
