"""Event, of core and of events.k8s.io: the old form takes nearly anything, the new one says who saw what and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api import conversion, names
from portside.api.field import FieldError, invalid_value, required
from portside.api.kinds import BY_KIND
from portside.api.rules.registry import Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]
_REFERENCE = {
    "kind": "Kind",
    "namespace": "Namespace",
    "name": "Name",
    "uid": "UID",
    "apiVersion": "APIVersion",
    "resourceVersion": "ResourceVersion",
    "fieldPath": "FieldPath",
}
_UNSET = ("firstTimestamp", "lastTimestamp", "count", "source")
# Fields that an update through events.k8s.io may not change, in upstream's order.
_FIXED = (
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
)


def default_core(obj: Json) -> None:
    obj.update(conversion.event_filled(obj, core=True))


def default_new(obj: Json) -> None:
    obj.update(conversion.event_filled(obj, core=False))


def _object(ref: Json | None) -> Json:
    """An object reference as upstream's internal struct prints it."""
    return {inner: (ref or {}).get(f, "") for f, inner in _REFERENCE.items()}


def _namespace(event: Json) -> Errors:
    have, want = (event.get("involvedObject") or {}).get("namespace") or "", event["metadata"].get("namespace") or ""
    if event.get("eventTime"):
        wrong = not have and want not in ("default", "kube-system")
    else:
        wrong = have != want if have else want not in ("", "default")
    return [invalid_value("involvedObject.namespace", have, "does not match event.namespace")] if wrong else []


def _shared(event: Json, controller: str) -> Errors:
    errors = _namespace(event)
    if not event.get("eventTime"):
        return errors
    who = event.get("reportingComponent") or ""
    if not who:
        errors.append(required(controller))
    errors += [invalid_value(controller, who, p) for p in names.qualified_name(who)]
    for field in ("reportingInstance", "action", "reason"):
        value = event.get(field) or ""
        if not value:
            errors.append(required(field))
        elif len(value.encode()) > 128:
            errors.append(invalid_value(field, "", "can have at most 128 characters"))
    if len((event.get("message") or "").encode()) > 1024:
        errors.append(invalid_value("message", "", "can have at most 1024 characters"))
    return errors


def _series(event: Json) -> Errors:
    series = event.get("series")
    if series is None:
        return []
    errors: Errors = []
    if (series.get("count") or 0) < 2:
        errors.append(invalid_value("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        errors.append(required("series.lastObservedTime"))
    return errors


def validate_core(obj: Json, ctx: Context) -> Errors:
    return _shared(obj, "reportingComponent")


def validate_new(obj: Json, ctx: Context) -> Errors:
    event = conversion.event_to_core(obj)
    errors = _shared(event, "reportingController") + _series(event)
    if not event.get("eventTime"):
        errors.append(required("eventTime"))
    if event.get("type") not in ("Normal", "Warning"):
        errors.append(invalid_value("type", "", f"has invalid value: {event.get('type') or ''}"))
    return errors + [invalid_value(f, "", "needs to be unset") for f in _UNSET if event.get(f)]


def update_new(obj: Json, old: Json, ctx: Context) -> Errors:
    event, before = conversion.event_to_core(obj), conversion.event_to_core(old)
    errors = _shared(event, "reportingController") + _series(event)
    for field in _FIXED:
        if (event.get(field) or None) != (before.get(field) or None):
            value = _object(event.get(field)) if field in ("involvedObject", "related") else event.get(field)
            shown = "reportingController" if field == "reportingComponent" else field
            errors.append(invalid_value(shown, value, "field is immutable"))
    return errors


def _update_core(obj: Json, old: Json, ctx: Context) -> Errors:
    return validate_core(obj, ctx)


def _rules(group: str, default: Callable[[Json], None], validate: Any, update: Any) -> Rules:
    return Rules(
        BY_KIND[group, "v1", "Event"],
        default=default,
        validate=validate,
        validate_update=update,
        name=names.path_segment,
        create_on_update=True,
    )


CORE = _rules("", default_core, validate_core, _update_core)
RULES = {("v1", "Event"): _rules("events.k8s.io", default_new, validate_new, update_new)}
