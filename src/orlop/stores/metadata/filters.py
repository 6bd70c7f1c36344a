"""containerd's filter language: `labels."a.b/c"==x,name~=/^docker/` as a test of one object. Pure; touches no table.

    filter    := selector ("," selector)*            all must hold; of several filters, any
    selector  := fieldpath [operator value]          without an operator: the field is present
    fieldpath := field ("." field)*
    field     := quoted | [A-Za-z0-9_-]+
    operator  := "==" | "!=" | "~="                  ~= searches for a regular expression
    value     := quoted | anything up to a comma or a blank
    quoted    := Go's double-quoted string; after ~= also between slashes or bars (/…/, |…|)

Source: containerd pkg/filters. As there, an empty filter fits everything, `!=` holds for a missing field, and a value
cannot begin with an operator's or separator's character unless it is quoted. Unlike there, a regular expression that
cannot be compiled is an error, not a filter that never fits. `re` is imported only for ~=.
"""

from __future__ import annotations

from ...base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Adaptor = Callable[[Sequence[str]], tuple[str, bool]]
    """Field path → (the field's text, whether it is present)."""
    Match = Callable[[Adaptor], bool]

_FIELD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_OPERATOR = frozenset("=!~")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_HEX = frozenset("0123456789abcdefABCDEF")
_OCTAL = frozenset("01234567")
_ALL_QUOTES = '"/|'


def compile(*filters: str) -> Match:
    """One test for several filters: it holds when any of them does, or when there are none.

    InvalidArgument tells what is wrong and at which character of which filter.
    """
    alternatives = [_Parser(text).selectors() for text in filters]
    if not all(alternatives):  # none at all, or an empty one: everything fits
        return _always

    def match(adaptor: Adaptor) -> bool:
        return any(all(selector(adaptor) for selector in selectors) for selectors in alternatives)

    return match if alternatives else _always


def _always(_: Adaptor) -> bool:
    return True


def fields(values: Mapping[str, str], labels: Mapping[str, str]) -> Adaptor:
    """The adaptor of an object with plain fields and labels.

    values: path joined by "." → text; a text that is "" counts as absent. `labels.a.b` and `labels."a.b"` are the same.
    """

    def adaptor(path: Sequence[str]) -> tuple[str, bool]:
        if path[0] == "labels" and len(path) > 1:
            value = labels.get(".".join(path[1:]))
            return ("", False) if value is None else (value, True)
        found = values.get(".".join(path), "")
        return found, bool(found)

    return adaptor


class _Parser:
    """Recursive descent over one filter; `_at` is the index of the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def selectors(self) -> list[Match]:
        if not self._text:
            return []
        found = [self._selector()]
        while self._peek():
            if self._peek() != ",":
                raise self._wrong("expected a comma")
            self._at += 1
            found.append(self._selector())
        return found

    def _peek(self) -> str:
        """The next character that is not blank; "" at the end."""
        text = self._text
        while self._at < len(text) and text[self._at].isspace():
            self._at += 1
        return text[self._at : self._at + 1]

    def _selector(self) -> Match:
        path = [self._field()]
        while self._peek() == ".":
            self._at += 1
            path.append(self._field())
        if self._peek() in ("", ","):
            return lambda adaptor: adaptor(path)[1]
        operator = self._run(_OPERATOR)
        if operator == "==":
            return _equal(path, self._value('"'))
        if operator == "!=":
            return _not_equal(path, self._value('"'))
        if operator == "~=":
            at = self._at
            return self._matches(path, self._value(_ALL_QUOTES), at)
        self._at -= len(operator)
        raise self._wrong("expected an operator: ==, != or ~=")

    def _run(self, characters: frozenset[str]) -> str:
        begin = self._at
        while self._at < len(self._text) and self._text[self._at] in characters:
            self._at += 1
        return self._text[begin : self._at]

    def _field(self) -> str:
        if self._peek() == '"':
            return self._quoted()
        field = self._run(_FIELD)
        if not field:
            raise self._wrong("expected a field's name")
        return field

    def _value(self, quotes: str) -> str:
        first = self._peek()
        if first and first in _ALL_QUOTES:
            if first not in quotes:
                raise self._wrong(f"a value may stand between {first} only after ~=; use double quotes")
            return self._quoted()
        if not first or first in ".,=!~":
            raise self._wrong("expected a value, or a value in double quotes")
        begin = self._at
        text = self._text
        while self._at < len(text) and text[self._at] != "," and text[self._at].isprintable() and text[self._at] != " ":
            self._at += 1
        if self._at == begin:
            raise self._wrong("expected a value, or a value in double quotes")
        return text[begin : self._at]

    def _quoted(self) -> str:
        """A Go string literal; bytes given by hexadecimal and octal escapes are put together as UTF-8."""
        text = self._text
        opened = self._at
        quote = text[opened]
        self._at += 1
        out = bytearray()
        while True:
            character = text[self._at : self._at + 1]
            if character in ("", "\n"):
                self._at = opened
                raise self._wrong("this quote is not closed")
            self._at += 1
            if character == quote:
                return out.decode("utf-8", "replace")
            if character != "\\":
                out += character.encode("utf-8", "surrogatepass")
                continue
            out += self._escape(quote)

    def _escape(self, quote: str) -> bytes:
        text = self._text
        kind = text[self._at : self._at + 1]
        if kind and (kind == quote or kind in _ESCAPES):
            self._at += 1
            return _ESCAPES.get(kind, kind).encode()
        if kind and kind in _OCTAL:
            number = self._number(self._at, 3, _OCTAL, 8)
            if number > 255:
                raise self._wrong("an octal escape is at most \\377")
            return bytes((number,))
        length = {"x": 2, "u": 4, "U": 8}.get(kind)
        if length is None:
            raise self._wrong(f"\\{kind} is not an escape (write \\\\ for a backslash)")
        number = self._number(self._at + 1, length, _HEX, 16)
        if kind == "x":
            return bytes((number,))
        if number > 0x10FFFF:
            raise self._wrong("a character is at most \\U0010ffff")
        # Go's encoder puts the replacement character in place of half a surrogate pair.
        return chr(0xFFFD if 0xD800 <= number <= 0xDFFF else number).encode()

    def _number(self, begin: int, length: int, digits: frozenset[str], base: int) -> int:
        found = self._text[begin : begin + length]
        if len(found) < length or not digits.issuperset(found):
            raise self._wrong(f"expected {length} digits of base {base}")
        self._at = begin + length
        return int(found, base)

    def _matches(self, path: list[str], pattern: str, at: int) -> Match:
        import re

        try:
            search = re.compile(pattern).search
        except (re.error, OverflowError, RecursionError) as error:
            self._at = at
            raise self._wrong(f"not a regular expression: {error}") from None

        def match(adaptor: Adaptor) -> bool:
            value, present = adaptor(path)
            return present and search(value) is not None

        return match

    def _wrong(self, what: str) -> errors.InvalidArgument:
        where = f"at character {self._at + 1}" if self._at < len(self._text) else "at its end"
        return errors.InvalidArgument(f"filter {self._text!r}: {what} {where}")


def _equal(path: list[str], wanted: str) -> Match:
    return lambda adaptor: adaptor(path) == (wanted, True)


def _not_equal(path: list[str], unwanted: str) -> Match:
    return lambda adaptor: adaptor(path)[0] != unwanted
