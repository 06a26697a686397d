"""The node's own port: kept over restarts, so that what was told about it stays true."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from portside.agent.serving import CONTROL_PLANE, PORT_FILE, USUAL_PORT, serve_node
from portside.base.pki import Pki, ensure_client, ensure_pki


async def test_a_node_keeps_its_port_over_restarts_and_takes_another_when_it_is_gone(tmp_path: Path) -> None:
    ensure_pki(tmp_path)

    async def started(port: int = 0) -> int:
        server = await serve_node(tmp_path, "n", ("127.0.0.1",), port)
        server.close()
        return server.port

    with socket.socket() as rival:
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else's node may have it already
            rival.bind(("0.0.0.0", USUAL_PORT))
            rival.listen()
        first = await started()
    assert first not in (0, USUAL_PORT)
    assert await started() == first
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", first))
        taken.listen()
        other = await started()
        assert other != first
        with pytest.raises(OSError):
            await started(first)
    assert await started() == other, "the new one is kept from then on"


async def test_who_comes_without_a_certificate_is_told_so_and_only_the_control_plane_is_let_in(tmp_path: Path) -> None:
    ensure_pki(tmp_path)
    pki = Pki(tmp_path / "pki")
    for name, user in (("ours", CONTROL_PLANE), ("other", "somebody")):
        ensure_client(pki, name, user)
    with socket.socket() as free:  # not the usual one, which a node of this machine may want
        free.bind(("127.0.0.1", 0))
        (tmp_path / PORT_FILE).write_text(str(free.getsockname()[1]))
    server = await serve_node(tmp_path, "n", ("127.0.0.1",), 0)

    async def asked(name: str, path: str = "/nothing") -> str:
        context = ssl.create_default_context(cafile=pki.ca)
        if name:
            context.load_cert_chain(pki.certificate(name), pki.key(name))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer token\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        return answer.partition("\r\n")[0]

    try:
        assert await asked("") == "HTTP/1.1 401 Unauthorized"
        assert await asked("other") == "HTTP/1.1 403 Forbidden"
        assert await asked("ours") == "HTTP/1.1 404 Not Found"
    finally:
        server.close()
