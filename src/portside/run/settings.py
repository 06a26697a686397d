"""The control plane's settings: flags over the home's remembered facts."""

from __future__ import annotations

import argparse
import random
import socket
from dataclasses import dataclass
from pathlib import Path

from portside.run.home import default_home
from portside.store.compaction import KEEP_SECONDS

KEPT_PORTS = range(20_000, 30_000)
"""Where a port is chosen that is kept: below those the kernel lends to any outgoing connection, and below node ports."""
PORT_TRIES = 100


@dataclass(frozen=True, slots=True)
class Settings:
    """``home`` holds everything of one cluster; ``port`` 0 chooses a free one once and keeps it; ``store`` is sqlite or
    memory; ``simulate`` nodes live in this process. ``address`` is listened on; ``advertise`` is what pods and other
    machines are told ("": the same). ``cluster_cidr`` is the range of all pods, "" when no node is real;
    ``node_mask`` is the prefix length of one node's part of it.
    ``history`` is the window of the store's log in seconds."""

    home: Path
    address: str = "127.0.0.1"
    advertise: str = ""
    port: int = 0
    store: str = "sqlite"
    simulate: int = 0
    service_cidr: str = "10.96.0.0/16"
    cluster_cidr: str = ""
    controllers: bool = True
    scheduler: bool = True
    verbose: bool = False
    history: float = KEEP_SECONDS
    audit_policy: Path | None = None
    node_mask: int = 24


def parse(arguments: list[str] | None = None) -> Settings:
    """The settings of a command line."""
    parser = argparse.ArgumentParser("portside control plane", description="API server, controllers and scheduler.")
    parser.add_argument("--home", type=Path, default=None, help="folder of the cluster's state")
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--advertise", default="", help="address that pods and other machines reach the API on")
    parser.add_argument("--port", type=int, default=0, help="port of the API; 0: the one used before, or a free one")
    parser.add_argument("--store", choices=("sqlite", "memory"), default="sqlite")
    parser.add_argument("--simulate", type=int, default=0, metavar="N", help="simulated nodes in this process")
    parser.add_argument("--service-cidr", default="10.96.0.0/16")
    parser.add_argument("--cluster-cidr", default="", help="range of all pods, a part of it for each node")
    parser.add_argument(
        "--node-cidr-mask-size", type=int, default=24, metavar="N", help="prefix length of one node's part of it"
    )
    parser.add_argument("--no-controllers", action="store_true")
    parser.add_argument("--no-scheduler", action="store_true")
    parser.add_argument("--history", type=float, default=KEEP_SECONDS, metavar="SECONDS", help="window of history kept")
    parser.add_argument("--audit-policy", type=Path, help="policy file: what is written to HOME/logs/audit.log")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args(arguments)
    return Settings(
        given.home or default_home(),
        given.address,
        given.advertise,
        given.port,
        given.store,
        given.simulate,
        given.service_cidr,
        given.cluster_cidr,
        not given.no_controllers,
        not given.no_scheduler,
        given.verbose,
        given.history,
        given.audit_policy,
        given.node_cidr_mask_size,
    )


def local_address(settings: Settings) -> str:
    """Where this machine's own clients reach the API."""
    return "127.0.0.1" if settings.address in ("0.0.0.0", "") else settings.address


def choose_port(settings: Settings) -> tuple[int, socket.socket | None]:
    """The port asked for, the one this home used before, or a free one; remembered in the home. A free one comes with a
    bound socket to listen on: until then nobody else gets the port."""
    memory = settings.home / "api-port"
    port, held = settings.port, None
    if not port:
        try:
            port = int(memory.read_text())
        except (OSError, ValueError):
            port = 0
    if not port:
        held = held_port(settings.address)
        port = int(held.getsockname()[1])
    memory.write_text(f"{port}\n")
    return port, held


def held_port(address: str, rng: random.Random | None = None) -> socket.socket:
    """Bound to a port that is free, and that nobody is lent while its server is down."""
    for port in (*(rng or random).sample(KEPT_PORTS, PORT_TRIES), 0):
        held = socket.socket()
        try:
            held.bind((address, port))
        except OSError:
            held.close()
            if not port:
                raise
            continue
        return held
    raise AssertionError


def free_port(address: str, rng: random.Random | None = None) -> int:
    """The number of such a port, free at this moment."""
    with held_port(address, rng) as held:
        return int(held.getsockname()[1])
