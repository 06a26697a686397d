"""The words of syntax errors."""

from __future__ import annotations

from portside.api.cel.source import Issue
from portside.api.cel.tokens import Token


def syntax_issues(tokens: list[Token]) -> list[Issue]:
    last = tokens[-1]
    return [Issue(last.pos, f"Syntax error: mismatched input '{last.text}'")]
