"""IP addresses and ranges in field errors, in upstream's words."""

from __future__ import annotations

import ipaddress

from portside.api.field import FieldError, invalid_value

Errors = list[FieldError]
IP_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
CIDR_TEXT = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_ip(text: str) -> Address | None:
    """An address; leading zeros are read as older releases read them."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        parts = text.split(".")
        if len(parts) == 4 and all(p.isdigit() and p.isascii() and len(p) < 6 and int(p) < 256 for p in parts):
            return ipaddress.ip_address(".".join(str(int(p)) for p in parts))
        return None


def parse_cidr(text: str) -> Network | None:
    """A range; host bits may be set."""
    address, slash, bits = text.partition("/")
    if not slash or not bits.isdigit() or parse_ip(address) is None or "%" in address:
        return None
    try:
        return ipaddress.ip_network(f"{parse_ip(address)}/{int(bits)}", strict=False)
    except ValueError:
        return None


def ip(path: str, text: str) -> Errors:
    return [] if parse_ip(text) is not None else [invalid_value(path, text, IP_TEXT)]


def cidr(path: str, text: str) -> Errors:
    return [] if parse_cidr(text) is not None else [invalid_value(path, text, CIDR_TEXT)]


def dual(addresses: list[Address] | list[Network]) -> bool:
    """Whether there are at least one of either family and no second of any."""
    return len(addresses) == 2 and addresses[0].version != addresses[1].version


def not_special(path: str, text: str) -> Errors:
    """Endpoint and external addresses must be reachable from elsewhere."""
    found = parse_ip(text)
    if found is None:
        return [invalid_value(path, text, "must be a valid IP address")]
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    problems = (
        (found.is_unspecified, f"may not be unspecified ({found})"),
        (found.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (found.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (
            found in ipaddress.ip_network("224.0.0.0/24" if found.version == 4 else "ff02::/16"),
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    )
    return [invalid_value(path, text, words) for bad, words in problems if bad]
