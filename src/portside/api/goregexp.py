"""Regular expressions as Go reads them (RE2 syntax), run by RE2; what Go refuses is refused in its words, which a reader of
our own finds. It also writes Python's form of a pattern, for where RE2 is missing.

Differences that matter: ``$`` is the very end of the text, classes are ASCII, and what needs backtracking (look-around,
back references, possessive repeats) does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol

MAX_MEMORY = 2 * 1024 * 1024  # bytes of a compiled pattern and its states

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
_CATEGORIES = frozenset(
    [
        "L",
        "Lu",
        "Ll",
        "Lt",
        "Lm",
        "Lo",
        "M",
        "Mn",
        "Mc",
        "Me",
        "N",
        "Nd",
        "Nl",
        "No",
        "P",
        "Pc",
        "Pd",
        "Ps",
        "Pe",
        "Pi",
        "Pf",
        "Po",
        "S",
        "Sm",
        "Sc",
        "Sk",
        "So",
        "Z",
        "Zs",
        "Zl",
        "Zp",
        "C",
        "Cc",
        "Cf",
        "Co",
    ]
)
_ESCAPES = frozenset("abBdDfnrsStvwWx")
_PUNCTUATION = frozenset("\\.+*?()|[]{}^$-/#&~!\"%',:;<=>@_` ")
_REPEAT = re.compile(r"\{\d+(,\d*)?\}")
_GROUP = re.compile(r"\(\?(?:P?<(\w+)>|([imsU]*(?:-[imsU]+)?)([:)]))")


class RegexpError(ValueError):
    """A pattern that Go refuses; the text is its ``error parsing regexp: …``."""

    def __init__(self, problem: str, part: str) -> None:
        super().__init__(f"error parsing regexp: {problem}: `{part}`")


class _Reader:
    """One pass over a pattern, writing Python's form."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at, self.depth = pattern, 0, 0
        self.out: list[str] = []
        self.repeatable, self.repeated, self.lazy = False, "", False
        self.multiline = [False]

    def read(self) -> str:
        while self.at < len(self.pattern):
            self.step(self.pattern[self.at])
        if self.depth:
            raise RegexpError("missing closing )", self.pattern)
        return "".join(self.out)

    def put(self, text: str, size: int, *, repeatable: bool = True) -> None:
        self.out.append(text)
        self.at += size
        self.repeatable, self.repeated = repeatable, ""

    def step(self, char: str) -> None:
        if char == "\\":
            self.escape()
        elif char == "[":
            self.char_class()
        elif char == "(":
            self.group()
        elif char == ")":
            if not self.depth:
                raise RegexpError("unexpected )", self.pattern)
            self.depth -= 1
            self.multiline.pop()
            self.put(")", 1)
        elif char in "*+?":
            self.repeat(char)
        elif char == "{" and (found := _REPEAT.match(self.pattern, self.at)):
            self.repeat(found[0])
        elif char == "$":
            self.put("$" if self.multiline[-1] else r"\Z", 1)
        elif char == "|":
            self.put("|", 1, repeatable=False)
        elif char == "{":
            self.put(r"\{", 1)
        else:
            self.put(char, 1)

    def repeat(self, text: str) -> None:
        if self.repeated:
            if text == "?" and not self.lazy:
                self.out.append("?")
                self.at += 1
                self.repeated += "?"
                self.lazy = True
                return
            raise RegexpError("invalid nested repetition operator", self.repeated + text)
        if not self.repeatable:
            raise RegexpError("missing argument to repetition operator", text)
        if text[0] == "{":
            bounds = [int(n) for n in re.findall(r"\d+", text)]
            if max(bounds) > 1000 or (len(bounds) == 2 and bounds[0] > bounds[1]):
                raise RegexpError("invalid repeat count", text)
        self.put(text, len(text))
        self.repeated, self.lazy = text, False

    def group(self) -> None:
        if self.pattern[self.at + 1 : self.at + 2] != "?":
            self.depth += 1
            self.multiline.append(self.multiline[-1])
            self.put("(", 1, repeatable=False)
            return
        found = _GROUP.match(self.pattern, self.at)
        if not found:
            rest = self.pattern[self.at :]
            part = rest[:4] if rest[:3] == "(?<" else rest[:3]
            raise RegexpError("invalid or unsupported Perl syntax", part)
        if found[1]:
            text, opens = f"(?P<{found[1]}>", True
        else:
            flags, opens = found[2].replace("U", ""), found[3] == ":"
            if opens:
                text = f"(?{flags}:"
            elif not flags:
                text = ""
            else:  # until the end of the group: Python wants it to be a group of its own
                self.flags_onward(flags, len(found[0]))
                return
        if opens:
            self.depth += 1
            self.multiline.append(self.multiline[-1] or (not found[1] and "m" in found[2].partition("-")[0]))
        self.put(text, len(found[0]), repeatable=False)

    def flags_onward(self, flags: str, size: int) -> None:
        start = self.at + size
        level, end = 0, start
        while end < len(self.pattern):
            char = self.pattern[end]
            if char == "\\":
                end += 1
            elif char == "(":
                level += 1
            elif char == ")":
                if not level:
                    break
                level -= 1
            end += 1
        inner = _Reader(self.pattern[start:end])
        inner.multiline = [self.multiline[-1] or "m" in flags.partition("-")[0]]
        self.put(f"(?{flags}:{inner.read()})", end - self.at)

    def escape(self) -> None:
        rest = self.pattern[self.at :]
        if len(rest) < 2:
            raise RegexpError("trailing backslash at end of expression", "")
        char = rest[1]
        if char == "Q":
            end = rest.find("\\E")
            quoted = rest[2:end] if end >= 0 else rest[2:]
            self.put(re.escape(quoted), len(rest) if end < 0 else end + 2)
        elif char == "A":
            self.put(r"\A", 2)
        elif char == "z":
            self.put(r"\Z", 2)
        else:
            text, size = _escaped(rest)
            self.put(text if char not in "pP" else f"[{text}]", size)

    def char_class(self) -> None:
        pattern, start = self.pattern, self.at
        at = start + 1
        out = ["["]
        if pattern[at : at + 1] == "^":
            out.append("^")
            at += 1
        first = True
        while True:
            if at >= len(pattern):
                raise RegexpError("missing closing ]", pattern[start:])
            char = pattern[at]
            if char == "]" and not first:
                break
            first = False
            if pattern.startswith("[:", at) and (end := pattern.find(":]", at)) > 0:
                name = pattern[at + 2 : end]
                if name.removeprefix("^") not in _POSIX:
                    raise RegexpError("invalid character class range", pattern[at : end + 2])
                out.append(_POSIX[name.removeprefix("^")])
                at = end + 2
                continue
            if char == "\\":
                text, size = _escaped(pattern[at:]) if at + 1 < len(pattern) else ("", 1)
                out.append(text)
                at += size
                if size == 2 and pattern[at - 1] in "dDsSwW" and pattern.startswith("-", at):
                    out.append("\\-")  # a class starts no range
                    at += 1
                continue
            out.append("\\" + char if char in "[]&~|" else char)
            at += 1
        out.append("]")
        text = "".join(out)
        try:
            re.compile(text)
        except re.error:
            bad = re.search(r"bad character range (.*?) at", _why(text))
            raise RegexpError("invalid character class range", bad[1] if bad else pattern[start : at + 1]) from None
        self.put(text, at + 1 - start)


@lru_cache(maxsize=64)
def _category(name: str, negated: bool) -> str:
    """The members of a Unicode category (of the first 65,536 characters) as a class writes them."""
    from unicodedata import category

    ranges: list[list[int]] = []
    for code in range(0x10000):
        if category(chr(code)).startswith(name) is negated:
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    if negated:
        ranges.append([0x10000, 0x10FFFF])
    return "".join(f"\\U{a:08X}-\\U{b:08X}" for a, b in ranges)


def _why(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        return str(error)
    return ""


def _escaped(rest: str) -> tuple[str, int]:
    """Python's form of an escape that may stand within a class too, and its length."""
    char = rest[1]
    if char in "pP":
        found = re.match(r"\\[pP](?:\{(\^?)(\w+)\}|(\w))", rest)
        name = (found[2] or found[3]) if found else ""
        if not found or name not in _CATEGORIES:
            raise RegexpError("invalid character class range", found[0] if found else rest[:2])
        return _category(name, (char == "P") is not bool(found[1])), len(found[0])
    if char == "x":
        found = re.match(r"\\x(?:\{([0-9a-fA-F]{1,6})\}|([0-9a-fA-F]{2}))", rest)
        if not found:
            raise RegexpError("invalid escape sequence", rest[:2])
        return re.escape(chr(int(found[1] or found[2], 16))), len(found[0])
    if char in _ESCAPES or char in _PUNCTUATION:
        return (re.escape(char) if char in _PUNCTUATION else "\\" + char), 2
    raise RegexpError("invalid escape sequence", rest[:2])


class Regexp(Protocol):
    """What is used of a compiled pattern."""

    def search(self, text: str, /) -> Any: ...

    def finditer(self, text: str, /) -> Iterator[Any]: ...


@lru_cache(maxsize=2048)
def go_regexp(pattern: str) -> Regexp:
    """The compiled pattern; use ``search``, as Go's MatchString does. Raises RegexpError.

    RE2 runs it, in linear time (decision 0011). Where RE2 is not installed, or takes a pattern otherwise than Go, it is ``re``.
    """
    linear = _linear(pattern)
    try:
        translated = _Reader(pattern).read()
    except RegexpError as problem:
        if linear is not None and r"`\p" in str(problem).lower():
            return linear  # a script, such as Latin: RE2 knows them all, the reader none
        raise
    if linear is not None:
        return linear
    try:
        return re.compile(translated, re.ASCII)
    except re.error:
        raise RegexpError("invalid or unsupported Perl syntax", pattern) from None


def _linear(pattern: str) -> Regexp | None:
    try:
        import re2
    except ImportError:
        return None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    try:
        found: Regexp = re2.compile(pattern, options)
    except re2.error:
        return None
    return found
