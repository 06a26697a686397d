"""EndpointSlices as few and as steady as possible: what the slice controller and the mirror share."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import orjson

from portside.client.protocol import Json, Resource
from portside.controllers.endpoint import HEADLESS
from portside.controllers.plan import Draft, create, delete, update
from portside.controllers.pods import owner_reference
from portside.controllers.triggertime import annotated

SLICES: Resource = ("discovery.k8s.io", "v1", "endpointslices")
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
FULL = 100  # endpoints per slice
AT_ONCE = 10  # slices that are looked at before others get a turn
RESERVED = frozenset({SERVICE_NAME, MANAGED_BY, HEADLESS})

Group = tuple[str, bytes]  # address type, ports as JSON


def labels_for(owner: Json, service_name: str, manager: str, *, headless: bool) -> dict[str, str]:
    labels = {k: v for k, v in (owner["metadata"].get("labels") or {}).items() if k not in RESERVED}
    labels |= {SERVICE_NAME: service_name, MANAGED_BY: manager}
    if headless:
        labels[HEADLESS] = ""
    return labels


def group_of(piece: Json) -> Group:
    ports = [
        {k: v for k, v in {"name": "", "protocol": "TCP", **p}.items() if v is not None}
        for p in piece.get("ports") or ()
    ]
    return str(piece.get("addressType", "")), orjson.dumps(ports, option=orjson.OPT_SORT_KEYS)


def _id(endpoint: Json) -> Any:
    return (tuple(endpoint["addresses"]), (endpoint.get("targetRef") or {}).get("uid"))


def _fill(pieces: list[Json], wanted: list[Json]) -> Generator[None, None, list[list[Json]]]:
    """Endpoints per existing slice, then for new ones; an endpoint stays in the slice it is in."""
    left = {_id(e): e for e in wanted}
    filled: list[list[Json]] = []
    for number, piece in enumerate(pieces, 1):
        ids = map(_id, piece.get("endpoints") or ())
        filled.append([left.pop(known) for known in ids if known in left])
        if number % AT_ONCE == 0:
            yield
    rest = list(left.values())
    for kept in sorted(filled, key=len, reverse=True):
        room = FULL - len(kept)
        if rest and room > 0 and len(kept) > 0:
            kept += rest[:room]
            rest = rest[room:]
    for kept in filled:
        if rest and not kept:
            kept += rest[:FULL]
            rest = rest[FULL:]
    while rest:
        filled.append(rest[:FULL])
        rest = rest[FULL:]
    return filled


def reconcile(
    draft: Draft,
    owner: Json,
    owner_kind: str,
    existing: list[Json],
    desired: dict[Group, list[Json]],
    labels: dict[str, str],
    annotations: dict[str, str] | None = None,
    trigger: str = "",
) -> Iterator[None]:
    """Writes as few slices as possible: those that need no change stay, leftovers are used for new groups. Stops now and then.

    ``annotations``: those of a mirror; without them a changed slice tells the ``trigger`` time instead.
    """

    def changed(piece: Json, group: Group, endpoints: list[Json]) -> Json:
        told = annotated(piece["metadata"].get("annotations"), trigger) if annotations is None else annotations
        return _changed(piece, group, endpoints, labels, told)

    spare: list[Json] = []
    fresh: list[tuple[Group, list[Json]]] = []
    for group in {group_of(p) for p in existing} - set(desired):
        spare += [p for p in existing if group_of(p) == group]
    for group, wanted in desired.items():
        pieces = [p for p in existing if group_of(p) == group]
        filled = yield from _fill(pieces, wanted)
        if not wanted:
            filled = filled[:1] or [[]]
            spare += pieces[1:]
            pieces = pieces[:1]
        for number, (piece, endpoints) in enumerate(zip(pieces, filled, strict=False), 1):
            if number % AT_ONCE == 0:
                yield
            if not endpoints and wanted:
                spare.append(piece)
            elif _differs(piece, endpoints, labels, annotations):
                draft.add(update(SLICES, changed(piece, group, endpoints)))
        fresh += [(group, endpoints) for endpoints in filled[len(pieces) :]]
    for group, endpoints in fresh:
        reused = next((p for p in spare if p.get("addressType") == group[0]), None)
        if reused is not None:
            spare.remove(reused)
            draft.add(update(SLICES, changed(reused, group, endpoints)))
            continue
        meta: Json = {
            "generateName": f"{owner['metadata']['name']}-",
            "namespace": owner["metadata"]["namespace"],
            "ownerReferences": [owner_reference(owner, "v1", owner_kind)],
        }
        blank = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": meta,
            "addressType": group[0],
        }
        draft.add(create(SLICES, changed(blank, group, endpoints)))
    draft.add(*(delete(SLICES, piece) for piece in spare))


def _differs(piece: Json, endpoints: list[Json], labels: dict[str, str], annotations: dict[str, str] | None) -> bool:
    meta = piece["metadata"]
    return (
        sorted(map(_text, piece.get("endpoints") or ())) != sorted(map(_text, endpoints))
        or (meta.get("labels") or {}) != labels
        or (annotations is not None and (meta.get("annotations") or {}) != annotations)
    )


def _text(endpoint: Json) -> bytes:
    return orjson.dumps(endpoint, option=orjson.OPT_SORT_KEYS)


def _changed(
    piece: Json, group: Group, endpoints: list[Json], labels: dict[str, str], annotations: dict[str, str]
) -> Json:
    meta = {**piece["metadata"], "labels": labels}
    meta.pop("annotations", None)
    if annotations:
        meta["annotations"] = annotations
    return {**piece, "metadata": meta, "endpoints": endpoints, "ports": orjson.loads(group[1])}
