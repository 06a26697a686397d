"""Regular expressions in expressions: ``matches``, ``find`` and ``findAll``. Patterns are read once, see ``goregexp``."""

from __future__ import annotations

from typing import Any

from portside.api.cel.values import CelRuntimeError
from portside.api.goregexp import Regexp, RegexpError, go_regexp


class PatternError(CelRuntimeError):
    """A pattern Go would not take; the text is Go's."""


def compiled(pattern: str) -> Regexp:
    """The pattern. Raises PatternError."""
    try:
        return go_regexp(pattern)
    except RegexpError as problem:
        raise PatternError(str(problem)) from None


def matches(subject: str, pattern: str) -> bool:
    return compiled(pattern).search(subject) is not None


def find(subject: str, pattern: str) -> str:
    found = compiled(pattern).search(subject)
    return str(found.group()) if found else ""


def find_all(subject: str, pattern: str, limit: int = -1) -> list[Any]:
    """The matches from left to right. An empty one right behind another match does not count, as in Go."""
    made: list[Any] = []
    last = -1
    for found in compiled(pattern).finditer(subject):
        if 0 <= limit <= len(made):
            break
        start, end = found.span()
        if start == end == last:
            continue
        made.append(found.group())
        last = end
    return made
