"""Whether other nodes' pods are reached, and what is told when they are not."""

from __future__ import annotations

import asyncio
from typing import Any

from portside.net.reach import FAILS, REMIND, TRIES, WORKS, Reach, knock, serving
from portside.net.routes import Route

NEAR, FAR = Route("10.244.1.0/24", "192.0.2.2", False), Route("10.244.2.0/24", "198.51.100.3", True)
ANNOUNCED = "net.portside.io/name-server"


def node(name: str, cidr: str, server: str, ready: str = "True") -> dict[str, Any]:
    meta = {"name": name, "annotations": {ANNOUNCED: server}}
    return {"metadata": meta, "spec": {"podCIDR": cidr}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def test_only_nodes_that_should_answer_are_asked() -> None:
    nodes = [
        node("near", "10.244.1.0/24", "10.244.1.1"),
        node("silent", "10.244.2.0/24", "10.244.2.1", ready="Unknown"),
        node("elsewhere", "10.244.2.0/24", "10.244.7.1"),
        node("unrouted", "10.244.9.0/24", "10.244.9.1"),
    ]
    assert serving(nodes, [NEAR, FAR], ANNOUNCED) == {"near": NEAR}


async def test_a_way_that_is_shut_is_told_again_and_again_until_it_is_open() -> None:
    told: list[tuple[str, str, str]] = []
    shut = {"10.244.2.1"}

    async def ask(gateway: str) -> bool:
        return gateway not in shut

    reach = Reach("192.0.2.1", lambda *event: told.append(event), ask)
    nodes = {"near": NEAR, "far": FAR}
    await reach.look(nodes)
    assert not told  # once is no news: a node may be starting
    for _ in range(TRIES - 1 + REMIND):
        await reach.look(nodes)
    assert [event[:2] for event in told] == [("Warning", FAILS)] * 2
    assert "pods of node far (10.244.2.0/24) are not reached from here" in told[0][2]
    assert "between 192.0.2.1 and 198.51.100.3 may drop UDP 8472 (VXLAN)" in told[0][2]
    shut.clear()
    await reach.look(nodes)
    assert told[-1][:2] == ("Normal", WORKS)
    await reach.look({})
    assert not reach.failed


async def test_a_listening_name_server_is_reached_and_a_closed_port_is_not() -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await knock("127.0.0.1", port)
    server.close()
    await server.wait_closed()
    assert not await knock("127.0.0.1", port)
