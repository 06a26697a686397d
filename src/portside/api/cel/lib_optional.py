"""Optional values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api.cel.values import CelRuntimeError, Duration, Opaque, Optional, Typed, Uint

DECLARATIONS = """
optional_none: optional.none() -> optional(V)
optional_of: optional.of(V) -> optional(V)
optional_ofNonZeroValue: optional.ofNonZeroValue(V) -> optional(V)
optional_unwrap: optional.unwrap(list(optional(V))) -> list(V)
optional_unwrapOpt: list(optional(V)) :: unwrapOpt() -> list(V)
optional_hasValue: optional(V) :: hasValue() -> bool
optional_value: optional(V) :: value() -> V
optional_or_optional: optional(V) :: or(optional(V)) -> optional(V)
optional_orValue_value: optional(V) :: orValue(V) -> V
"""


def is_zero(value: Any) -> bool:
    """Whether a value is the zero of its type: nothing, 0, empty, false."""
    if value.__class__ in (bool, int, Uint, float, str, bytes, list, dict):
        return not value
    if value.__class__ is Duration:
        return bool(value.nanos == 0)
    if value.__class__ is Typed:
        return not value.data
    return value is None or (value.__class__ is Optional and not value.present and not isinstance(value, Opaque))


def _value(optional: Optional) -> Any:
    if not optional.present:
        raise CelRuntimeError("optional.none() dereference")
    return optional.value


def _unwrap(values: list[Optional]) -> list[Any]:
    return [v.value for v in values if v.present]


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "optional_none": lambda: Optional.NONE,
    "optional_of": Optional,
    "optional_ofNonZeroValue": lambda v: Optional.NONE if is_zero(v) else Optional(v),
    "optional_unwrap": _unwrap,
    "optional_unwrapOpt": _unwrap,
    "optional_hasValue": lambda o: o.present,
    "optional_value": _value,
    "optional_or_optional": lambda a, b: a if a.present else b,
    "optional_orValue_value": lambda o, default: o.value if o.present else default,
}
