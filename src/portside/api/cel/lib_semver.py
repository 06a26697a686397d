"""Semantic versions: ``semver('1.2.3-rc.1')``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from portside.api.cel.values import CelRuntimeError, Opaque

DECLARATIONS = """
string_to_semver: semver(string) -> Semver
string_bool_to_semver: semver(string, bool) -> Semver
is_semver_string: isSemver(string) -> bool
is_semver_string_bool: isSemver(string, bool) -> bool
semver_is_greater_than: Semver :: isGreaterThan(Semver) -> bool
semver_is_less_than: Semver :: isLessThan(Semver) -> bool
semver_compare_to: Semver :: compareTo(Semver) -> int
semver_major: Semver :: major() -> int
semver_minor: Semver :: minor() -> int
semver_patch: Semver :: patch() -> int
"""
_DIGITS = re.compile(r"[0-9]+\Z")
_WORD = re.compile(r"[0-9A-Za-z-]+\Z")
_LARGEST = 2**64 - 1


class Semver(Opaque):
    """A version; build data do not count when versions are compared."""

    __slots__ = ("numbers", "pre")
    TYPE_NAME = "kubernetes.Semver"

    def __init__(self, numbers: tuple[int, ...], pre: tuple[int | str, ...]) -> None:
        self.numbers = numbers
        self.pre = pre

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and compare(self, other) == 0

    def __hash__(self) -> int:
        return hash((self.numbers, self.pre))


def compare(a: Semver, b: Semver) -> int:
    if a.numbers != b.numbers:
        return 1 if a.numbers > b.numbers else -1
    if not a.pre or not b.pre:
        return bool(b.pre) - bool(a.pre)
    for x, y in zip(a.pre, b.pre, strict=False):
        if x == y:
            continue
        if isinstance(x, int) and isinstance(y, int):
            return 1 if x > y else -1
        if isinstance(x, str) and isinstance(y, str):
            return 1 if x > y else -1
        return -1 if isinstance(x, int) else 1
    return (len(a.pre) > len(b.pre)) - (len(a.pre) < len(b.pre))


def _number(name: str, text: str) -> int:
    if not _DIGITS.match(text):
        raise CelRuntimeError(f'Invalid character(s) found in {name.lower()} number "{text}"')
    if len(text) > 1 and text[0] == "0":
        raise CelRuntimeError(f'{name} number must not contain leading zeroes "{text}"')
    if int(text) > _LARGEST:
        raise CelRuntimeError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def _pre(text: str) -> int | str:
    if not text:
        raise CelRuntimeError("Prerelease is empty")
    if _DIGITS.match(text):
        if len(text) > 1 and text[0] == "0":
            raise CelRuntimeError(f'Numeric PreRelease version must not contain leading zeroes "{text}"')
        return int(text)
    if not _WORD.match(text):
        raise CelRuntimeError(f'Invalid character(s) found in prerelease "{text}"')
    return text


def parse(text: str, normalize: bool = False) -> Semver:
    """The version; ``normalize`` allows a leading v, missing minor and patch numbers, and leading zeroes."""
    if normalize:
        text = _normalized(text)
    if not text:
        raise CelRuntimeError("Version string empty")
    parts = text.split(".", 2)
    if len(parts) != 3:
        raise CelRuntimeError("No Major.Minor.Patch elements found")
    patch, plus, build = parts[2].partition("+")
    patch, dash, pre = patch.partition("-")
    numbers = (_number("Major", parts[0]), _number("Minor", parts[1]), _number("Patch", patch))
    pres = tuple(_pre(p) for p in pre.split(".")) if dash else ()
    for word in build.split(".") if plus else ():
        if not word:
            raise CelRuntimeError("Build meta data is empty")
        if not _WORD.match(word):
            raise CelRuntimeError(f'Invalid character(s) found in build meta data "{word}"')
    return Semver(numbers, pres)


def _normalized(text: str) -> str:
    text = text.removeprefix("v")
    parts = text.split(".", 2)
    for index, part in enumerate(parts):
        if len(part) > 1:
            stripped = part.lstrip("0")
            parts[index] = stripped if stripped and stripped[0].isdigit() else "0" + stripped
    if len(parts) < 3:
        if any(c in parts[-1] for c in "+-"):
            raise CelRuntimeError("short version cannot contain PreRelease/Build meta data")
        parts += ["0"] * (3 - len(parts))
    return ".".join(parts)


def _valid(text: str, normalize: bool = False) -> bool:
    try:
        parse(text, normalize)
    except CelRuntimeError:
        return False
    return True


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "string_to_semver": parse,
    "string_bool_to_semver": parse,
    "is_semver_string": _valid,
    "is_semver_string_bool": _valid,
    "semver_is_greater_than": lambda a, b: compare(a, b) > 0,
    "semver_is_less_than": lambda a, b: compare(a, b) < 0,
    "semver_compare_to": compare,
    "semver_major": lambda v: v.numbers[0],
    "semver_minor": lambda v: v.numbers[1],
    "semver_patch": lambda v: v.numbers[2],
}
