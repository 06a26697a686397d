"""``python -m portside.agent``: run a node on this machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import time
from pathlib import Path

from portside.agent.containerd import Containerd, ContainerdError, choose_network


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m portside.agent", description="Run a node of a Portside cluster.")
    parser.add_argument("--home", type=Path, required=True, help="folder for everything the node writes")
    parser.add_argument("--kubeconfig", required=True, help="how the node reaches the API")
    parser.add_argument("--node-name", default=socket.gethostname().lower())
    parser.add_argument("--node-ip", action="append", default=[], help="the node's address (repeatable)")
    parser.add_argument(
        "--pod-cidr", default="", help="addresses of this node's pods (default: the first free 10.244.N.0/24)"
    )
    parser.add_argument("--cluster-dns", action="append", default=[], help="DNS server of pods (repeatable)")
    parser.add_argument("--cluster-domain", default="cluster.local")
    parser.add_argument(
        "--port", type=int, default=0, help="port the API server reaches the node on (0: one that is free)"
    )
    parser.add_argument(
        "--runtime", default="", help="socket of a running CRI runtime (default: start our own containerd)"
    )
    parser.add_argument("--max-pods", type=int, default=110)
    parser.add_argument("-v", "--verbose", action="store_true")
    return parser.parse_args()


async def serve(options: argparse.Namespace) -> None:
    """Start the runtime, then the agent, until a signal."""
    from portside.agent.agent import Agent
    from portside.agent.context import Settings
    from portside.agent.cri import CriRuntime
    from portside.agent.node import memory_total, own_addresses
    from portside.agent.runtime import RuntimeFailure
    from portside.agent.serving import serve_node
    from portside.client.http import kubeconfig_client

    home = options.home.absolute()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    network = choose_network(home, options.pod_cidr)
    containerd = None if options.runtime else Containerd(home, network)
    if containerd is not None:
        await containerd.start()
    runtime = CriRuntime(options.runtime or str(containerd.socket if containerd else ""))
    end = time.monotonic() + 30
    while True:
        try:
            present = {tag for image in await runtime.images() for tag in image.tags}
            break
        except RuntimeFailure as failure:
            if time.monotonic() > end:
                raise ContainerdError(f"the runtime does not answer: {failure.message}") from None
            await asyncio.sleep(0.02)
    if containerd is not None:
        await containerd.ensure_images(present)
    ips = tuple(options.node_ip or own_addresses())
    server = await serve_node(home, options.node_name, ips, options.port)
    settings = Settings(
        home,
        options.node_name,
        ips,
        tuple(options.cluster_dns),
        options.cluster_domain,
        network.pod_cidr,
        server.port,
        options.max_pods,
        memory_total(),
    )
    client = kubeconfig_client(options.kubeconfig, user_agent="portside-agent")
    agent = Agent(settings, client, runtime)
    server.attach(agent)
    work = asyncio.create_task(agent.run(), name="agent")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    if containerd is not None:
        agent.tasks.keep("containerd", lambda: guard(containerd))
    gc.collect()
    gc.freeze()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        server.close()
        await client.close()
        await runtime.close()


async def guard(containerd: Containerd) -> None:
    """Start containerd again when it has died; the containers live on in their shims."""
    while True:
        await asyncio.sleep(1.0)
        if containerd.pid() is None:
            logging.getLogger("portside.agent").warning("containerd has ended; starting it again")
            await containerd.start()


def main() -> int:
    options = arguments()
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    import uvloop

    try:
        uvloop.run(serve(options))
    except ContainerdError as problem:
        print(f"portside agent: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
