"""A client on plain dictionaries, for tests: revisions, conflicts, watches, finalizers, preconditions; no defaults, no
validation; to apply is to merge. Garbage collection is left to the collector."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from portside.api.kinds import BY_RESOURCE
from portside.api.selector import parse_labels
from portside.api.status import ApiError, already_exists, conflict, not_found
from portside.base.clock import SYSTEM, Clock, rfc3339
from portside.client.cache import key_of
from portside.client.protocol import Json, ObjectList, PatchType, Resource, WatchEvent

Hook = Callable[[str, Resource, Json], None]
STALE = "the object has been modified; please apply your changes to the latest version and try again"


def merge(target: Json, patch: Json) -> Json:
    """RFC 7386."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            held = result.get(name)
            result[name] = merge(held if isinstance(held, dict) else {}, value)
        else:
            result[name] = copy.deepcopy(value)
    return result


def _strategic(target: Json, patch: Json) -> Json:
    """Merge, with owner references by uid: all the strategic merging that controllers use."""
    refs = (patch.get("metadata") or {}).get("ownerReferences")
    result = merge(target, patch)
    if refs is None:
        return result
    held = {r["uid"]: r for r in (target.get("metadata") or {}).get("ownerReferences") or ()}
    for ref in refs:
        if ref.get("$patch") == "delete":
            held.pop(ref["uid"], None)
        else:
            held[ref["uid"]] = {**held.get(ref["uid"], {}), **ref}
    result["metadata"]["ownerReferences"] = list(held.values())
    return result


class FakeClient:
    """``client.protocol.Client``. ``hook`` is called before each write with (verb, resource, body) and may raise."""

    def __init__(self, clock: Clock = SYSTEM, *, hook: Hook | None = None) -> None:
        self.objects: dict[Resource, dict[str, Json]] = {}
        self.revision = 100
        self.writes: list[tuple[str, Resource, str]] = []
        self.hook = hook
        self._clock = clock
        self._log: list[tuple[int, Resource, WatchEvent]] = []
        self._changed = asyncio.Event()
        self._names = 0

    # -- storage ------------------------------------------------------------------------------------------------------

    def _group(self, resource: Resource) -> tuple[str, str]:
        return resource[0], resource[2]

    def _find(self, resource: Resource, namespace: str, name: str) -> Json:
        key = f"{namespace}/{name}" if namespace else name
        found = self.objects.get(resource, {}).get(key)
        if found is None:
            raise not_found(resource[2], name, resource[0])
        return found

    def _commit(self, kind: str, resource: Resource, obj: Json) -> Json:
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        held = self.objects.setdefault(resource, {})
        if kind == "DELETED":
            held.pop(key_of(obj), None)
        else:
            held[key_of(obj)] = obj
        self._log.append((self.revision, resource, WatchEvent(kind, copy.deepcopy(obj))))
        self._changed.set()
        self._changed = asyncio.Event()
        return copy.deepcopy(obj)

    def _note(self, verb: str, resource: Resource, body: Json, name: str) -> None:
        if self.hook is not None:
            self.hook(verb, resource, body)
        self.writes.append((verb, resource, name))

    # -- reads --------------------------------------------------------------------------------------------------------

    async def get(self, resource: Resource, name: str, *, namespace: str = "", subresource: str = "") -> Json:
        return copy.deepcopy(self._find(resource, namespace, name))

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        limit: int = 0,
        continue_token: str = "",
        metadata_only: bool = False,
    ) -> ObjectList:
        selector = parse_labels(label_selector)
        items = [
            copy.deepcopy(o)
            for o in self.objects.get(resource, {}).values()
            if (not namespace or o["metadata"].get("namespace") == namespace) and selector.matches_object(o)
        ]
        return ObjectList(items, str(self.revision))

    async def watch(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        send_initial_events: bool = False,
        timeout_seconds: int | None = None,
        metadata_only: bool = False,
    ) -> AsyncIterator[WatchEvent]:
        at = int(resource_version or 0)
        if send_initial_events:
            at = self.revision
            for obj in list(self.objects.get(resource, {}).values()):
                yield WatchEvent("ADDED", copy.deepcopy(obj))
            meta = {"resourceVersion": str(at), "annotations": {"k8s.io/initial-events-end": "true"}}
            yield WatchEvent("BOOKMARK", {"metadata": meta})
        position = 0
        while True:
            waiter = self._changed
            while position < len(self._log):
                revision, where, event = self._log[position]
                position += 1
                if revision > at and where == resource:
                    yield WatchEvent(event.type, copy.deepcopy(event.object))
            await waiter.wait()

    # -- writes -------------------------------------------------------------------------------------------------------

    async def create(
        self,
        resource: Resource,
        body: Json,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Json:
        await asyncio.sleep(0)
        obj = copy.deepcopy(body)
        meta = obj["metadata"]
        if namespace:
            meta.setdefault("namespace", namespace)
        if not meta.get("name"):
            self._names += 1
            meta["name"] = f"{meta['generateName']}{self._names:05d}"
        self._note("create", resource, obj, meta["name"])
        if key_of(obj) in self.objects.get(resource, {}):
            raise already_exists(resource[2], meta["name"], resource[0])
        kind = BY_RESOURCE.get(resource)
        if kind is not None:
            obj.setdefault("apiVersion", kind.api_version)
            obj.setdefault("kind", kind.kind)
        meta["uid"] = str(uuid.uuid4())
        meta.setdefault("creationTimestamp", rfc3339(self._clock.now()))
        meta["generation"] = 1
        return self._commit("ADDED", resource, obj)

    async def update(self, resource: Resource, body: Json, *, namespace: str = "", subresource: str = "") -> Json:
        await asyncio.sleep(0)
        meta = body["metadata"]
        live = self._find(resource, namespace or meta.get("namespace", ""), meta["name"])
        self._note(f"update {subresource}".strip(), resource, body, meta["name"])
        return self._replace(resource, live, copy.deepcopy(body), subresource)

    def _replace(self, resource: Resource, live: Json, new: Json, subresource: str) -> Json:
        meta, held = new["metadata"], live["metadata"]
        if meta.get("resourceVersion") not in (None, "", held["resourceVersion"]):
            raise conflict(resource[2], held["name"], STALE, resource[0])
        if meta.get("uid") not in (None, "", held["uid"]):
            raise conflict(resource[2], held["name"], "Precondition failed: UID in precondition", resource[0])
        if subresource == "status":
            new = {**copy.deepcopy(live), "status": new.get("status", {}), "metadata": {**meta}}
        elif subresource == "":
            if "status" in live:
                new["status"] = copy.deepcopy(live["status"])
            if new.get("spec") != live.get("spec"):
                new["metadata"]["generation"] = int(held.get("generation", 1)) + 1
        for name in ("uid", "creationTimestamp", "deletionTimestamp"):
            if name in held:
                new["metadata"][name] = held[name]
        if {**new, "metadata": {**new["metadata"], "resourceVersion": held["resourceVersion"]}} == live:
            return copy.deepcopy(live)
        ends = "deletionTimestamp" in held and not new["metadata"].get("finalizers")
        if resource == ("", "v1", "namespaces") and (new.get("spec") or {}).get("finalizers"):
            ends = False
        return self._commit("DELETED" if ends else "MODIFIED", resource, new)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Any,
        *,
        patch_type: PatchType = "merge",
        namespace: str = "",
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
    ) -> Json:
        await asyncio.sleep(0)
        live = self._find(resource, namespace, name)
        self._note(f"patch {subresource}".strip(), resource, body, name)
        if patch_type == "json":
            raise ApiError(415, "UnsupportedMediaType", f"the fake has no {patch_type} patch")
        new = (_strategic if patch_type == "strategic" else merge)(copy.deepcopy(live), body)
        return self._replace(resource, live, new, subresource)

    async def delete(self, resource: Resource, name: str, *, namespace: str = "", options: Json | None = None) -> Json:
        await asyncio.sleep(0)
        live = self._find(resource, namespace, name)
        self._note("delete", resource, options or {}, name)
        wanted = (options or {}).get("preconditions") or {}
        for field, where in (("uid", "uid"), ("resourceVersion", "resourceVersion")):
            if wanted.get(field) and wanted[field] != live["metadata"].get(where):
                raise conflict(resource[2], name, "Precondition failed", resource[0])
        new = copy.deepcopy(live)
        finalizers = list(new["metadata"].get("finalizers") or ())
        extra = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(
            (options or {}).get("propagationPolicy", "")
        )
        if extra and extra not in finalizers:
            finalizers.append(extra)
        held_back = bool(finalizers) or bool(
            resource == ("", "v1", "namespaces") and (new.get("spec") or {}).get("finalizers")
        )
        if not held_back:
            self._commit("DELETED", resource, new)
            return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        if finalizers:
            new["metadata"]["finalizers"] = finalizers
        if "deletionTimestamp" in new["metadata"] and finalizers == live["metadata"].get("finalizers"):
            return copy.deepcopy(live)
        new["metadata"].setdefault("deletionTimestamp", rfc3339(self._clock.now()))
        return self._commit("MODIFIED", resource, new)

    async def delete_collection(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", options: Json | None = None
    ) -> Json:
        listed = await self.list(resource, namespace=namespace, label_selector=label_selector)
        for item in listed.items:
            meta = item["metadata"]
            await self.delete(resource, meta["name"], namespace=meta.get("namespace", ""), options=options)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        return 404, {}, b""

    async def close(self) -> None:
        """Nothing to release."""
