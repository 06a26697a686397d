"""``metav1.Condition``: validation of the conditions that are written by a status update."""

from __future__ import annotations

import re
from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, invalid_value, not_supported, required, too_long

Json = dict[str, Any]
Errors = list[FieldError]
LONGEST_REASON = 1024
LONGEST_MESSAGE = 32 * 1024
_REASON = r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_REASON_FORM = re.compile(_REASON + r"\Z")
_REASON_TEXT = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters "
    "or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or "
    f"'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '{_REASON}')"
)


def _condition(condition: Json, path: str) -> Errors:
    type_, state, reason = (condition.get(f) or "" for f in ("type", "status", "reason"))
    errors = [invalid_value(f"{path}.type", type_, p) for p in names.qualified_name(type_)]
    if state not in ("False", "True", "Unknown"):
        errors.append(not_supported(f"{path}.status", state, ("False", "True", "Unknown")))
    seen = condition.get("observedGeneration") or 0
    if seen < 0:
        errors.append(invalid_value(f"{path}.observedGeneration", seen, "must be greater than or equal to zero"))
    if not condition.get("lastTransitionTime"):
        errors.append(required(f"{path}.lastTransitionTime", "must be set"))
    if not reason:
        errors.append(required(f"{path}.reason", "must be set"))
    elif not _REASON_FORM.match(reason):
        errors.append(invalid_value(f"{path}.reason", reason, _REASON_TEXT))
    if len(reason) > LONGEST_REASON:
        errors.append(too_long(f"{path}.reason", LONGEST_REASON))
    if len((condition.get("message") or "").encode()) > LONGEST_MESSAGE:
        errors.append(too_long(f"{path}.message", LONGEST_MESSAGE))
    return errors


def validate_conditions(conditions: list[Json] | None, path: str) -> Errors:
    """Each type once; every field of every condition."""
    errors: Errors = []
    for i, condition in enumerate(conditions or ()):
        if any(c.get("type") == condition.get("type") for c in (conditions or ())[:i]):
            errors.append(duplicate(f"{path}[{i}].type", condition.get("type") or ""))
        errors += _condition(condition, f"{path}[{i}]")
    return errors
