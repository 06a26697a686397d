"""Selectors of devices: expressions over ``device``, compiled to find mistakes before a claim is stored."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, required, too_long
from portside.api.rules.device_declared import MOST_SELECTORS

Json = dict[str, Any]
Errors = list[FieldError]
LONGEST_EXPRESSION = 10 * 1024


def _selector(selector: Json, path: str, stored: bool) -> Errors:
    cel = selector.get("cel")
    if cel is None:
        return [required(f"{path}.cel")]
    text, at = cel.get("expression") or "", f"{path}.cel.expression"
    if stored:
        return []
    if len(text.encode()) > LONGEST_EXPRESSION:
        return [too_long(at, LONGEST_EXPRESSION)]
    return []


def validate(selectors: list[Json] | None, path: str, *, stored: bool = False) -> Errors:
    """Each selector; ``stored`` ones were compiled when they came."""
    if not selectors or len(selectors) > MOST_SELECTORS:
        return []
    return [e for i, s in enumerate(selectors) for e in _selector(s, f"{path}[{i}]", stored)]
