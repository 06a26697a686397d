"""The cluster's names, worked out from Services and EndpointSlices (Kubernetes DNS specification 1.1.0). Pure."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from portside.net.dns_message import (
    AAAA,
    ANY,
    CNAME,
    NOERROR,
    NXDOMAIN,
    PTR,
    SRV,
    A,
    Answer,
    address,
    alias,
    pointer,
    service,
)
from portside.net.services import group_slices, version

Json = dict[str, Any]

REVERSE = ".in-addr.arpa"
TTL = 5  # seconds; short, because Services and pods come and go


@dataclass(frozen=True, slots=True)
class _Names:
    """The records of one Service, the names above them, and the state of the objects they were made from."""

    state: tuple[int, ...]
    records: dict[str, list[Answer]]
    inner: set[str]


class NameTable:
    """Answers for the cluster's zone and for reverse look-ups of its addresses. Built anew when something changes."""

    def __init__(self, zone: str = "cluster.local", ranges: Iterable[str] = ()) -> None:
        """``ranges``: the cluster's own addresses, whose reverse names nobody else knows."""
        self.zone = zone
        self.ranges = [ipaddress.ip_network(r) for r in ranges]
        self.records: dict[str, list[Answer]] = {}
        self._known: dict[tuple[str, str], _Names] = {}
        self.inner: set[str] = set()  # names that exist only because something lies below them

    def build(self, services: Iterable[Json], slices: Iterable[Json]) -> None:
        """Replace the table by what these objects say. A Service whose objects are the same is not worked out again."""
        found: dict[str, list[Answer]] = {f"dns-version.{self.zone}": []}
        inner = {self.zone}
        grouped = group_slices(slices)
        known: dict[tuple[str, str], _Names] = {}
        for item in services:
            key = (item["metadata"]["namespace"], item["metadata"]["name"])
            own = grouped.get(key, [])
            state = tuple(version(o) for o in (item, *own))
            held = self._known.get(key)
            if held is None or held.state != state:
                held = self._names(state, item, own)
            known[key] = held
            inner |= held.inner
            for name, answers in held.records.items():
                present = found.get(name)
                found[name] = answers if present is None else [*present, *answers]
        self._known, self.records, self.inner = known, found, inner

    def _names(self, state: tuple[int, ...], item: Json, slices: list[Json]) -> _Names:
        """The names of one Service."""
        found: dict[str, list[Answer]] = defaultdict(list)
        meta, spec = item["metadata"], item["spec"]
        base = f"{meta['name']}.{meta['namespace']}.svc.{self.zone}"
        ips = [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None"]
        if spec.get("type") == "ExternalName":
            if spec.get("externalName"):
                found[base].append(alias(base, spec["externalName"].rstrip(".").lower(), TTL))
        elif ips:
            self._service(found, base, spec, ips)
        else:
            self._headless(found, base, slices, bool(spec.get("publishNotReadyAddresses")))
        inner = set()
        for name in found:
            while "." in name and name != self.zone:
                name = name.split(".", 1)[1]
                inner.add(name)
        return _Names(state, dict(found), inner)

    def _service(self, found: dict[str, list[Answer]], base: str, spec: Json, ips: list[str]) -> None:
        for ip in ips:
            found[base].append(address(base, ip, TTL))
            reverse = ipaddress.ip_address(ip).reverse_pointer
            found[reverse].append(pointer(reverse, base, TTL))
        for port in spec.get("ports") or ():
            if port.get("name"):
                name = f"_{port['name']}._{port.get('protocol', 'TCP').lower()}.{base}"
                found[name].append(service(name, int(port["port"]), base, TTL))

    def _headless(self, found: dict[str, list[Answer]], base: str, slices: list[Json], publish: bool) -> None:
        found[base] = found.get(base, [])
        seen: set[tuple[str, str]] = set()
        for item in slices:
            for endpoint in item.get("endpoints") or ():
                ready = (endpoint.get("conditions") or {}).get("ready", True) is not False
                if not ready and not publish:
                    continue
                for ip in endpoint.get("addresses") or ():
                    host = endpoint.get("hostname") or ip.replace(".", "-").replace(":", "-")
                    name = f"{host}.{base}"
                    if (name, ip) not in seen:
                        seen.add((name, ip))
                        found[base].append(address(base, ip, TTL))
                        found[name].append(address(name, ip, TTL))
                        reverse = ipaddress.ip_address(ip).reverse_pointer
                        found[reverse].append(pointer(reverse, name, TTL))
                    for port in item.get("ports") or ():
                        if port.get("name") and port.get("port"):
                            srv = f"_{port['name']}._{port.get('protocol', 'TCP').lower()}.{base}"
                            record = service(srv, int(port["port"]), name, TTL)
                            if record not in found[srv]:
                                found[srv].append(record)

    def covers(self, name: str) -> bool:
        """Whether this table is the authority for the name."""
        return name == self.zone or name.endswith("." + self.zone) or name in self.records or self._reverse(name)

    def _reverse(self, name: str) -> bool:
        """Whether it is the reverse name of an address of the cluster."""
        if not name.endswith(REVERSE):
            return False
        try:
            address = ipaddress.IPv4Address(".".join(reversed(name[: -len(REVERSE)].split("."))))
        except ValueError:
            return False
        return any(address in network for network in self.ranges)

    def look_up(self, name: str, kind: int) -> tuple[int, list[Answer], list[Answer], str]:
        """Code, answers, additional records, and the outside name to resolve as well ("" when none)."""
        records = self.records.get(name)
        if records is None:
            records = self._pod(name)
        if records is None:
            return (NOERROR if name in self.inner else NXDOMAIN), [], [], ""
        answers = [r for r in records if kind in (r.type, ANY)]
        outside = ""
        if not answers and kind in (A, AAAA):
            answers = [r for r in records if r.type == CNAME]
            if answers:
                outside = _decode(answers[0].data)
        extra: list[Answer] = []
        if kind == SRV:
            for target in dict.fromkeys(_decode(r.data[6:]) for r in answers):
                extra += [r for r in self.records.get(target, []) if r.type in (A, AAAA)]
        return NOERROR, answers, extra, outside

    def _pod(self, name: str) -> list[Answer] | None:
        """``10-244-0-5.NAMESPACE.pod.ZONE`` answers with the address in its name."""
        tail = f".pod.{self.zone}"
        if not name.endswith(tail):
            return None
        parts = name[: -len(tail)].split(".")
        if len(parts) != 2:
            return None
        try:
            return [address(name, str(ipaddress.IPv4Address(parts[0].replace("-", "."))), TTL)]
        except ValueError:
            return None


def _decode(data: bytes) -> str:
    labels, at = [], 0
    while at < len(data) and data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode("latin-1"))
        at += data[at] + 1
    return ".".join(labels)


__all__ = ["PTR", "TTL", "NameTable"]
