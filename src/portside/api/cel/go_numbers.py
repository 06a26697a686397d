"""Numbers as Go writes them."""

from __future__ import annotations

import math
from decimal import Decimal


def _digits(value: float) -> tuple[str, str, int]:
    """Sign, shortest digits, and the decimal exponent of the first digit."""
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    exponent = int(exponent) + len(text) - 1
    return ("-" if sign else ""), stripped or "0", exponent if stripped else 0


def format_double(value: float, largest: int = 21) -> str:
    """The shortest text that reads back; ``largest`` is the first decimal exponent that is written as one."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign, digits, exponent = _digits(value)
    if exponent < -4 or exponent >= largest:
        mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
        return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    return sign + _plain(digits, exponent)


def fixed_double(value: float) -> str:
    """The shortest text that reads back, never with an exponent."""
    sign, digits, exponent = _digits(value)
    return sign + _plain(digits, exponent)


def _plain(digits: str, exponent: int) -> str:
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    if exponent >= len(digits) - 1:
        return digits + "0" * (exponent - len(digits) + 1)
    return digits[: exponent + 1] + "." + digits[exponent + 1 :]
