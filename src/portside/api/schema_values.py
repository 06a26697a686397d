"""Scalars with a form of their own, as Go reads and writes them: times, base64 and quantities."""

from __future__ import annotations

import binascii
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from portside.api.quantity import QuantityError, canonical

_BASE64 = frozenset(bytes([c]) for c in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_BREAKS = frozenset((b"\r", b"\n"))
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
_MICRO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")
_ANY_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(Z|([+-])(\d\d):(\d\d))\Z")
_LAYOUT = (
    (re.compile(r"\d{4}"), "2006"),
    (re.compile(r"-"), "-"),
    (re.compile(r"\d\d"), "01"),
    (re.compile(r"-"), "-"),
    (re.compile(r"\d\d"), "02"),
    (re.compile(r"T"), "T"),
    (re.compile(r"\d\d"), "15"),
    (re.compile(r":"), ":"),
    (re.compile(r"\d\d"), "04"),
    (re.compile(r":"), ":"),
    (re.compile(r"\d\d"), "05"),
    (re.compile(r"Z|[+-]\d\d:\d\d"), "Z07:00"),
)
_MICRO_LAYOUT = (*_LAYOUT[:-1], (re.compile(r"\.\d{6}"), ".000000"), _LAYOUT[-1])


def _unreadable(text: str, layout: str) -> ValueError:
    """Go's words: how far the text agreed with the layout."""
    rest = text
    micro = ".000000" in layout
    for pattern, element in _MICRO_LAYOUT if micro else _LAYOUT:
        if element == "Z07:00" and not micro:
            fraction = re.match(r"\.\d+", rest)
            rest = rest[fraction.end() :] if fraction else rest
        found = pattern.match(rest)
        if not found:
            return ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{element}"')
        rest = rest[found.end() :]
    if rest:
        return ValueError(f'parsing time "{text}": extra text: "{rest}"')
    return ValueError(f'parsing time "{text}": day out of range')


@lru_cache(maxsize=1024)
def time(text: str, micro: bool = False) -> str:
    """RFC 3339 in UTC, seconds (or exactly six digits behind them). Raises ValueError with Go's text."""
    if (_MICRO if micro else _TIME).match(text):
        try:
            datetime.fromisoformat(text[:19])
        except ValueError:
            raise ValueError(f'parsing time "{text}": {_range(text)} out of range') from None
        return text
    layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
    found = _ANY_TIME.match(text)
    if not found or (micro and len(found[7] or "") != 6):
        raise _unreadable(text, layout)
    try:
        moment = datetime(*(int(found[i]) for i in range(1, 7)), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        raise ValueError(f'parsing time "{text}": {_range(text)} out of range') from None
    if found[9]:
        shift = timedelta(hours=int(found[10]), minutes=int(found[11]))
        try:
            moment = moment - shift if found[9] == "+" else moment + shift
        except OverflowError:
            raise ValueError(f'parsing time "{text}": year out of range') from None
    written = moment.isoformat()[:19]  # strftime leaves out zeros of early years
    return f"{written}.{found[7]}Z" if micro else f"{written}Z"


def _range(text: str) -> str:
    limits = (("month", 5, 12), ("hour", 11, 23), ("minute", 14, 59), ("second", 17, 59))
    for name, at, most in limits:
        number = int(text[at : at + 2])
        if number > most or (name == "month" and number == 0):
            return name
    return "day"


def base64_problem(text: str) -> str | None:
    """Go's refusal of text that is no standard base64, None when it is. Line breaks are skipped as Go does."""
    if text.isascii():
        try:
            binascii.a2b_base64(text, strict_mode=True)
            if len(text) % 4 == 0:
                return None
        except binascii.Error:
            plain = text.replace("\n", "").replace("\r", "")
            if plain != text and base64_problem(plain) is None:
                return None
    return f"illegal base64 data at input byte {_corrupt(text.encode())}"


def _corrupt(data: bytes) -> int:
    """Where Go's decoder gives up: it reads four characters at a time, line breaks not counted."""
    at, end, read = 0, len(data), 0
    while at < end:
        char = data[at : at + 1]
        if char in _BREAKS:
            at += 1
        elif char in _BASE64:
            at, read = at + 1, (read + 1) % 4
        elif char != b"=" or read < 2:
            return at
        else:
            return _after_padding(data, at + 1, read)
    return at - read


def _after_padding(data: bytes, at: int, read: int) -> int:
    """The same behind the first ``=``, which came after ``read`` characters of its four."""
    rest = data[at:].lstrip(b"\r\n")
    at = len(data) - len(rest)
    if read == 3:
        return at
    if not rest:
        return len(data)
    if not rest.startswith(b"="):
        return at - 1
    return len(data) - len(rest[1:].lstrip(b"\r\n"))


@lru_cache(maxsize=8192)
def quantity(text: str) -> str:
    """The canonical text. Raises ValueError with upstream's text."""
    try:
        return canonical(text)
    except QuantityError as error:
        raise ValueError(str(error)) from None
