"""A node's process: the runtime, the node's own server and the agent, from start to signal."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portside.agent.containerd import (
    CLUSTER_CIDR,
    NODE_MASK,
    Containerd,
    ContainerdError,
    choose_network,
    ensure_bridge,
)

if TYPE_CHECKING:
    from portside.agent.agent import Agent


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a node is told. ``port`` 0: one that is free; ``runtime``: the socket of a running CRI runtime, "" starts
    our own containerd; ``pod_cidr`` "": the first free part of ``cluster_cidr`` with the prefix length
    ``node_mask``, kept in the home."""

    home: Path
    kubeconfig: str
    node_name: str
    node_ips: tuple[str, ...] = ()
    pod_cidr: str = ""
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    port: int = 0
    runtime: str = ""
    max_pods: int = 110
    cluster_cidr: str = CLUSTER_CIDR
    node_mask: int = NODE_MASK


Extra = Callable[["Agent"], Awaitable[None]]


async def run_node(options: NodeOptions, *extras: Extra) -> None:
    """Start the runtime, then the agent, until TERM or INT. ``extras`` run beside it (service rules, name server).

    Raises ContainerdError, PortsideError and OSError when the node can't start.
    """
    from portside.agent.agent import Agent
    from portside.agent.cgroups import Cgroups
    from portside.agent.context import Settings
    from portside.agent.cri import CriRuntime
    from portside.agent.node import memory_total, own_addresses
    from portside.agent.runtime import RuntimeFailure
    from portside.agent.serving import serve_node
    from portside.client.http import kubeconfig_client

    home = options.home.absolute()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    network = choose_network(home, options.pod_cidr, options.cluster_cidr, options.node_mask)
    containerd = None if options.runtime else Containerd(home, network)
    if containerd is not None:
        ensure_bridge(network)
        await containerd.start()
    runtime = CriRuntime(options.runtime or str(containerd.socket if containerd else ""))
    try:
        await runtime.answering()
        present = {tag for image in await runtime.images() for tag in image.tags}
    except RuntimeFailure as failure:
        raise ContainerdError(f"the runtime does not answer: {failure.message}") from None
    if containerd is not None:
        await containerd.ensure_images(present)
    ips = tuple(options.node_ips or own_addresses())
    server = await serve_node(home, options.node_name, ips, options.port)
    settings = Settings(
        home,
        options.node_name,
        ips,
        options.cluster_dns,
        options.cluster_domain,
        network.pod_cidr,
        server.port,
        options.max_pods,
        memory_total(),
    )
    client = kubeconfig_client(options.kubeconfig, user_agent="portside-agent")
    agent = Agent(settings, client, runtime, cgroups=Cgroups())
    server.attach(agent)
    work = asyncio.create_task(agent.run(), name="agent")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    if containerd is not None:
        agent.tasks.keep("containerd", lambda: guard(containerd))
    for extra in extras:
        agent.tasks.keep(getattr(extra, "__name__", "extra"), functools.partial(extra, agent))
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
