"""The address by which other machines know this one."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct

SIOCGIFADDR = 0x8915
OWN = ("portside", "ps-", "v-", "docker", "virbr", "cni", "veth")  # bridges of machines within this one
TOWARDS = ("192.0.2.254", 9)  # a documentation address: connecting a datagram socket sends nothing


def source_address(host: str = "") -> str | None:
    """The address this machine sends from towards a host (default: over the default route); None when it knows no way."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host or TOWARDS[0], TOWARDS[1]))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def own_address() -> str:
    """The source address of the default route; without one, the first address of an interface that others could reach;
    else loopback."""
    return source_address() or _of_interfaces()


def has_address(address: str) -> bool:
    """Whether an interface of this machine has the address."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
            return True
    except OSError:
        return False


def _of_interfaces() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            found = ipaddress.IPv4Address(answer[20:24])
            if not found.is_loopback and not found.is_link_local and not name.startswith(OWN):
                return str(found)
    return "127.0.0.1"
