"""The cluster's name server: answers from the table, asks the node's own resolvers for everything else."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import struct
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from portside.net.dns_message import (
    FORMERR,
    NOERROR,
    SERVFAIL,
    Answer,
    BadMessage,
    Query,
    authority,
    encode_name,
    failure,
    parse_query,
    reply,
)
from portside.net.dns_table import TTL, NameTable

log = logging.getLogger("portside.dns")

UPSTREAM_TIMEOUT = 3.0  # seconds for all upstream resolvers together
HEAD_START = 0.5  # seconds until the next resolver is asked as well
MAX_PENDING = 1000  # forwarded questions under way; more are answered with a server failure
TCP_IDLE = 10.0


def resolvers(text: str, own: set[str]) -> list[str]:
    """The name servers of a resolv.conf, without ourselves."""
    found = []
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 2 and parts[0] == "nameserver" and parts[1] not in own:
            try:
                ipaddress.ip_address(parts[1])
            except ValueError:
                continue
            found.append(parts[1])
    return found[:3]


class _Forward(asyncio.DatagramProtocol):
    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self.answer = answer

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _ask_one(server: str, data: bytes) -> bytes:
    """One resolver's answer to exactly this question. Raises OSError."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(partial(_Forward, answer), remote_addr=(server, 53))
    try:
        transport.sendto(data)
        got = await answer
    finally:
        transport.close()
    if len(got) < 12 or got[:2] != data[:2]:
        raise OSError("not an answer to what was asked")
    return got


def _first(asked: list[asyncio.Task[bytes]]) -> bytes | None:
    return next((t.result() for t in asked if t.done() and not t.cancelled() and t.exception() is None), None)


class DnsServer(asyncio.DatagramProtocol):
    """UDP and TCP on one address. ``upstream`` gives the resolvers to ask for names outside the cluster."""

    def __init__(self, table: NameTable, upstream: Callable[[], list[str]]) -> None:
        self.table = table
        self.upstream = upstream
        self.pending = 0
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int = 53) -> int:
        """Listen; returns the port. Raises OSError when the address can't be had."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
        self._udp = transport
        port = transport.get_extra_info("sockname")[1]
        self._tcp = await asyncio.start_server(self._serve_tcp, host, port)
        return port

    async def stop(self) -> None:
        if self._udp:
            self._udp.close()
        if self._tcp:
            self._tcp.close()
        for task in list(self._tasks):
            task.cancel()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self.answer(data, udp=True)
        if isinstance(answer, bytes):
            if self._udp:
                self._udp.sendto(answer, addr)
        else:
            self._later(self._send(answer, data, addr))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, query: Query, data: bytes, addr: tuple[str, int]) -> None:
        answer = await self.resolve(query, data, udp=True)
        if self._udp and not self._udp.is_closing():
            self._udp.sendto(answer, addr)

    def answer(self, data: bytes, *, udp: bool) -> bytes | Query:
        """The reply when the table has it, else the parsed question that must be asked elsewhere."""
        try:
            query = parse_query(data)
        except BadMessage:
            return failure(data, FORMERR)
        if not self.table.covers(query.name):
            return query
        code, answers, extra, outside = self.table.look_up(query.name, query.type)
        if outside:
            return query
        if len(answers) > 1:
            answers = random.sample(answers, len(answers))
        soa = None if answers else authority(self.table.zone, TTL)
        return reply(query, code, answers, soa=soa, extra=extra, limit=query.payload if udp else 65535)

    async def resolve(self, query: Query, data: bytes, *, udp: bool) -> bytes:
        """Ask the node's resolvers; an ExternalName service's alias is followed for the client."""
        limit = query.payload if udp else 65535
        prefix: list[Answer] = []
        asked, name = data, query.name
        if self.table.covers(name):
            _, prefix, _, name = self.table.look_up(name, query.type)
            if self.table.covers(name):
                code, more, _, _ = self.table.look_up(name, query.type)
                return reply(query, code, prefix + more, limit=limit)
            asked = (
                struct.pack("!6H", query.ident, 0x0100, 1, 0, 0, 0)
                + encode_name(name)
                + struct.pack("!2H", query.type, 1)
            )
        got = await self._ask(asked)
        if got is None:
            return reply(query, NOERROR if prefix else SERVFAIL, prefix, limit=limit)
        if not prefix:
            return (
                got
                if len(got) <= limit
                else got[:2] + bytes((got[2] | 2,)) + got[3:4] + struct.pack("!4H", 1, 0, 0, 0) + query.raw
            )
        return _prepend(query, prefix, got)

    async def _ask(self, data: bytes) -> bytes | None:
        """The first resolver's answer; each gets a head start over the next, and all together UPSTREAM_TIMEOUT."""
        if self.pending >= MAX_PENDING:
            return None
        self.pending += 1
        asked: list[asyncio.Task[bytes]] = []
        try:
            async with asyncio.timeout(UPSTREAM_TIMEOUT):
                for server in self.upstream():
                    asked.append(asyncio.create_task(_ask_one(server, data)))
                    await asyncio.wait(asked, timeout=HEAD_START, return_when=asyncio.FIRST_COMPLETED)
                    if (got := _first(asked)) is not None:
                        return got
                while waiting := [t for t in asked if not t.done()]:
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    if (got := _first(asked)) is not None:
                        return got
            return None
        except TimeoutError:
            return None
        finally:
            self.pending -= 1
            for task in asked:
                task.cancel()

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await asyncio.wait_for(reader.readexactly(2), TCP_IDLE)
                data = await asyncio.wait_for(reader.readexactly(struct.unpack("!H", head)[0]), TCP_IDLE)
                found = self.answer(data, udp=False)
                text = found if isinstance(found, bytes) else await self.resolve(found, data, udp=False)
                writer.write(struct.pack("!H", len(text)) + text)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


def _prepend(query: Query, prefix: list[Answer], got: bytes) -> bytes:
    """Our alias before the outside answers. Their names may point into their own message, so only addresses are kept."""
    from portside.net.dns_message import AAAA, A

    target = prefix[0].data
    answers = list(prefix)
    for kind, data in _addresses(got):
        if kind in (A, AAAA):
            answers.append(Answer(_text(target), kind, TTL, data))
    return reply(query, NOERROR, answers)


def _text(name: bytes) -> str:
    labels, at = [], 0
    while at < len(name) and name[at]:
        labels.append(name[at + 1 : at + 1 + name[at]].decode("latin-1"))
        at += name[at] + 1
    return ".".join(labels)


def _skip_name(data: bytes, at: int) -> int:
    while at < len(data):
        length = data[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        at += length + 1
    return at


def _addresses(data: bytes) -> list[tuple[int, bytes]]:
    """Type and data of every answer record of a message."""
    found: list[tuple[int, bytes]] = []
    try:
        questions, answers = struct.unpack_from("!2H", data, 4)
        at = 12
        for _ in range(questions):
            at = _skip_name(data, at) + 4
        for _ in range(answers):
            at = _skip_name(data, at)
            kind, _, _, length = struct.unpack_from("!HHIH", data, at)
            at += 10
            found.append((kind, data[at : at + length]))
            at += length
    except struct.error:
        pass
    return found
