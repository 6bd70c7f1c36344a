"""Resource limits of the container's process (`--ulimit`): parsed, and clamped to what this process may give.

Pure. Source: getrlimit(2), docker run(1). On the hot path only when a limit is asked for.
"""

from __future__ import annotations

from ...base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

NAMES = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack", "as",
)  # fmt: skip

INFINITY = (1 << 64) - 1


def parse(text: str) -> tuple[str, int, int]:
    """`NAME=SOFT[:HARD]` → (name, soft, hard); -1 or "unlimited" is INFINITY. Raises UsageError."""
    name, equals, value = text.partition("=")
    name = name.lower().removeprefix("rlimit_")
    if not equals or name not in NAMES:
        raise errors.UsageError(
            f"invalid --ulimit {text!r}: the form is NAME=SOFT[:HARD]", advice=f"names: {' '.join(NAMES)}"
        )
    soft_text, colon, hard_text = value.partition(":")
    soft = _number(text, soft_text)
    hard = _number(text, hard_text) if colon else soft
    if soft > hard:
        raise errors.UsageError(f"invalid --ulimit {text!r}: the soft limit is above the hard one")
    return name, soft, hard


def _number(text: str, value: str) -> int:
    if value in ("-1", "unlimited"):
        return INFINITY
    if not value.isdecimal() or not value.isascii() or len(value) > 20 or int(value) > INFINITY:
        raise errors.UsageError(f"invalid --ulimit {text!r}: {value!r} is not a number")
    return int(value)


def resolve(
    wanted: Iterable[str], hard_limits: Mapping[str, int], may_raise: bool
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The specification's `rlimits`, and warnings.

    hard_limits: our own, by name (INFINITY for none). may_raise: whether we hold CAP_SYS_RESOURCE; without it a limit
    above ours is lowered to ours, with one warning for all of them. Of two for one name the later counts.
    """
    found: dict[str, tuple[int, int]] = {}
    clamped = []
    for text in wanted:
        name, soft, hard = parse(text)
        ceiling = hard_limits.get(name, INFINITY)
        if not may_raise and hard > ceiling:
            clamped.append(f"{name} to {ceiling}")
            soft, hard = min(soft, ceiling), ceiling
        found[name] = (soft, hard)
    warnings = (f"resource limits lowered to this process's own: {', '.join(clamped)}",) if clamped else ()
    return [{"type": f"RLIMIT_{n.upper()}", "soft": s, "hard": h} for n, (s, h) in sorted(found.items())], warnings
