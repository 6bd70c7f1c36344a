"""JSON by the interpreter's C code alone: `import json` brings `re` and costs 7 ms on the path of `run`.

`loads` and `dumps` mean what the `json` module's do. May import nothing outside the interpreter's core.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner
except ImportError:  # an interpreter without the accelerator
    make_scanner = None  # type: ignore[assignment,misc]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class _Context:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)
    memo: dict[str, str] = {}


_WHITE = " \t\n\r"


def loads(text: str | bytes | bytearray | memoryview) -> Any:
    """Parse one JSON document. Raises ValueError (with the position) when it is not one, or not UTF-8."""
    if not isinstance(text, str):
        text = bytes(text).decode("utf-8")
    if make_scanner is None:
        return _loads_slowly(text)
    length = len(text)
    start = 0
    while start < length and text[start] in _WHITE:
        start += 1
    try:
        value, end = make_scanner(_Context())(text, start)  # type: ignore[arg-type]
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    except (StopIteration, SystemError, ValueError):
        # The scanner can only word its errors when json.decoder is loaded (it says SystemError otherwise).
        return _loads_slowly(text)
    while end < length and text[end] in _WHITE:
        end += 1
    if end != length:
        raise ValueError(f"extra data after the JSON document at character {end}")
    return value


def _loads_slowly(text: str) -> Any:
    import json

    return json.loads(text, parse_constant=_no_constant)


def _no_default(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} cannot be JSON")


def dumps(value: Any, *, indent: int | None = None, sort_keys: bool = False, ascii_only: bool = False) -> str:
    """Print compact JSON ("," and ":" without blanks), or indented by `indent` blanks."""
    if indent is not None or make_scanner is None:
        import json

        separators = None if indent is not None else (",", ":")
        return json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=ascii_only, separators=separators)
    escape = encode_basestring_ascii if ascii_only else encode_basestring
    encoder = make_encoder({}, _no_default, escape, None, ":", ",", sort_keys, False, False)
    return "".join(encoder(value, 0))


def dump_bytes(value: Any, **options: Any) -> bytes:
    """`dumps`, encoded as UTF-8."""
    return dumps(value, **options).encode("utf-8", "surrogatepass")
