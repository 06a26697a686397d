"""Values an expression yields that Python has no type for, and what goes wrong while one is evaluated.

int, float, str, bytes, bool, list, dict and None stand for themselves; an unsigned number is a Uint.
"""

from __future__ import annotations

from typing import Any

INT_MIN, INT_MAX, UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1
NANOS = 1_000_000_000
YEAR_ONE, YEAR_END = -62135596800, 253402300799  # seconds of 0001-01-01 and of 9999-12-31T23:59:59


class EvaluationFailed(Exception):
    """An evaluation that yields no value."""


class CelRuntimeError(EvaluationFailed):
    """An expression failed while it was evaluated; the text is cel-go's."""


class CostExceeded(EvaluationFailed):
    """The evaluation cost more than it may. No operator swallows it."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


class Uint(int):
    """An unsigned 64-bit number."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{int(self)}u"


class Duration:
    """A length of time in nanoseconds, within 64 bits."""

    __slots__ = ("nanos",)

    def __init__(self, nanos: int) -> None:
        self.nanos = nanos

    def __eq__(self, other: object) -> bool:
        return other.__class__ is Duration and self.nanos == other.nanos  # type: ignore[attr-defined]

    def __lt__(self, other: Duration) -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash(("d", self.nanos))

    def __repr__(self) -> str:
        return f"Duration({self.nanos})"


class Timestamp:
    """An instant in nanoseconds since 1970, within the years 1 to 9999. ``offset`` in seconds is only for writing it."""

    __slots__ = ("nanos", "offset")

    def __init__(self, nanos: int, offset: int = 0) -> None:
        self.nanos = nanos
        self.offset = offset

    def __eq__(self, other: object) -> bool:
        return other.__class__ is Timestamp and self.nanos == other.nanos  # type: ignore[attr-defined]

    def __lt__(self, other: Timestamp) -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash(("t", self.nanos))

    def __repr__(self) -> str:
        return f"Timestamp({self.nanos})"


class Optional:
    """A value that may be absent. ``Optional.NONE`` is the absent one."""

    __slots__ = ("present", "value")
    NONE: Optional

    def __init__(self, value: Any, present: bool = True) -> None:
        self.value = value
        self.present = present

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not Optional:
            return False
        assert isinstance(other, Optional)
        return self.present == other.present and (not self.present or equal(self.value, other.value))

    def __hash__(self) -> int:
        return hash(self.present)

    def __repr__(self) -> str:
        return f"optional.of({self.value!r})" if self.present else "optional.none()"


Optional.NONE = Optional(None, False)


class Typed:
    """A JSON object with its declared type: what an object becomes where nothing is known statically, and what ``Name{}`` makes."""

    __slots__ = ("data", "type")

    def __init__(self, data: dict[str, Any], type_: Any) -> None:
        self.data = data
        self.type = type_

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Typed) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.type.name)


class Opaque:
    """Base of values with functions of their own: quantities, addresses, URLs. Subclasses name their CEL type."""

    __slots__ = ()
    TYPE_NAME = ""


_NUMBERS = (int, float, Uint)


MAX_MEMBERS = 1_000_000  # of a list an expression makes, and of two values it compares
MAX_TEXT = 1024 * 1024  # code points of a string put together from parts whose sizes have no cost of their own


def bounded(size: int, most: int, what: str) -> None:
    """Raises when something would grow beyond what is sensible, before it is made."""
    if size > most:
        raise CelRuntimeError(f"{what} of {size:,} exceeds the limit of {most:,}")


def equal(a: Any, b: Any) -> bool:
    """Equality of any two values: numbers by value whatever their type, anything else only with its own kind."""
    ca, cb = a.__class__, b.__class__
    if ca is cb:
        return _deep(a, b, [MAX_MEMBERS]) if ca is list or ca is dict else bool(a == b)
    if ca in _NUMBERS and cb in _NUMBERS:
        return bool(a == b)
    return _deep(a, b, [MAX_MEMBERS]) if isinstance(a, list) and isinstance(b, list) else False


def _deep(a: Any, b: Any, left: list[int]) -> bool:
    """Equality member by member. Shared parts can make a small value endless to walk, so steps are counted."""
    left[0] -= 1
    if left[0] < 0:
        raise CelRuntimeError(f"comparison of more than {MAX_MEMBERS:,} members")
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(_deep(x, y, left) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        same = isinstance(b, dict) and len(a) == len(b)
        return same and all(k in b and _deep(v, b[k], left) for k, v in a.items())
    return equal(a, b)
