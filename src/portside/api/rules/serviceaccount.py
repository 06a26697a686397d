"""ServiceAccount, Binding and ComponentStatus."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules.registry import Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]
_ENFORCE = "kubernetes.io/enforce-mountable-secrets"
_WARNING = (
    f"metadata.annotations[{_ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted "
    "secrets"
)


def _clean(obj: Json) -> None:
    """Only the names of secrets are kept."""
    if obj.get("secrets"):
        obj["secrets"] = [{"name": s["name"]} if s.get("name") else {} for s in obj["secrets"]]


def _create(obj: Json, ctx: Context) -> None:
    _clean(obj)


def _update(obj: Json, old: Json, ctx: Context) -> None:
    _clean(obj)


def _warn(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    have = (obj["metadata"].get("annotations") or {}).get(_ENFORCE)
    before = ((old or {}).get("metadata") or {}).get("annotations") or {}
    return [_WARNING] if have is not None and (old is None or before.get(_ENFORCE) != have) else []


def validate_binding(obj: Json, ctx: Context) -> Errors:
    """A Binding names a node."""
    target = obj.get("target") or {}
    errors: Errors = []
    if target.get("kind") not in (None, "", "Node"):
        errors.append(not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        errors.append(required("target.name"))
    return errors


SERVICEACCOUNT = Rules(
    BY_KIND["", "v1", "ServiceAccount"],
    prepare_create=_create,
    prepare_update=_update,
    warnings=_warn,
    returns_object_on_delete=True,
)
BINDING = Rules(BY_KIND["", "v1", "Binding"], validate=validate_binding)
COMPONENTSTATUS = Rules(BY_KIND["", "v1", "ComponentStatus"])
