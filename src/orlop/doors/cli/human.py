"""How people read and write numbers: sizes, durations, times, IDs, quoted text; as Docker and Go print and parse them.

On the hot path of the commands that print tables: pure functions, no imports but the interpreter's cheap ones.
"""

from __future__ import annotations

from ...base import errors
from ...base.times import NS_PER_S as _NS_PER_S
from ...base.times import parse_duration as parse_duration
from ...base.times import parse_time as parse_time
from ...base.times import rfc3339 as rfc3339

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_POWER = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_MAX_INT64 = (1 << 63) - 1


def size(count: float, digits: int = 3) -> str:
    """A count of bytes in powers of 1000 with so many significant digits: "7.05MB" (`system df` uses 4 digits)."""
    return _scaled(count, 1000, _DECIMAL, digits)


def binary_size(count: float, digits: int = 4) -> str:
    """A count of bytes in powers of 1024, as `stats` prints memory: "1.944GiB"."""
    return _scaled(count, 1024, _BINARY, digits)


def _scaled(count: float, base: int, units: tuple[str, ...], digits: int) -> str:
    value, unit = float(count), 0
    while abs(value) >= base and unit < len(units) - 1:
        value /= base
        unit += 1
    text = f"{value:.{digits}g}"
    if "e" in text:  # rounded up past the digits: 999.9 kB is 1MB, not Docker's 1e+03kB
        value = float(text)
        if abs(value) >= base and unit < len(units) - 1:
            value /= base
            unit += 1
        text = f"{value:.0f}"
    return text + units[unit]


def parse_size(text: str, *, binary: bool = True) -> int:
    """Bytes from "512m", "1.5g", "64MiB", "100": a number and b, k, m, g, t or p, with "b" or "ib" after it, any case.

    Units are powers of 1024 (binary=False: of 1000), whether "i" is written or not, as for docker run --memory. A
    fraction of a byte is dropped. Raises InvalidArgument naming the text.
    """
    split = len(text)
    while split and text[split - 1] not in "0123456789.":
        split -= 1
    number, suffix = text[:split], text[split:].removeprefix(" ").lower()
    whole, _, fraction = number.partition(".")
    if not (whole + fraction).isdigit() or not number.isascii():
        raise errors.InvalidArgument(f"invalid size: {text!r}", advice="give a number and a unit, as 512m or 1.5g")
    power = _POWER.get(suffix[:1], 0)
    if suffix not in ("", "b") and (not power or suffix[1:] not in ("", "b", "ib")):
        raise errors.InvalidArgument(f"invalid size: {text!r}: {suffix!r} is no unit", advice="use b, k, m, g, t or p")
    if len(number) > 40:
        raise errors.InvalidArgument(f"invalid size: {text!r}: too many digits")
    count: int = int(whole + fraction) * (1024 if binary else 1000) ** power // 10 ** len(fraction)
    if count > _MAX_INT64:
        raise errors.InvalidArgument(f"invalid size: {text!r}: too large")
    return count


def duration(ns: int) -> str:
    """A length of time in words, as Docker: "Less than a second", "About an hour", "3 weeks"."""
    seconds = ns // _NS_PER_S if ns > 0 else 0
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = (seconds + 1800) // 3600
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{seconds // 3600 // 24 // 365} years"


def ago(then_ns: int, now_ns: int) -> str:
    """How long ago that was: "2 minutes ago". Both in ns since the epoch; a time to come counts as now."""
    return duration(now_ns - then_ns) + " ago"


def time_text(ns: int) -> str:
    """A time in the local zone as Docker's CreatedAt columns have it: "2024-05-01 14:00:00 +0200 CEST"."""
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(ns // _NS_PER_S))


def short_id(text: str) -> str:
    """The first 12 hex digits of an ID or digest."""
    return text.partition(":")[2][:12] if ":" in text else text[:12]


_ESCAPES = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\", '"': r"\"",
}  # fmt: skip


def quote(text: str, *, ascii_only: bool = False) -> str:
    """Text in double quotes with Go's escapes, as in the COMMAND column."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return (
        '"'
        + "".join(
            _ESCAPES.get(c) or (c if c.isprintable() and (c.isascii() or not ascii_only) else _escape(c)) for c in text
        )
        + '"'
    )


def visible(text: str) -> str:
    """Text in which control characters are escaped, so that it can neither break a table nor steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _ESCAPES.get(c) or _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
