"""Times and durations as text: RFC 3339 and Go's durations, by integers of nanoseconds.

On the path of `run` and `ps`: `datetime` costs milliseconds to import and has no nanoseconds. Pure functions.
"""

from __future__ import annotations

from . import errors

NS_PER_S = 1_000_000_000
_MAX_INT64 = (1 << 63) - 1
_DURATION_UNITS = {
    "ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 1_000_000, "s": NS_PER_S, "m": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
}  # fmt: skip


def parse_duration(text: str) -> int:
    """Nanoseconds from Go's notation: "1h30m", "10s", "1.5h", "-250ms", "0". Raises InvalidArgument naming the text."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise _bad_duration(text, "it is empty")
    total = 0
    while rest:
        number, rest = _leading(rest, "0123456789.")
        unit, rest = _leading(rest, None)
        whole, _, fraction = number.partition(".")
        if not (whole + fraction).isdigit():
            raise _bad_duration(text, f"{number!r} is not a number" if number else "a number is missing")
        if not unit:
            raise _bad_duration(text, "its unit is missing")
        scale = _DURATION_UNITS.get(unit)
        if scale is None:
            raise _bad_duration(text, f"{unit!r} is no unit")
        if len(whole) > 20:
            raise _bad_duration(text, "too long")
        fraction = fraction[:20]
        total += int(whole or "0") * scale + int(fraction or "0") * scale // 10 ** len(fraction)
    if total > _MAX_INT64:
        raise _bad_duration(text, "too long")
    return -total if text[0] == "-" else total


def _leading(text: str, allowed: str | None) -> tuple[str, str]:
    """The longest start made of allowed characters (None: of all but digits and the point), and the rest."""
    end = 0
    while end < len(text) and (text[end] in allowed if allowed is not None else text[end] not in "0123456789."):
        end += 1
    return text[:end], text[end:]


def _bad_duration(text: str, why: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(f"invalid duration {text!r}: {why}", advice="give a time as 10s, 1h30m or 500ms")


def rfc3339(ns: int, *, fixed: bool = False) -> str:
    """A time in UTC, "2024-05-01T12:00:00.123456789Z": zeros at the end dropped, or always nine digits if fixed."""
    seconds, fraction = divmod(ns, NS_PER_S)
    days, second = divmod(seconds, 86400)
    year, month, day = _civil(days)
    digits = f"{fraction:09d}"
    if not fixed:
        digits = digits.rstrip("0")
    point = "." if digits else ""
    return (
        f"{year:04d}-{month:02d}-{day:02d}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
        f"{point}{digits}Z"
    )


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch from RFC 3339 with any fraction (digits past the ninth are dropped) and offset.

    Raises InvalidArgument naming the text.
    """
    try:
        return _parse_rfc3339(text)
    except ValueError:
        raise errors.InvalidArgument(
            f"invalid time {text!r}: it is not RFC 3339", advice="give it as 2024-05-01T12:00:00Z"
        ) from None


def _parse_rfc3339(text: str) -> int:
    if (
        not text.isascii()
        or len(text) < 20
        or text[4] + text[7] + text[13] + text[16] != "--::"
        or text[10] not in "Tt"
    ):
        raise ValueError
    year, month, day = _number(text[0:4]), _number(text[5:7]), _number(text[8:10])
    hour, minute, second = _number(text[11:13]), _number(text[14:16]), _number(text[17:19])
    end = 19
    fraction = ""
    if text[end] == ".":
        fraction, _ = _leading(text[20:], "0123456789")
        if not fraction:
            raise ValueError
        end = 20 + len(fraction)
    zone = text[end:]
    offset = 0
    if zone not in ("Z", "z"):
        if len(zone) != 6 or zone[0] not in "+-" or zone[3] != ":":
            raise ValueError
        offset_hours, offset_minutes = _number(zone[1:3]), _number(zone[4:6])
        if offset_hours > 23 or offset_minutes > 59:
            raise ValueError
        offset = (offset_hours * 60 + offset_minutes) * 60 * (-1 if zone[0] == "-" else 1)
    if not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 60:  # 60: a leap second, the next one's 0
        raise ValueError
    days = _days(year, month, day)
    if day < 1 or _civil(days) != (year, month, day):
        raise ValueError
    seconds = days * 86400 + hour * 3600 + minute * 60 + second - offset
    return seconds * NS_PER_S + int(fraction[:9].ljust(9, "0"))


def _number(text: str) -> int:
    if not text.isdigit():
        raise ValueError
    return int(text)


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar (years begin in March, so leap days come last)."""
    year -= month <= 2
    era_year = year % 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return year // 400 * 146097 + era_year * 365 + era_year // 4 - era_year // 100 + day_of_year - 719468


def _civil(days: int) -> tuple[int, int, int]:
    """The year, month and day of a count of days since 1970-01-01: `_days` turned round."""
    era, day_of_era = divmod(days + 719468, 146097)
    era_year = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * era_year + era_year // 4 - era_year // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + era_year + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1
