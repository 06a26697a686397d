"""What follows from decisions about devices, written to the API: allocations, reservations, special claims, and the wait
until drivers have made devices ready. Problems are returned as text, never raised."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from portside.api.status import ApiError
from portside.base.clock import Clock, rfc3339
from portside.client.protocol import Client, Json, Resource
from portside.scheduler import device_binding
from portside.scheduler import extended_devices as extended
from portside.scheduler.devices import Allocation
from portside.scheduler.events import Recorder
from portside.scheduler.pod_info import PodInfo

log = logging.getLogger("portside.scheduler")
PODS: Resource = ("", "v1", "pods")
CLAIMS: Resource = ("resource.k8s.io", "v1", "resourceclaims")
FINALIZER = "resource.kubernetes.io/delete-protection"
TRIES = 5  # of a write that others' writes get in the way of
LOOK_SECONDS = 5.0  # while devices are made ready, without news
Read = Callable[[str], Mapping[str, Json]]


class DeviceWriter:
    """``observe``: shows an answer to the claims' informer, so that what was given is never taken for free."""

    def __init__(self, client: Client, clock: Clock, events: Recorder, observe: Callable[[Json], None]) -> None:
        self.client = client
        self.clock = clock
        self.events = events
        self.observe = observe
        self._news = asyncio.Event()

    def news(self) -> None:
        """A claim changed."""
        self._news.set()

    async def allocate(self, info: PodInfo, allocations: Sequence[Allocation], read: Read) -> str:
        """Write what the claims got, and that the pod uses them. Returns why that failed."""
        try:
            for made in allocations:
                if made.make is not None:
                    await self._make(info, made)
                else:
                    await self._allocate(info, made, read)
        except (ApiError, OSError, TimeoutError) as error:
            return str(error)
        return ""

    async def _allocate(self, info: PodInfo, made: Allocation, read: Read) -> None:
        namespace, _, name = made.claim.partition("/")
        claim = read("resourceclaims").get(made.claim)
        for attempt in range(TRIES):
            if claim is None or claim["metadata"].get("deletionTimestamp"):
                raise ApiError(409, "Conflict", f"claim {made.claim} got deleted in the meantime")
            try:
                await self._write(info, claim, made.status)
                return
            except ApiError as error:
                if error.code != 409 or attempt == TRIES - 1:
                    raise
            claim = await self.client.get(CLAIMS, name, namespace=namespace)

    async def _write(self, info: PodInfo, claim: Json, allocation: Json | None) -> None:
        """The finalizer, then the status: at the revision that was read."""
        meta, status = claim["metadata"], claim.get("status") or {}
        have, users = status.get("allocation"), status.get("reservedFor") or []
        if any(u.get("uid") == info.uid for u in users) and have is not None:
            return
        if allocation is None and have is None:
            raise ApiError(410, "Gone", f"claim {meta['name']} got deallocated elsewhere in the meantime")
        if allocation is not None and have is not None and _timeless(have) != _timeless(allocation):
            raise ApiError(410, "Gone", f"claim {meta['name']} got allocated elsewhere in the meantime")
        version = meta["resourceVersion"]
        held = meta.get("finalizers") or []
        if have is None and FINALIZER not in held:
            patch: Json = {"metadata": {"resourceVersion": version, "finalizers": [*held, FINALIZER]}}
            claim = await self.client.patch(CLAIMS, meta["name"], patch, namespace=meta["namespace"])
            version = claim["metadata"]["resourceVersion"]
        await self._status(info, meta["name"], version, users, allocation if have is None else None)

    async def _status(self, info: PodInfo, name: str, version: str, users: list[Json], allocation: Json | None) -> None:
        user = {"resource": "pods", "name": info.name, "uid": info.uid}
        status: Json = {"reservedFor": [*users, user]}
        if allocation is not None:
            status["allocation"] = allocation | {"allocationTimestamp": rfc3339(self.clock.now())}
        patch = {"metadata": {"resourceVersion": version}, "status": status}
        self.observe(await self.client.patch(CLAIMS, name, patch, namespace=info.namespace, subresource="status"))

    async def _make(self, info: PodInfo, made: Allocation) -> None:
        """The special claim, what it got, and the pod's status that names it."""
        assert made.make is not None
        body = {**made.make, "metadata": {**made.make["metadata"], "finalizers": [FINALIZER]}}
        claim = await self.client.create(CLAIMS, body, namespace=info.namespace)
        self.observe(claim)
        meta = claim["metadata"]
        await self._status(info, meta["name"], meta["resourceVersion"], [], made.status)
        said = {"resourceClaimName": meta["name"], "requestMappings": list(made.uses)}
        patch = {"metadata": {"uid": info.uid}, "status": {"extendedResourceClaimStatus": said}}
        await self.client.patch(PODS, info.name, patch, namespace=info.namespace, subresource="status")

    async def ready(self, info: PodInfo, allocations: Sequence[Allocation], read: Read) -> str:
        """Wait until drivers have made the devices ready. Returns why they did not."""
        first = True
        while True:
            self._news.clear()
            claims = [self._claim(info, made, read) for made in allocations]
            if gone := [a.claim for a, c in zip(allocations, claims, strict=True) if not _allocated(c)]:
                return f"claim {gone[0]} got deallocated elsewhere in the meantime"
            if not any(map(device_binding.awaited, claims)):
                return ""
            if first:
                note = f"waiting for binding conditions for device on node {info.node_name}"
                self.events.emit(info.object, "Normal", "BindingConditionsPending", "Scheduling", note, info.scheduler)
                first = False
            if why := next(filter(None, map(device_binding.failed, claims)), ""):
                return why
            waiting = [c for c in claims if not device_binding.ready(c)]
            if not waiting:
                return ""
            if late := [c for c in waiting if device_binding.late(c, self.clock.now())]:
                return f"device binding timeout: claim={late[0]['metadata']['name']}"
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _claim(self, info: PodInfo, made: Allocation, read: Read) -> Json:
        """The claim as it is now, {} when it is gone; of a special claim only its pod is known."""
        claims = read("resourceclaims")
        if made.make is None:
            return claims.get(made.claim, {})
        return next((c for c in claims.values() if extended.is_special(c, info.uid)), {})

    async def release(self, info: PodInfo, read: Read) -> None:
        """The pod was not bound: it uses its claims no more, and a special claim goes."""
        for claim in list(read("resourceclaims").values()):
            meta = claim["metadata"]
            users = (claim.get("status") or {}).get("reservedFor") or ()
            if meta["namespace"] != info.namespace or not any(u.get("uid") == info.uid for u in users):
                continue
            if extended.is_special(claim, info.uid):
                await self.delete(claim)
                continue
            gone = {"$patch": "delete", "uid": info.uid}
            patch = {"metadata": {"uid": meta["uid"]}, "status": {"reservedFor": [gone]}}
            await self._patch(claim, patch, "status", strategic=True)

    async def give_up(self, claim: Json) -> None:
        """Take an allocation back that nobody uses."""
        kept = {f: claim["metadata"][f] for f in ("uid", "resourceVersion")}
        status = {"reservedFor": None, "allocation": None, "devices": None}
        await self._patch(claim, {"metadata": kept, "status": status}, "status")

    async def delete(self, claim: Json) -> None:
        """Delete a special claim, finalizer and all."""
        meta = claim["metadata"]
        left = [f for f in meta.get("finalizers") or () if f != FINALIZER]
        await self._patch(claim, {"metadata": {"uid": meta["uid"], "finalizers": left or None}}, "")
        try:
            options = {"preconditions": {"uid": meta["uid"]}}
            await self.client.delete(CLAIMS, meta["name"], namespace=meta["namespace"], options=options)
        except (ApiError, OSError, TimeoutError) as error:
            log.debug("claim %s not deleted: %s", meta["name"], error)

    async def _patch(self, claim: Json, patch: Json, subresource: str, *, strategic: bool = False) -> None:
        meta = claim["metadata"]
        try:
            answer = await self.client.patch(
                CLAIMS,
                meta["name"],
                patch,
                patch_type="strategic" if strategic else "merge",
                namespace=meta["namespace"],
                subresource=subresource,
            )
            self.observe(answer)
        except (ApiError, OSError, TimeoutError) as error:
            log.debug("claim %s not written: %s", meta["name"], error)


def _allocated(claim: Json) -> bool:
    return bool((claim.get("status") or {}).get("allocation"))


def _timeless(allocation: Json) -> Json:
    return {k: v for k, v in allocation.items() if k != "allocationTimestamp"}
