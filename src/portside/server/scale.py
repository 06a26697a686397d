"""The Scale view of workloads and custom resources: made of an object, and written back into it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from portside.api.customkind import CustomKind
from portside.api.jsonpath import at_path, put_at
from portside.api.kinds import Kind
from portside.api.managed_scale import REPLICAS
from portside.api.selector import format_object
from portside.api.status import ApiError, internal

Json = dict[str, Any]
Paths = tuple[str, str, str]
"""Where a custom resource keeps the wanted replicas, the present ones, and the selector ("": nowhere)."""


def paths_of(kind: Kind | None) -> Paths | None:
    """The paths of a custom resource's scale; None for built-in kinds, which are known."""
    return kind.scale if isinstance(kind, CustomKind) else None


def count_path(paths: Paths | None) -> tuple[str, ...]:
    """The fields down to the wanted replicas."""
    return REPLICAS if paths is None else tuple(paths[0].strip(".").split("."))


def _custom(obj: Json, paths: Paths, *, strict: bool) -> Json:
    """The Scale of a custom resource. Raises ApiError 500 when ``strict`` and the replicas are not there."""
    spec, status, selector = paths
    wanted = _number(obj, spec)
    if wanted is None and strict:
        raise internal(f'the spec replicas field "{spec}" does not exist')
    seen: Json = {"replicas": _number(obj, status) or 0}
    if selector and (text := at_path(obj, selector)) and isinstance(text, str):
        seen["selector"] = text
    return _scale(obj["metadata"], wanted or 0, seen)


def _number(obj: Json, path: str) -> int | None:
    value = at_path(obj, path)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    kind = {str: "string", float: "float64", bool: "bool"}.get(type(value), "map[string]interface {}")
    text = f"{path} accessor error: {value} is of the type {kind}, expected int64"
    raise ApiError(500, "", text)


def _scale(meta: Json, replicas: int, seen: Json) -> Json:
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            k: meta[k] for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if k in meta
        },
        "spec": {"replicas": replicas} if replicas else {},
        "status": seen,
    }


def scale_of(obj: Json, paths: Paths | None = None, *, strict: bool = False) -> Json:
    """The autoscaling/v1 Scale of a Deployment, ReplicaSet, StatefulSet, ReplicationController, or, by its ``paths``, of
    a custom resource, which without replicas is 500 when ``strict``."""
    if paths is not None:
        return _custom(obj, paths, strict=strict)
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    selector = spec.get("selector")
    if obj["kind"] == "ReplicationController":
        text = ",".join(f"{k}={v}" for k, v in sorted((selector or {}).items()))
    else:
        text = format_object(selector) if selector else ""
    replicas = spec.get("replicas", 1)
    seen: Json = {"replicas": status.get("replicas", 0)}
    if text:
        seen["selector"] = text
    return _scale(meta, replicas, seen)


def scale_to(obj: Json, scale: Json, paths: Paths | None = None) -> Json:
    """``obj`` with the replicas (and the resourceVersion) a Scale asks for."""
    if paths is not None:
        new = deepcopy(obj)
        put_at(new, paths[0], (scale.get("spec") or {}).get("replicas", 0))
    else:
        new = obj | {"spec": (obj.get("spec") or {}) | {"replicas": (scale.get("spec") or {}).get("replicas", 0)}}
    meta = dict(obj["metadata"])
    said = scale["metadata"]
    if said.get("resourceVersion"):
        meta["resourceVersion"] = said["resourceVersion"]
    if said.get("uid"):
        meta["uid"] = said["uid"]
    new["metadata"] = meta
    return new
