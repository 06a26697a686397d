"""DNS messages: just what a cluster's name server needs. Wire format of RFC 1035, SRV of RFC 2782, EDNS of RFC 6891."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
IN = 1
MAX_LABEL, MAX_NAME = 63, 253


class BadMessage(ValueError):
    """The bytes are no query this server understands."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question. ``name`` is lower case without the final dot; ``raw`` the question section as it came."""

    ident: int
    flags: int
    name: str
    type: int
    raw: bytes
    payload: int

    @property
    def recursion_desired(self) -> bool:
        return bool(self.flags & 0x0100)


def parse_query(data: bytes) -> Query:
    """Read a query. Raises BadMessage for anything else; never reads beyond ``data`` and follows no pointers."""
    if len(data) < 12:
        raise BadMessage("shorter than a header")
    ident, flags, questions, _, _, extra = struct.unpack_from("!6H", data)
    if flags & 0x8000 or questions != 1 or (flags >> 11) & 0xF:
        raise BadMessage("not a plain query with one question")
    labels: list[str] = []
    at = 12
    while True:
        if at >= len(data):
            raise BadMessage("name runs past the end")
        length = data[at]
        at += 1
        if length == 0:
            break
        if length > MAX_LABEL or at + length > len(data):
            raise BadMessage("bad label")
        labels.append(data[at : at + length].decode("latin-1").lower())
        at += length
        if sum(map(len, labels)) + len(labels) > MAX_NAME + 1:
            raise BadMessage("name too long")
    if at + 4 > len(data):
        raise BadMessage("question cut off")
    kind, klass = struct.unpack_from("!2H", data, at)
    if klass not in (IN, 255):
        raise BadMessage("class is not IN")
    end = at + 4
    payload = 512
    if extra and end + 11 <= len(data) and data[end] == 0 and struct.unpack_from("!H", data, end + 1)[0] == OPT:
        payload = max(512, min(struct.unpack_from("!H", data, end + 3)[0], 4096))
    return Query(ident, flags, ".".join(labels), kind, data[12:end], payload)


def encode_name(name: str) -> bytes:
    if not name:
        return b"\0"
    return b"".join(bytes((len(label),)) + label.encode("latin-1") for label in name.split(".")) + b"\0"


@dataclass(frozen=True, slots=True)
class Answer:
    """One resource record. ``data`` is the wire form of its value."""

    name: str
    type: int
    ttl: int
    data: bytes

    def encode(self) -> bytes:
        return encode_name(self.name) + struct.pack("!HHIH", self.type, IN, self.ttl, len(self.data)) + self.data


def address(name: str, ip: str, ttl: int) -> Answer:
    if ":" in ip:
        return Answer(name, AAAA, ttl, socket.inet_pton(socket.AF_INET6, ip))
    return Answer(name, A, ttl, socket.inet_aton(ip))


def alias(name: str, target: str, ttl: int) -> Answer:
    return Answer(name, CNAME, ttl, encode_name(target))


def pointer(name: str, target: str, ttl: int) -> Answer:
    return Answer(name, PTR, ttl, encode_name(target))


def service(name: str, port: int, target: str, ttl: int, weight: int = 100) -> Answer:
    return Answer(name, SRV, ttl, struct.pack("!3H", 0, weight, port) + encode_name(target))


def authority(zone: str, ttl: int) -> Answer:
    data = (
        encode_name(f"ns.dns.{zone}")
        + encode_name(f"hostmaster.{zone}")
        + struct.pack("!5I", 1, 7200, 1800, 86400, ttl)
    )
    return Answer(zone, SOA, ttl, data)


def reply(
    query: Query,
    code: int,
    answers: list[Answer],
    *,
    soa: Answer | None = None,
    extra: list[Answer] | None = None,
    limit: int = 65535,
) -> bytes:
    """The response; answers that do not fit into ``limit`` bytes are left out and the truncation bit is set."""
    flags = 0x8480 | (query.flags & 0x0110) | code
    body = query.raw
    kept = 0
    for answer in answers:
        encoded = answer.encode()
        if 12 + len(body) + len(encoded) > limit:
            flags |= 0x0200
            break
        body += encoded
        kept += 1
    tail = soa.encode() if soa is not None and 12 + len(body) + 64 + len(soa.encode()) <= limit else b""
    more = b""
    count = 0
    for answer in extra or ():
        encoded = answer.encode()
        if 12 + len(body) + len(tail) + len(more) + len(encoded) > limit:
            break
        more += encoded
        count += 1
    return struct.pack("!6H", query.ident, flags, 1, kept, 1 if tail else 0, count) + body + tail + more


def failure(data: bytes, code: int) -> bytes:
    """A reply to bytes that could not be read, as far as an identity can be told from them."""
    ident = struct.unpack_from("!H", data)[0] if len(data) >= 2 else 0
    return struct.pack("!6H", ident, 0x8080 | code, 0, 0, 0, 0)
