"""Timestamps and durations: reading and writing them as Go does, and their parts."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from portside.api.cel.go_numbers import fixed_double
from portside.api.cel.values import NANOS, YEAR_END, YEAR_ONE, CelRuntimeError, Duration, Timestamp

_PARTS = (
    ("getFullYear", "timestamp_to_year"),
    ("getMonth", "timestamp_to_month"),
    ("getDayOfYear", "timestamp_to_day_of_year"),
    ("getDate", "timestamp_to_day_of_month_1_based"),
    ("getDayOfMonth", "timestamp_to_day_of_month"),
    ("getDayOfWeek", "timestamp_to_day_of_week"),
    ("getHours", "timestamp_to_hours"),
    ("getMinutes", "timestamp_to_minutes"),
    ("getSeconds", "timestamp_to_seconds"),
    ("getMilliseconds", "timestamp_to_milliseconds"),
)


def _zoned(id_: str) -> str:
    return "timestamp_to_seconds_tz" if id_ == "timestamp_to_seconds" else f"{id_}_with_tz"


DECLARATIONS = """
duration_to_duration: duration(duration) -> duration
string_to_duration: duration(string) -> duration
timestamp_to_timestamp: timestamp(timestamp) -> timestamp
int64_to_timestamp: timestamp(int) -> timestamp
string_to_timestamp: timestamp(string) -> timestamp
duration_to_hours: duration :: getHours() -> int
duration_to_minutes: duration :: getMinutes() -> int
duration_to_seconds: duration :: getSeconds() -> int
duration_to_milliseconds: duration :: getMilliseconds() -> int
""" + "\n".join(
    f"{id_}: timestamp :: {name}() -> int\n{_zoned(id_)}: timestamp :: {name}(string) -> int" for name, id_ in _PARTS
)
_DURATION = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": NANOS, "m": 60 * NANOS, "h": 3600 * NANOS}
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})\Z"
)
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})\Z")
_OFFSET = re.compile(r"([+-]?)([0-9]{1,2}):([0-9]{2})\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST = 2**63 - 1


def parse_duration(text: str) -> Duration | None:
    """``1h30m``, ``-1.5s``, ``0``; None for anything else or beyond 64 bits of nanoseconds."""
    sign = -1 if text[:1] == "-" else 1
    rest = text[1:] if text[:1] in ("+", "-") and text else text
    if rest == "0":
        return Duration(0)
    total, at = 0, 0
    while at < len(rest):
        match = _DURATION.match(rest, at)
        if match is None or not (match[1] or match[2]):
            return None
        unit = _UNITS[match[3]]
        total += int(match[1] or 0) * unit
        if match[2]:
            total += int(match[2]) * unit // 10 ** len(match[2])
        at = match.end()
    if not rest or total > LONGEST + (sign < 0):
        return None
    return Duration(sign * total)


def parse_timestamp(text: str) -> Timestamp | None:
    """An RFC 3339 instant within the years 1 to 9999; None for anything else."""
    match = _TIMESTAMP.match(text)
    if match is None:
        return None
    zone, offset = match[8], 0
    if zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[4:])
        if hours > 23 or minutes > 59:
            return None
        offset = (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)
    try:
        moment = datetime(*(int(match[i]) for i in range(1, 7)), tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError:
        return None
    seconds = (moment - _EPOCH) // timedelta(seconds=1) - offset
    nanos = int((match[7] or "0")[:9].ljust(9, "0"))
    if not YEAR_ONE <= seconds <= YEAR_END:
        return None
    return Timestamp(seconds * NANOS + nanos, offset)


def parse_date(text: str) -> Timestamp | None:
    """Midnight of a date."""
    return parse_timestamp(f"{text}T00:00:00Z") if _DATE.match(text) else None


def instant(nanos: int, offset: int = 0) -> Timestamp:
    if not YEAR_ONE <= nanos // NANOS <= YEAR_END:
        raise CelRuntimeError("timestamp overflow")
    return Timestamp(nanos, offset)


def duration_text(value: Duration) -> str:
    """``5400s``, ``1.5s``."""
    whole, rest = divmod(abs(value.nanos), NANOS)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    if whole > 2**53:
        return ("-" if value.nanos < 0 else "") + fixed_double(abs(value.nanos) / NANOS) + "s"
    return f"{'-' if value.nanos < 0 else ''}{whole}{fraction}s"


def timestamp_text(value: Timestamp) -> str:
    seconds, rest = divmod(value.nanos, NANOS)
    moment = _EPOCH + timedelta(seconds=seconds + value.offset)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    zone = "Z"
    if value.offset:
        hours, minutes = divmod(abs(value.offset) // 60, 60)
        zone = f"{'-' if value.offset < 0 else '+'}{hours:02d}:{minutes:02d}"
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{fraction}{zone}"


def _zone(name: str) -> tzinfo:
    match = _OFFSET.match(name)
    if match is not None:
        length = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(-length if match[1] == "-" else length)
    if name in ("", "UTC"):
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise CelRuntimeError(f"unknown time zone {name}") from None


def _moment(value: Timestamp, zone: str) -> datetime:
    return (_EPOCH + timedelta(seconds=value.nanos // NANOS)).astimezone(_zone(zone))


_READ: dict[str, Callable[[datetime, int], int]] = {
    "getFullYear": lambda moment, nanos: moment.year,
    "getMonth": lambda moment, nanos: moment.month - 1,
    "getDayOfYear": lambda moment, nanos: moment.timetuple().tm_yday - 1,
    "getDate": lambda moment, nanos: moment.day,
    "getDayOfMonth": lambda moment, nanos: moment.day - 1,
    "getDayOfWeek": lambda moment, nanos: (moment.weekday() + 1) % 7,
    "getHours": lambda moment, nanos: moment.hour,
    "getMinutes": lambda moment, nanos: moment.minute,
    "getSeconds": lambda moment, nanos: moment.second,
    "getMilliseconds": lambda moment, nanos: nanos // 10**6,
}


def _part(name: str) -> Callable[..., Any]:
    read = _READ[name]

    def part(value: Timestamp, zone: str = "") -> int:
        return read(_moment(value, zone), value.nanos % NANOS)

    return part


def _to_duration(text: str) -> Duration:
    made = parse_duration(text)
    if made is None:
        raise CelRuntimeError("type conversion error from 'string' to 'google.protobuf.Duration'")
    return made


def _to_timestamp(text: str) -> Timestamp:
    made = parse_timestamp(text)
    if made is None:
        raise CelRuntimeError("type conversion error from 'string' to 'google.protobuf.Timestamp'")
    return made


def _towards_zero(value: Duration, unit: int) -> int:
    whole = abs(value.nanos) // unit
    return -whole if value.nanos < 0 else whole


def _same(value: Any) -> Any:
    return value


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "duration_to_duration": _same,
    "timestamp_to_timestamp": _same,
    "string_to_duration": _to_duration,
    "string_to_timestamp": _to_timestamp,
    "int64_to_timestamp": lambda seconds: instant(seconds * NANOS),
    "duration_to_hours": lambda value: _towards_zero(value, 3600 * NANOS),
    "duration_to_minutes": lambda value: _towards_zero(value, 60 * NANOS),
    "duration_to_seconds": lambda value: _towards_zero(value, NANOS),
    "duration_to_milliseconds": lambda value: _towards_zero(value, 10**6),
    **{id_: _part(name) for name, id_ in _PARTS},
    **{_zoned(id_): _part(name) for name, id_ in _PARTS},
}
