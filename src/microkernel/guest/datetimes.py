"""Dates, times and durations: RFC 3339 and ISO 8601 texts, and MessagePack timestamps."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import NamedTuple

from microkernel.guest.values import Mismatch

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62135596800, 253402300799
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_TIME = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):?(\d\d))?", re.ASCII)
_STEP = re.compile(r"([Tt]?)(\d+)(?:(?:\.(\d+))?([A-Za-z]))?", re.ASCII)
_SCALE = {"D": 86400, "H": 3600, "M": 60, "S": 1}
_IN_TIME = 2
# The parsing stages of a duration, by unit: the latest stage in which the unit may occur, and the next stage. Stage 2
# is after the T.
_STAGES = {"D": (0, 1), "H": (2, 3), "M": (2, 4), "S": (2, 5)}
_MAX_SECONDS, _MIN_SECONDS = 86399999999999, -86399999913600


def datetime_text(value: datetime) -> str:
    """Format a datetime as RFC 3339."""
    return f"{date_text(value.date())}T{time_text(value.timetz())}"


def date_text(value: date) -> str:
    """Format a date as RFC 3339."""
    return value.isoformat()


def time_text(value: time) -> str:
    """Format a time as RFC 3339, its timezone to the minute."""
    text = value.replace(tzinfo=None).isoformat()
    offset = None if value.tzinfo is None else value.tzinfo.utcoffset(None)
    if offset is None:
        return text
    seconds = offset // timedelta(seconds=1)
    minutes = min((abs(seconds) + 29) // 60, 1439)
    if not minutes:
        return text + "Z"
    return f"{text}{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


def timedelta_text(value: timedelta) -> str:
    """Format a duration as ISO 8601."""
    sign, value = ("-", -value) if value.days < 0 else ("", value)
    days = f"{value.days}D" if value.days else ""
    micros = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    rest = f"T{value.seconds}{micros}S" if value.seconds or micros else ""
    return f"{sign}P{days}{rest}" if days or rest else "P0D"


def since_epoch(value: datetime) -> tuple[int, int]:
    """Return seconds and nanoseconds since the epoch of a datetime with a timezone."""
    passed = (value if value.tzinfo is UTC else value.astimezone(UTC)) - _EPOCH
    return passed.days * 86400 + passed.seconds, passed.microseconds * 1000


def from_timestamp(data: bytes) -> datetime:
    """Return the datetime of a timestamp's 4, 8 or 12 bytes."""
    number, size = int.from_bytes(data, "big"), len(data)
    if size == 4:
        seconds, nanoseconds = number, 0
    elif size == 8:
        seconds, nanoseconds = number & 0x3FFFFFFFF, number >> 34
    elif size == 12:
        seconds, nanoseconds = int.from_bytes(data[4:], "big", signed=True), number >> 64
    else:
        raise Mismatch("Invalid MessagePack timestamp")
    if nanoseconds > 999999999:
        raise Mismatch("Invalid MessagePack timestamp: nanoseconds out of range")
    micros = (nanoseconds + 500) // 1000
    if seconds < _FIRST or seconds + micros // 1000000 > _LAST:
        raise Mismatch("Timestamp is out of range ")
    return _EPOCH + timedelta(seconds=seconds, microseconds=micros)


def datetime_of(text: str) -> datetime:
    """Parse a datetime in RFC 3339."""
    day, hour = _DATE.match(text), _TIME.fullmatch(text, 11)
    try:
        if day and hour and text[10] in "Tt ":
            clock = _clock(hour)
            moment = datetime.combine(date(*map(int, day.groups())), clock.time())
            return moment + timedelta(microseconds=1) if clock.up else moment
    except (ValueError, OverflowError):
        raise Mismatch("Invalid RFC3339 encoded datetime") from None
    raise Mismatch("Invalid RFC3339 encoded datetime")


def date_of(text: str) -> date:
    """Parse a date in RFC 3339."""
    found = _DATE.fullmatch(text)
    try:
        if found:
            return date(*map(int, found.groups()))
    except ValueError:
        raise Mismatch("Invalid RFC3339 encoded date") from None
    raise Mismatch("Invalid RFC3339 encoded date")


def time_of(text: str) -> time:
    """Parse a time in RFC 3339."""
    found = _TIME.fullmatch(text)
    try:
        if found:
            clock = _clock(found)
            moment = datetime.combine(date(2000, 1, 1), clock.time())
            return (moment + timedelta(microseconds=1) if clock.up else moment).timetz()
    except ValueError:
        raise Mismatch("Invalid RFC3339 encoded time") from None
    raise Mismatch("Invalid RFC3339 encoded time")


class _Clock(NamedTuple):
    hour: int
    minute: int
    second: int
    micros: int
    zone: tzinfo | None
    # Whether the digits below a microsecond round up.
    up: bool

    def time(self) -> time:
        return time(self.hour, self.minute, self.second, self.micros, self.zone)


def _clock(found: re.Match[str]) -> _Clock:
    hour, minute, second, fraction, utc, sign, hours, minutes = found.groups()
    fraction = fraction or ""
    zone: tzinfo | None = UTC if utc else None
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise ValueError
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        zone = timezone(-offset if sign == "-" else offset) if offset else UTC
    micros = int(fraction[:6].ljust(6, "0"))
    return _Clock(int(hour), int(minute), int(second), micros, zone, fraction[6:7] >= "5")


def timedelta_of(text: str) -> timedelta:
    """Parse a duration in ISO 8601: days, hours, minutes and seconds; only the last of them may have a fraction."""
    start = re.match(r"([+-]?)[Pp]", text)
    if not start or start.end() == len(text):
        raise Mismatch("Invalid ISO8601 duration")
    seconds, micros = _duration(text, start.end())
    if start[1] == "-":
        seconds, micros = -seconds, -micros
    if not _MIN_SECONDS <= seconds + micros // 1000000 <= _MAX_SECONDS:
        raise Mismatch("Duration is out of range")
    return timedelta(seconds=seconds, microseconds=micros)


def _duration(text: str, at: int) -> tuple[int, int]:
    seconds, micros, stage, fraction = 0, 0, 0, None
    while at < len(text):
        step = _STEP.match(text, at)
        if not step or fraction is not None or (step[1] and stage >= _IN_TIME):
            raise Mismatch("Invalid ISO8601 duration")
        whole, fraction = step[2].lstrip("0") or "0", step[3]
        if len(whole) > 15 or int(whole) > _MAX_SECONDS:
            raise Mismatch("Duration is out of range")
        unit = (step[4] or "").upper()
        stage = _next_stage(unit, _IN_TIME if step[1] else stage)
        seconds += _SCALE[unit] * int(whole)
        micros = _fraction(fraction, _SCALE[unit])
        if seconds + micros // 1000000 > _MAX_SECONDS:
            raise Mismatch("Duration is out of range")
        at = step.end()
    return seconds, micros


def _next_stage(unit: str, stage: int) -> int:
    if unit in ("W", "Y") or (unit == "M" and stage < _IN_TIME):
        raise Mismatch("Only units 'D', 'H', 'M', and 'S' are supported when parsing ISO8601 durations")
    first, reached = _STAGES.get(unit, (9, 0))
    if not first <= stage < reached:
        raise Mismatch("Invalid ISO8601 duration")
    return reached


def _fraction(digits: str | None, scale: int) -> int:
    if not digits:
        return 0
    whole: int = 10 ** len(digits[:11])
    part = int(digits[:11]) * scale
    return (part * 1000000 + whole // 2) // whole
