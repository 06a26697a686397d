"""Field errors, worded as apimachinery's ``field`` package words them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_HTML = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


@dataclass(frozen=True, slots=True)
class FieldError:
    """One problem of one field. ``reason`` is the cause's reason in a Status; ``detail_text`` the text behind the path."""

    field: str
    reason: str
    detail_text: str

    def __str__(self) -> str:
        return f"{self.field}: {self.detail_text}" if self.field else self.detail_text


def go_value(value: Any) -> str:
    """A value as upstream prints it in a field error: strings quoted, objects as Go's JSON (``<`` is ``\\u003c``), None as null."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None:
        return "null"
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_HTML) if isinstance(value, dict | list) else text


def _with(text: str, detail: str) -> str:
    return f"{text}: {detail}" if detail else text


def required(path: str, detail: str = "") -> FieldError:
    return FieldError(path, "FieldValueRequired", _with("Required value", detail))


def invalid_value(path: str, value: Any, detail: str) -> FieldError:
    return FieldError(path, "FieldValueInvalid", _with(f"Invalid value: {go_value(value)}", detail))


def not_supported(path: str, value: Any, supported: Sequence[str]) -> FieldError:
    listed = ", ".join(json.dumps(s) for s in supported)
    return FieldError(
        path,
        "FieldValueNotSupported",
        _with(f"Unsupported value: {go_value(value)}", f"supported values: {listed}" if supported else ""),
    )


def duplicate(path: str, value: Any) -> FieldError:
    return FieldError(path, "FieldValueDuplicate", f"Duplicate value: {go_value(value)}")


def forbidden_field(path: str, detail: str = "") -> FieldError:
    return FieldError(path, "FieldValueForbidden", _with("Forbidden", detail))


def too_long(path: str, maximum: int) -> FieldError:
    return FieldError(path, "FieldValueTooLong", f"Too long: may not be more than {maximum} bytes")


def too_many(path: str, count: int, maximum: int) -> FieldError:
    return FieldError(
        path, "FieldValueTooMany", f"Too many: {count}: must have at most {maximum} item{'' if maximum == 1 else 's'}"
    )


def not_found_value(path: str, value: Any, detail: str = "") -> FieldError:
    return FieldError(path, "FieldValueNotFound", _with(f"Not found: {go_value(value)}", detail))


def type_invalid(path: str, value: Any, detail: str) -> FieldError:
    return FieldError(path, "FieldValueTypeInvalid", _with(f"Invalid value: {go_value(value)}", detail))


def internal_error(path: str, detail: str) -> FieldError:
    return FieldError(path, "InternalError", f"Internal error: {detail}")
