"""Keeps the Available condition of other servers' APIServices, what they offer, and the APIServices of custom groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from portside.api.status import ApiError
from portside.base.clock import rfc3339
from portside.server.aggregation import local
from portside.server.aggregation.aggregator import AGGREGATED, Aggregator
from portside.server.aggregation.remote import Remote, Unreachable, server_name
from portside.server.live import prefix_of
from portside.server.watchcache import durability_of
from portside.store.backend import Write

if TYPE_CHECKING:
    from portside.server.app import ApiServer
    from portside.server.watchcache_object import CachedObject

Json = dict[str, Any]
CHECK_SECONDS = 30.0  # an available server is asked this often
RETRY_SECONDS = 1.0  # one that is not
ANSWER_SECONDS = 5.0
DEFINITIONS = "/apiextensions.k8s.io/customresourcedefinitions/"
NEWS = (DEFINITIONS, "/core/services/", "/discovery.k8s.io/endpointslices/")


def condition(status: str, reason: str, message: str, now: float) -> Json:
    return {
        "type": "Available",
        "status": status,
        "lastTransitionTime": rfc3339(now),
        "reason": reason,
        "message": message,
    }


def with_condition(obj: Json, new: Json) -> Json | None:
    """The object with the condition; None when it says so already. The time changes with the status alone."""
    status = obj.get("status") or {}
    held = next((c for c in status.get("conditions") or () if c.get("type") == "Available"), None)
    if held is not None and held.get("status") == new["status"]:
        new = new | {"lastTransitionTime": held.get("lastTransitionTime", new["lastTransitionTime"])}
    if held == new:
        return None
    others = [c for c in status.get("conditions") or () if c.get("type") != "Available"]
    return obj | {"status": status | {"conditions": [*others, new]}}


def from_resources(version: str, listed: Json) -> Json:
    """An older list of resources as a version's entry in aggregated discovery."""
    entries: dict[str, Json] = {}
    for resource in listed.get("resources") or ():
        name, _, sub = resource["name"].partition("/")
        kind = {field: resource.get(field, "") for field in ("group", "version", "kind")}
        if sub:
            below = {"subresource": sub, "responseKind": kind, "verbs": resource.get("verbs") or []}
            entries.setdefault(name, {"resource": name}).setdefault("subresources", []).append(below)
            continue
        entry = entries.setdefault(name, {"resource": name})
        entry |= {
            "responseKind": kind,
            "scope": "Namespaced" if resource.get("namespaced") else "Cluster",
            "singularResource": resource.get("singularName", ""),
            "verbs": resource.get("verbs") or [],
        }
        entry |= {field: resource[field] for field in ("shortNames", "categories") if resource.get(field)}
        entries[name] = entry
    return {"version": version, "resources": [e for e in entries.values() if "verbs" in e]}


class Availability:
    """One task for all: woken by changes, asking each server in turn."""

    def __init__(self, server: ApiServer, aggregator: Aggregator) -> None:
        self._server, self._aggregator = server, aggregator
        self._news = asyncio.Event()
        aggregator.changed.append(self._news.set)
        server.caches.follow(self._follow)

    def _follow(self, prefix: str, key: str, obj: CachedObject | None, revision: int) -> None:
        if prefix == DEFINITIONS or (prefix in NEWS and self._aggregator.remote):
            self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._news.clear()
            await self._custom()
            checks = [self._check(r) for r in list(self._aggregator.remote.values()) if r.inner is None]
            fine = all(await asyncio.gather(*checks))
            pause = (CHECK_SECONDS if fine else RETRY_SECONDS) if checks else None
            try:
                async with asyncio.timeout(pause):
                    await self._news.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(0.05)  # changes come in groups

    async def _custom(self) -> None:
        """Local APIServices of custom groups, as their definitions say."""
        now = rfc3339(self._server.clock.now())
        held = {}
        for item in self._server.caches.of(local.GROUP, local.PLURAL).list().objects:
            obj = orjson.loads(item.full)
            if (obj["metadata"].get("labels") or {}).get(local.MANAGED) == local.ALWAYS:
                held[obj["metadata"]["name"]] = obj
        listing = self._server.caches.of("apiextensions.k8s.io", "customresourcedefinitions").list()
        wanted = local.custom((orjson.loads(d.full) for d in listing.objects), now)
        for name, obj in wanted.items():
            if name not in held:
                await self._server.put(local.GROUP, local.PLURAL, obj, expected=0)
        for name in held.keys() - wanted.keys():
            await self._drop(held[name])

    async def _drop(self, obj: Json) -> None:
        meta = obj["metadata"]
        key = prefix_of(local.GROUP, local.PLURAL) + meta["name"]
        how = durability_of(local.GROUP, local.PLURAL)
        await self._server.backend.write(Write(key, None, int(meta["resourceVersion"]), how))

    async def _check(self, remote: Remote) -> bool:
        """Ask, and write down what came of it. True when the server may be used."""
        found = await self._asked(remote)
        new = with_condition(remote.obj, found)
        if new is not None:
            revision = int(new["metadata"]["resourceVersion"])
            bare = {k: v for k, v in new["metadata"].items() if k != "resourceVersion"}
            await self._server.put(local.GROUP, local.PLURAL, new | {"metadata": bare}, expected=revision)
        return bool(found["status"] == "True")

    async def _asked(self, remote: Remote) -> Json:
        now: Callable[[], float] = self._server.clock.now
        group, version = remote.group_version
        path = f"/apis/{group}/{version}"
        url = f"https://{server_name(remote.spec)}:{remote.spec['service'].get('port') or 443}{path}"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                code, body = await self._aggregator.ask(remote, path)
                if not 200 <= code < 300:
                    raise ValueError(f"bad status from {url}: {code}")
                remote.discovery = await self._discovery(remote, body)
        except Unreachable as problem:
            return condition("False", problem.reason, problem.message, now())
        except (ApiError, ValueError, OSError) as problem:
            why = f"failing or missing response from {url}: {problem}"
            return condition("False", "FailedDiscoveryCheck", why, now())
        except TimeoutError:
            why = f'failing or missing response from {url}: Get "{url}": context deadline exceeded'
            return condition("False", "FailedDiscoveryCheck", why, now())
        return condition("True", "Passed", "all checks passed", now())

    async def _discovery(self, remote: Remote, body: bytes) -> Json:
        """The version's entry: from the server's own aggregated document, else from its list of resources."""
        group, version = remote.group_version
        code, answered = await self._aggregator.ask(remote, "/apis", f"{AGGREGATED},application/json")
        if code == 200:
            document = orjson.loads(answered)
            for item in document.get("items") or ():
                if (item.get("metadata") or {}).get("name") == group:
                    found: list[Json] = [v for v in item.get("versions") or () if v.get("version") == version]
                    if found:
                        return found[0]
        return from_resources(version, orjson.loads(body))
