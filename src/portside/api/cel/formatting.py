"""``format``: %s, %d, %f, %e, %x, %X, %o, %b and %%, for CEL's values."""

from __future__ import annotations

import math
from typing import Any

from portside.api.cel.go_numbers import fixed_double, format_double
from portside.api.cel.values import MAX_TEXT, CelRuntimeError, Duration, Timestamp, Uint, bounded

_SUPERSCRIPT = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")
_INTEGERS = (int, Uint)
MAX_PRECISION = 1000


class ClauseError(CelRuntimeError):
    """A format string no argument could mend. ``argument`` is the index of the offending one, or -1 for the string itself."""

    def __init__(self, message: str, argument: int = -1) -> None:
        super().__init__(message)
        self.argument = argument


def clauses(text: str) -> list[tuple[str, str, int | None]]:
    """The parts of a format string: text before, verb (empty at the end), precision."""
    parts: list[tuple[str, str, int | None]] = []
    plain, at = "", 0
    while at < len(text):
        if text[at] != "%":
            plain += text[at]
            at += 1
            continue
        at += 1
        if at >= len(text):
            raise ClauseError("unexpected end of string")
        if text[at] == "%":
            plain += "%"
            at += 1
            continue
        precision = None
        if text[at] == ".":
            start = at = at + 1
            while at < len(text) and text[at].isdigit():
                at += 1
            precision = _precision(text[start:at])
            if at >= len(text):
                raise ClauseError(
                    "could not parse formatting clause: error while parsing precision: could not find end of precision specifier"
                )
        if text[at] not in "sdfexXob":
            raise ClauseError(f'could not parse formatting clause: unrecognized formatting clause "{text[at]}"')
        parts.append((plain, text[at], precision))
        plain = ""
        at += 1
    return [*parts, (plain, "", None)]


def _precision(digits: str) -> int:
    if not digits:
        raise ClauseError(
            "could not parse formatting clause: error while parsing precision: "
            'error while converting precision to integer: strconv.Atoi: parsing "": invalid syntax'
        )
    if int(digits) > MAX_PRECISION:
        raise ClauseError(f"could not parse formatting clause: precision {digits} exceeds maximum {MAX_PRECISION}")
    return int(digits)


def format_string(text: str, values: list[Any]) -> str:
    """The text with its clauses filled in."""
    made: list[str] = []
    used = 0
    for plain, verb, precision in clauses(text):
        made.append(plain)
        if not verb:
            break
        if used >= len(values):
            raise CelRuntimeError(f"index {used} out of range")
        made.append(one(verb, precision, values[used]))
        used += 1
    if used < len(values):
        raise CelRuntimeError(f"too many arguments supplied to string.format (expected {used}, got {len(values)})")
    return "".join(made)


def wrong(verb: str, type_: str) -> str:
    """What is said about an argument whose type the clause does not take."""
    takes = {
        "s": "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps",
        "d": "decimal clause can only be used on integers",
        "f": "fixed-point clause can only be used on doubles",
        "e": "scientific clause can only be used on doubles",
        "x": "only integers, byte buffers, and strings can be formatted as hex",
        "X": "only integers, byte buffers, and strings can be formatted as hex",
        "o": "octal clause can only be used on integers",
        "b": "only integers and bools can be formatted as binary",
    }[verb]
    return f"error during formatting: {takes}, was given {type_}"


def one(verb: str, precision: int | None, value: Any) -> str:
    """One clause. Raises CelRuntimeError when the value is of no type it takes."""
    kind = value.__class__
    if verb == "s":
        return display(value, top=True)
    if verb in "fe" and kind is float:
        return _double(value, 6 if precision is None else precision, verb == "e")
    if verb in "doxX" and kind in _INTEGERS:
        return format(int(value), verb)
    if verb == "b" and kind in (bool, *_INTEGERS):
        return format(int(value), "b")
    if verb in "xX" and kind in (str, bytes):
        digits: str = (value.encode() if kind is str else value).hex()
        return digits.upper() if verb == "X" else digits
    from portside.api.cel.type_values import type_name

    raise CelRuntimeError(wrong(verb, type_name(value)))


def _double(value: float, precision: int, scientific: bool) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if not scientific:
        return f"{value:.{precision}f}"
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    return f"{mantissa}×10{exponent.lstrip('+').translate(_SUPERSCRIPT)}"


def _listed(parts: list[str]) -> str:
    bounded(sum(map(len, parts)), MAX_TEXT, "string")
    return ", ".join(parts)


def display(value: Any, *, top: bool) -> str:
    """A value as %s writes it: bare at the top, quoted and labelled within lists and maps."""
    from portside.api.cel.stdlib_time import duration_text, timestamp_text

    kind = value.__class__
    if value is None:
        return "null"
    if kind is str:
        return value if top else f'"{value}"'
    if kind is bool:
        return "true" if value else "false"
    if kind in _INTEGERS:
        return str(int(value))
    if kind is float:
        if not top and not (math.isnan(value) or math.isinf(value)):
            return f"{value:.6f}"
        return format_double(value) if not math.isfinite(value) else fixed_double(value)
    if kind is bytes:
        text = value.decode("utf-8", "replace")
        return text if top else f'b"{text}"'
    if kind in (Duration, Timestamp):
        written = duration_text(value) if kind is Duration else timestamp_text(value)
        return written if top else f'{"duration" if kind is Duration else "timestamp"}("{written}")'
    if kind is list:
        return "[" + _listed([display(v, top=False) for v in value]) + "]"
    if kind is dict:
        pairs = sorted((display(k, top=False), display(v, top=False)) for k, v in value.items())
        return "{" + _listed([f"{k}:{v}" for k, v in pairs]) + "}"
    from portside.api.cel.type_values import TypeValue, type_name

    if kind is TypeValue:
        return str(value.name)
    raise CelRuntimeError(wrong("s", type_name(value)))
