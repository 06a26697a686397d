"""apps/v1 ControllerRevision: data of any form, never changed."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, invalid_value, required
from portside.api.kinds import BY_KIND
from portside.api.rules.pod_defaults import tidy_metadata
from portside.api.rules.registry import Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]


def default(obj: Json) -> None:
    tidy_metadata(obj["metadata"])


def canonicalize(obj: Json) -> None:
    """Go writes a revision of zero; only now, so that nobody comes to own it."""
    obj.setdefault("revision", 0)


def validate(obj: Json, ctx: Context) -> Errors:
    errors: Errors = []
    if (obj.get("revision") or 0) < 0:
        errors.append(invalid_value("revision", obj["revision"], "must be greater than or equal to 0"))
    data = obj.get("data")
    if data is None:
        errors.append(required("data", "data is mandatory"))
    elif not isinstance(data, dict):
        errors.append(required("data", "data must be a valid JSON object"))
    return errors


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    errors = validate(obj, ctx)
    if obj.get("data") != old.get("data"):
        errors.append(invalid_value("data", obj.get("data"), "field is immutable"))
    return errors


RULES = {
    ("v1", "ControllerRevision"): Rules(
        kind=BY_KIND["apps", "v1", "ControllerRevision"],
        default=default,
        canonicalize=canonicalize,
        validate=validate,
        validate_update=validate_update,
    )
}
