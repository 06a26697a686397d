"""An informer's cache equals the server's objects: after cut watches, expired revisions, and writes seen early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from portside.api.status import ApiError
from portside.base.clock import SYSTEM
from portside.client import informer as module
from portside.client.events import EventCorrelator, EventRecorder
from portside.client.fake import FakeClient
from portside.client.informer import Informer, InformerSet
from portside.client.protocol import WatchEvent
from portside.client.rest import query_of, refusal, resource_path

MAPS = ("", "v1", "configmaps")


def configmap(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns"}}


class CutClient(FakeClient):
    """Ends every watch after some events; the next resume may be told that its revision expired."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[str] = []
        self.expired = False

    async def watch(self, resource: Any, **options: Any) -> AsyncIterator[WatchEvent]:
        self.starts.append("initial" if options.get("send_initial_events") else options["resource_version"])
        if self.expired and options.get("resource_version"):
            self.expired = False
            raise ApiError(410, "Expired", "too old resource version")
        seen, listing = 0, bool(options.get("send_initial_events"))
        async for event in super().watch(resource, **options):
            yield event
            seen += not listing
            listing = listing and event.type != "BOOKMARK"
            if seen >= 3:
                return


async def until(test: Any) -> None:
    async with asyncio.timeout(60):
        while not test():
            await asyncio.sleep(0.01)


async def test_resumes_without_gap_or_repeat_and_relists_after_410(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.01)
    client = CutClient()
    await client.create(MAPS, configmap("old"))
    informer = Informer(client, MAPS)
    told: list[tuple[str, str]] = []
    informer.add_handler(
        lambda old, new: told.append(
            ("+" if old is None else "-" if new is None else "~", (new or old)["metadata"]["name"])
        )  # type: ignore[index]
    )
    task = asyncio.create_task(informer.run())
    try:
        await until(lambda: informer.has_synced)
        for i in range(10):
            await client.create(MAPS, configmap(f"c{i}"))
        await until(lambda: len(informer.cache.objects) == 11)
        client.expired = True
        await client.delete(MAPS, "c3", namespace="ns")
        for i in range(10, 16):
            await client.create(MAPS, configmap(f"c{i}"))
        await until(lambda: set(informer.cache.objects) == set(client.objects[MAPS]))
        await until(lambda: not client.expired)
        names = [n for sign, n in told if sign == "+"]
        assert len(names) == len(set(names)) == 17
        assert [n for sign, n in told if sign == "-"] == ["c3"]
    finally:
        task.cancel()


async def test_own_writes_are_seen_at_once_and_told_once() -> None:
    client = FakeClient()
    informers = InformerSet(client)
    informer = informers.informer(MAPS)
    told: list[Any] = []
    informer.add_handler(lambda old, new: told.append((old is None, new is None)))
    informers.start()
    await informers.wait_synced()
    answer = await client.create(MAPS, configmap("mine"))
    informer.observe(answer)
    assert informers.view.get(MAPS, "ns", "mine") is not None
    await client.delete(MAPS, "mine", namespace="ns")
    informer.forget(answer)
    assert informers.view.get(MAPS, "ns", "mine") is None
    await asyncio.sleep(0.05)
    assert told == [(True, False), (False, True)], "the watch's own events of the same writes are no news"
    await informers.stop()


def test_events_are_counted_combined_and_cut() -> None:
    correlator = EventCorrelator()
    pod = {"kind": "Pod", "name": "p", "namespace": "ns", "uid": "u"}

    def place(message: str, now: float) -> Any:
        return correlator.place(pod, "Warning", "BackOff", message, "kubelet", "", now)

    assert place("same", 1000.0)[0] == "create"
    action, event, _ = place("same", 1001.0)
    assert (action, event["count"]) == ("patch", 2)
    placed = [place(f"m{i}", 1002.0) for i in range(30)]
    combined = [p for p in placed if p and p[1]["message"].startswith("(combined from similar events): ")]
    assert combined
    assert placed[-1] is None, "more than 25 at once about one object are dropped"


async def test_recorder_writes_core_events() -> None:
    client = FakeClient()
    recorder = EventRecorder(client, SYSTEM)
    task = asyncio.create_task(recorder.run())
    obj = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u1"}}
    recorder.emit(obj, "Normal", "Starting", "hello", "kubelet", "n1")
    await until(lambda: client.objects.get(("", "v1", "events")))
    event = next(iter(client.objects[("", "v1", "events")].values()))
    assert event["metadata"]["namespace"] == "default"
    assert event["source"] == {"component": "kubelet", "host": "n1"}
    assert event["involvedObject"] == {"kind": "Node", "name": "n1", "uid": "u1", "apiVersion": "v1"}
    task.cancel()


def test_paths_queries_and_refusals() -> None:
    assert resource_path(("apps", "v1", "deployments"), "ns", "web", "scale") == (
        "/apis/apps/v1/namespaces/ns/deployments/web/scale"
    )
    assert resource_path(("", "v1", "namespaces"), "ns", "ns") == "/api/v1/namespaces/ns"
    assert (
        query_of(watch=True, limit=0, labelSelector="a=b,c in (d)") == "watch=true&labelSelector=a%3Db%2Cc+in+%28d%29"
    )
    error = refusal(503, b"upstream is away")
    assert (error.code, error.message) == (503, "upstream is away")
    assert refusal(404, b'{"kind":"Status","reason":"NotFound","code":404,"message":"x"}').reason == "NotFound"
