"""Fields that a request can't change and so never owns, per kind and subresource (upstream's reset fields)."""

from __future__ import annotations

from typing import Any

from portside.api import managed_sets as sets
from portside.api.managed_sets import Fields
from portside.api.schema_tree import Schema

Json = dict[str, Any]
STATUS: Fields = {"f:status": {}}
SPEC: Fields = {"f:spec": {}}
CUSTOM_STATUS: Fields = {"f:spec": {}, "f:metadata": {}}
_LABELS: Fields = {"f:spec": {}, "f:metadata": {"f:labels": {}}}


ON_OBJECT: dict[str, Fields] = {
    "CertificateSigningRequest": STATUS | SPEC,
}
"""What a write of the object itself never owns, where it is more than status."""

ON_STATUS: dict[str, Fields] = {
    "Pod": {"f:spec": {}, "f:metadata": {"f:deletionTimestamp": {}, "f:ownerReferences": {}}},
    "Deployment": _LABELS,
    "CustomResourceDefinition": {"f:spec": {}, "f:metadata": {}},
    "APIService": {"f:spec": {}, "f:metadata": {}},
    "ResourceClaim": {"f:spec": {}, "f:metadata": {}},
}
"""What a write of /status never owns, where it is more than spec."""

_RESIZED = (".", "f:name", "f:resources", "f:resizePolicy")
ONLY: dict[str, list[tuple[str, ...]]] = {
    "ephemeralcontainers": [("f:spec", "f:ephemeralContainers")],
    "resize": [
        ("f:spec", "f:resources"),
        *(("f:spec", "f:containers", "*", name) for name in _RESIZED),
        *(("f:spec", "f:initContainers", "*", name) for name in _RESIZED),
    ],
}
"""Subresources that own nothing but these."""


def reset(schema: Schema, fields: Fields, obj: Json, subresource: str) -> Fields:
    """``fields`` without what a write of ``obj`` through ``subresource`` ("" the object itself) never owns."""
    if not subresource:
        if not schema.status_apart:
            return fields
        never = ON_OBJECT.get(obj.get("kind", ""), STATUS)
        return sets.without(fields, never) if any(name in fields for name in never) else fields
    if subresource in ONLY:
        return sets.only(fields, ONLY[subresource])
    if subresource == "status":
        if schema.form == "crd":
            return sets.without(fields, CUSTOM_STATUS)
        return sets.without(fields, ON_STATUS.get(obj.get("kind", ""), SPEC))
    return fields
