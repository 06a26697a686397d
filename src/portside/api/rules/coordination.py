"""Lease."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, invalid_value
from portside.api.kinds import BY_KIND
from portside.api.rules.registry import Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]


def _prepare(obj: Json, ctx: Context) -> None:
    """Fields of the coordinated election, a feature that is off, are dropped silently."""
    for field in ("strategy", "preferredHolder"):
        (obj.get("spec") or {}).pop(field, None)


def _prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    _prepare(obj, ctx)


def validate(obj: Json, ctx: Context) -> Errors:
    spec, errors = obj.get("spec") or {}, []
    lasts, moves = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if lasts is not None and lasts <= 0:
        errors.append(invalid_value("spec.leaseDurationSeconds", lasts, "must be greater than 0"))
    if moves is not None and moves < 0:
        errors.append(invalid_value("spec.leaseTransitions", moves, "must be greater than or equal to 0"))
    return errors


def default(obj: Json) -> None:
    obj.setdefault("spec", {})


RULES = {
    ("v1", "Lease"): Rules(
        BY_KIND["coordination.k8s.io", "v1", "Lease"],
        default=default,
        prepare_create=_prepare,
        prepare_update=_prepare_update,
        validate=validate,
        validate_update=lambda obj, old, ctx: validate(obj, ctx),
        create_on_update=True,
        unconditional_update=False,
    )
}
