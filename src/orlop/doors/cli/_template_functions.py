"""What templates can call, and how Go prints, compares and formats values: upper, join, json, printf, index, eq, ….

Values are JSON-like: None, bool, int, float, str, list or tuple, dict. Pure.
"""

from __future__ import annotations

from ...base import jsonio
from .human import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MAX_WIDTH = 1_000_000


class FunctionError(Exception):
    """A call that cannot be answered; the message follows Go's "error calling NAME: "."""


class Map(dict):  # type: ignore[type-arg]
    """A dict that is a Go map: a key that is not there has no value, instead of being an error."""


class Method:
    """A value that takes arguments: {{.Label "com.example"}}. It is left out when its owner is printed as JSON."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self.call = call


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<no value>"


MISSING = _Missing()
"""What a map has under a key that is not there."""


def force(value: Any) -> Any:
    """The value itself: one that is computed only when it is used (a callable) is computed."""
    while callable(value) and not isinstance(value, (type, Method)):
        value = value()
    as_dict = getattr(value, "as_dict", None)
    return value if as_dict is None else as_dict()


def is_struct(value: dict[str, Any]) -> bool:
    """Whether a dict stands for a Go struct, whose fields are fixed: all its keys are capitalised, as exported fields.

    Maps (labels, networks, ports) have other keys; `Map` says so for sure.
    """
    return not isinstance(value, Map) and bool(value) and all("A" <= str(key)[:1] <= "Z" for key in value)


def truth(value: Any) -> bool:
    """Go's truth: false, 0, nil, and empty text, list or map are false."""
    value = force(value)
    return value is not MISSING and bool(value)


def type_name(value: Any) -> str:
    """The type as Go would call it, for messages."""
    if value is None or value is MISSING:
        return "<nil>"
    for kind, name in (
        (bool, "bool"),
        (int, "int"),
        (float, "float64"),
        (str, "string"),
        (dict, "map[string]interface {}"),
    ):
        if isinstance(value, kind):
            return name
    return "[]interface {}" if isinstance(value, (list, tuple)) else type(value).__name__


def show(value: Any) -> str:
    """A value as `{{.}}` and %v print it."""
    value = force(value)
    if isinstance(value, str):
        return str(value)
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value, "g", -1)
    if isinstance(value, dict):
        if is_struct(value):
            return "{" + " ".join(show(v) for v in value.values() if not isinstance(v, Method)) + "}"
        return "map[" + " ".join(f"{show(key)}:{show(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(show, value)) + "]"
    return str(value) if isinstance(value, int) else repr(value)


def _float(value: float, verb: str, precision: int) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if verb in "eEfF":
        return f"{value:.{6 if precision < 0 else precision}{verb}}"
    if precision >= 0:
        return f"{value:.{precision}{verb}}"
    mantissa, _, exponent_text = f"{value:e}".partition("e")
    digits = repr(value)
    exponent = int(exponent_text)
    if -4 <= exponent < 21:
        return f"{value:.0f}" if value == int(value) else (digits if "e" not in digits else f"{value:.20f}".rstrip("0"))
    if "e" not in digits:
        digits = f"{value:.17g}"
    mantissa, _, exponent_text = digits.partition("e")
    return f"{mantissa}{'E' if verb == 'G' else 'e'}{int(exponent_text):+03d}"


def plain(value: Any) -> Any:
    """A value ready for JSON, in Go's order: structs as they are, maps by key."""
    value = force(value)
    if isinstance(value, dict):
        keys = value if is_struct(value) else sorted(value)
        return {str(key): plain(value[key]) for key in keys if not isinstance(value[key], Method)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and value == value and abs(value) < 1e21 and value == int(value):
        return int(value)
    return None if value is MISSING else value


def to_json(value: Any) -> str:
    """One line of JSON."""
    try:
        return jsonio.dumps(plain(value))
    except (TypeError, ValueError) as error:
        raise FunctionError(f"json: {error}") from None


def _wrong(value: Any, expected: str) -> FunctionError:
    return FunctionError(f"wrong type for value; expected {expected}; got {type_name(value)}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(value, "string")
    return value


def _int(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(value, "int")
    return value


def _join(items: Any, separator: Any) -> str:
    if items is None:
        items = ()
    if not isinstance(items, (list, tuple)):
        raise _wrong(items, "[]string")
    return _text(separator).join(_text(item) for item in items)


def _split(text: Any, separator: Any) -> list[str]:
    return _text(text).split(separator) if _text(separator) else list(text)


def _title(text: Any) -> str:
    out, start = [], True
    for character in _text(text):
        out.append(character.title() if start else character)
        start = not (character.isalnum() or character == "_" or (character > "\x7f" and not character.isspace()))
    return "".join(out)


def _pad(text: Any, before: Any, after: Any) -> str:
    padded = " " * min(_int(before), _MAX_WIDTH) + _text(text) + " " * min(_int(after), _MAX_WIDTH)
    return padded if text else ""


def _truncate(text: Any, length: Any) -> str:
    return _text(text)[: max(0, _int(length))]


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
            raise FunctionError("index of nil pointer" if item is None else "index of untyped nil")
        else:
            raise FunctionError(f"can't index item of type {type_name(item)}")
    return force(item)


def _slice(item: Any, *bounds: Any) -> Any:
    if not isinstance(item, (str, list, tuple)):
        raise FunctionError(f"can't slice item of type {type_name(item)}")
    start, stop = ([_int(bound) for bound in bounds] + [0, len(item)][len(bounds) :])[:2]
    if not 0 <= start <= stop <= len(item):
        raise FunctionError(f"slice index out of range: {start}:{stop}")
    return item[start:stop]


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float, str)):
        return type_name(value)
    raise FunctionError("non-comparable type " + type_name(value))


def _equal(first: Any, *others: Any) -> bool:
    for other in others:
        if first in (None, MISSING) or other in (None, MISSING):
            if first in (None, MISSING) and other in (None, MISSING):
                return True
        elif _kind(first) != _kind(other):
            raise FunctionError("incompatible types for comparison")
        elif first == other:
            return True
    return False


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


def sprintf(form: Any, *values: Any) -> str:
    """Go's Sprintf for the verbs v s q d t x X o b c U e f g T, with flags, width and precision."""
    text = _text(form)
    rest = list(values)
    out: list[str] = []
    i = 0
    while i < len(text):
        percent = text.find("%", i)
        if percent < 0:
            out.append(text[i:])
            break
        out.append(text[i:percent])
        i = percent + 1
        flags = ""
        while i < len(text) and text[i] in "+-# 0":
            flags += text[i]
            i += 1
        width, i = _format_number(text, i, rest, 0)
        if width < 0:
            flags, width = flags + "-", -width
        precision = -1
        if text[i : i + 1] == ".":
            precision, i = _format_number(text, i + 1, rest, 0)
        verb = text[i : i + 1]
        i += 1
        if not verb:
            out.append("%!(NOVERB)")
        elif verb == "%":
            out.append("%")
        elif not rest:
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_pad_to(_format(rest.pop(0), verb, flags, precision), width, flags, verb))
    if rest:
        out.append("%!(EXTRA " + ", ".join(f"{type_name(v)}={show(v)}" for v in rest) + ")")
    return "".join(out)


def _format_number(text: str, i: int, rest: list[Any], default: int) -> tuple[int, int]:
    if text[i : i + 1] == "*":
        number = rest.pop(0) if rest else default
        if not isinstance(number, int) or abs(number) > _MAX_WIDTH:
            raise FunctionError("bad width")
        return number, i + 1
    start = i
    while i < len(text) and text[i] in "0123456789":
        i += 1
    number = int(text[start:i][:10] or default)
    if number > _MAX_WIDTH:
        raise FunctionError("bad width")
    return number, i


def _pad_to(text: str, width: int, flags: str, verb: str) -> str:
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and verb in "dxXobeEfFgG":
        return text.zfill(width)
    return text.rjust(width)


def _format(value: Any, verb: str, flags: str, precision: int) -> str:
    value = force(value)
    if verb == "T":
        return type_name(value)
    if verb == "v":
        return quote(value) if "#" in flags and isinstance(value, str) else show(value)
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_format(item, verb, flags, precision) for item in value) + "]"
    if isinstance(value, str):
        formatted = _format_text(value, verb, flags, precision)
    elif isinstance(value, bool):
        formatted = show(value) if verb == "t" else None
    elif isinstance(value, int):
        formatted = _format_int(value, verb, flags)
    elif isinstance(value, float):
        formatted = _signed(_float(value, verb, precision), flags) if verb in "eEfFgG" else None
    else:
        formatted = None
    if formatted is not None:
        return formatted
    shown = show(value)
    return f"%!{verb}({shown})" if value is None or value is MISSING else f"%!{verb}({type_name(value)}={shown})"


def _format_text(value: str, verb: str, flags: str, precision: int) -> str | None:
    if precision >= 0:
        value = value[:precision]
    if verb == "s":
        return value
    if verb == "q":
        return f"`{value}`" if "#" in flags and "`" not in value else quote(value)
    if verb in "xX":
        digits = value.encode("utf-8", "surrogateescape").hex()
        return digits.upper() if verb == "X" else digits
    return None


def _format_int(value: int, verb: str, flags: str) -> str | None:
    if verb in "dxXob":
        return _signed(f"{value:{'#' if '#' in flags and verb in 'xXob' else ''}{verb}}", flags)
    if verb in "cqU" and 0 <= value < 0x110000:
        return {"c": chr(value), "q": f"'{chr(value)}'", "U": f"U+{value:04X}"}[verb]
    return None


def _signed(text: str, flags: str) -> str:
    if text[0] in "+-":
        return text
    return ("+" if "+" in flags else " " if " " in flags else "") + text


_ANY = 1 << 30

FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "eq": (_equal, 2, _ANY),
    "ge": (lambda a, b: not _less(a, b), 2, 2),
    "gt": (lambda a, b: not _less(a, b) and not _equal(a, b), 2, 2),
    "index": (_index, 1, _ANY),
    "join": (_join, 2, 2),
    "json": (to_json, 1, 1),
    "le": (lambda a, b: _less(a, b) or _equal(a, b), 2, 2),
    "len": (_len, 1, 1),
    "lower": (lambda text: _text(text).lower(), 1, 1),
    "lt": (_less, 2, 2),
    "ne": (lambda a, b: not _equal(a, b), 2, 2),
    "not": (lambda value: not truth(value), 1, 1),
    "pad": (_pad, 3, 3),
    "print": (_print, 0, _ANY),
    "printf": (sprintf, 1, _ANY),
    "println": (lambda *values: " ".join(map(show, values)) + "\n", 0, _ANY),
    "slice": (_slice, 1, 3),
    "split": (_split, 2, 2),
    "title": (_title, 1, 1),
    "truncate": (_truncate, 2, 2),
    "upper": (lambda text: _text(text).upper(), 1, 1),
}
"""Name → function, fewest and most arguments. `and` and `or` are the runner's: they stop early."""

HEADER_FUNCTIONS = {
    **FUNCTIONS,
    **{
        name: (lambda text, *_: text, 1, _ANY)
        for name in ("join", "json", "lower", "pad", "split", "title", "truncate", "upper")
    },
}
"""The same for a table's header row: what would change a value leaves the header as it is."""

NAMES = frozenset(FUNCTIONS) | {"and", "or"}
