"""core/v1 PodTemplate."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError
from portside.api.kinds import BY_KIND
from portside.api.rules.pod_defaults import default_template, drop_switched_off, tidy_metadata
from portside.api.rules.pod_spec import validate_template
from portside.api.rules.registry import Context, Rules
from portside.api.rules.workload import template_warnings

Json = dict[str, Any]
Errors = list[FieldError]


def default(obj: Json) -> None:
    tidy_metadata(obj["metadata"])
    default_template(obj.setdefault("template", {}))


def validate(obj: Json, ctx: Context) -> Errors:
    return validate_template(obj["template"], "template")


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    return validate(obj, ctx)


def warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    return template_warnings(obj, old, "template")


def prepare_create(obj: Json, ctx: Context) -> None:
    drop_switched_off(obj["template"]["spec"])


def prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    drop_switched_off(obj["template"]["spec"])


RULES = {
    ("v1", "PodTemplate"): Rules(
        kind=BY_KIND["", "v1", "PodTemplate"],
        default=default,
        prepare_create=prepare_create,
        prepare_update=prepare_update,
        validate=validate,
        validate_update=validate_update,
        warnings=warnings,
        generation=True,
        returns_object_on_delete=True,
    )
}
