"""The way to an extender: connections that break, answers that stop half-way or never end, names that nobody knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from portside.scheduler import extender_http, extender_wire
from portside.scheduler.extender_config import Extender, Tls
from portside.scheduler.extender_http import ExtenderClient
from portside.scheduler.extender_wire import ExtenderFailure

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def talking(*answers: bytes, linger: float = 0.0) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server whose connections answer one request each with raw bytes, and close after ``linger`` seconds; and what it got."""
    left, got = list(answers), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(4096))
        writer.write(left.pop(0))
        await writer.drain()
        await asyncio.sleep(linger)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", got
    finally:
        server.close()


async def post(url: str, *, again: bool = True, seconds: float = 1.0, **more: Any) -> Any:
    client = ExtenderClient(Extender(url, seconds=seconds, **more))
    try:
        return await client.post("filter", b"{}", again=again)
    finally:
        await client.close()


async def test_a_connection_that_breaks_before_an_answer_is_tried_once_more_unless_that_could_do_something_twice() -> (
    None
):
    async with talking(b"", GOOD) as (url, got):
        assert await post(url) == {}
        assert len(got) == 2 and got[0].startswith(b"POST /filter HTTP/1.1\r\n")
        assert b"Content-Type: application/json" in got[0] and b"Content-Length: 2" in got[0]
    async with talking(b"", b"") as (url, got):
        with pytest.raises(ExtenderFailure, match=f'^Post "{url}/filter": EOF$'):
            await post(url)
        assert len(got) == 2
    async with talking(b"", GOOD) as (url, got):
        with pytest.raises(ExtenderFailure, match="EOF"):
            await post(url, again=False)
        assert len(got) == 1


async def test_answers_that_stop_half_way_never_end_or_are_too_large_are_no_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"
    async with talking(half) as (url, _):
        with pytest.raises(ExtenderFailure, match=r"^unexpected EOF$"):
            await post(url)
    async with talking(half, linger=2.0) as (url, _):
        with pytest.raises(
            ExtenderFailure, match=r"^context deadline exceeded \(Client.Timeout or context cancellation"
        ):
            await post(url, seconds=0.2)
    monkeypatch.setattr(extender_http, "ANSWER_LIMIT", 1)
    async with talking(GOOD) as (url, _):
        with pytest.raises(ExtenderFailure, match="the answer is larger than the limit"):
            await post(url)


async def test_what_is_no_http_or_no_tls_or_no_host_is_said_so() -> None:
    async with talking(b"220 mail ready\r\n") as (url, _):
        with pytest.raises(ExtenderFailure, match="net/http: "):
            await post(url)
    async with talking(GOOD) as (url, _):
        with pytest.raises(ExtenderFailure, match="tls: first record does not look like a TLS handshake"):
            await post(url.replace("http:", "https:"), tls=Tls(insecure=True))
    with pytest.raises(ExtenderFailure, match=r"dial tcp: lookup nobody.invalid: no such host"):
        await post("http://nobody.invalid:1")


NODES = [{"metadata": {"name": f"n{i}", "labels": {"a": "}],"}}, "status": {"x": [1, {}]}} for i in range(3)]


@pytest.mark.parametrize(
    "said",
    [
        {"Nodes": {"metadata": {}, "items": NODES}, "FailedNodes": {"x": "é"}, "Error": ""},
        {"nodes": {"ITEMS": []}, "NodeNames": None},
        {"Nodes": None, "NodeNames": ["n0"]},
        {"Nodes": {"items": None}},
        {"Nodes": []},
        {"Nodes": {"items": {}}},
        {"Nodes": {"items": [{"metadata": {"name": 1}}]}},
        {"Nodes": {"items": [1]}},
        {},
        [],
        None,
    ],
)
@pytest.mark.parametrize("space", [None, 2])
def test_a_long_answer_is_read_in_steps_as_a_short_one_is_at_once(said: Any, space: int | None) -> None:
    body = json.dumps(said, indent=space).encode()

    def read(decode: Callable[[bytes], Any]) -> Any:
        try:
            return extender_wire.read_filtered(decode(body), ["n0", "n1", "n2"], "u", by_name=False)
        except ExtenderFailure as problem:
            return str(problem)

    assert read(in_steps) == read(extender_wire.decoded)


def in_steps(body: bytes) -> Any:
    work = extender_wire.steps(body)
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value


@pytest.mark.parametrize("cut", range(0, 90, 3))
def test_a_long_answer_that_is_cut_or_garbled_is_refused_as_a_short_one_is(cut: int) -> None:
    body = b'{"Nodes": {"items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}, "Error": ""}'
    for broken in (body[:cut], body[:cut] + b"\x01" + body[cut:]):
        with pytest.raises(ExtenderFailure):
            in_steps(broken)


async def test_an_answer_of_many_megabytes_lets_others_have_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"metadata": {"name": f"n{i}"}, "status": {"images": ["x" * 60] * 60}} for i in range(1000)]
    body = json.dumps({"Nodes": {"items": nodes}}).encode()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with talking(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as (url, _):
        monkeypatch.setattr(extender_http, "SLICE", 0.0)
        counting = asyncio.create_task(count())
        said = await post(url, seconds=30.0)
        counting.cancel()
    assert [n["metadata"]["name"] for n in said["Nodes"]["items"]] == [f"n{i}" for i in range(1000)]
    assert turns >= 1000


def test_what_follows_the_first_value_of_an_answer_does_not_matter_and_upper_case_neither() -> None:
    said = extender_wire.decoded(b'{"nodenames": ["a", "a"], "failednodes": null, "ERROR": null} and more')
    assert extender_wire.read_filtered(said, ["a", "b"], "u", by_name=True).names == ("a",)
    assert extender_wire.read_filtered(None, ["a"], "u", by_name=True).names == ()
    both = {"NodeNames": None, "Nodes": {"items": [{"metadata": {"name": "b"}}]}}
    assert extender_wire.read_filtered(both, ["a", "b"], "u", by_name=True).names == ("b",)
    deep = b'{"a":' * 100_000
    with pytest.raises(ExtenderFailure):
        extender_wire.decoded(deep)
