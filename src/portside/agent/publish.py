"""Writes a pod's status to the API: the newest only, one write at a time, nothing when nothing changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from portside.agent.status import DISRUPTION, OWNED
from portside.api.status import ApiError
from portside.client.protocol import Client

Json = dict[str, Any]
log = logging.getLogger(__name__)
PODS = ("", "v1", "pods")
RETRY = 1.0  # seconds


class Publisher:
    """The status writer of one pod."""

    def __init__(self, client: Client, pod: Json, changed: Callable[[], None]) -> None:
        self._client = client
        self._pod = pod
        self._changed = changed
        self._last: Json | None = None
        self._pending: Json | None = None
        self._written: Json | None = None
        self._task: asyncio.Task[None] | None = None

    def seen(self, pod: Json) -> None:
        self._pod = pod

    def merged(self, pod: Json) -> Json:
        """The pod with our last status in place of the API's, which may be older."""
        if self._last is None:
            return pod
        foreign = [c for c in (pod.get("status") or {}).get("conditions") or () if c["type"] not in OWNED]
        own = [c for c in self._last["conditions"] if c["type"] in OWNED]
        rest = {k: v for k, v in (pod.get("status") or {}).items() if k in ("nominatedNodeName", "resize")}
        return {**pod, "status": {**rest, **self._last, "conditions": own + foreign}}

    def put(self, status: Json) -> None:
        """Write it soon."""
        if status == self._last or (self._last is None and status == self._pod.get("status")):
            return
        self._last = self._pending = status
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write(), name="status")

    async def flush(self) -> None:
        """Wait until the newest status is written or the pod is gone."""
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task})

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _patch(self, status: Json) -> Json:
        """A strategic merge: conditions merge by type, so others' stay; addresses that went are taken out by name."""
        body = dict(status)
        before = self._written or self._pod.get("status") or {}
        body["conditions"] = _conditions(before.get("conditions") or (), status["conditions"])
        for key in ("podIPs", "hostIPs"):
            gone = {i["ip"] for i in before.get(key) or ()} - {i["ip"] for i in status.get(key) or ()}
            if gone:
                body[key] = [*status.get(key, ()), *({"ip": ip, "$patch": "delete"} for ip in sorted(gone))]
        for key in ("initContainerStatuses", "ephemeralContainerStatuses", "reason", "message"):
            if key in before and key not in status:
                body[key] = None
        return {"metadata": {"uid": self._pod["metadata"]["uid"]}, "status": body}

    async def _write(self) -> None:
        meta = self._pod["metadata"]
        while (status := self._pending) is not None:
            self._pending = None
            try:
                await self._client.patch(
                    PODS,
                    meta["name"],
                    self._patch(status),
                    patch_type="strategic",
                    namespace=meta["namespace"],
                    subresource="status",
                )
                self._written = status
            except ApiError as error:
                if error.code in (404, 409) or _another(error):
                    return
                log.warning("status of %s/%s: %s", meta["namespace"], meta["name"], error)
                await self._again(status)
            except (OSError, TimeoutError) as problem:
                log.debug("status of %s/%s: %s", meta["namespace"], meta["name"], problem)
                await self._again(status)

    async def _again(self, status: Json) -> None:
        await asyncio.sleep(RETRY)
        if self._pending is None:
            self._pending = status


def _another(error: ApiError) -> bool:
    """Whether the name belongs to another pod by now: the uid, which every write of ours carries, is refused."""
    causes = (error.details or {}).get("causes") or ()
    return error.code == 422 and any(cause.get("field") == "metadata.uid" for cause in causes)


def _conditions(before: Sequence[Json], now: Sequence[Json]) -> list[Json]:
    """Our conditions as a strategic merge: what a condition no longer says is nulled, one that is over deleted."""
    known = {c["type"]: c for c in before if c["type"] in OWNED}
    body = []
    for condition in now:
        if condition["type"] in (*OWNED, DISRUPTION):
            old = known.pop(condition["type"], {})
            body.append(dict.fromkeys((k for k in ("reason", "message") if old.get(k)), None) | condition)
    return [*body, *({"type": kind, "$patch": "delete"} for kind in known)]
