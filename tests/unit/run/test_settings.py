"""The port of the API: chosen once, nobody else's from then on, and still to be had at the next start."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path

import pytest

from portside.run import settings as module
from portside.run.settings import KEPT_PORTS, Settings, choose_port, free_port, held_port
from portside.server.http import Listener
from portside.server.request import Request, Response


def test_a_chosen_port_is_kept_and_is_none_that_the_kernel_lends_to_outgoing_connections(tmp_path: Path) -> None:
    port, held = choose_port(Settings(tmp_path))
    assert held is not None
    held.close()
    assert choose_port(Settings(tmp_path)) == (port, None)
    lent = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert port in KEPT_PORTS and not int(lent[0]) <= port <= int(lent[1])
    assert choose_port(Settings(tmp_path, port=6443)) == (6443, None) == choose_port(Settings(tmp_path))


def test_a_port_that_somebody_has_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with held_port("127.0.0.1", random.Random(7)) as taken:
        first = taken.getsockname()[1]
        assert free_port("127.0.0.1", random.Random(7)) != first
        monkeypatch.setattr(module, "KEPT_PORTS", range(first, first + 1))
        monkeypatch.setattr(module, "PORT_TRIES", 1)
        assert free_port("127.0.0.1") not in (0, first), "where all are taken the kernel chooses"


async def hello(request: Request) -> Response:
    return Response(200, b"hello")


async def served(port: int, held: socket.socket | None) -> None:
    listener = Listener(hello)
    assert await listener.listen("127.0.0.1", port, None, held) == port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).endswith(b"hello")
    writer.close()
    await listener.close(0.2)


async def test_a_free_port_is_held_from_its_choice_until_it_is_served(tmp_path: Path) -> None:
    port, held = choose_port(Settings(tmp_path))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
    await served(port, held)
    assert choose_port(Settings(tmp_path)) == (port, None)
    await served(port, None)  # a restart, while connections of before are still remembered by the system
