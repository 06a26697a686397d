"""Adoption and release: which objects a controller owns, and the patches that make the references say so."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson

from portside.api.selector import LabelSelector, from_object
from portside.client.cache import View, controller_of, kind_of
from portside.client.protocol import Json, Resource
from portside.controllers.harness import OfOwner
from portside.controllers.plan import Op, patch

GONE = frozenset({404, 422})  # deleted, or deleted and made anew, meanwhile


@lru_cache(maxsize=4096)
def _compiled(text: bytes) -> LabelSelector:
    return from_object(orjson.loads(text))


def selector_of(selector: Json | None) -> LabelSelector:
    """The compiled selector of a LabelSelector object; equal ones are compiled once."""
    return _compiled(orjson.dumps(selector))


def candidates(view: View, resource: Resource, owner: Json) -> list[Json]:
    """Objects owned by ``owner``, and those of its namespace without a controller."""
    meta = owner["metadata"]
    return [
        *view.by(resource, "controller", meta["uid"]),
        *view.by(resource, "controller", f"-/{meta.get('namespace', '')}"),
    ]


def claim(
    owner: Json,
    reference: Json,
    selector: LabelSelector,
    resource: Resource,
    found: list[Json],
    *,
    may_adopt: Callable[[Json], bool] | None = None,
    more: Json | None = None,
) -> tuple[list[Json], list[Op]]:
    """(objects owned from now on, patches to adopt and release). ``more`` is merged into an adopted one's metadata."""
    uid = owner["metadata"]["uid"]
    leaving = "deletionTimestamp" in owner["metadata"]
    kept: list[Json] = []
    ops: list[Op] = []
    for obj in found:
        meta = obj["metadata"]
        ref = controller_of(obj)
        if ref is not None:
            if ref.get("uid") != uid:
                continue
            if selector.matches_object(obj):
                kept.append(obj)
            elif not leaving:
                ops.append(patch(resource, obj, release(meta["uid"], uid), patch_type="strategic", ignore=GONE))
            continue
        if leaving or "deletionTimestamp" in meta or selector.everything or not selector.matches_object(obj):
            continue
        if may_adopt is not None and not may_adopt(obj):
            continue
        body: dict[str, Any] = {"metadata": {"uid": meta["uid"], "ownerReferences": [reference], **(more or {})}}
        ops.append(patch(resource, obj, body, patch_type="strategic", ignore=GONE))
        kept.append(obj)
    return kept, ops


def release(uid: str, owner_uid: str) -> Json:
    """The strategic patch that takes one owner reference away."""
    return {"metadata": {"uid": uid, "ownerReferences": [{"$patch": "delete", "uid": owner_uid}]}}


def matching_owners(resource: Resource, kind: str, group: str, selector_path: str = "object") -> OfOwner:
    """Maps an object to its controller of this kind, or, without any controller, to all whose selector matches."""

    def keys(view: View, obj: Json) -> list[str]:
        meta = obj["metadata"]
        namespace = meta.get("namespace", "")
        ref = controller_of(obj)
        if ref is not None:
            if kind_of(ref) != (kind, group):
                return []
            return [f"{namespace}/{ref['name']}"]
        if not meta.get("labels"):
            return []
        found = []
        for owner in view.in_namespace(resource, namespace):
            raw = owner["spec"].get("selector")
            if not raw:
                continue
            selector = selector_of(raw if selector_path == "object" else {"matchLabels": raw})
            if selector.matches_object(obj):
                found.append(f"{namespace}/{owner['metadata']['name']}")
        return found

    return OfOwner(kind, group, keys)
