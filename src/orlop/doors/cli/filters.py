"""`--filter KEY=VALUE`, as lists take them. Loaded only when a filter is given; knows nothing of what is listed."""

from __future__ import annotations

import re

from ...base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_TRUE = frozenset(("1", "t", "true"))
_FALSE = frozenset(("0", "f", "false"))


def grouped(items: Iterable[str], known: Collection[str]) -> dict[str, list[str]]:
    """{key: values} of filters in the order given. UsageError for one without "=" or with an unknown key."""
    groups: dict[str, list[str]] = {}
    for text in items:
        key, equals, value = text.partition("=")
        key, value = key.strip().lower(), value.strip()
        if not equals:
            raise errors.UsageError(f"invalid filter {text!r}: it has no '='", advice="use KEY=VALUE")
        if key not in known:
            raise errors.UsageError(f"invalid filter '{key}'", advice=f"use {', '.join(known)}")
        groups.setdefault(key, []).append(value)
    return groups


def has_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Whether there is every label that is wanted, each given as KEY or KEY=VALUE."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def truth(key: str, values: Iterable[str]) -> bool:
    """The truth value of a filter (its last, when there are several). UsageError for another text."""
    answer = False
    for value in values:
        if value.lower() not in _TRUE | _FALSE:
            raise errors.UsageError(f"invalid filter '{key}={value}'", advice="use true or false")
        answer = value.lower() in _TRUE
    return answer


def patterns(key: str, values: Iterable[str]) -> list[re.Pattern[str]]:
    """Regular expressions, to be searched for. UsageError for one that is none."""
    try:
        return [re.compile(value) for value in values]
    except re.error as error:
        raise errors.UsageError(f"invalid filter '{key}': {error}", advice="use a regular expression") from None


def glob(pattern: str) -> re.Pattern[str]:
    """A shell pattern that, as Go's path.Match, keeps within one part of a path: * and ? match no "/".

    UsageError for a set that is not closed.
    """
    out, index = "", 0
    while index < len(pattern):
        character = pattern[index]
        index += 1
        if character == "*":
            out += "[^/]*"
        elif character == "?":
            out += "[^/]"
        elif character == "\\" and index < len(pattern):
            out += re.escape(pattern[index])
            index += 1
        elif character == "[":
            end = pattern.find("]", index + 1)
            if end < 0:
                raise errors.UsageError(f"invalid pattern {pattern!r}: '[' is not closed")
            inside = pattern[index:end]
            negated = inside.startswith("^")
            inside = re.sub(r"([\[\]&~|\\])", r"\\\1", inside[1:] if negated else inside)
            out += f"[{'^' if negated else ''}{inside}]"
            index = end + 1
        else:
            out += re.escape(character)
    try:
        return re.compile(out, re.DOTALL)
    except re.error:
        raise errors.UsageError(f"invalid pattern {pattern!r}") from None
