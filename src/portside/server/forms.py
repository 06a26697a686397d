"""Tables and metadata-only forms: of single objects, of lists, and of watch events."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import orjson

from portside.api import tables
from portside.api.conversion_hpa import ANNOTATIONS
from portside.api.kinds import Kind
from portside.api.rules.daemonset import TEMPLATE_GENERATION
from portside.api.status import ApiError
from portside.server.negotiate import Wanted
from portside.server.request import Request
from portside.server.watchcache_form import TYPES, Form
from portside.server.watchcache_object import CachedObject

Json = dict[str, Any]
Served = Callable[[CachedObject], Json]
INCLUDE = ("", "Metadata", "Object", "None")
CONVERTED = {
    ("apps/v1", "DaemonSet"): (TEMPLATE_GENERATION,),
    ("autoscaling/v1", "HorizontalPodAutoscaler"): ANNOTATIONS,
}
"""Annotations of an old version in which it keeps what newer ones have fields for: its metadata alone goes without."""
INITIAL_END = {"k8s.io/initial-events-end": "true"}


def include_object(request: Request) -> str:
    """The query's includeObject. Raises 400."""
    text = request.param("includeObject")
    if text not in INCLUDE:
        raise ApiError(
            400,
            "BadRequest",
            "Unable to convert to Table as requested: includeObject: Invalid value: "
            f"\"{text}\": must be 'Metadata', 'Object', 'None', or empty",
        )
    return text or "Metadata"


def partial(obj: Json, version: str) -> Json:
    """PartialObjectMetadata of an object, without its CONVERTED annotations."""
    meta = obj.get("metadata") or {}
    kept = (meta.get("annotations") and CONVERTED.get((obj.get("apiVersion", ""), obj.get("kind", "")))) or ()
    if any(key in meta["annotations"] for key in kept):
        left = {key: value for key, value in meta["annotations"].items() if key not in kept}
        meta = {key: value for key, value in meta.items() if key != "annotations"} | (
            {"annotations": left} if left else {}
        )
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": meta}


def row(kind: Kind, obj: Json, version: str, include: str, now: float) -> Json:
    """One row of a Table."""
    made: Json = {"cells": tables.cells(kind, obj, now)}
    if found := tables.conditions(kind, obj):
        made["conditions"] = found
    if include == "Metadata":
        made["object"] = partial(obj, version)
    elif include == "Object":
        made["object"] = obj
    else:
        made["object"] = None
    return made


def table(kind: Kind, objects: Sequence[Json], meta: Json, version: str, include: str) -> Json:
    """A whole Table; ``meta`` is the list's (or the object's) resourceVersion and continuation."""
    now = time.time()
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": meta,
        "columnDefinitions": [c.as_json() for c in tables.columns(kind)],
        "rows": [row(kind, obj, version, include, now) for obj in objects],
    }


def object_form(kind: Kind, obj: Json, wanted: Wanted, request: Request) -> Json:
    """A single object as Table or PartialObjectMetadata."""
    if wanted.form == "Table":
        revision = (obj.get("metadata") or {}).get("resourceVersion")
        meta = {"resourceVersion": revision} if revision else {}
        return table(kind, [obj], meta, wanted.version, include_object(request))
    if wanted.form == "PartialObjectMetadataList":
        raise not_convertible(
            f"you requested PartialObjectMetadataList, but the requested object is not a list (*{internal_name(kind)})"
        )
    return partial(obj, wanted.version)


def internal_name(kind: Kind) -> str:
    """The kind as upstream's internal types are called: ``core.ConfigMap``."""
    return f"{kind.group.partition('.')[0] or 'core'}.{kind.kind}"


def not_convertible(why: str) -> ApiError:
    return ApiError(406, "NotAcceptable", why)


class PartialForm:
    """Watch events with metadata alone."""

    def __init__(self, version: str, served: Served) -> None:
        self.then: Form | None = None
        self.key: Hashable = ("partial", version)
        self._version = version
        self._served = served

    def event(self, kind: str, obj: CachedObject) -> bytes:
        return TYPES[kind] + orjson.dumps(partial(self._served(obj), self._version)) + b"}\n"

    def bookmark(self, revision: int, initial_end: bool) -> bytes:
        meta: Json = {"resourceVersion": str(revision)}
        if initial_end:
            meta["annotations"] = INITIAL_END
        made = {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{self._version}", "metadata": meta}
        return TYPES["BOOKMARK"] + orjson.dumps(made) + b"}\n"


class TableForm:
    """Watch events as Tables of one row; the columns come with the first event only."""

    def __init__(self, kind: Kind, version: str, include: str, served: Served, *, first: bool = True) -> None:
        self.then: Form | None = TableForm(kind, version, include, served, first=False) if first else None
        self.key: Hashable = ("table", kind.api_version, kind.kind, version, include, first)
        self._kind, self._version, self._include, self._served, self._first = kind, version, include, served, first

    def _table(self, obj: Json) -> bytes:
        columns = [c.as_json() for c in tables.columns(self._kind)] if self._first else None
        made = {
            "kind": "Table",
            "apiVersion": f"meta.k8s.io/{self._version}",
            "metadata": {"resourceVersion": obj["metadata"].get("resourceVersion", "")},
            "columnDefinitions": columns,
            "rows": [row(self._kind, obj, self._version, self._include, time.time())],
        }
        return orjson.dumps(made)

    def event(self, kind: str, obj: CachedObject) -> bytes:
        return TYPES[kind] + self._table(self._served(obj)) + b"}\n"

    def bookmark(self, revision: int, initial_end: bool) -> bytes:
        meta: Json = {"resourceVersion": str(revision)}
        if initial_end:
            meta["annotations"] = INITIAL_END
        obj = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": meta}
        return TYPES["BOOKMARK"] + self._table(obj) + b"}\n"


class ConvertedForm:
    """Watch events of objects that are stored in another version than the served one."""

    def __init__(self, kind: Kind, served: Served) -> None:
        self.then: Form | None = None
        self.key: Hashable = ("converted", kind.api_version, kind.kind)
        self._kind = kind
        self._served = served

    def event(self, kind: str, obj: CachedObject) -> bytes:
        return TYPES[kind] + orjson.dumps(self._served(obj)) + b"}\n"

    def bookmark(self, revision: int, initial_end: bool) -> bytes:
        meta: Json = {"resourceVersion": str(revision)}
        if initial_end:
            meta["annotations"] = INITIAL_END
        made = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": meta}
        return TYPES["BOOKMARK"] + orjson.dumps(made) + b"}\n"


class ProtobufForm:
    """Watch events in protobuf: framed by their length, each object in its envelope."""

    def __init__(self, kind: Kind, served: Served, partial_version: str = "") -> None:
        self.then: Form | None = None
        self.key: Hashable = ("protobuf", kind.api_version, kind.kind, partial_version)
        self._kind, self._served, self._partial = kind, served, partial_version

    def event(self, kind: str, obj: CachedObject) -> bytes:
        from portside.api.protobuf_encode import encode, encode_event

        shown = self._served(obj)
        return encode_event(kind, encode(partial(shown, self._partial) if self._partial else shown))

    def bookmark(self, revision: int, initial_end: bool) -> bytes:
        from portside.api.protobuf_encode import encode, encode_event

        meta: Json = {"resourceVersion": str(revision)}
        if initial_end:
            meta["annotations"] = INITIAL_END
        made = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": meta}
        return encode_event("BOOKMARK", encode(partial(made, self._partial) if self._partial else made))


def protobuf_error(error: ApiError) -> bytes:
    """The ERROR event that ends a watch in protobuf."""
    from portside.api.protobuf_encode import encode, encode_event

    return encode_event("ERROR", encode(error.status))
