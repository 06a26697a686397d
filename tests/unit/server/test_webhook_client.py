"""The client of webhooks: where it may go, whom it trusts, how long it waits, and what it says when it fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import web
from tests.webhook_server import WebhookServer, allow

from portside.server.watchcache_feed import WatchCaches
from portside.server.webhooks import service_names
from portside.server.webhooks.client import CallFailure, WebhookClient, url_of
from portside.store.backend import Write
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
REVIEW = json.dumps({"apiVersion": "admission.k8s.io/v1", "request": {"uid": "1"}}).encode()


@pytest.fixture(scope="module")
def hooks() -> Iterator[WebhookServer]:
    with WebhookServer(("localhost", "hook.shop.svc")) as server:
        server.on("/ok", allow)
        server.on("/slow", allow, delay=2)
        server.on("/moved", lambda r: web.Response(status=302, headers={"Location": "https://127.0.0.1/secret"}))
        server.on("/broken", lambda r: web.Response(status=500, text="boom"))
        server.on("/big", lambda r: web.Response(body=b"x" * 5000))
        yield server


@pytest.fixture
async def caches() -> AsyncIterator[WatchCaches]:
    store = MemoryBackend()
    await store.open()
    made = WatchCaches(store)
    await made.start()
    yield made
    await made.close()
    await store.close()


@pytest.fixture
async def client(caches: WatchCaches) -> AsyncIterator[WebhookClient]:
    made = WebhookClient(caches)
    yield made
    await made.close()


async def put(caches: WatchCaches, group: str, plural: str, obj: Json) -> None:
    meta = obj["metadata"]
    key = f"/{group or 'core'}/{plural}/{meta['namespace']}/{meta['name']}"
    value = json.dumps({"apiVersion": "v1", "kind": "X", **obj}, separators=(",", ":")).encode()
    await caches.backend.write(Write(key, value, 0))


async def service(caches: WatchCaches, *, address: str, port: int, ready: bool = True) -> None:
    spec = {"ports": [{"name": "https", "port": 443}], "clusterIP": "10.96.0.9"}
    await put(caches, "", "services", {"metadata": {"name": "hook", "namespace": "shop"}, "spec": spec})
    piece = {
        "metadata": {"name": "hook-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}],
    }
    await put(caches, "discovery.k8s.io", "endpointslices", piece)


async def failure(client: WebhookClient, config: Json, **more: Any) -> CallFailure:
    with pytest.raises(CallFailure) as caught:
        await client.post(config, REVIEW, **{"seconds": 5, **more})
    return caught.value


async def test_an_answer_comes_back_and_the_webhook_knows_its_time(client: WebhookClient, hooks: WebhookServer) -> None:
    answer = json.loads(await client.post(hooks.at("/ok"), REVIEW, seconds=3))
    assert answer["response"] == {"uid": "1", "allowed": True}
    assert hooks.queries["/ok"][-1] == "timeout=3s"


async def test_a_certificate_of_another_authority_is_refused(client: WebhookClient, hooks: WebhookServer) -> None:
    url = hooks.at("/ok")["url"]
    with WebhookServer() as other:
        refused = await failure(client, {"url": url, "caBundle": other.bundle})
    unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    assert str(refused) == f'Post "{url}?timeout=5s": {unknown}'
    assert str(await failure(client, {"url": url, "caBundle": "bm9uZQ=="})) == (
        "unable to load root certificates: unable to parse bytes as PEM block"
    )


async def test_time_is_up_exactly_when_it_was_said(client: WebhookClient, hooks: WebhookServer) -> None:
    late = await failure(client, hooks.at("/slow"), seconds=0.2)
    assert late.late and str(late).endswith('/slow?timeout=0.2s": context deadline exceeded')


async def test_nobody_listening_is_said_as_upstream_says_it(client: WebhookClient) -> None:
    refused = await failure(client, {"url": "https://127.0.0.1:1/x"}, seconds=2)
    assert str(refused) == 'Post "https://127.0.0.1:1/x?timeout=2s": dial tcp 127.0.0.1:1: connect: connection refused'


async def test_redirects_are_not_followed_and_errors_are_told(client: WebhookClient, hooks: WebhookServer) -> None:
    moved = await failure(client, hooks.at("/moved"))
    assert moved.code == 302 and "302" in str(moved)
    broken = await failure(client, hooks.at("/broken"))
    assert str(broken) == 'an error on the server ("boom") has prevented the request from succeeding'
    assert str(await failure(client, hooks.at("/none"))) == "the server could not find the requested resource"


async def test_an_answer_beyond_the_limit_is_not_read(client: WebhookClient, hooks: WebhookServer) -> None:
    assert "larger than the limit of 4096 bytes" in str(await failure(client, hooks.at("/big"), limit=4096))


@pytest.mark.parametrize("host", ["169.254.169.254", "0.0.0.0", "[fe80::1]", "[::ffff:169.254.169.254]", "224.0.0.1"])
async def test_addresses_of_the_link_and_of_nobody_are_refused(client: WebhookClient, host: str) -> None:
    assert "address not allowed" in str(await failure(client, {"url": f"https://{host}/latest/meta-data"}))


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254"])
async def test_a_service_may_not_lead_to_the_control_planes_own_machine(
    client: WebhookClient, caches: WatchCaches, address: str
) -> None:
    await service(caches, address=address, port=443)
    config = {"service": {"name": "hook", "namespace": "shop", "path": "/ok"}}
    assert 'no endpoints available for service "hook"' in str(await failure(client, config))


async def test_a_service_is_its_ready_endpoints(
    client: WebhookClient, caches: WatchCaches, hooks: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_names, "safe", lambda address, loopback: True)  # the test's server is on loopback
    config = {"service": {"name": "hook", "namespace": "shop", "path": "/ok"}, "caBundle": hooks.bundle}
    absent = await failure(client, config)
    assert str(absent) == 'Post "https://hook.shop.svc:443/ok?timeout=5s": service "hook" not found'
    await service(caches, address="127.0.0.1", port=hooks.port)
    assert json.loads(await client.post(config, REVIEW, seconds=5))["response"]["allowed"]
    other = {**config, "service": {**config["service"], "port": 444}}  # type: ignore[dict-item]
    assert 'no service port 444 found for service "hook"' in str(await failure(client, other))


async def test_endpoints_that_are_not_ready_are_not_asked(client: WebhookClient, caches: WatchCaches) -> None:
    await service(caches, address="10.0.0.5", port=443, ready=False)
    config = {"service": {"name": "hook", "namespace": "shop"}}
    refused = await failure(client, config)
    assert str(refused) == 'Post "https://hook.shop.svc:443/?timeout=5s": no endpoints available for service "hook"'


def test_paths_cannot_leave_their_place_and_are_written_once() -> None:
    assert url_of({"url": "https://h/a//b/../c/"}) == "https://h/a/c"
    assert url_of({"service": {"name": "a", "namespace": "b", "path": "x y"}}) == "https://a.b.svc:443/x%20y"
    with pytest.raises(CallFailure, match="must have either service or URL"):
        url_of({})
