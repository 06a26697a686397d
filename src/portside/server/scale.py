"""The Scale view of workloads: made of an object, and written back into it."""

from __future__ import annotations

from typing import Any

from portside.api.selector import format_object

Json = dict[str, Any]


def scale_of(obj: Json) -> Json:
    """The autoscaling/v1 Scale of a Deployment, ReplicaSet, StatefulSet or ReplicationController."""
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    kept = {k: meta[k] for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if k in meta}
    selector = spec.get("selector")
    if obj["kind"] == "ReplicationController":
        text = ",".join(f"{k}={v}" for k, v in sorted((selector or {}).items()))
    else:
        text = format_object(selector) if selector else ""
    replicas = spec.get("replicas", 1)
    seen: Json = {"replicas": status.get("replicas", 0)}
    if text:
        seen["selector"] = text
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": kept,
        "spec": {"replicas": replicas} if replicas else {},
        "status": seen,
    }


def scale_to(obj: Json, scale: Json) -> Json:
    """``obj`` with the replicas (and the resourceVersion) a Scale asks for."""
    new = obj | {"spec": (obj.get("spec") or {}) | {"replicas": (scale.get("spec") or {}).get("replicas", 0)}}
    meta = dict(obj["metadata"])
    said = scale["metadata"]
    if said.get("resourceVersion"):
        meta["resourceVersion"] = said["resourceVersion"]
    if said.get("uid"):
        meta["uid"] = said["uid"]
    new["metadata"] = meta
    return new
