"""Who changed an object, when and how: the versions that the store still has, each with what its writer said of itself.

``GET /portside/history/PATH`` with the path of an object answers a History; who may get the object may ask. The window is
the store's (``--history``).
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from portside.server.attributes import Attributes
from portside.server.request import Request, Response
from portside.server.routes import not_found, resolve
from portside.server.watchcache import raise_unreadable
from portside.store.backend import Record, Unreadable, Version

if TYPE_CHECKING:
    from portside.server.app import ApiServer
    from portside.server.resource import Resource

Json = dict[str, Any]
PREFIX = "/portside/history"
MOST = 1000
"""Versions told at the most, the newest."""
AGENT_LENGTH = 128
WRITES = frozenset(("create", "update", "patch", "delete", "deletecollection"))

# Set where a request's attributes are known, read where a write leaves for the store, however many calls lie between.
AUTHOR: ContextVar[bytes] = ContextVar("author", default=b"")


def sign(request: Request, attributes: Attributes, now: str) -> None:
    """Writes from here on in this task are this request's."""
    agent = request.header("user-agent")[:AGENT_LENGTH]
    AUTHOR.set(_note(now, attributes.user.name, agent, attributes.verb, attributes.subresource))


@lru_cache(maxsize=256)
def _note(now: str, user: str, agent: str, verb: str, subresource: str) -> bytes:
    note: Json = {"time": now, "user": user, "client": agent, "verb": verb}
    if subresource:
        note["subresource"] = subresource
    return orjson.dumps(note)


def asked(request: Request) -> Request | None:
    """The GET of the object whose history the request asks for: what authorization decides on. None for other requests."""
    if not request.path.startswith(PREFIX + "/") or request.method != "GET":
        return None
    return replace(request, path=request.path[len(PREFIX) :], query="")


async def answer(server: ApiServer, inner: Request, attributes: Attributes) -> Response:
    """The history of the object that ``inner`` would get. Raises 404."""
    if not attributes.is_resource or not attributes.name or attributes.subresource:
        raise not_found()
    route = resolve(inner, attributes, server.table)
    resource = server.resource(route.kind)
    key = resource.key(attributes.namespace if route.kind.namespaced else "", attributes.name)
    versions = await server.backend.history(key, limit=MOST)
    if not versions:
        raise not_found()
    items = [await _told(resource, key, version) for version in versions]
    made = {"kind": "History", "apiVersion": "portside.dev/v1", "items": items}
    return Response(200, orjson.dumps(made))


async def _told(resource: Resource, key: str, version: Version) -> Json:
    """One version as the History shows it; without a note the server itself, or an older Portside, wrote it."""
    told: Json = {"revision": str(version.revision), **(orjson.loads(version.note) if version.note else {})}
    if version.value is None:
        return told | {"deleted": True}
    record = Record(key, version.value, version.revision, version.created)
    if isinstance(version.value, Unreadable):
        raise_unreadable([record])
    return told | {"object": await resource.load(resource.cache.version(record))}
