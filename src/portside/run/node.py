"""The node's process: containerd, agent, service rules and name server of this machine.

    python -m portside.run.node --home DIR

TERM and INT end it; the pods run on. Exit codes: 0 ended as asked, 1 could not start (the reason is on stderr).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from portside.agent import beneath
from portside.agent.agent import Agent
from portside.agent.containerd import Containerd, ContainerdError, Network, choose_network, remove_bridge
from portside.agent.process import NodeOptions, run_node
from portside.base.errors import PortsideError
from portside.base.kubeconfig_file import write_kubeconfig
from portside.base.pki import Pki, ensure_client, ensure_node_client
from portside.client.protocol import Client, Resource, WatchEvent
from portside.net.nft import NodeNetwork
from portside.run.home import Home, default_home

log = logging.getLogger("portside.node")
SERVICE_CIDR = "10.96.0.0/16"
DOMAIN = "cluster.local"
END_GRACE = 5.0  # seconds `down` gives each container after TERM


def node_name(home: Home) -> str:
    """This machine's name in the cluster: chosen once, kept with the cluster's facts."""
    facts = home.cluster()
    if not facts.get("node"):
        facts["node"] = socket.gethostname().lower().split(".")[0] or "node"
        home.save_cluster(facts)
    return str(facts["node"])


def identity(home: Home, name: str) -> Path:
    """A kubeconfig for a client certificate of the home. Raises OSError, ValueError before the control plane's set-up."""
    pki = Pki(home.root / "pki")
    port = int((home.root / "api-port").read_text())
    path = home.root / f"{name}.kubeconfig"
    write_kubeconfig(
        path,
        server=f"https://127.0.0.1:{port}",
        ca=pki.ca.read_bytes(),
        certificate=pki.certificate(name).read_bytes(),
        key=pki.key(name).read_bytes(),
    )
    return path


def rules(home: Home, node: str, network: Network) -> NodeNetwork:
    """What the service rules must know."""
    service_cidr = str(home.cluster().get("service_cidr") or SERVICE_CIDR)
    return NodeNetwork(network.bridge, network.pod_cidr, network.pod_cidr, service_cidr, network.bridge)


class ServiceClient:
    """What service rules read: the node's own pods as the node, services and endpoints as the service proxy."""

    def __init__(self, node: Client, proxy: Client) -> None:
        self._node, self._proxy = node, proxy

    def watch(self, resource: Resource, **options: Any) -> AsyncIterator[WatchEvent]:
        return (self._node if resource[2] == "pods" else self._proxy).watch(resource, **options)


async def serve(home: Home) -> None:
    """Run until TERM or INT."""
    node = node_name(home)
    network = choose_network(home.root)
    pki = Pki(home.root / "pki")
    ensure_client(pki, "proxy", "system:kube-proxy")
    options = NodeOptions(
        home.root,
        str(identity(home, ensure_node_client(pki, node))),
        node,
        cluster_dns=(network.gateway,),
        cluster_domain=DOMAIN,
    )

    async def services(agent: Agent) -> None:
        from portside.client.http import kubeconfig_client
        from portside.net.proxy import run

        client: Any = ServiceClient(agent.client, kubeconfig_client(str(identity(home, "proxy"))))
        await run(client, node, rules(home, node, network), network.gateway, zone=DOMAIN)

    await run_node(options, services)


def stop_runtime(home: Home) -> None:
    """End this home's pods and containerd; images, volumes and the store stay. Raises ContainerdError."""
    network = choose_network(home.root)
    containerd = Containerd(home.root, network)
    if containerd.pid() is not None or containerd.has_tasks():
        asyncio.run(_end_pods(containerd))
        containerd.stop()
    remove_bridge(network)
    if shutil.which("nft"):
        # Rules that outlive their cluster would catch the next one's addresses.
        subprocess.run(["nft", "delete", "table", "ip", network.bridge], capture_output=True)
    for folder in (home.root / "pods", home.root / "memory", containerd.run):
        for point in beneath.mounted_below(folder):
            beneath.unmount(point)
    for folder in (home.root / "pods", home.root / "memory"):
        if not beneath.mounted_below(folder):
            shutil.rmtree(folder, ignore_errors=True)


async def _end_pods(containerd: Containerd) -> None:
    from portside.agent.cgroups import KUBEPODS, Cgroups
    from portside.agent.cri import CriRuntime
    from portside.agent.runtime import RuntimeFailure

    await containerd.start()
    runtime = CriRuntime(str(containerd.socket))
    try:
        await runtime.answering()
        containers = [c for c in await runtime.containers() if c.state == "running"]

        async def end(sandbox_id: str, uid: str) -> None:
            own = [c.id for c in containers if c.sandbox_id == sandbox_id]
            await asyncio.gather(*(runtime.stop_container(i, grace=END_GRACE) for i in own))
            await runtime.stop_sandbox(sandbox_id)
            await runtime.remove_sandbox(sandbox_id)
            for qos in ("", "/burstable", "/besteffort"):
                Cgroups().remove(f"{KUBEPODS}{qos}/pod{uid}")

        await asyncio.gather(*(end(sandbox.id, sandbox.uid) for sandbox in await runtime.sandboxes()))
    except RuntimeFailure as failure:
        raise ContainerdError(f"the pods could not be ended: {failure.message}") from None
    finally:
        await runtime.close()


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
        uvloop.run(serve(home))
    except (ContainerdError, PortsideError, OSError, ValueError) as problem:
        print(f"portside: the node can't start: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
