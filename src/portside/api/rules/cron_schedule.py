"""Cron schedules: five fields or a descriptor, parsed with the texts upstream's parser gives, and the next time they name.

Pure; validation and the CronJob controller use it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {3: {n: i + 1 for i, n in enumerate(_MONTHS)}, 4: {n: i for i, n in enumerate(_DAYS)}}
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_HORIZON = 5


class ScheduleError(ValueError):
    """A schedule that cannot be read; the message is upstream's."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Allowed minutes, hours, days, months and weekdays; or a fixed interval. Stars matter for days (see ``_day``)."""

    fields: tuple[frozenset[int], ...] = ()
    star_day: bool = False
    star_weekday: bool = False
    every: timedelta | None = None

    def _day(self, moment: datetime) -> bool:
        """Both must hold if one of them is a star, else either."""
        day = moment.day in self.fields[2]
        weekday = (moment.isoweekday() % 7) in self.fields[4]
        return (day and weekday) if self.star_day or self.star_weekday else (day or weekday)

    def next(self, after: datetime) -> datetime | None:
        """The first time after ``after`` (same zone, seconds dropped); None if none within five years."""
        if self.every is not None:
            return after.replace(microsecond=0) + self.every
        moment = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
        limit = moment.year + _HORIZON
        while moment.year <= limit:
            if moment.month not in self.fields[3]:
                year, month = divmod(moment.year * 12 + moment.month, 12)
                moment = moment.replace(year=year, month=month + 1, day=1, hour=0, minute=0)
            elif not self._day(moment):
                moment = moment.replace(hour=0, minute=0) + timedelta(days=1)
            elif moment.hour not in self.fields[1]:
                moment = moment.replace(minute=0) + timedelta(hours=1)
            elif moment.minute not in self.fields[0]:
                moment += timedelta(minutes=1)
            else:
                return moment
        return None


def next_time(schedule: Schedule, after: float, zone: tzinfo) -> float | None:
    """``Schedule.next`` in seconds since the epoch and a zone's wall clock. Hours that a clock change skips have no times;
    hours that it repeats have them twice."""
    if schedule.every is not None:
        return float(int(after)) + schedule.every.total_seconds()
    low, start, offset = after, after, _offset(after, zone)
    limit = after + (_HORIZON + 1) * 366 * 86400
    while low < limit:
        found = schedule.next(datetime.fromtimestamp(start, timezone(offset)))
        if found is None:
            return None
        at = found.timestamp()
        if _offset(at, zone) == offset:
            return at
        low = _change(low, at, offset, zone)
        start, offset = low - 60, _offset(low, zone)  # the minute of the change itself may be a time
    return None


def _offset(moment: float, zone: tzinfo) -> timedelta:
    return datetime.fromtimestamp(moment, zone).utcoffset() or timedelta()


def _change(low: float, high: float, offset: timedelta, zone: tzinfo) -> float:
    """The second in which the zone leaves this offset; it has it at ``low`` and not at ``high``."""
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, zone) == offset:
            low = middle
        else:
            high = middle
    return high


def _number(text: str, index: int) -> int:
    named = _NAMES.get(index, {}).get(text.lower())
    if named is not None:
        return named
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ScheduleError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    value = int(text)
    if value < 0:
        raise ScheduleError(f"negative number ({value}) not allowed: {text}")
    return value


def _range(text: str, index: int) -> tuple[set[int], bool]:
    low, high = _BOUNDS[index]
    head, *step_parts = text.split("/")
    ends = head.split("-")
    single = len(ends) == 1
    star = ends[0] in ("*", "?")
    if star:
        start, end = low, high
    else:
        start = _number(ends[0], index)
        if len(ends) == 1:
            end = start
        elif len(ends) == 2:
            end = _number(ends[1], index)
        else:
            raise ScheduleError(f"too many hyphens: {text}")
    step = 1
    if len(step_parts) == 1:
        step = _number(step_parts[0], 0)
        if single and not star:
            end = high
        star = star and step <= 1
    elif step_parts:
        raise ScheduleError(f"too many slashes: {text}")
    if start < low:
        raise ScheduleError(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise ScheduleError(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise ScheduleError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {text}")
    return set(range(start, end + 1, step)), star


def _field(text: str, index: int) -> tuple[frozenset[int], bool]:
    found: set[int] = set()
    star = False
    for part in (p for p in text.split(",") if p):
        values, all_ = _range(part, index)
        found |= values
        star = star or all_
    return frozenset(found), star


def _duration(text: str) -> timedelta | None:
    total, end = 0.0, 0
    body = text.lstrip("+-")
    for match in _DURATION.finditer(body):
        if match.start() != end:
            return None
        total += float(match[1]) * _UNITS[match[2]]
        end = match.end()
    if not body or end != len(body):
        return None
    return timedelta(seconds=max(int(total), 1))


@lru_cache(maxsize=1024)
def parse(text: str) -> Schedule:
    """The schedule ``text`` means. ScheduleError with upstream's words when it means none."""
    if not text:
        raise ScheduleError("empty spec string")
    if text.startswith("@"):
        if text in _DESCRIPTORS:
            return parse(_DESCRIPTORS[text])
        if text.startswith("@every "):
            every = _duration(text[7:])
            if every is None:
                raise ScheduleError(f'failed to parse duration {text}: time: invalid duration "{text[7:]}"')
            return Schedule(every=every)
        raise ScheduleError(f"unrecognized descriptor: {text}")
    parts = text.split()
    if len(parts) != 5:
        listed = " ".join(parts)
        raise ScheduleError(f"expected exactly 5 fields, found {len(parts)}: [{listed}]")
    parsed = [_field(part, i) for i, part in enumerate(parts)]
    return Schedule(tuple(p[0] for p in parsed), parsed[2][1], parsed[4][1])
