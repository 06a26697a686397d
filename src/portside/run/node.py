"""The node's process: containerd, agent, service rules and name server of this machine.

    python -m portside.run.node --home DIR

TERM and INT end it; the pods run on. Exit codes: 0 ended as asked, 1 could not start (the reason is on stderr).
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portside.agent import beneath
from portside.agent.agent import Agent
from portside.agent.containerd import (
    CLUSTER_CIDR,
    NODE_MASK,
    Containerd,
    ContainerdError,
    Network,
    choose_network,
    remove_bridge,
)
from portside.agent.process import Extra, NodeOptions, run_node
from portside.api.status import ApiError
from portside.base.clock import SYSTEM
from portside.base.errors import PortsideError
from portside.base.kubeconfig_file import write_kubeconfig
from portside.base.pki import Pki, ensure_client, ensure_ingress_server, ensure_node_client, ensure_node_server
from portside.net.haproxy import Haproxy, Ports
from portside.net.network import Guard, NodePlace
from portside.net.network import remove as remove_network
from portside.net.nft import NodeNetwork
from portside.run import leave, membership
from portside.run.home import Home, default_home

if TYPE_CHECKING:
    from portside.agent.runtime import ContainerRuntime

log = logging.getLogger("portside.node")
SERVICE_CIDR = "10.96.0.0/16"
DOMAIN = "cluster.local"
CERTIFICATE_LOOK = 6 * 3600.0  # seconds between looks at the certificates
CERTIFICATE_AGAIN = 300.0  # seconds until certificates that could not be renewed are asked for again
PART_SECONDS = 15.0  # for the question which part of the pod addresses this node has
ADDRESS_LOOK = 5.0  # seconds between looks at this machine's address; two that agree are believed
ENDS_WITHIN = 20.0  # seconds in which what was just being started must have become fit to be ended
END_GRACE = 5.0  # seconds `down` gives each container after TERM


def node_name(home: Home) -> str:
    """This machine's name in the cluster: chosen once, kept with the cluster's facts."""
    facts = home.cluster()
    if not facts.get("node"):
        facts["node"] = socket.gethostname().lower().split(".")[0] or "node"
        home.save_cluster(facts)
    return str(facts["node"])


def _own_api(home: Home) -> str:
    """Where the API of this machine listens, as its own processes reach it."""
    listen = str(home.cluster().get("listen") or "")
    return "127.0.0.1" if listen in ("", "0.0.0.0") else listen


def identity(home: Home, name: str) -> Path:
    """A kubeconfig for a client certificate of the home. Raises OSError, ValueError before the control plane's set-up."""
    pki = Pki(home.root / "pki")
    port = int((home.root / "api-port").read_text())
    path = home.root / f"{name}.kubeconfig"
    write_kubeconfig(
        path,
        server=f"https://{_own_api(home)}:{port}",
        ca=pki.ca.read_bytes(),
        certificate=pki.certificate(name).read_bytes(),
        key=pki.key(name).read_bytes(),
    )
    return path


@dataclass(frozen=True, slots=True)
class Ranges:
    """The cluster's address ranges, the prefix length of a node's part of the pods', and the name server's address."""

    pods: str
    services: str
    mask: int = NODE_MASK

    @classmethod
    def of(cls, home: Home) -> Ranges:
        """What was chosen when the cluster was made."""
        facts = home.cluster()
        pods, services = str(facts.get("cluster_cidr") or CLUSTER_CIDR), str(facts.get("service_cidr") or SERVICE_CIDR)
        return cls(pods, services, int(facts.get("node_cidr_mask_size") or NODE_MASK))

    @property
    def dns(self) -> str:
        return str(ipaddress.ip_network(self.services).network_address + 10)


def rules(ranges: Ranges, network: Network) -> NodeNetwork:
    """What the service rules must know."""
    return NodeNetwork(network.bridge, network.pod_cidr, ranges.pods, ranges.services, network.bridge)


def kubeconfig_of(home: Home, node: str) -> Path:
    """The node's kubeconfig: by the home's own authority, or by the certificate it was given when it joined."""
    if server := home.cluster().get("joined"):
        return membership.node_client(home, str(server), node)
    return identity(home, ensure_node_client(Pki(home.root / "pki"), node))


async def serve(home: Home) -> bool:
    """Run until TERM or INT. True when the process is to be executed anew: certificates were renewed, the address changed."""
    node, ranges = node_name(home), Ranges.of(home)
    address = membership.present_address(home.cluster())
    home.save_cluster({"address": address})
    await _believe_part(home, node)
    facts = home.cluster()
    network = choose_network(home.root, str(facts.get("pod_cidr") or ""), ranges.pods, ranges.mask)
    options = NodeOptions(
        home.root,
        str(kubeconfig_of(home, node)),
        node,
        (address,),
        network.pod_cidr,
        cluster_dns=(ranges.dns,),
        cluster_domain=DOMAIN,
        cluster_cidr=ranges.pods,
        node_mask=ranges.mask,
    )
    place = NodePlace(node, address, network.gateway)
    renewed = asyncio.Event()

    async def services(agent: Agent) -> None:
        from portside.net.network import run

        def offer(guard: Guard) -> None:
            agent.context.guard = guard

        await run(agent.client, place, rules(ranges, network), zone=DOMAIN, offer=offer, tell=agent.keeper.say)

    async def certificates(agent: Agent) -> None:
        await _keep_certificates(home, agent, renewed)

    async def own_address(agent: Agent) -> None:
        await _follow_address(home, address, renewed)

    async def membership_end(agent: Agent) -> None:
        await leave.watch(home, agent.client, node)

    async def ingress(agent: Agent) -> None:
        await _ingress(home, address)

    extras: list[Extra] = [services, certificates, own_address]
    if facts.get("joined"):
        extras.append(membership_end)
    if facts.get("ingress"):
        extras.append(ingress)
    await run_node(options, *extras)
    return renewed.is_set()


async def _believe_part(home: Home, node: str) -> None:
    """A node that was taken off the cluster while its machine was away comes back as a new one, with another part of the
    pod addresses: its own may be somebody else's by now. An API that does not answer leaves what is known."""
    from portside.client.http import kubeconfig_client

    if not home.cluster().get("joined"):
        return
    client = kubeconfig_client(str(kubeconfig_of(home, node)), user_agent="portside-agent")
    try:
        async with asyncio.timeout(PART_SECONDS):
            facts = home.cluster()
            part = await membership.part(client, node, str(facts["address"]))
    except (ApiError, PortsideError, OSError, TimeoutError) as problem:
        log.warning("the node's part of the pod addresses could not be asked for: %s", problem)
        return
    finally:
        await client.close()
    if part != facts.get("pod_cidr"):
        log.warning("this node's pod addresses were %s and are %s now", facts.get("pod_cidr"), part)
        home.save_cluster({"pod_cidr": part})


def ingress_proxy(home: Home, default: bytes = b"") -> Haproxy:
    """The HAProxy of this home. Its folder is short and outside when the home's path would make it unreadable."""
    facts = home.cluster()
    ports = Ports(int(facts.get("ingress_http") or 80), int(facts.get("ingress_https") or 443))
    return Haproxy(home.root / "ingress", default, ports)


async def _ingress(home: Home, address: str) -> None:
    """Serve Ingresses, as an identity of its own: it reads TLS secrets, which nodes may not."""
    from portside.client.events import EventRecorder
    from portside.client.http import kubeconfig_client
    from portside.net.ingress_server import IngressServer

    pki = Pki(home.root / "pki")
    ensure_client(pki, "ingress", "portside:ingress")
    proxy = ingress_proxy(home, ensure_ingress_server(pki, [address]))
    proxy.folder.mkdir(mode=0o700, exist_ok=True)
    client = kubeconfig_client(str(identity(home, "ingress")), user_agent="portside-ingress")
    await IngressServer(client, proxy, address, EventRecorder(client, SYSTEM)).run()


def renew_own(home: Home, address: str) -> bool:
    """Make anew what ends soon of the certificates this home's own authority gave the node's process. True when there is
    something new to use."""
    pki, node = Pki(home.root / "pki"), node_name(home)
    names = [f"node-{node}", f"node-{node}-server"]
    ingress = bool(home.cluster().get("ingress"))
    names += ["ingress", "ingress-default"] if ingress else []
    files = [pki.certificate(name) for name in names]
    before = [file.read_bytes() if file.exists() else b"" for file in files]
    ensure_node_client(pki, node)
    ensure_node_server(pki, node, (address,))
    if ingress:
        ensure_client(pki, "ingress", "portside:ingress")
        ensure_ingress_server(pki, [address])
    return before != [file.read_bytes() for file in files]


async def _renew(home: Home, agent: Agent) -> bool:
    if home.cluster().get("joined"):
        return await membership.renew(home, agent.client, SYSTEM.now())
    return await asyncio.to_thread(renew_own, home, agent.context.settings.ips[0])


def _execute_anew(renewed: asyncio.Event) -> None:
    renewed.set()
    os.kill(os.getpid(), signal.SIGTERM)


async def _keep_certificates(home: Home, agent: Agent, renewed: asyncio.Event) -> None:
    """Look now and then whether a certificate ends soon; a new one ends the process, which then starts anew."""
    while True:
        pause = CERTIFICATE_LOOK
        try:
            if await _renew(home, agent):
                log.info("certificates were renewed")
                _execute_anew(renewed)
                return
        except (ApiError, PortsideError, OSError, TimeoutError) as error:
            log.warning("certificates could not be renewed: %s", error)
            pause = CERTIFICATE_AGAIN
        await asyncio.sleep(pause)


async def _follow_address(home: Home, address: str, renewed: asyncio.Event) -> None:
    """Look whether this machine has another address; one that is seen twice ends the process, which then starts with it."""
    before = address
    while True:
        await asyncio.sleep(ADDRESS_LOOK)
        now = await asyncio.to_thread(membership.present_address, home.cluster())
        if now == before != address:
            log.warning("this machine's address was %s and is %s now", address, now)
            _execute_anew(renewed)
            return
        before = now


def stop_runtime(home: Home) -> None:
    """End this home's pods and containerd; images, volumes and the store stay. Raises ContainerdError."""
    ranges = Ranges.of(home)
    network = choose_network(home.root, str(home.cluster().get("pod_cidr") or ""), ranges.pods, ranges.mask)
    containerd = Containerd(home.root, network)
    if containerd.pid() is not None or containerd.has_tasks():
        asyncio.run(_end_pods(containerd))
        containerd.stop()
    if left := containerd.end_shims():
        log.info("%d containers' shims were left over; they are ended", left)
    ingress_proxy(home).stop()
    # Rules and routes that outlive their cluster would catch the next one's addresses.
    remove_network(network.bridge, Ranges.of(home).pods)
    remove_bridge(network)
    for folder in (home.root / "pods", home.root / "memory", containerd.run):
        for point in beneath.mounted_below(folder):
            beneath.unmount(point)
    for folder in (home.root / "pods", home.root / "memory"):
        if not beneath.mounted_below(folder):
            shutil.rmtree(folder, ignore_errors=True)


async def _end_pods(containerd: Containerd) -> None:
    """What is just being started can't be ended: it is asked for again until it runs. Raises ContainerdError."""
    from portside.agent.cri import CriRuntime
    from portside.agent.runtime import RuntimeFailure

    await containerd.start()
    runtime = CriRuntime(str(containerd.socket))
    end = time.monotonic() + ENDS_WITHIN
    try:
        while True:
            left = "there are always new ones"
            try:
                await runtime.answering()
                await _end_all(runtime)
                if not await runtime.sandboxes():
                    return  # also none whose start was under way
            except RuntimeFailure as failure:
                left = failure.message
            if time.monotonic() > end:
                raise ContainerdError(f"the pods could not be ended: {left}")
            await asyncio.sleep(0.5)
    finally:
        await runtime.close()


async def _end_all(runtime: ContainerRuntime) -> None:
    from portside.agent.cgroups import KUBEPODS, Cgroups

    containers = [c for c in await runtime.containers() if c.state == "running"]

    async def end(sandbox_id: str, uid: str) -> None:
        own = [c.id for c in containers if c.sandbox_id == sandbox_id]
        await asyncio.gather(*(runtime.stop_container(i, grace=END_GRACE) for i in own))
        await runtime.stop_sandbox(sandbox_id)
        await runtime.remove_sandbox(sandbox_id)
        for qos in ("", "/burstable", "/besteffort"):
            Cgroups().remove(f"{KUBEPODS}{qos}/pod{uid}")

    await asyncio.gather(*(end(sandbox.id, sandbox.uid) for sandbox in await runtime.sandboxes()))


def main() -> int:
    parser = argparse.ArgumentParser("portside node", description="Runs this machine's pods.")
    parser.add_argument("--home", type=Path, default=None, help="folder of the cluster's state")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("grpc").setLevel(logging.WARNING)
    import uvloop

    home = Home(options.home or default_home())
    try:
        home.make()
        renewed = not leave.told(home) and uvloop.run(serve(home))  # a removal that broke off is brought to its end
        if leave.told(home):
            leave.clean(home)
        elif renewed:
            membership.again()
    except (ContainerdError, PortsideError, OSError, ValueError) as problem:
        print(f"portside: the node can't start: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
