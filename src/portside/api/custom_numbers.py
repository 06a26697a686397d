"""Numbers of custom resources: ranges of formats, multiples, and how Go prints a limit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

_INTEGERS = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1)}
_INT64 = (-(2**63), 2**63 - 1)
_FLOAT32 = 3.4028234663852886e38


def number_text(value: Any) -> str:
    """A number as Go's ``%v`` prints a float64: shortest digits, an exponent from 1e+21 on and below 1e-04."""
    if isinstance(value, int) and abs(value) < 10**21:
        return str(value)
    number = float(value)
    if number.is_integer() and abs(number) < 1e21:
        return str(int(number))
    text = repr(number)
    if "e" not in text and abs(number) >= 1e-4:
        return text
    mantissa, _, exponent = f"{number:e}".partition("e")
    digits = repr(number).partition("e")[0] if "e" in text else mantissa.rstrip("0").rstrip(".")
    return f"{digits.removesuffix('.0')}e{exponent[0]}{int(exponent[1:]):02d}"


def out_of_range(value: Any, of: str, format_: str, what: str, path: str) -> str:
    """Why a number does not fit a type and format, "" when it does."""
    wrong = False
    if of == "integer":
        least, most = _INTEGERS.get(format_, _INT64)
        wrong = not float(value).is_integer() or not least <= value <= most
    elif format_ in ("float", "float32"):
        wrong = abs(value) > _FLOAT32
    if not wrong:
        return ""
    suffix = f"with format {format_}" if format_ else "(default format)"
    return f"{what} value must be of type {of or 'number'} {suffix} in {path}"


def multiple_of(value: Any, factor: Any) -> bool:
    """Whether ``value`` is a whole multiple. Exact for whole numbers, as floats otherwise."""
    if not factor:
        return False
    if isinstance(value, int) and float(factor).is_integer():
        return value % int(factor) == 0
    ratio = float(value) / float(factor) if abs(factor) >= 1 else float(value) * (1 / float(factor))
    return ratio.is_integer() or Fraction(str(value)) % Fraction(str(factor)) == 0
