"""A tiny API in memory for the agent's tests: objects, watches, status patches, graceful pod deletion."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator
from typing import Any

from portside.api.field import invalid_value
from portside.api.status import already_exists, invalid, not_found
from portside.client.protocol import ObjectList, WatchEvent

Json = dict[str, Any]


def _merge(target: Json, patch: Json) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif key == "conditions":
            known = {c["type"]: c for c in target.get("conditions") or ()}
            merged = known | {c["type"]: c for c in value}
            target["conditions"] = [c for c in merged.values() if c.get("$patch") != "delete"]
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)


class FakeApi:
    """Implements the client protocol as far as the agent uses it."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self._revision = itertools.count(1)
        self._watchers: list[tuple[str, str, asyncio.Queue[WatchEvent]]] = []
        self.events: list[Json] = []
        self.node_events: list[Json] = []
        self.statuses: list[tuple[str, Json]] = []

    def _emit(self, kind: str, plural: str, obj: Json) -> None:
        obj["metadata"]["resourceVersion"] = str(next(self._revision))
        for wanted, selector, queue in self._watchers:
            if wanted == plural and self._selected(obj, selector):
                queue.put_nowait(WatchEvent(kind, copy.deepcopy(obj)))

    @staticmethod
    def _selected(obj: Json, selector: str) -> bool:
        key, _, value = selector.partition("=")
        if key == "metadata.name":
            return bool(obj["metadata"]["name"] == value)
        return key != "spec.nodeName" or obj["spec"].get("nodeName") == value

    def add(self, plural: str, obj: Json) -> Json:
        meta = obj["metadata"]
        meta.setdefault("uid", f"uid-{meta['name']}-{next(self._revision)}")
        meta.setdefault("generation", 1)
        key = (plural, meta.get("namespace", ""), meta["name"])
        if key in self.objects:
            raise already_exists(plural, meta["name"])
        self.objects[key] = obj
        self._emit("ADDED", plural, obj)
        return obj

    async def get(self, resource: Any, name: str, *, namespace: str = "", subresource: str = "") -> Json:
        found = self.objects.get((resource[2], namespace, name))
        if found is None:
            raise not_found(resource[2], name)
        return copy.deepcopy(found)

    async def list(self, resource: Any, **options: Any) -> ObjectList:
        chosen = [o for (plural, _, _), o in self.objects.items() if plural == resource[2]]
        return ObjectList([copy.deepcopy(o) for o in chosen], "1")

    async def watch(self, resource: Any, **options: Any) -> AsyncIterator[WatchEvent]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        selector = options.get("field_selector", "")
        entry = (resource[2], selector, queue)
        self._watchers.append(entry)
        try:
            if options.get("send_initial_events"):
                for (plural, _, _), obj in list(self.objects.items()):
                    if plural == resource[2] and self._selected(obj, selector):
                        yield WatchEvent("ADDED", copy.deepcopy(obj))
                mark = {
                    "annotations": {"k8s.io/initial-events-end": "true"},
                    "resourceVersion": str(next(self._revision)),
                }
                yield WatchEvent("BOOKMARK", {"metadata": mark})
            while True:
                yield await queue.get()
        finally:
            self._watchers.remove(entry)

    async def create(
        self, resource: Any, body: Json, *, namespace: str = "", name: str = "", subresource: str = ""
    ) -> Json:
        if subresource == "token":
            return {"status": {"token": f"token-of-{name}", "expirationTimestamp": "2100-01-01T00:00:00Z"}}
        if resource[2] == "events":
            (self.events if body["involvedObject"]["kind"] == "Pod" else self.node_events).append(body)
            return body
        body = copy.deepcopy(body)
        if namespace:
            body["metadata"]["namespace"] = namespace
        return copy.deepcopy(self.add(resource[2], body))

    async def update(self, resource: Any, body: Json, *, namespace: str = "", subresource: str = "") -> Json:
        self.objects[(resource[2], namespace, body["metadata"]["name"])] = body
        self._emit("MODIFIED", resource[2], body)
        return copy.deepcopy(body)

    async def patch(self, resource: Any, name: str, body: Json, *, namespace: str = "", **options: Any) -> Json:
        if resource[2] == "events":
            return body
        found = self.objects.get((resource[2], namespace, name))
        if found is None:
            raise not_found(resource[2], name)
        uid = found["metadata"]["uid"]
        if (given := (body.get("metadata") or {}).get("uid", uid)) != uid:
            raise invalid("Pod", name, [invalid_value("metadata.uid", given, "field is immutable")])
        _merge(found, {k: v for k, v in body.items() if k != "metadata"})
        if resource[2] == "pods":
            self.statuses.append((name, copy.deepcopy(found["status"])))
        self._emit("MODIFIED", resource[2], found)
        return copy.deepcopy(found)

    async def delete(self, resource: Any, name: str, *, namespace: str = "", options: Json | None = None) -> Json:
        key = (resource[2], namespace, name)
        found = self.objects.get(key)
        if found is None:
            raise not_found(resource[2], name)
        grace = (options or {}).get("gracePeriodSeconds")
        if resource[2] == "pods" and grace != 0:
            told = grace if grace is not None else found["spec"].get("terminationGracePeriodSeconds", 30)
            found["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": told}
            self._emit("MODIFIED", resource[2], found)
            return found
        del self.objects[key]
        self._emit("DELETED", resource[2], found)
        return found

    async def close(self) -> None:
        return None

    # -- for assertions -----------------------------------------------------------------------------------------------

    def pod(self, name: str) -> Json | None:
        return self.objects.get(("pods", "default", name))

    def reasons(self) -> list[str]:
        return [e["reason"] for e in self.events]

    def node_reasons(self) -> list[str]:
        return [e["reason"] for e in self.node_events]


def pod(name: str, *containers: Json, **spec: Any) -> Json:
    """A pod bound to the node n1; the first container's defaults are filled in."""
    made = [
        {"name": f"c{i}", "image": "docker.io/portside/busybox:1", "imagePullPolicy": "IfNotPresent"} | c
        for i, c in enumerate(containers or ({},))
    ]
    body = {"nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 1, "containers": made} | spec
    meta = {"name": name, "namespace": "default", "generation": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": body, "status": {"phase": "Pending"}}


async def eventually(check: Any, seconds: float = 60.0) -> Any:
    """The check's first true answer. Raises AssertionError with its last one."""
    last = None
    for _ in range(int(seconds / 0.02)):
        last = check()
        if last:
            return last
        await asyncio.sleep(0.02)
    raise AssertionError(f"not in {seconds} s; last seen: {last!r}")
