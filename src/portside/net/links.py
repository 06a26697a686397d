"""Applies pod routes, and what the kernel must be told for pods to be reached at all."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from portside.net.routes import ROUTE_PROTOCOL, Command, Json, Range, Standing, Tunnel, standing

log = logging.getLogger("portside.net")
SECONDS = 10.0
USUAL_MTU = 1500


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=SECONDS)
    return done.stdout if done.returncode == 0 else ""


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The IPv4 networks this machine is on, and the largest packet of the interface that has an address."""

    networks: tuple[str, ...]
    mtus: dict[str, int]


def interfaces(without: Iterable[str] = ()) -> Interfaces:
    """This machine's, without loopback and those named."""
    networks, mtus = [], {}
    for link in json.loads(_ip("-j", "-4", "address") or "[]"):
        if link.get("ifname") in without or link.get("ifname") == "lo":
            continue
        for address in link.get("addr_info") or ():
            mtus[address["local"]] = int(link.get("mtu") or USUAL_MTU)
            if address["prefixlen"] < 32:
                network = ipaddress.IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False)
                networks.append(str(network))
    return Interfaces(tuple(networks), mtus)


def _json(*words: str) -> list[Json]:
    """The parts of an answer of ip or bridge; none when there is no such device."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS)
    return [x for x in json.loads(done.stdout or "[]") if x] if done.returncode == 0 else []


def stands(tunnel: Tunnel, ranges: Range) -> Standing:
    """The routes to other nodes' pods that this machine has now."""
    device = tunnel.device
    link = next(iter(_json("ip", "-j", "-d", "link", "show", "dev", device)), None)
    macs = _json("bridge", "-j", "fdb", "show", "dev", device) if link else []
    neighbours = _json("ip", "-j", "neigh", "show", "dev", device, "nud", "permanent") if link else []
    routes = _json("ip", "-j", "route", "show", "protocol", ROUTE_PROTOCOL)
    return standing(routes, link, macs, neighbours, tunnel, ranges)


def run_all(commands: Iterable[Command]) -> list[str]:
    """Run the commands; the words of those that failed. Removing what is not there is no failure."""
    problems = []
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode and "delete" not in command:
            problems.append(f"{' '.join(command)}: {done.stderr.strip()}")
    return problems


def prepare(bridge: str, service_cidr: str) -> None:
    """Settings of the kernel: packets are forwarded, rules see bridged ones too, host ports answer on loopback, and the
    service range is routed to the bridge, so that a machine without a default route reaches Services as well."""
    if not Path("/proc/sys/net/bridge").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["modprobe", "br_netfilter"], capture_output=True, timeout=SECONDS)
    for name, why in (
        ("net/ipv4/ip_forward", "pods reach nothing outside their node"),
        ("net/bridge/bridge-nf-call-iptables", "a pod does not reach Services backed by pods of its own node"),
        (f"net/ipv4/conf/{bridge}/route_localnet", "host ports do not answer on 127.0.0.1"),
    ):
        path = Path("/proc/sys", name)
        try:
            if path.read_text().strip() != "1":
                path.write_text("1\n")
        except OSError as error:
            log.warning("%s can't be set, so %s: %s", path, why, error.strerror or error)
    run_all([("ip", "route", "replace", service_cidr, "dev", bridge, "protocol", ROUTE_PROTOCOL)])


def remove(bridge: str, cluster_cidr: str) -> None:
    """Take away what was made for this cluster: the tunnel, and the routes to its Services and to other nodes' pods."""
    run_all([("ip", "link", "delete", tunnel_name(bridge))])
    pods = ipaddress.ip_network(cluster_cidr)
    for route in json.loads(_ip("-j", "route", "show", "protocol", ROUTE_PROTOCOL) or "[]"):
        to_pods = "/" in route["dst"] and pods.supernet_of(ipaddress.ip_network(route["dst"]))  # type: ignore[arg-type]
        if route.get("dev") == bridge or to_pods:
            run_all([("ip", "route", "delete", route["dst"], "protocol", ROUTE_PROTOCOL)])


def tunnel_name(bridge: str) -> str:
    """The tunnel that belongs to a bridge: at most 15 characters."""
    return f"v-{bridge}"[:15]
