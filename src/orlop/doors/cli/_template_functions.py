"""What templates can call: upper, join, json, printf, index, eq, …; Go's own functions and those Docker adds. Pure."""

from __future__ import annotations

from ...base.record import Record
from ._template_printf import sprintf
from ._template_values import MISSING, FunctionError, force, show, to_json, truth, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MAX_WIDTH = 1_000_000
_ANY = 1 << 30


class Function(Record):
    """call takes from `least` to `most` arguments.

    kinds: one letter each, s for text, i for a whole number, l for a list of texts; any further may be anything.
    """

    call: Callable[..., Any]
    least: int
    most: int
    kinds: str = ""


def _join(items: list[Any] | tuple[Any, ...] | None, separator: str) -> str:
    for item in items or ():
        if not isinstance(item, str):
            raise FunctionError(f"wrong type for value; expected string; got {type_name(item)}")
    return separator.join(items or ())


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _title(text: str) -> str:
    out, start = [], True
    for character in text:
        out.append(character.title() if start else character)
        start = not (character.isalnum() or character == "_" or (character > "\x7f" and not character.isspace()))
    return "".join(out)


def _pad(text: str, before: int, after: int) -> str:
    return " " * min(before, _MAX_WIDTH) + text + " " * min(after, _MAX_WIDTH) if text else ""


def _truncate(text: str, length: int) -> str:
    return text[: max(0, length)]


def _len(item: Any) -> int:
    if isinstance(item, str):
        return len(item.encode("utf-8", "surrogatepass"))
    if isinstance(item, (dict, list, tuple)):
        return len(item)
    if item is None:
        return 0
    raise FunctionError(f"len of type {type_name(item)}")


def _index(item: Any, *keys: Any) -> Any:
    for key in keys:
        item = force(item)
        if isinstance(item, dict) or (item is None and isinstance(key, str)):
            items = item or {}
            if isinstance(key, str) and key in items:
                item = items[key]
            elif not isinstance(key, str):
                raise FunctionError(f"value has type {type_name(key)}; should be string")
            else:  # Go gives the zero value of the element's type
                item = "" if all(isinstance(value, str) for value in items.values()) else MISSING
        elif isinstance(item, (str, list, tuple)):
            sequence = item.encode("utf-8", "surrogatepass") if isinstance(item, str) else item
            if not isinstance(key, int) or isinstance(key, bool):
                raise FunctionError(f"cannot index slice/array with type {type_name(key)}")
            if not 0 <= key < len(sequence):
                raise FunctionError(f"index out of range: {key}")
            item = sequence[key]
        elif item is None or item is MISSING:
            raise FunctionError("index of untyped nil")
        else:
            raise FunctionError(f"can't index item of type {type_name(item)}")
    return force(item)


def _slice(item: Any, *bounds: Any) -> Any:
    if not isinstance(item, (str, list, tuple)):
        raise FunctionError(f"can't slice item of type {type_name(item)}")
    for bound in bounds:
        if not isinstance(bound, int) or isinstance(bound, bool):
            raise FunctionError(f"cannot index slice/array with type {type_name(bound)}")
        if not 0 <= bound <= len(item):
            raise FunctionError(f"index out of range: {bound}")
    start = bounds[0] if bounds else 0
    stop = bounds[1] if len(bounds) > 1 else len(item)
    if start > stop:
        raise FunctionError(f"invalid slice index: {start} > {stop}")
    return item[start:stop]


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float, str)):
        return type_name(value)
    raise FunctionError("non-comparable type " + type_name(value))


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise FunctionError("missing argument for comparison")
    for other in others:
        if _is_nil(first) or _is_nil(other):
            if _is_nil(first) and _is_nil(other):
                return True
        elif _kind(first) != _kind(other):
            raise FunctionError("incompatible types for comparison")
        elif first == other:
            return True
    return False


def _is_nil(value: Any) -> bool:
    return value is None or value is MISSING


def _less(first: Any, second: Any) -> bool:
    if _kind(first) != _kind(second):
        raise FunctionError("incompatible types for comparison")
    if isinstance(first, bool):
        raise FunctionError("invalid type for comparison")
    return bool(first < second)


def _print(*values: Any) -> str:
    """Go's Sprint: a blank between two values of which neither is text."""
    out = ""
    for n, value in enumerate(values):
        if n and not isinstance(value, str) and not isinstance(values[n - 1], str):
            out += " "
        out += show(value)
    return out


FUNCTIONS: dict[str, Function] = {
    "eq": Function(_equal, 1, _ANY),
    "ge": Function(lambda a, b: not _less(a, b), 2, 2),
    "gt": Function(lambda a, b: _less(b, a), 2, 2),
    "index": Function(_index, 1, _ANY),
    "join": Function(_join, 2, 2, "ls"),
    "json": Function(to_json, 1, 1),
    "le": Function(lambda a, b: not _less(b, a), 2, 2),
    "len": Function(_len, 1, 1),
    "lower": Function(str.lower, 1, 1, "s"),
    "lt": Function(_less, 2, 2),
    "ne": Function(lambda a, b: not _equal(a, b), 2, 2),
    "not": Function(lambda value: not truth(value), 1, 1),
    "pad": Function(_pad, 3, 3, "sii"),
    "print": Function(_print, 0, _ANY),
    "printf": Function(sprintf, 1, _ANY, "s"),
    "println": Function(lambda *values: " ".join(map(show, values)) + "\n", 0, _ANY),
    "slice": Function(_slice, 1, 3),
    "split": Function(_split, 2, 2, "ss"),
    "title": Function(_title, 1, 1, "s"),
    "truncate": Function(_truncate, 2, 2, "si"),
    "upper": Function(str.upper, 1, 1, "s"),
}
"""What templates can call. `and` and `or` are the runner's: they stop early."""

HEADER_FUNCTIONS: dict[str, Function] = {
    **FUNCTIONS,
    **{
        name: Function(lambda text, *_: text, 1, _ANY)
        for name in ("join", "json", "lower", "pad", "split", "title", "truncate", "upper")
    },
}
"""The same for a table's header row: what would change a value leaves the header as it is."""

NAMES = frozenset(FUNCTIONS) | {"and", "or"}
