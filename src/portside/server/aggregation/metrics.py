"""metrics.k8s.io/v1beta1: what `kubectl top` and autoscalers read, served here while a local APIService asks for it.

Nodes are looked at every 15 s, and only while somebody has asked within the last five minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from portside.api.selector import parse_labels
from portside.api.status import ApiError, not_found
from portside.base.clock import rfc3339
from portside.server.aggregation.usage import FAKE, NODE, Key, NodeUsage, Used, pretended, read
from portside.server.forward import forward, whole
from portside.server.nodeproxy import node_target
from portside.server.request import Request, Response
from portside.server.routes import attributes_of, not_allowed
from portside.server.routes import not_found as no_such_path

if TYPE_CHECKING:
    from portside.server.app import ApiServer

log = logging.getLogger(__name__)
Json = dict[str, Any]
GROUP, VERSION = "metrics.k8s.io", "v1beta1"
SERVICE = f"{VERSION}.{GROUP}"
API = f"{GROUP}/{VERSION}"
LOOK_SECONDS = 15.0
FIRST_SECONDS = 1.0  # between the first two looks
KEPT_SECONDS = 300.0
ANSWER_SECONDS = 5.0
MOST_SUMMARY = 16 << 20
_VERBS = ["get", "list"]
_KINDS = (("nodes", "NodeMetrics", False), ("pods", "PodMetrics", True))


def resources() -> Json:
    """APIResourceList."""
    listed = [
        {"name": plural, "singularName": "", "namespaced": inside, "kind": kind, "verbs": _VERBS}
        for plural, kind, inside in _KINDS
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API, "resources": listed}


class Metrics:
    """Answers requests of the group; ``answer`` starts the looks."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._nodes: dict[str, NodeUsage] = {}
        self._task: asyncio.Task[None] | None = None
        self._asked = 0.0
        self._ready = asyncio.Event()

    async def answer(self, request: Request) -> Response:
        """A request below /apis/metrics.k8s.io/v1beta1."""
        if request.method != "GET":
            raise not_allowed()
        attributes = attributes_of(request)
        if not attributes.is_resource:
            return Response(200, orjson.dumps(resources()))
        if attributes.subresource or attributes.verb not in ("get", "list"):
            raise not_allowed()
        await self._look_on()
        match = parse_labels(request.param("labelSelector")).matches
        if attributes.resource == "nodes":
            items = self._node_metrics()
        elif attributes.resource == "pods":
            items = self._pod_metrics(attributes.namespace)
        else:
            raise no_such_path()
        if attributes.name:
            found = next((i for i in items if i["metadata"]["name"] == attributes.name), None)
            if found is None:
                raise not_found(f"{attributes.resource}", attributes.name, GROUP)
            kind = "NodeMetrics" if attributes.resource == "nodes" else "PodMetrics"
            return Response(200, orjson.dumps({"kind": kind, "apiVersion": API} | found))
        listed = [i for i in items if match(i["metadata"].get("labels") or {})]
        kind = "NodeMetricsList" if attributes.resource == "nodes" else "PodMetricsList"
        return Response(200, orjson.dumps({"kind": kind, "apiVersion": API, "metadata": {}, "items": listed}))

    # --- what is answered ------------------------------------------------------------------------------------------

    def _objects(self, plural: str) -> Iterator[Json]:
        for item in self._server.caches.of("", plural).list().objects:
            yield orjson.loads(item.full)

    def _meta(self, obj: Json) -> Json:
        held = obj["metadata"]
        meta: Json = {"name": held["name"]}
        if held.get("namespace"):
            meta["namespace"] = held["namespace"]
        meta["creationTimestamp"] = self._server.now()
        if held.get("labels"):
            meta["labels"] = held["labels"]
        return meta

    def _node_metrics(self) -> list[Json]:
        found = []
        for node in self._objects("nodes"):
            held = self._nodes.get(node["metadata"]["name"])
            used = held.used.get(NODE) if held is not None else None
            if used is not None:
                found.append({"metadata": self._meta(node)} | _times(used) | {"usage": used.as_usage()})
        return found

    def _pod_metrics(self, namespace: str) -> list[Json]:
        by_pod: dict[tuple[str, str], dict[str, Used]] = {}
        for held in self._nodes.values():
            for (space, name, container), used in held.used.items():
                if name and (not namespace or space == namespace):
                    by_pod.setdefault((space, name), {})[container] = used
        found = []
        for pod in self._objects("pods"):
            meta = pod["metadata"]
            containers = by_pod.get((meta["namespace"], meta["name"]))
            if not containers or (pod.get("status") or {}).get("phase") != "Running":
                continue
            first = next(iter(containers.values()))
            listed = [{"name": name, "usage": containers[name].as_usage()} for name in sorted(containers)]
            found.append({"metadata": self._meta(pod)} | _times(first) | {"containers": listed})
        return found

    # --- looking ---------------------------------------------------------------------------------------------------

    async def _look_on(self) -> None:
        self._asked = self._server.clock.monotonic()
        if self._task is None or self._task.done():
            self._ready.clear()
            self._task = asyncio.create_task(self._looks(), name="metrics")
        await self._ready.wait()

    async def _looks(self) -> None:
        try:
            await self._look()
            if any(not held.used for held in self._nodes.values()):
                await asyncio.sleep(FIRST_SECONDS)
                await self._look()
            self._ready.set()
            while self._server.clock.monotonic() - self._asked < KEPT_SECONDS:
                await asyncio.sleep(LOOK_SECONDS)
                await self._look()
        finally:
            self._ready.set()

    async def _look(self) -> None:
        nodes = {n["metadata"]["name"]: n for n in self._objects("nodes")}
        for gone in self._nodes.keys() - nodes.keys():
            del self._nodes[gone]
        fakes = {n for n, o in nodes.items() if (o["metadata"].get("annotations") or {}).get(FAKE) == "fake"}
        if fakes:
            self._pretend({n: nodes[n] for n in fakes})
        await asyncio.gather(*(self._ask(name) for name in nodes.keys() - fakes))

    def _pretend(self, nodes: dict[str, Json]) -> None:
        on: dict[str, list[Json]] = {}
        for pod in self._objects("pods"):
            if (pod.get("status") or {}).get("phase") == "Running":
                on.setdefault(pod["spec"].get("nodeName") or "", []).append(pod)
        now = self._server.clock.now()
        for name, node in nodes.items():
            held = self._nodes.setdefault(name, NodeUsage())
            found: dict[Key, Used] = pretended(node, on.get(name, ()), now)
            held.used = found

    async def _ask(self, name: str) -> None:
        held = self._nodes.setdefault(name, NodeUsage())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                target = await node_target(self._server, name)
                answer = await forward(target, "GET", "/stats/summary", {}, b"", upgrade=False)
                body = await whole(answer, MOST_SUMMARY)
            if answer.code == 200:
                held.take(read(orjson.loads(body)))
        except (ApiError, OSError, TimeoutError, ValueError) as problem:
            log.debug("no statistics of node %s: %s", name, problem)


def _times(used: Used) -> Json:
    return {"timestamp": rfc3339(used.time), "window": f"{used.window:.3f}s"}
