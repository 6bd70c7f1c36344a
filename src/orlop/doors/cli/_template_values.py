"""The values templates work on, and how Go tests, names and prints them.

Values are JSON-like: None, bool, int, float, str, list or tuple, dict; and records, which count as dicts. Pure.
"""

from __future__ import annotations

from ...base import jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class FunctionError(Exception):
    """A call that cannot be answered; the message follows Go's "error calling NAME: "."""


class Map(dict):  # type: ignore[type-arg]
    """A dict that is a Go map: a key that is not there has no value, instead of being an error."""


class NilMap(Map):
    """A Go map that is nil: empty, and null in JSON."""


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
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, (list, tuple)):
        return "[]string" if value and all(isinstance(item, str) for item in value) else "[]interface {}"
    return type(value).__name__


def show(value: Any) -> str:
    """A value as `{{.}}` prints it."""
    value = force(value)
    if isinstance(value, str):
        return str(value)
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value, "g", -1)
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(show, value)) + "]"
    if isinstance(value, dict):
        return show_dict(value, show)
    return str(value) if isinstance(value, int) else repr(value)


def show_dict(value: dict[str, Any], each: Callable[[Any], str]) -> str:
    """A dict as Go prints a struct, {a b}, or a map, map[k:v] by key; each prints its keys and values."""
    if is_struct(value):
        return "{" + " ".join(each(item) for item in value.values() if not isinstance(item, Method)) + "}"
    keys = (key for key in sorted(value) if not isinstance(value[key], Method))
    return "map[" + " ".join(f"{each(key)}:{each(value[key])}" for key in keys) + "]"


def float_text(value: float, verb: str, precision: int) -> str:
    """A float by one of the verbs e E f F g G; precision -1: for g the fewest digits that tell it apart, else 6."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if verb in "eEfF" or precision >= 0:
        return f"{value:.{6 if precision < 0 else precision}{verb}}"
    for digits in range(1, 18):
        text = f"{value:.{digits - 1}e}"
        if float(text) == value:
            break
    mantissa, _, exponent_text = text.partition("e")
    exponent = int(exponent_text)
    if -4 <= exponent < 6:
        return f"{value:.{max(0, digits - 1 - exponent)}f}"
    return f"{mantissa}{'E' if verb == 'G' else 'e'}{exponent:+03d}"


def plain(value: Any) -> Any:
    """A value ready for JSON, in Go's order: structs as they are, maps by key."""
    value = force(value)
    if isinstance(value, NilMap):
        return None
    if isinstance(value, dict):
        keys = value if is_struct(value) else sorted(value)
        return {str(key): plain(value[key]) for key in keys if not isinstance(value[key], Method)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and abs(value) < 1e21 and value == int(value):
        return int(value)  # Go prints 1.0 as 1
    return None if value is MISSING else value


def to_json(value: Any) -> str:
    """One line of JSON, as Docker's `json` function makes it. Raises FunctionError."""
    try:
        return jsonio.dumps(plain(value)).replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")
    except (TypeError, ValueError) as error:
        raise FunctionError(f"json: {error}") from None
