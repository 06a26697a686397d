"""String formats of custom resources' schemas: which words a schema may use, and which texts are of that form.

The forms are those of upstream's format registry, lenient where it is lenient (durations, dates with a blank for the T).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

from portside.api import names
from portside.api.schema_values import base64_problem

Check = Callable[[str], bool]

_EMAIL = re.compile(
    r"(?:[^<>@\s]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[^<>]*<[^<>@\s]+@[A-Za-z0-9][A-Za-z0-9.-]*>)\Z"
)
_HOSTNAME = re.compile(r"([a-zA-Z0-9À-￿]([-a-zA-Z0-9À-￿]{0,62}\.){0,1}[a-zA-Z0-9À-￿]*)+\Z")
_LABEL = re.compile(r"[a-zA-Z0-9À-￿]([-a-zA-Z0-9À-￿]*[a-zA-Z0-9À-￿])?\Z")
_MAC = re.compile(
    r"([0-9a-fA-F]{2}[:-]){5}([0-9a-fA-F]{2}[:-]){0,14}[0-9a-fA-F]{2}\Z|([0-9a-fA-F]{4}\.){2,9}[0-9a-fA-F]{4}\Z"
)
_UUID = r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?%s[0-9a-f]{3}-?%s[0-9a-f]{3}-?[0-9a-f]{12}\Z"
_UUIDS = {
    "uuid": re.compile(_UUID % ("[0-9a-f]", "[0-9a-f]")),
    "uuid3": re.compile(_UUID % ("3", "[0-9a-f]")),
    "uuid4": re.compile(_UUID % ("4", "[89ab]")),
    "uuid5": re.compile(_UUID % ("5", "[89ab]")),
}
_BSON = re.compile(r"[0-9a-fA-F]{24}\Z")
_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})\Z")
_BYTE = r"(?:0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])"
_RGB_COLOR = re.compile(rf"rgb\(\s*{_BYTE}\s*,\s*{_BYTE}\s*,\s*{_BYTE}\s*\)\Z")
_CARD = re.compile(
    r"(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|(222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}|"
    r"6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11}|6[27][0-9]{14})\Z"
)
_SSN = re.compile(r"\d{3}[- ]?\d{2}[- ]?\d{4}\Z")
_TIMES = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[tT](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(?:[zZ]|[+-]\d\d:?\d\d)?)?\Z")
_GO_DURATION = re.compile(r"[+-]?(?:0|(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)\Z")
_DURATION_PART = re.compile(r"(\d+)\s*([A-Za-zµ]+)")
_UNITS = (
    ("ns", "nano"),
    ("us", "µs", "micro"),
    ("ms", "milli"),
    ("s", "sec"),
    ("m", "min"),
    ("h", "hr", "hour"),
    ("d", "day"),
    ("w", "week"),
)


def _date(text: str) -> bool:
    try:
        return len(text) == 10 and bool(datetime.strptime(text, "%Y-%m-%d"))
    except ValueError:
        return False


def _date_time(text: str) -> bool:
    found = _TIMES.match(text)
    if not found:
        return False
    year, month, day, hour, minute, second = (int(found[i] or 0) for i in range(1, 7))
    try:
        datetime(year or 1, month, day, hour, minute, min(second, 59))
    except ValueError:
        return False
    return second < 61


def _duration(text: str) -> bool:
    if _GO_DURATION.match(text):
        return True
    for _, unit in _DURATION_PART.findall(text):
        word = unit.lower()
        if any(word in units or word.startswith(units[-1]) for units in _UNITS):
            return True
    return False


def _hostname(text: str) -> bool:
    if len(text) > 255 or not _HOSTNAME.match(text):
        return False
    parts = text.split(".")
    return all(len(part) <= 63 and _LABEL.match(part) for part in parts if part) and (
        len(parts) < 2 or len(parts[-1]) != 1 or parts[-1].isalpha()
    )


def _address(version: int) -> Check:
    def check(text: str) -> bool:
        try:
            found = ipaddress.ip_address(text)
        except ValueError:
            return False
        return found.version == version if version == 4 else ":" in text

    return check


def _cidr(text: str) -> bool:
    address, slash, size = text.partition("/")
    if not slash or not size.isdigit():
        return False
    try:
        return int(size) <= ipaddress.ip_address(address).max_prefixlen
    except ValueError:
        return False


def _uri(text: str) -> bool:
    if not text or any(c <= " " or c == "\x7f" for c in text):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return text.startswith("/") or bool(parts.scheme and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*\Z", parts.scheme))


def _isbn(text: str, sizes: tuple[int, ...] = (10, 13)) -> bool:
    plain = re.sub(r"[\s-]", "", text)
    if len(plain) == 10 and 10 in sizes and re.match(r"\d{9}[\dX]\Z", plain):
        total = sum((i + 1) * int(c) for i, c in enumerate(plain[:9]))
        return (total + 10 * (10 if plain[9] == "X" else int(plain[9]))) % 11 == 0
    if len(plain) == 13 and 13 in sizes and plain.isdigit():
        total = sum((3 if i % 2 else 1) * int(c) for i, c in enumerate(plain[:12]))
        return (int(plain[12]) - (10 - total % 10) % 10) == 0
    return False


def _card(text: str) -> bool:
    digits = re.sub(r"[^0-9]+", "", text)
    if not _CARD.match(digits):
        return False
    total = 0
    for i, c in enumerate(reversed(digits)):
        number = int(c) * (2 if i % 2 else 1)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


FORMATS: dict[str, Check] = {
    "bsonobjectid": lambda text: bool(_BSON.match(text)),
    "uri": _uri,
    "email": lambda text: bool(_EMAIL.match(text)),
    "hostname": _hostname,
    "ipv4": _address(4),
    "ipv6": _address(6),
    "cidr": _cidr,
    "mac": lambda text: bool(_MAC.match(text)),
    **{name: (lambda text, form=form: bool(form.match(text))) for name, form in _UUIDS.items()},  # type: ignore[misc]
    "isbn": _isbn,
    "isbn10": lambda text: _isbn(text, (10,)),
    "isbn13": lambda text: _isbn(text, (13,)),
    "creditcard": _card,
    "ssn": lambda text: bool(_SSN.match(text)),
    "hexcolor": lambda text: bool(_HEX_COLOR.match(text)),
    "rgbcolor": lambda text: bool(_RGB_COLOR.match(text)),
    "byte": lambda text: base64_problem(text) is None,
    "password": lambda text: True,
    "date": _date,
    "duration": _duration,
    "date-time": _date_time,
    "datetime": _date_time,
    "k8s-short-name": lambda text: not names.is_label(text),
    "k8s-long-name": lambda text: not names.is_subdomain(text),
}
"""Texts of that form. Other words are ignored when values are checked."""

NUMBERS = ("int32", "int64", "float", "double")


def unrecognized(format_: str) -> bool:
    """Whether a schema's format is a word that means nothing here, which is worth a warning."""
    return bool(format_) and format_.lower().replace("_", "-") not in FORMATS and format_ not in NUMBERS
