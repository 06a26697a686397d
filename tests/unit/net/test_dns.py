"""Cluster names: what the specification promises, and bytes from strangers that must not hurt."""

from __future__ import annotations

import random
import socket
import struct
from typing import Any

import pytest

from portside.net.dns_message import AAAA, CNAME, NOERROR, NXDOMAIN, PTR, SRV, A, BadMessage, encode_name, parse_query
from portside.net.dns_server import DnsServer, resolvers
from portside.net.dns_table import NameTable

Json = dict[str, Any]


def query(name: str, kind: int = A, *, edns: int = 0) -> bytes:
    extra = b"\0" + struct.pack("!HHIH", 41, edns, 0, 0) if edns else b""
    return (
        struct.pack("!6H", 7, 0x0100, 1, 0, 0, 1 if edns else 0)
        + encode_name(name)
        + struct.pack("!2H", kind, 1)
        + extra
    )


@pytest.fixture
def table() -> NameTable:
    services = [
        {
            "metadata": {"name": "web", "namespace": "d"},
            "spec": {"clusterIP": "10.96.0.5", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        },
        {"metadata": {"name": "db", "namespace": "d"}, "spec": {"clusterIP": "None", "ports": []}},
        {
            "metadata": {"name": "out", "namespace": "d"},
            "spec": {"type": "ExternalName", "externalName": "Example.COM"},
        },
    ]
    slices = [
        {
            "metadata": {"name": "db-1", "namespace": "d", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": True}},
                {"addresses": ["10.244.0.6"], "conditions": {"ready": True}},
                {"addresses": ["10.244.0.7"], "conditions": {"ready": False}},
            ],
        }
    ]
    built = NameTable()
    built.build(services, slices)
    return built


def look(table: NameTable, name: str, kind: int = A) -> tuple[int, list[bytes]]:
    code, answers, _, _ = table.look_up(name, kind)
    return code, sorted(a.data for a in answers)


def test_services_by_name_address_and_port(table: NameTable) -> None:
    assert look(table, "web.d.svc.cluster.local") == (NOERROR, [socket.inet_aton("10.96.0.5")])
    assert look(table, "5.0.96.10.in-addr.arpa", PTR) == (NOERROR, [encode_name("web.d.svc.cluster.local")])
    code, (data,) = look(table, "_http._tcp.web.d.svc.cluster.local", SRV)
    assert (code, data[4:6]) == (NOERROR, struct.pack("!H", 80))
    assert look(table, "web.d.svc.cluster.local", AAAA) == (NOERROR, [])


def test_headless_services_answer_with_their_ready_pods(table: NameTable) -> None:
    assert look(table, "db.d.svc.cluster.local")[1] == [socket.inet_aton("10.244.0.5"), socket.inet_aton("10.244.0.6")]
    assert look(table, "db-0.db.d.svc.cluster.local")[1] == [socket.inet_aton("10.244.0.5")]
    assert look(table, "10-244-0-6.db.d.svc.cluster.local")[1] == [socket.inet_aton("10.244.0.6")]
    assert len(look(table, "_sql._tcp.db.d.svc.cluster.local", SRV)[1]) == 2


def test_pods_aliases_and_names_that_are_not(table: NameTable) -> None:
    assert look(table, "10-244-3-4.d.pod.cluster.local")[1] == [socket.inet_aton("10.244.3.4")]
    assert look(table, "out.d.svc.cluster.local", CNAME)[1] == [encode_name("example.com")]
    assert table.look_up("out.d.svc.cluster.local", A)[3] == "example.com"
    assert look(table, "none.d.svc.cluster.local") == (NXDOMAIN, [])
    assert look(table, "d.svc.cluster.local") == (NOERROR, [])  # empty, but something lies below it


def test_answers_on_the_wire(table: NameTable) -> None:
    server = DnsServer(table, lambda: [])
    answer = server.answer(query("WEB.d.svc.cluster.local"), udp=True)
    assert isinstance(answer, bytes)
    ident, flags, _, count = struct.unpack_from("!4H", answer)
    assert (ident, flags & 0xF, count) == (7, NOERROR, 1)
    assert flags & 0x0400  # authoritative
    missing = server.answer(query("none.d.svc.cluster.local"), udp=True)
    assert isinstance(missing, bytes)
    assert missing[3] & 0xF == NXDOMAIN
    assert struct.unpack_from("!H", missing, 8)[0] == 1  # with the zone's SOA, so that it can be cached


def test_a_large_answer_is_cut_and_says_so(table: NameTable) -> None:
    many = [{"addresses": [f"10.244.1.{i}"], "conditions": {"ready": True}} for i in range(1, 200)]
    slices = [
        {
            "metadata": {"name": "big-1", "namespace": "d", "labels": {"kubernetes.io/service-name": "big"}},
            "addressType": "IPv4",
            "ports": [],
            "endpoints": many,
        }
    ]
    table.build([{"metadata": {"name": "big", "namespace": "d"}, "spec": {"clusterIP": "None"}}], slices)
    server = DnsServer(table, lambda: [])
    small = server.answer(query("big.d.svc.cluster.local"), udp=True)
    large = server.answer(query("big.d.svc.cluster.local", edns=4096), udp=True)
    whole = server.answer(query("big.d.svc.cluster.local"), udp=False)
    assert isinstance(small, bytes) and isinstance(large, bytes) and isinstance(whole, bytes)
    assert len(small) <= 512 and small[2] & 0x02
    assert len(small) < len(large) <= 4096
    assert struct.unpack_from("!H", whole, 6)[0] == 199


def test_strange_bytes_are_refused_not_followed() -> None:
    rng = random.Random(1)
    good = query("web.d.svc.cluster.local")
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            parse_query(bytes(data[: rng.randrange(len(data) + 1)]))
        except BadMessage:
            continue
    with pytest.raises(BadMessage):
        parse_query(b"\0" * 5)


def test_resolvers_leave_ourselves_out() -> None:
    text = "search x\nnameserver 10.96.0.10\nnameserver 192.0.2.1\nnameserver nonsense\noptions ndots:5\n"
    assert resolvers(text, {"10.96.0.10"}) == ["192.0.2.1"]
