"""The node's own port: kept over restarts, so that what was told about it stays true."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from portside.agent.serving import USUAL_PORT, serve_node
from portside.base.pki import ensure_pki


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
