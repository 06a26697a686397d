"""Resource quantities (``100m``, ``1.5Gi``, ``1e3``): exact value, canonical text, comparison, upstream's limits."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

_FORM = re.compile(r"([+-]?)([0-9]*)(\.([0-9]*))?(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?[0-9]+)?\Z")
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIX = {v: k for k, v in _DECIMAL.items()}
_BINARY_SUFFIX = {v: k for k, v in _BINARY.items()} | {0: ""}
_NANO = Decimal(1).scaleb(-9)
MAXIMUM = Decimal(2**63 - 1)

FORM_TEXT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_LOOSE = re.compile(r"[+-]?[0-9.]+[eEinumkKMGTP]*[-+]?[0-9]*\Z")


class QuantityError(ValueError):
    """Text that is no quantity; the message is upstream's."""


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[Decimal, str]:
    """Value and format: ``bin``, ``dec`` or ``exp``. Finer than nano rounds up; beyond int64 is capped."""
    match = _FORM.match(text)
    if not match or not (match[2] or match[4]):
        if text and not _LOOSE.match(text):
            raise QuantityError(FORM_TEXT)
        raise QuantityError(FORM_TEXT if not text or text in "+-" else "unable to parse quantity's suffix")
    suffix = match[5] or ""
    number = Decimal(f"{match[2] or '0'}.{match[4] or '0'}")
    if suffix in _BINARY:
        value, form = number * (1 << _BINARY[suffix]), "bin"
    elif suffix in _DECIMAL:
        value, form = number.scaleb(_DECIMAL[suffix]), "dec"
    else:
        exponent = int(suffix[1:])
        if abs(exponent) > 1000:
            raise QuantityError("unable to parse quantity's suffix")
        value, form = number.scaleb(exponent), "exp"
    value = min(value, MAXIMUM)
    if value.as_tuple().exponent < -9:  # type: ignore[operator]
        value = value.quantize(_NANO, rounding=ROUND_CEILING)
    return (-value if match[1] == "-" else value), form


def parse(text: str | int | float) -> Decimal:
    """The exact value; QuantityError with upstream's text when ``text`` is none. JSON numbers count as their text."""
    return _parse(text if type(text) is str else str(text))[0]


def valid(text: str | int | float) -> bool:
    try:
        parse(text)
    except QuantityError:
        return False
    return True


def form_of(text: str | int | float) -> str:
    """The format of a text: ``bin``, ``dec`` or ``exp``."""
    return _parse(text if type(text) is str else str(text))[1]


def canonical(text: str | int | float) -> str:
    """The text upstream writes: same format, no fraction, the largest suffix that keeps it exact."""
    return _canonical(text if type(text) is str else str(text))


@lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    return format_value(*_parse(text))


def format_value(value: Decimal, form: str = "dec") -> str:
    """``value`` in ``form`` (bin, dec, exp). Binary falls back to decimal below 1024 or for fractions."""
    if not value:
        return "0"
    if form == "bin" and (abs(value) < 1024 or value != value.to_integral_value()):
        form = "dec"
    if form == "bin":
        whole, shift = int(value), 0
        while whole % 1024 == 0 and shift < 60:
            whole, shift = whole // 1024, shift + 10
        return f"{whole}{_BINARY_SUFFIX[shift]}"
    scaled, power = int(value.scaleb(9)), -9
    while scaled % 1000 == 0 and power < 18:
        scaled, power = scaled // 1000, power + 3
    if form == "exp":
        return f"{scaled}e{power}" if power else str(scaled)
    return f"{scaled}{_SUFFIX[power]}"


def milli(text: str | int | float) -> int:
    """Thousandths, rounded up."""
    return int((parse(text) * 1000).to_integral_value(ROUND_CEILING))


def value(text: str | int | float) -> int:
    """Whole units, rounded up."""
    return int(parse(text).to_integral_value(ROUND_CEILING))


def compare(a: str | int | float, b: str | int | float) -> int:
    """-1, 0 or 1."""
    first, second = parse(a), parse(b)
    return (first > second) - (first < second)


def equal(a: str | int | float, b: str | int | float) -> bool:
    return a == b or parse(a) == parse(b)


def total(texts: list[str]) -> str:
    """The sum in the first one's format; ``0`` of none."""
    if not texts:
        return "0"
    return format_value(sum((parse(t) for t in texts), Decimal(0)), _parse(texts[0])[1])
