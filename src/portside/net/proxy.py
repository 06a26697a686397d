"""Keeps the node's service rules, policies and names true to the cluster: reads what they depend on, applies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from portside.client.protocol import Client, Json, Resource
from portside.net import conntrack
from portside.net.dns_server import DnsServer, resolvers
from portside.net.dns_table import NameTable
from portside.net.health import HealthServers, health_ports
from portside.net.mirror import Mirror
from portside.net.nft import NodeNetwork, Table, combine, render_service, script
from portside.net.policy import PolicyRules, render_policies, survey
from portside.net.services import HostPort, ServicePort, group_slices, host_ports, ports_of, version

log = logging.getLogger("portside.net")

SERVICES: Resource = ("", "v1", "services")
SLICES: Resource = ("discovery.k8s.io", "v1", "endpointslices")
PODS: Resource = ("", "v1", "pods")
NODES: Resource = ("", "v1", "nodes")
NAMESPACES: Resource = ("", "v1", "namespaces")
POLICIES: Resource = ("networking.k8s.io", "v1", "networkpolicies")
ZONE = "topology.kubernetes.io/zone"
SETTLE = 0.02  # seconds to gather changes that come together
RETRY = 5.0
NFT_TIMEOUT = 30.0
GUARD_SECONDS = 5.0  # a pod waits so long for the policies' rules; then it starts, and a warning is logged
EXPECTED_SECONDS = 60.0  # an address is believed so long before the API tells it
FORGET_AT_ONCE = 500  # UDP flows forgotten one by one after a change; beyond that they run out by themselves


def apply_nft(text: str) -> None:
    """Run one nftables transaction. Raises RuntimeError with nft's words; nothing was changed then."""
    done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, timeout=NFT_TIMEOUT)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"nft ended with {done.returncode}")


def forget_flows(flows: Iterable[conntrack.Flow]) -> None:
    """Make the kernel forget UDP flows; one that is not there is fine."""
    for words in list(dict.fromkeys(flows))[:FORGET_AT_ONCE]:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["conntrack", "-D", "-f", "ipv4", "-p", "udp", *words]
            subprocess.run(command, capture_output=True, timeout=NFT_TIMEOUT)


@dataclass(frozen=True, slots=True)
class _Rendered:
    """What a Service makes, and the state of the objects it was made from."""

    state: tuple[int, ...]
    ports: list[ServicePort]
    table: Table


class ServiceProxy:
    """Mirrors what the rules depend on; on change it renders them and applies the difference.

    All pods and namespaces are read only while there is a NetworkPolicy.
    """

    def __init__(
        self,
        client: Client,
        node: str,
        network: NodeNetwork,
        table: NameTable,
        apply: Callable[[str], None] = apply_nft,
        forget: Callable[[Iterable[conntrack.Flow]], None] = forget_flows,
    ) -> None:
        self.client = client
        self.node = node
        self.network = network
        self.names = table
        self.apply = apply
        self.forget = forget
        self.changed = asyncio.Event()
        self.services = Mirror(client, SERVICES, self.changed.set)
        self.slices = Mirror(client, SLICES, self.changed.set)
        self.pods = Mirror(client, PODS, self.changed.set, f"spec.nodeName={node}")
        self.nodes = Mirror(client, NODES, self.changed.set)
        self.policies = Mirror(client, POLICIES, self.changed.set)
        self.everyone = Mirror(client, PODS, self.changed.set)
        self.namespaces = Mirror(client, NAMESPACES, self.changed.set)
        self.health = HealthServers()
        self.standing: Table | None = None
        self.ports: list[ServicePort] = []
        self.published: list[HostPort] = []
        self.seconds_of_last_apply = 0.0
        self._known: dict[tuple[str, str], _Rendered] = {}
        self._expected: dict[tuple[str, str], tuple[Json, float]] = {}
        self._waiting: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Until cancelled; the rules stay when the proxy ends, so that connections live on."""
        try:
            async with asyncio.TaskGroup() as group:
                for mirror in (self.services, self.slices, self.pods, self.nodes, self.policies):
                    group.create_task(mirror.run())
                group.create_task(self._follow_changes(group))
        finally:
            self.health.close()

    async def guard(self, pod: Json, ips: tuple[str, ...]) -> None:
        """Until the policies' rules hold for a pod of this node whose address the API does not tell yet."""
        try:
            async with asyncio.timeout(GUARD_SECONDS):
                await self.policies.ready.wait()
                if not self.policies.objects or not ips:
                    return
                meta = pod["metadata"]
                status = {**(pod.get("status") or {}), "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
                end = time.monotonic() + EXPECTED_SECONDS
                self._expected[(meta["namespace"], meta["name"])] = ({**pod, "status": status}, end)
                done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(done)
                self.changed.set()
                await done
        except TimeoutError:
            log.warning("pod %s starts before its network policies are known to hold", pod["metadata"]["name"])

    async def _follow_changes(self, group: asyncio.TaskGroup) -> None:
        watched = (self.services, self.slices, self.pods, self.nodes, self.policies)
        for mirror in watched:
            await mirror.ready.wait()
        judging = False
        while True:
            await self.changed.wait()
            await asyncio.sleep(SETTLE)
            self.changed.clear()
            if self.policies.objects and not judging:
                judging = True
                for mirror in (self.everyone, self.namespaces):
                    group.create_task(mirror.run())
            if judging and not (self.everyone.synced and self.namespaces.synced):
                continue  # rules without the policies would let through what they forbid
            self.names.build(self.services.objects.values(), self.slices.objects.values())
            waiting, self._waiting = self._waiting, []
            try:
                await self._apply(judging)
                for done in waiting:
                    if not done.done():
                        done.set_result(None)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                log.error("service rules could not be applied: %s", error)
                self.standing = None
                self._waiting += waiting
                await asyncio.sleep(RETRY)
                self.changed.set()

    def _services(self) -> list[_Rendered]:
        """What each Service makes; one whose objects are the same is not worked out again."""
        grouped = group_slices(self.slices.objects.values())
        own = self.nodes.objects.get(("", self.node)) or {"metadata": {}}
        zone = (own["metadata"].get("labels") or {}).get(ZONE) or ""
        known: dict[tuple[str, str], _Rendered] = {}
        for key, service in self.services.objects.items():
            slices = grouped.get(key, [])
            state = (hash(zone), *(version(o) for o in (service, *slices)))
            held = self._known.get(key)
            if held is None or held.state != state:
                ports = ports_of(service, slices, self.node, zone)
                held = _Rendered(state, ports, render_service(ports, self.network.cluster_cidr))
            known[key] = held
        self._known = known
        return list(known.values())

    def _policies(self) -> PolicyRules:
        pods, now = dict(self.everyone.objects), time.monotonic()
        for key, (pod, end) in list(self._expected.items()):
            held = pods.get(key)
            other = held is not None and held["metadata"].get("uid") != pod["metadata"].get("uid")
            if now > end or other or (held is not None and (held.get("status") or {}).get("podIP")):
                del self._expected[key]
            else:
                pods[key] = pod
        cluster = survey(pods.values(), self.namespaces.objects.values())
        return render_policies(self.policies.objects.values(), cluster, self.node)

    async def _apply(self, judging: bool) -> None:
        services, published = self._services(), host_ports(self.pods.objects.values(), self.node)
        wanted = combine((s.table for s in services), published, self._policies() if judging else None)
        ports = [port for service in services for port in service.ports]
        if text := script(self.network, self.standing, wanted):
            started = time.monotonic()
            await asyncio.to_thread(self.apply, text)
            self.seconds_of_last_apply = time.monotonic() - started
        self.standing = wanted
        if flows := conntrack.stale(self.ports, ports, self.published, published):
            await asyncio.to_thread(self.forget, flows)
        self.ports, self.published = ports, published
        await self.health.update(health_ports(ports))


async def serve_names(table: NameTable, address: str) -> None:
    """The name server of one node, until cancelled. The address may come into being a little later than we do."""

    def upstream() -> list[str]:
        with contextlib.suppress(OSError):
            return resolvers(Path("/etc/resolv.conf").read_text(), {address})
        return []

    server = DnsServer(table, upstream)
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
