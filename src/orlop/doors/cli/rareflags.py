"""The rarer flags of `run` and `create` whose words need parsing: GPUs, health checks, restart policies.

Loaded only when one of them is given. Into Docker's objects, which the engine keeps in the container's record.
"""

from __future__ import annotations

from ...base import errors, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEALTH = (
    ("health-interval", "Interval"),
    ("health-timeout", "Timeout"),
    ("health-start-period", "StartPeriod"),
    ("health-start-interval", "StartInterval"),
)
HEALTH_FLAGS = ("no-healthcheck", "health-cmd", "health-retries", *(flag for flag, _ in _HEALTH))
POLICIES = ("no", "always", "unless-stopped", "on-failure")
_MAX_RETRIES = 1 << 31


def health(flags: dict[str, Any]) -> dict[str, Any]:
    """Docker's Healthcheck object: Test, and times in nanoseconds. UsageError names the flag."""
    found: dict[str, Any] = {}
    if flags.get("health-cmd"):
        found["Test"] = ["CMD-SHELL", flags["health-cmd"]]
    for flag, member in _HEALTH:
        if flag not in flags:
            continue
        text = flags[flag]
        try:
            ns = times.parse_duration(text)
        except errors.InvalidArgument as error:
            raise errors.UsageError(f'invalid argument "{text}" for "--{flag}" flag: {error.message}') from None
        if ns < 0 or 0 < ns < 1_000_000:
            raise errors.UsageError(f'invalid argument "{text}" for "--{flag}" flag: it cannot be less than 1ms')
        found[member] = ns
    retries = flags.get("health-retries", 0)
    if not 0 <= retries < _MAX_RETRIES:
        raise errors.UsageError(f'invalid argument "{retries}" for "--health-retries" flag: it cannot be negative')
    if retries:
        found["Retries"] = retries
    if flags.get("no-healthcheck"):
        if found:
            raise errors.UsageError("conflicting options: --no-healthcheck and --health-* flags")
        return {"Test": ["NONE"]}
    return found


def restart(text: str, *, remove: bool) -> dict[str, Any]:
    """Docker's RestartPolicy object. remove: whether --rm is given, which does not go with one. UsageError."""
    name, colon, count = text.partition(":")
    retries = 0
    if name not in POLICIES:
        raise errors.UsageError(
            f'invalid argument "{text}" for "--restart" flag: unknown policy',
            advice=f"use one of {', '.join(POLICIES)}",
        )
    if colon:
        if name != "on-failure":
            raise errors.UsageError(
                f'invalid argument "{text}" for "--restart" flag: maximum retry count can only be used with on-failure'
            )
        if not (count.isascii() and count.isdecimal() and int(count) < _MAX_RETRIES):
            raise errors.UsageError(
                f'invalid argument "{text}" for "--restart" flag: maximum retry count must be a whole number'
            )
        retries = int(count)
    if name != "no" and remove:
        raise errors.UsageError("conflicting options: cannot specify both --restart and --rm")
    return {"Name": name, "MaximumRetryCount": retries}


def gpus(items: list[str]) -> tuple[str, ...]:
    """--gpus as names of CDI devices: "all", a number (the first so many), "device=0,GPU-…". UsageError."""
    found: list[str] = []
    for text in items:
        ids: list[str] = []
        count = ""
        for field in _fields(text):
            key, equals, value = field.partition("=")
            if not equals:
                if ids:  # device=0,1 without quotes
                    ids.append(field)
                else:
                    count = field
            elif key == "device":
                ids.append(value)
            elif key == "count":
                count = value
            elif key == "driver" and value in ("", "nvidia", "cdi"):
                continue
            elif key not in ("capabilities", "options"):
                raise _bad_gpus(text, f"unknown {field!r}")
        if ids and count:
            raise _bad_gpus(text, "give a count or devices, not both")
        if ids:
            found += [f"nvidia.com/gpu={id}" for id in ",".join(ids).split(",")]
        elif count in ("all", "-1"):
            found.append("nvidia.com/gpu=all")
        elif count.isascii() and count.isdecimal() and 0 < int(count) <= 64:
            found += [f"nvidia.com/gpu={number}" for number in range(int(count))]
        else:
            raise _bad_gpus(text, "give all, a number, or device=ID")
    return tuple(found)


def _fields(text: str) -> list[str]:
    """Comma-separated, where double quotes hold a field together."""
    fields, quoted = [""], False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            fields.append("")
        else:
            fields[-1] += character
    return fields


def _bad_gpus(text: str, why: str) -> errors.UsageError:
    return errors.UsageError(f'invalid argument "{text}" for "--gpus" flag: {why}')
