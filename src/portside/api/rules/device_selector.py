"""Selectors of devices: expressions over ``device``, compiled to find mistakes before a claim is stored."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value, required, too_long
from portside.api.rules.device_declared import MOST_SELECTORS

Json = dict[str, Any]
Errors = list[FieldError]
LONGEST_EXPRESSION = 10 * 1024


@lru_cache(maxsize=1024)
def problem(expression: str, path: str) -> FieldError | None:
    """What is wrong with an expression; the many claims of one template ask again."""
    from portside.api.device_selectors import MOST_COST, SelectorProblem, compile_selector

    try:
        most = compile_selector(expression).estimate()[1]
    except SelectorProblem as failure:
        return invalid_value(path, expression, str(failure))
    return forbidden_field(path, "too complex, exceeds cost limit") if most > MOST_COST else None


def _selector(selector: Json, path: str, stored: bool) -> Errors:
    cel = selector.get("cel")
    if cel is None:
        return [required(f"{path}.cel")]
    text, at = cel.get("expression") or "", f"{path}.cel.expression"
    if stored:
        return []
    if len(text.encode()) > LONGEST_EXPRESSION:
        return [too_long(at, LONGEST_EXPRESSION)]
    found = problem(text, at)
    return [] if found is None else [found]


def validate(selectors: list[Json] | None, path: str, *, stored: bool = False) -> Errors:
    """Each selector; ``stored`` ones were compiled when they came."""
    if not selectors or len(selectors) > MOST_SELECTORS:
        return []
    return [e for i, s in enumerate(selectors) for e in _selector(s, f"{path}[{i}]", stored)]
