"""The client's narrow waist: how every component sees the cluster, over HTTP or in-process.

Objects are plain JSON dictionaries with ``apiVersion`` and ``kind``. Refusals raise ``portside.api.status.ApiError``.
``resource`` is ``(group, version, plural)``, e.g. ``("apps", "v1", "deployments")``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Json = dict[str, Any]
Resource = tuple[str, str, str]
PatchType = Literal["json", "merge", "strategic", "apply"]


@dataclass(frozen=True, slots=True)
class ObjectList:
    """A consistent list: the items (each with apiVersion and kind filled in) and the collection's resourceVersion."""

    items: list[Json]
    resource_version: str
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """ADDED, MODIFIED, DELETED or BOOKMARK with the object; an ERROR event is raised as ApiError instead."""

    type: str
    object: Json = field(default_factory=dict)


class Client(Protocol):
    """What controllers, scheduler, agent and tools may ask of the API."""

    async def get(self, resource: Resource, name: str, *, namespace: str = "", subresource: str = "") -> Json: ...

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
        """``metadata_only`` asks for PartialObjectMetadata."""
        ...

    def watch(
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
    ) -> AsyncIterator[WatchEvent]: ...

    async def create(
        self,
        resource: Resource,
        body: Json,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Json: ...

    async def update(self, resource: Resource, body: Json, *, namespace: str = "", subresource: str = "") -> Json: ...

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
    ) -> Json: ...

    async def delete(
        self, resource: Resource, name: str, *, namespace: str = "", options: Json | None = None
    ) -> Json: ...

    async def delete_collection(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", options: Json | None = None
    ) -> Json:
        """What was deleted; in process, nothing where that is much."""
        ...

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Any other call: proxy, logs, discovery."""
        ...

    async def close(self) -> None: ...
