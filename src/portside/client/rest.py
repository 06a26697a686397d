"""The client's calls as HTTP exchanges: paths, queries, decoding. A Transport carries them (over HTTP or in-process)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import orjson

from portside.api.status import ApiError
from portside.client.protocol import Json, ObjectList, PatchType, Resource, WatchEvent
from portside.client.shared import parsed

PATCH_TYPES: dict[str, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
_PLAIN = re.compile(r"[A-Za-z0-9._~:-]+\Z").match
METADATA_ACCEPT = (
    "application/json;as=PartialObjectMetadata{list};g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata{list};"
    "g=meta.k8s.io;v=v1beta1,application/json"
)


class Transport(Protocol):
    """Exchanges with an API server. Header names of answers are lower case."""

    async def exchange(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]: ...

    async def ask(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes | Json]:
        """``exchange`` for who wants the answer alone: its JSON, or the object itself where that is at hand."""
        ...

    def lines(self, path: str, query: str, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The lines of a streamed GET; a refusal raises ApiError, a lost connection ConnectionError."""
        ...

    async def close(self) -> None: ...


def resource_path(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """``/apis/apps/v1/namespaces/default/deployments/web/scale``."""
    path = _collection_path(resource, namespace)
    if name:
        path += f"/{name}" if _PLAIN(name) else f"/{quote(name, safe=':')}"
    return f"{path}/{subresource}" if subresource else path


@lru_cache(maxsize=1024)
def _collection_path(resource: Resource, namespace: str) -> str:
    group, version, plural = resource
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    if namespace and not (plural == "namespaces" and not group):
        path += f"/namespaces/{quote(namespace, safe='')}"
    return f"{path}/{plural}"


def refusal(code: int, body: bytes) -> ApiError:
    """The ApiError for an answer of 400 or more; keeps the text of bodies that are no Status."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        status.setdefault("code", code)
        return ApiError.from_status(status)
    text = body[:2000].decode("utf-8", "replace").strip() or f"the server answered {code}"
    return ApiError(code, {401: "Unauthorized", 404: "NotFound", 429: "TooManyRequests"}.get(code, ""), text)


def query_of(**parameters: str | int | bool | None) -> str:
    """URL-encoded parameters; empty, zero, false and absent ones are left out."""
    chosen = {k: ("true" if v is True else str(v)) for k, v in parameters.items() if v}
    return urlencode(chosen) if chosen else ""


class RestClient:
    """``client.protocol.Client`` over a Transport. ``user_agent`` names the caller in field managers and audit;
    ``decode`` turns a line of a watch into its event."""

    def __init__(
        self, transport: Transport, *, user_agent: str = "portside", decode: Callable[[bytes], WatchEvent] = parsed
    ) -> None:
        self.transport = transport
        self.user_agent = user_agent
        self._decode = decode
        plain = {"accept": "application/json", "user-agent": user_agent}
        sent = ("application/json", *PATCH_TYPES.values())
        self._headers = {"": plain, **{media: {**plain, "content-type": media} for media in sent}}

    async def _call(
        self, method: str, path: str, query: str = "", body: bytes = b"", content_type: str = "application/json"
    ) -> Json:
        headers = self._headers[content_type if body else ""]
        code, answer = await self.transport.ask(method, path, query, headers, body)
        if isinstance(answer, dict):
            return answer
        if code >= 400:
            raise refusal(code, answer)
        decoded: Json = orjson.loads(answer) if answer else {}
        return decoded

    async def get(self, resource: Resource, name: str, *, namespace: str = "", subresource: str = "") -> Json:
        return await self._call("GET", resource_path(resource, namespace, name, subresource))

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
        parameters: dict[str, Any] = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "resourceVersion": resource_version,
            "limit": limit,
            "continue": continue_token,
        }
        headers = {"accept": "application/json", "user-agent": self.user_agent}
        if metadata_only:
            headers["accept"] = METADATA_ACCEPT.format(list="List")
        code, _, answer = await self.transport.exchange(
            "GET", resource_path(resource, namespace), query_of(**parameters), headers, b""
        )
        if code >= 400:
            raise refusal(code, answer)
        body = orjson.loads(answer)
        items: list[Json] = body.get("items") or []
        api_version = body.get("apiVersion", "")
        kind = str(body.get("kind", "")).removesuffix("List")
        for i, item in enumerate(items):
            if "kind" not in item:
                items[i] = {"apiVersion": api_version, "kind": kind, **item}
        meta = body.get("metadata") or {}
        return ObjectList(items, str(meta.get("resourceVersion", "")), str(meta.get("continue", "")))

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
        parameters: dict[str, Any] = {
            "watch": True,
            "allowWatchBookmarks": True,
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "resourceVersion": resource_version,
            "timeoutSeconds": timeout_seconds,
        }
        if send_initial_events:
            parameters |= {"sendInitialEvents": True, "resourceVersionMatch": "NotOlderThan"}
        headers = {"accept": "application/json", "user-agent": self.user_agent}
        if metadata_only:
            headers["accept"] = METADATA_ACCEPT.format(list="")
        lines = self.transport.lines(resource_path(resource, namespace), query_of(**parameters), headers)
        async for line in lines:
            event = self._decode(line)
            if event.type == "ERROR":
                raise ApiError.from_status(event.object)
            yield event

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
        path = resource_path(resource, namespace, name, subresource)
        return await self._call("POST", path, query_of(dryRun="All" if dry_run else ""), orjson.dumps(body))

    async def update(self, resource: Resource, body: Json, *, namespace: str = "", subresource: str = "") -> Json:
        path = resource_path(
            resource, namespace or body["metadata"].get("namespace", ""), body["metadata"]["name"], subresource
        )
        return await self._call("PUT", path, "", orjson.dumps(body))

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
        if patch_type == "apply" and not field_manager:
            field_manager = self.user_agent
        query = query_of(fieldManager=field_manager, force=force and patch_type == "apply")
        path = resource_path(resource, namespace, name, subresource)
        return await self._call("PATCH", path, query, orjson.dumps(body), PATCH_TYPES[patch_type])

    async def delete(self, resource: Resource, name: str, *, namespace: str = "", options: Json | None = None) -> Json:
        path = resource_path(resource, namespace, name)
        return await self._call("DELETE", path, "", orjson.dumps(options) if options else b"")

    async def delete_collection(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", options: Json | None = None
    ) -> Json:
        query = query_of(labelSelector=label_selector)
        body = orjson.dumps(options) if options else b""
        return await self._call("DELETE", resource_path(resource, namespace), query, body)

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        path, _, query = path.partition("?")
        sent = {"user-agent": self.user_agent, **{k.lower(): v for k, v in (headers or {}).items()}}
        return await self.transport.exchange(method, path, query, sent, body or b"")

    async def close(self) -> None:
        await self.transport.close()
