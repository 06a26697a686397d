"""Namespace: its name label, its finalizers, its phase."""

from __future__ import annotations

from typing import Any

from portside.api import meta, names
from portside.api.field import FieldError, invalid_value
from portside.api.kinds import BY_KIND
from portside.api.rules.registry import Context, Rules, SubRules

Json = dict[str, Any]
Errors = list[FieldError]
NAME_LABEL = "kubernetes.io/metadata.name"


def default(obj: Json) -> None:
    metadata = obj.setdefault("metadata", {})
    if metadata.get("name"):
        metadata["labels"] = (metadata.get("labels") or {}) | {NAME_LABEL: metadata["name"]}
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("phase", "Active")


def prepare_create(obj: Json, ctx: Context) -> None:
    default(obj)
    obj["status"] = {"phase": "Active"}
    finalizers = obj["spec"].setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")


def prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    obj["spec"] = dict(obj.get("spec") or {})
    obj["spec"].pop("finalizers", None)
    if "finalizers" in (old.get("spec") or {}):
        obj["spec"]["finalizers"] = old["spec"]["finalizers"]


def finalizer_problems(name: str, path: str) -> Errors:
    errors = [invalid_value(path, name, p) for p in names.qualified_name(name)]
    if "/" not in name and name not in meta.STANDARD_FINALIZERS:
        text = "name is neither a standard finalizer name nor is it fully qualified"
        errors.append(invalid_value(path, name, text))
    return errors


def validate(obj: Json, ctx: Context) -> Errors:
    listed = (obj.get("spec") or {}).get("finalizers") or ()
    return [e for f in listed for e in finalizer_problems(f, "spec.finalizers")]


def _finalize(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {}


def _validate_finalize(obj: Json, old: Json, ctx: Context) -> Errors:
    listed = (obj.get("spec") or {}).get("finalizers") or ()
    return [e for i, f in enumerate(listed) for e in finalizer_problems(f, f"spec.finalizers[{i}]")]


def _status(obj: Json, old: Json, ctx: Context) -> None:
    obj["spec"] = old.get("spec") or {}


def _validate_status(obj: Json, old: Json, ctx: Context) -> Errors:
    phase = (obj.get("status") or {}).get("phase", "")
    deleted = bool(obj["metadata"].get("deletionTimestamp"))
    if deleted and phase != "Terminating":
        text = "may only be 'Terminating' if `deletionTimestamp` is not empty"
    elif not deleted and phase != "Active":
        text = "may only be 'Active' if `deletionTimestamp` is empty"
    else:
        return []
    return [invalid_value("status.Phase", phase, text)]


NAMESPACE = Rules(
    BY_KIND["", "v1", "Namespace"],
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate=validate,
    name=names.dns_label,
    subresources={
        "finalize": SubRules(prepare_update=_finalize, validate_update=_validate_finalize),
        "status": SubRules(prepare_update=_status, validate_update=_validate_status),
    },
)
