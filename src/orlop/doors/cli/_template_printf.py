"""Go's `printf` for the values of templates: verbs v s q d t x X o O b c U e E f F g G T, flags, width, precision.

Source of the rules: the documentation of Go's fmt package; what Docker's command prints is the judge. Pure.
"""

from __future__ import annotations

from ...base.record import Record
from . import human
from ._template_values import MISSING, FunctionError, float_text, force, show_dict, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_WIDTH = 1_000_000
_BASES = {"d": "d", "v": "d", "x": "x", "X": "X", "o": "o", "O": "o", "b": "b"}


class _Spec(Record):
    """One verb with what stands before it. precision: -1 when there is none."""

    verb: str
    plus: bool
    minus: bool
    sharp: bool
    space: bool
    zero: bool
    width: int
    precision: int


def sprintf(form: str, *values: Any) -> str:
    """The formatted text; as in Go, mistakes show in it: %!d(string=hi), %!s(MISSING), %!(EXTRA int=1)."""
    rest = [force(value) for value in values]
    out: list[str] = []
    i = 0
    while True:
        percent = form.find("%", i)
        if percent < 0:
            out.append(form[i:])
            break
        out.append(form[i:percent])
        spec, i = _parse(form, percent + 1, rest)
        if not spec.verb:
            out.append("%!(NOVERB)")
        elif spec.verb == "%":
            out.append("%")
        elif not rest:
            out.append(f"%!{spec.verb}(MISSING)")
        else:
            out.append(_format(rest.pop(0), spec))
    if rest:
        out.append("%!(EXTRA " + ", ".join(_named(value, _PLAIN) for value in rest) + ")")
    return "".join(out)


def _parse(form: str, i: int, rest: list[Any]) -> tuple[_Spec, int]:
    flags = set()
    while i < len(form) and form[i] in "+-# 0":
        flags.add(form[i])
        i += 1
    width, i = _number(form, i, rest)
    if width < 0:
        flags.add("-")
        width = -width
    precision = -1
    if form[i : i + 1] == ".":
        precision, i = _number(form, i + 1, rest)
    verb = form[i : i + 1]
    spec = _Spec(
        verb=verb,
        plus="+" in flags and verb != "v",  # %+v would name fields, and gives numbers no sign
        minus="-" in flags,
        sharp="#" in flags,
        space=" " in flags,
        zero="0" in flags and "-" not in flags,
        width=width,
        precision=precision,
    )
    return spec, i + 1


def _number(form: str, i: int, rest: list[Any]) -> tuple[int, int]:
    if form[i : i + 1] == "*":
        number = rest.pop(0) if rest else 0
        if not isinstance(number, int) or abs(number) > _MAX_WIDTH:
            raise FunctionError(f"printf: {number!r} is no width")
        return number, i + 1
    start = i
    while i < len(form) and form[i] in "0123456789":
        i += 1
    number = int(form[start:i][:10] or 0)
    if number > _MAX_WIDTH:
        raise FunctionError(f"printf: {number} is no width")
    return number, i


def _format(value: Any, spec: _Spec) -> str:
    value = force(value)
    verb = spec.verb
    if verb == "T":
        name = type_name(value)
        return _pad(name if spec.precision < 0 or value in (None, MISSING) else name[: spec.precision], spec)
    if value is None or value is MISSING:
        return _pad("<nil>", spec) if verb == "v" else f"%!{verb}(<nil>)"
    if isinstance(value, (list, tuple)):
        if verb == "v" and spec.sharp:
            return f"{type_name(value)}{{{', '.join(_format(item, spec) for item in value)}}}"
        return "[" + " ".join(_format(item, spec) for item in value) + "]"
    if isinstance(value, dict):
        return show_dict(value, lambda item: _format(item, spec))
    if isinstance(value, str):
        formatted = _text(value, spec)
    elif isinstance(value, bool):
        formatted = _pad("true" if value else "false", spec) if verb in "tv" else None
    elif isinstance(value, int):
        formatted = _int(value, spec)
    elif isinstance(value, float):
        formatted = _float(value, spec)
    else:
        formatted = _pad(str(value), spec)
    return f"%!{verb}({_named(value, spec)})" if formatted is None else formatted


_PLAIN = _Spec("v", False, False, False, False, False, 0, -1)


def _named(value: Any, spec: _Spec) -> str:
    """The value with its type, as complaints show it; the flags hold for it still."""
    if value is None or value is MISSING:
        return "<nil>"
    sharp = spec.sharp and not isinstance(value, str)
    verb = "g" if isinstance(value, float) else "v"
    return f"{type_name(value)}={_format(value, spec.replace(verb=verb, sharp=sharp))}"


def _pad(text: str, spec: _Spec) -> str:
    if spec.minus:
        return text.ljust(spec.width)
    return text.rjust(spec.width, "0" if spec.zero else " ")


def _text(value: str, spec: _Spec) -> str | None:
    if spec.verb in "xX":
        return _hex(value, spec)
    if spec.precision >= 0:
        value = value[: spec.precision]
    if spec.verb == "q" or (spec.verb == "v" and spec.sharp):
        if spec.sharp and spec.verb == "q" and "`" not in value and value.replace("\t", " ").isprintable():
            value = f"`{value}`"
        else:
            value = human.quote(value, ascii_only=spec.plus)
    elif spec.verb not in "sv":
        return None
    return _pad(value, spec)


def _hex(value: str, spec: _Spec) -> str:
    data = value.encode("utf-8", "surrogateescape")
    if spec.precision >= 0:
        data = data[: spec.precision]
    prefix = "0x" if spec.sharp and data else ""
    digits = prefix + (data.hex(" ").replace(" ", f" {prefix}") if spec.space else data.hex())
    return _pad(digits.upper() if spec.verb == "X" else digits, spec)


def _int(value: int, spec: _Spec) -> str | None:
    if spec.verb in "cq":
        character = chr(value) if 0 <= value < 0x110000 and not 0xD800 <= value < 0xE000 else "\ufffd"
        return _pad(character if spec.verb == "c" else _quote_character(character, spec), spec)
    if spec.verb == "U":
        shown = f" '{chr(value)}'" if spec.sharp and 0 <= value < 0x110000 and chr(value).isprintable() else ""
        return _pad(f"U+{value & (1 << 64) - 1:0{max(4, spec.precision)}X}{shown}", spec.replace(zero=False))
    base = _BASES.get(spec.verb)
    if base is None:
        return None
    sign = "-" if value < 0 else "+" if spec.plus else " " if spec.space else ""
    digits = format(abs(value), base)
    if spec.precision >= 0:
        digits = "" if spec.precision == 0 and value == 0 else digits.rjust(spec.precision, "0")
        if not digits:
            return " " * spec.width
    elif spec.zero:
        digits = digits.rjust(spec.width - len(sign), "0")
    if spec.verb == "O":
        digits = "0o" + digits
    elif spec.sharp and spec.verb in "xXob":
        prefix = {"x": "0x", "X": "0X", "b": "0b", "o": "" if digits[0] == "0" else "0"}[spec.verb]
        digits = prefix + digits
    return _pad(sign + digits, spec.replace(zero=False))


def _quote_character(character: str, spec: _Spec) -> str:
    quoted = human.quote(character, ascii_only=spec.plus)[1:-1]
    return "'" + {'\\"': '"', "'": "\\'"}.get(quoted, quoted) + "'"


def _float(value: float, spec: _Spec) -> str | None:
    if spec.verb not in "veEfFgG":
        return None
    text = float_text(value, "g" if spec.verb == "v" else spec.verb, spec.precision)
    unsigned = text.lstrip("+-")
    sign = "-" if text[0] == "-" else "+" if spec.plus else " " if spec.space else ""
    if not unsigned[0].isdigit():  # an infinity keeps its sign; neither it nor NaN is padded with zeros
        return _pad((sign or "+" if unsigned == "Inf" else sign) + unsigned, spec.replace(zero=False))
    if spec.sharp:
        unsigned = _with_zeros(unsigned, spec)
    if spec.zero and sign:
        return sign + unsigned.rjust(spec.width - 1, "0")
    return _pad(sign + unsigned, spec)


def _with_zeros(text: str, spec: _Spec) -> str:
    """What "#" asks of a float: a decimal point always, and for g the zeros at the end."""
    if spec.verb == "v":
        return text  # %#v is Go's syntax, which needs no zeros
    mantissa, exponent_sign, exponent = text.partition("e") if "e" in text else text.partition("E")
    if "." not in mantissa:
        mantissa += "."
    if spec.verb not in "eEfF":
        wanted = spec.precision if spec.precision >= 0 else 6
        mantissa += "0" * (wanted - len(mantissa.replace(".", "").lstrip("0")))
    return mantissa + exponent_sign + exponent
