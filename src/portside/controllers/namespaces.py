"""Which namespaces still take content, and which one an object is in."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.pods import is_terminating

NAMESPACES: Resource = ("", "v1", "namespaces")


def active(namespace: Json | None) -> bool:
    """Content may still be made in it."""
    return namespace is not None and not is_terminating(namespace)


def namespace_of(view: View, obj: Json) -> Iterable[str]:
    yield obj["metadata"].get("namespace", "")
