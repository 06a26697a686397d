"""A list in every form but the stored bytes': Tables, metadata alone, protobuf, YAML; object by object, a slice at a time.

Tens of thousands of objects take seconds to be put into such a form. What the form allows is made while it is sent
(``pieces.py``); protobuf tells its length before its contents, so its slices are made first, others getting their turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from portside.api import tables
from portside.api.kinds import Kind
from portside.server import forms
from portside.server.negotiate import JSON, PROTOBUF, Wanted, dump_yaml
from portside.server.pieces import Pieces, bracketed
from portside.server.request import Response

Json = dict[str, Any]
Slices = Iterator[Sequence[Json]]
YAML_AT_ONCE = 4
"""Objects in a piece of YAML, a millisecond each."""


def response(pieces: Pieces, media: str, code: int = 200) -> Response:
    """The pieces as an answer: sent one by one where there are several."""
    if pieces.large:
        return Response(code, content_type=media, stream=pieces)
    return Response(code, pieces.joined(), media)


async def formed(kind: Kind, meta: Json, slices: Slices, wanted: Wanted, include: str = "") -> Response:
    """The list of ``slices``, objects in the served version, as a Table, metadata alone, protobuf or YAML. ``meta`` is the
    list's own; ``include`` what a Table's rows show of their objects."""
    if wanted.form == "Table":
        return response(_table(kind, meta, slices, wanted, include), wanted.media)
    if wanted.form:
        version, whole = f"meta.k8s.io/{wanted.version}", slices
        slices = ([forms.partial(obj, wanted.version) for obj in some] for some in whole)
        if wanted.media == PROTOBUF:
            return await _protobuf(version, "PartialObjectMetadata", meta, slices)
        top: Json = {"kind": "PartialObjectMetadataList", "apiVersion": version, "metadata": meta}
        return response(document(top, "items", slices, wanted.media), wanted.media)
    if wanted.media == PROTOBUF:
        return await _protobuf(kind.api_version, kind.kind, meta, slices)
    return response(collection(kind, meta, slices, wanted.media), wanted.media)


def collection(kind: Kind, meta: Json, slices: Slices, media: str = JSON) -> Pieces:
    """The plain list; items of built-in kinds carry neither apiVersion nor kind."""
    left = () if kind.custom else ("apiVersion", "kind")
    bare = ([{k: v for k, v in obj.items() if k not in left} for obj in some] for some in slices)
    top = {"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": meta}
    return document(top, "items", bare, media)


def _table(kind: Kind, meta: Json, slices: Slices, wanted: Wanted, include: str) -> Pieces:
    now, version = time.time(), wanted.version
    rows = ([forms.row(kind, obj, version, include, now) for obj in some] for some in slices)
    top = {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": meta,
        "columnDefinitions": [c.as_json() for c in tables.columns(kind)],
    }
    return document(top, "rows", rows, wanted.media)


def document(top: Json, name: str, slices: Slices, media: str = JSON) -> Pieces:
    """``top`` with the objects of ``slices`` as its member ``name``: the last in JSON, in order in YAML."""
    if media == JSON:
        head = orjson.dumps(top)[:-1] + b',"%b":' % name.encode()
        return Pieces(head, bracketed(orjson.dumps(some)[1:-1] for some in slices if some), b"}")
    few = (some[at : at + YAML_AT_ONCE] for some in slices for at in range(0, len(some), YAML_AT_ONCE))
    first = next(few, None)
    whole = dump_yaml(top | {name: []})
    if first is None:
        return Pieces(whole, iter(()), b"")
    empty = b"\n%b: []\n" % name.encode()
    head, _, tail = whole.partition(empty)
    return Pieces(head + empty[:-4] + b"\n", _chained(dump_yaml, first, few), tail)


def _chained(dump: Callable[[Any], bytes], first: Sequence[Json], more: Slices) -> Iterator[bytes]:
    yield dump(first)
    for some in more:
        yield dump(some)


async def _protobuf(api_version: str, kind: str, meta: Json, slices: Slices) -> Response:
    from portside.api.protobuf_encode import list_head, list_items, list_tail

    made = []
    for some in slices:
        made.append(list_items(api_version, kind, some))
        await asyncio.sleep(0)
    head = list_head(api_version, kind, meta, sum(map(len, made)))
    return response(Pieces(head, iter(made), list_tail()), PROTOBUF)
