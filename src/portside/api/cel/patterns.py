"""Regular expressions: RE2's syntax carried out by Python's ``re``, what RE2 refuses refused, with RE2's words.

RE2 runs in linear time, ``re`` does not: the length of patterns and subjects is bounded by the cost of the call, and patterns
are compiled once.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from portside.api.cel.values import CelRuntimeError

_REPEAT_LIMIT = 1000
_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": "\\x00-\\x7F",
    "blank": "\\t ",
    "cntrl": "\\x00-\\x1F\\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\t\\n\\v\\f\\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_FEATURES = re.compile(
    r"\\(?P<escape>[1-9]|[kK]<|Q|z|Z|pN|p\{\w+\}|P\{\w+\}|C|.)"
    r"|(?P<look>\(\?(?:=|!|<=|<!|>|\())|(?P<posix>\[:(?P<negated>\^?)(?P<class>\w+):\])"
    r"|(?P<possessive>(?<!\\)[*+?}][*+])|(?P<dollar>\$)|(?P<named>\(\?<(?![=!]))",
    re.S,
)
_CATEGORY = {"L": "[^\\W\\d_]", "N": "\\d", "Lu": "[A-Z]", "Ll": "[a-z]", "Nd": "\\d"}


class PatternError(CelRuntimeError):
    """A pattern RE2 would not take."""


def _refuse(code: str, text: str) -> PatternError:
    return PatternError(f"error parsing regexp: {code}: `{text}`")


def _translate(pattern: str) -> str:
    """The same pattern for ``re``. Raises PatternError for what RE2 lacks."""

    def one(match: re.Match[str]) -> str:
        if match["look"]:
            raise _refuse("invalid or unsupported Perl syntax", match["look"][:3])
        if match["possessive"]:
            if match["possessive"][1] == "*" or match["possessive"] in ("++", "?+", "*+", "}+"):
                raise _refuse("invalid nested repetition operator", match["possessive"])
            return match["possessive"]
        if match["posix"]:
            if match["class"] not in _POSIX:
                raise _refuse("invalid character class range", match["posix"])
            return _POSIX[match["class"]]
        if match["dollar"]:
            return "$" if "(?m" in pattern else "\\Z"
        if match["named"]:
            return "(?P<"
        escape = match["escape"]
        if escape == "z":
            return "\\Z"
        if escape.isdigit() or escape[0] in "kK" or escape in ("Z", "C"):
            raise _refuse("invalid escape sequence", "\\" + escape)
        if escape[0] in "pP" and len(escape) > 1:
            name = escape[2:-1] if escape[1] == "{" else escape[1:]
            if name not in _CATEGORY:
                raise _refuse("invalid character class range", "\\" + escape)
            return _CATEGORY[name]
        if escape.isalpha() and escape not in "abBdDfnrsStvwWxpPAQE":
            raise _refuse("invalid escape sequence", "\\" + escape)
        return "\\" + escape

    return _FEATURES.sub(one, pattern)


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, once. Raises PatternError."""
    for low, _, high in re.findall(r"\{(\d+)(,(\d*))?\}", pattern):
        if int(low) > _REPEAT_LIMIT or (high and int(high) > _REPEAT_LIMIT):
            raise _refuse("invalid repeat count", "{" + low + ("," + high if high else "") + "}")
    try:
        return re.compile(_translate(pattern), re.ASCII)
    except (re.error, RecursionError, OverflowError) as problem:
        raise _reworded(pattern, problem) from None


def _reworded(pattern: str, problem: Exception) -> PatternError:
    text = str(problem)
    if "missing )" in text or "unterminated subpattern" in text:
        return _refuse("missing closing )", pattern)
    if "unbalanced parenthesis" in text:
        return _refuse("unexpected )", pattern)
    if "unterminated character set" in text:
        return _refuse("missing closing ]", pattern[pattern.rfind("[") :])
    if "nothing to repeat" in text:
        at = getattr(problem, "pos", 0) or 0
        return _refuse("missing argument to repetition operator", pattern[at : at + 1])
    if "multiple repeat" in text:
        at = getattr(problem, "pos", 0) or 0
        return _refuse("invalid nested repetition operator", pattern[max(at - 1, 0) : at + 1])
    if "bad character range" in text:
        return _refuse("invalid character class range", text.split("range ", 1)[1].split(" at ")[0])
    if "bad escape (end" in text:
        return PatternError("error parsing regexp: trailing backslash at end of expression: ``")
    return _refuse("invalid escape sequence", pattern)


def matches(subject: str, pattern: str) -> bool:
    return compiled(pattern).search(subject) is not None


def find(subject: str, pattern: str) -> str:
    found = compiled(pattern).search(subject)
    return found.group() if found else ""


def find_all(subject: str, pattern: str, limit: int = -1) -> list[Any]:
    made: list[Any] = []
    for found in compiled(pattern).finditer(subject):
        if 0 <= limit <= len(made):
            break
        made.append(found.group())
    return made
