"""IP addresses and networks: ``ip('10.0.0.1')``, ``cidr('10.0.0.0/8')``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from portside.api.cel.values import CelRuntimeError, Opaque

DECLARATIONS = """
string_to_ip: ip(string) -> IP
cidr_ip: CIDR :: ip() -> IP
ip_is_canonical: ip.isCanonical(string) -> bool
is_ip: isIP(string) -> bool
ip_family: IP :: family() -> int
ip_is_unspecified: IP :: isUnspecified() -> bool
ip_is_loopback: IP :: isLoopback() -> bool
ip_is_link_local_multicast: IP :: isLinkLocalMulticast() -> bool
ip_is_link_local_unicast: IP :: isLinkLocalUnicast() -> bool
ip_is_global_unicast: IP :: isGlobalUnicast() -> bool
string_to_cidr: cidr(string) -> CIDR
is_cidr: isCIDR(string) -> bool
cidr_contains_ip_string: CIDR :: containsIP(string) -> bool
cidr_contains_ip_ip: CIDR :: containsIP(IP) -> bool
cidr_contains_cidr_string: CIDR :: containsCIDR(string) -> bool
cidr_contains_cidr: CIDR :: containsCIDR(CIDR) -> bool
cidr_masked: CIDR :: masked() -> CIDR
cidr_prefix_length: CIDR :: prefixLength() -> int
"""
_LENGTH = re.compile(r"[1-9]?[0-9]{1,2}\Z")
_NETWORK = "network address parse error during conversion from string: "


class IP(Opaque):
    """An address."""

    __slots__ = ("address",)
    TYPE_NAME = "net.IP"

    def __init__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        self.address = address

    @property
    def SIZE(self) -> int:
        return 4 if self.address.version == 4 else 16

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IP) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __str__(self) -> str:
        return str(self.address)


class CIDR(Opaque):
    """An address and the length of its prefix."""

    __slots__ = ("address", "length")
    TYPE_NAME = "net.CIDR"

    def __init__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int) -> None:
        self.address = address
        self.length = length

    @property
    def SIZE(self) -> int:
        return (self.length + 7) // 8

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CIDR) and (self.address, self.length) == (other.address, other.length)

    def __hash__(self) -> int:
        return hash((self.address, self.length))

    def __str__(self) -> str:
        return f"{self.address}/{self.length}"

    @property
    def bits(self) -> int:
        return 32 if self.address.version == 4 else 128

    def prefix(self, length: int) -> int:
        return int(self.address) >> (self.bits - length)


def _why(text: str) -> str:
    """Why Go's netip refuses the text."""
    quoted = f'ParseAddr("{text}")'
    for char in text:
        if char == ".":
            fields = text.split(".")
            if any(not f for f in fields):
                return f"{quoted}: IPv4 field must have at least one digit"
            if any(len(f) > 1 and f[0] == "0" for f in fields):
                return f"{quoted}: IPv4 field has octet with leading zero"
            if any(f.isdigit() and int(f) > 255 for f in fields):
                return f"{quoted}: IPv4 field has value >255"
            if all(f.isdigit() for f in fields):
                return f"{quoted}: IPv4 address too {'short' if len(fields) < 4 else 'long'}"
            return f"{quoted}: unexpected character (at {text[len(text) - len(fields[-1]) :]!r})"
        if char == ":":
            return (
                f"{quoted}: unexpected character" if "%" not in text else f"{quoted}: zone must be a non-empty string"
            )
        if char == "%":
            return f"{quoted}: missing IPv6 address"
    return f"{quoted}: unable to parse IP"


def parse_ip(text: str) -> IP:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise CelRuntimeError(f'IP Address "{text}" parse error during conversion from string: {_why(text)}') from None
    if address.version == 6:
        if address.scope_id:
            raise CelRuntimeError(f'IP address "{text}" with zone value is not allowed')
        if address.ipv4_mapped is not None:
            raise CelRuntimeError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return IP(address)


def _network_problem(text: str, why: str) -> CelRuntimeError:
    return CelRuntimeError(f'{_NETWORK}{_NETWORK}netip.ParsePrefix("{text}"): {why}')


def parse_cidr(text: str) -> CIDR:
    head, slash, tail = text.rpartition("/")
    if not slash:
        raise _network_problem(text, "no '/'")
    try:
        address = ipaddress.ip_address(head)
    except ValueError:
        raise _network_problem(text, _why(head)) from None
    if address.version == 6 and address.scope_id:
        raise _network_problem(text, "IPv6 zones cannot be present in a prefix")
    if not _LENGTH.match(tail):
        raise _network_problem(text, f'bad bits after slash: "{tail}"')
    if int(tail) > address.max_prefixlen:
        raise _network_problem(text, "prefix length out of range")
    if address.version == 6 and address.ipv4_mapped is not None:
        raise CelRuntimeError(f'{_NETWORK}IPv4-mapped IPv6 address "{text}" is not allowed')
    return CIDR(address, int(tail))


def _valid(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def valid(text: str) -> bool:
        try:
            parse(text)
        except CelRuntimeError:
            return False
        return True

    return valid


def _contains_ip(network: CIDR, address: IP) -> bool:
    if network.address.version != address.address.version:
        return False
    return network.prefix(network.length) == int(address.address) >> (network.bits - network.length)


def _contains_ip_text(network: CIDR, text: str) -> bool:
    try:
        return _contains_ip(network, parse_ip(text))
    except CelRuntimeError:
        raise CelRuntimeError("no such overload") from None


def _contains_cidr(network: CIDR, other: CIDR) -> bool:
    if network.address.version != other.address.version or other.length < network.length:
        return False
    return network.prefix(network.length) == other.prefix(network.length)


def _masked(network: CIDR) -> CIDR:
    made = network.prefix(network.length) << (network.bits - network.length)
    return CIDR(type(network.address)(made), network.length)


def _global_unicast(ip: IP) -> bool:
    a = ip.address
    broadcast = a.version == 4 and int(a) == 0xFFFFFFFF
    return not (a.is_unspecified or a.is_loopback or a.is_multicast or _link_local(ip) or broadcast)


def _link_local(ip: IP) -> bool:
    value = int(ip.address)
    return value >> 16 == 0xA9FE if ip.address.version == 4 else value >> 118 == 0x3FA


def _link_local_multicast(ip: IP) -> bool:
    value = int(ip.address)
    return value >> 8 == 0xE00000 if ip.address.version == 4 else (value >> 112) & 0xFF0F == 0xFF02


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "string_to_ip": parse_ip,
    "cidr_ip": lambda network: IP(network.address),
    "ip_is_canonical": lambda text: str(parse_ip(text)) == text,
    "is_ip": _valid(parse_ip),
    "ip_family": lambda ip: ip.address.version,
    "ip_is_unspecified": lambda ip: ip.address.is_unspecified,
    "ip_is_loopback": lambda ip: ip.address.is_loopback,
    "ip_is_link_local_multicast": _link_local_multicast,
    "ip_is_link_local_unicast": _link_local,
    "ip_is_global_unicast": _global_unicast,
    "string_to_cidr": parse_cidr,
    "is_cidr": _valid(parse_cidr),
    "cidr_contains_ip_string": _contains_ip_text,
    "cidr_contains_ip_ip": _contains_ip,
    "cidr_contains_cidr_string": lambda network, text: _contains_cidr(network, parse_cidr(text)),
    "cidr_contains_cidr": _contains_cidr,
    "cidr_masked": _masked,
    "cidr_prefix_length": lambda network: network.length,
}
