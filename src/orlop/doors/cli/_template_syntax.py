"""The syntax of Go's text/template, as far as `--format` needs it: source text in, tree out.

Left out: define, template, block, complex numbers. Pure; knows nothing of values.
"""

from __future__ import annotations

from ...base import errors
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any


MAX_DEPTH = 100
"""How deep parentheses and blocks may nest."""


class Dot(Record):
    """`.`: the value the template stands on. pos, here as everywhere: offset in the source."""

    pos: int


class Nil(Record):
    pos: int


class Literal(Record):
    pos: int
    value: Any


class Variable(Record):
    """`$name.Field.Field`; name has its dollar sign."""

    pos: int
    name: str
    fields: tuple[str, ...] = ()


class Function(Record):
    pos: int
    name: str


class Field(Record):
    """`.Field.Field` of the dot."""

    pos: int
    fields: tuple[str, ...]


class Chain(Record):
    """`(pipeline).Field.Field`."""

    pos: int
    base: Operand
    fields: tuple[str, ...]


class Command(Record):
    """Operands side by side; texts are the source of each, for messages."""

    pos: int
    args: tuple[Operand, ...]
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole, as Go prints it back."""
        return " ".join(self.texts)


class Pipe(Record):
    """Commands joined by `|`; names are the variables it sets (`$i, $x :=`), new unless `assign`."""

    pos: int
    names: tuple[str, ...]
    assign: bool
    commands: tuple[Command, ...]


class Text(Record):
    text: str


class Action(Record):
    pipe: Pipe


class Branch(Record):
    """kind: "if", "range" or "with"."""

    kind: str
    pipe: Pipe
    body: tuple[Node, ...]
    orelse: tuple[Node, ...]


class Jump(Record):
    """kind: "break" or "continue"."""

    kind: str


if TYPE_CHECKING:
    Operand = Dot | Nil | Literal | Variable | Function | Field | Chain | Pipe
    Node = Text | Action | Branch | Jump


class _Token(Record):
    """kind: "text", "left", "right", "field", "dot", "variable", "word", "literal", or the sign itself.

    spaced: whether white space stood before it. end: offset behind it.
    """

    kind: str
    value: Any
    pos: int
    end: int
    spaced: bool = False


_WHITE = " \t\r\n"
_KEYWORDS = frozenset({"if", "else", "end", "range", "with", "break", "continue", "define", "template", "block"})
_SIMPLE_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"',
}  # fmt: skip
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}


def place(source: str, pos: int) -> str:
    """Where an offset is, as Go's messages have it: "LINE:COLUMN", lines from 1 and columns from 0."""
    before = source[:pos]
    return f"{before.count(chr(10)) + 1}:{pos - (before.rfind(chr(10)) + 1)}"


def _fail(source: str, pos: int, why: str) -> errors.InvalidArgument:
    line = source.count("\n", 0, pos) + 1
    return errors.InvalidArgument(f"template parsing error: template: :{line}: {why}")


def _scan(source: str) -> list[_Token]:
    out: list[_Token] = []
    pos, trim = 0, False
    while True:
        start = source.find("{{", pos)
        text = source[pos:] if start < 0 else source[pos:start]
        if trim:
            text = text.lstrip(_WHITE)
        if start < 0:
            if text:
                out.append(_Token("text", text, pos, len(source)))
            return out
        inner = start + 2
        if source[inner : inner + 1] == "-" and source[inner + 1 : inner + 2] in tuple(_WHITE):
            text = text.rstrip(_WHITE)
            inner += 2
        if text:
            out.append(_Token("text", text, pos, start))
        if source.startswith("/*", inner):
            pos, trim = _skip_comment(source, inner)
            continue
        out.append(_Token("left", "{{", start, inner))
        pos, trim = _scan_action(source, inner, out)


def _skip_comment(source: str, start: int) -> tuple[int, bool]:
    end = source.find("*/", start + 2)
    if end < 0:
        raise _fail(source, start, "unclosed comment")
    end += 2
    if source.startswith("}}", end):
        return end + 2, False
    if source[end : end + 1] in tuple(_WHITE) and source.startswith("-}}", end + 1):
        return end + 4, True
    raise _fail(source, start, "comment ends before closing delimiter")


def _scan_action(source: str, i: int, out: list[_Token]) -> tuple[int, bool]:
    """The tokens up to the closing delimiter: the offset behind it, and whether it trims what follows."""
    spaced = False
    opened = i
    while i < len(source):
        character = source[i]
        if source.startswith("}}", i):
            out.append(_Token("right", "}}", i, i + 2, spaced))
            return i + 2, False
        if character in _WHITE:
            if source.startswith("-}}", i + 1):
                out.append(_Token("right", "}}", i, i + 4, spaced))
                return i + 4, True
            spaced = True
            i += 1
            continue
        token = _scan_token(source, i, spaced)
        out.append(token)
        i, spaced = token.end, False
    raise _fail(source, opened, "unclosed action")


def _scan_token(source: str, i: int, spaced: bool) -> _Token:
    character = source[i]
    if character in "|(),=":
        return _Token(character, character, i, i + 1, spaced)
    if source.startswith(":=", i):
        return _Token(":=", ":=", i, i + 2, spaced)
    if character in "\"'":
        value, end = _scan_quoted(source, i)
        return _Token("literal", value, i, end, spaced)
    if character == "`":
        end = source.find("`", i + 1)
        if end < 0:
            raise _fail(source, i, "unterminated raw quoted string")
        return _Token("literal", source[i + 1 : end], i, end + 1, spaced)
    following = source[i + 1 : i + 2]
    if character in "+-" or _is_digit(character) or (character == "." and _is_digit(following)):
        return _scan_number(source, i, spaced)
    if character in ".$":
        end = _word_end(source, i + 1)
        if character == "$":
            return _Token("variable", source[i:end], i, end, spaced)
        return _Token("field" if end > i + 1 else "dot", source[i + 1 : end], i, end, spaced)
    end = _word_end(source, i)
    if end == i:
        raise _fail(source, i, f"unexpected {_quoted(character)} in command")
    return _Token("word", source[i:end], i, end, spaced)


def _is_digit(character: str) -> bool:
    return character != "" and character in "0123456789"


def _word_end(source: str, i: int) -> int:
    while i < len(source) and (source[i] == "_" or source[i].isalnum()):
        i += 1
    return i


def _scan_number(source: str, start: int, spaced: bool) -> _Token:
    i = start + 1
    while i < len(source) and (
        source[i] in "._" or source[i].isalnum() or (source[i] in "+-" and source[i - 1] in "eE" and i > start + 1)
    ):
        i += 1
    if source[i : i + 1] in ("+", "-") and source[i - 1].isalnum():
        i += 1  # 1+2i: complex numbers are not for us
    text = source[start:i]
    value: int | float
    try:
        bare = text.lstrip("+-").replace("_", "")
        if len(bare) > 1 and bare[0] == "0" and bare.isdigit():
            value = int(text.replace("_", ""), 8)
        else:
            value = int(text, 0)
    except ValueError:
        try:
            value = float(text)
        except ValueError:
            raise _fail(source, start, f'bad number syntax: "{text}"') from None
    return _Token("literal", value, start, i, spaced)


def _scan_quoted(source: str, start: int) -> tuple[str | int, int]:
    """A string's value or a character constant's code point, and the offset behind it."""
    delimiter = source[start]
    kind = "quoted string" if delimiter == '"' else "character constant"
    out: list[str] = []
    raw: list[int] = []  # bytes written as \xNN or \NNN, which make up UTF-8 together
    i = start + 1
    while True:
        character = source[i : i + 1]
        if character in ("", "\n"):
            raise _fail(source, start, f"unterminated {kind}")
        if character == "\\":
            value, i, is_byte = _scan_escape(source, i + 1, start)
            if is_byte:
                raw.append(ord(value))
                continue
        else:
            value, i = character, i + 1
        if raw:
            out.append(bytes(raw).decode("utf-8", "surrogateescape"))
            raw.clear()
        if value == character == delimiter:
            break
        out.append(value)
    text = "".join(out)
    if delimiter == '"':
        return text, i
    if len(text) != 1:
        raise _fail(source, start, f"malformed character constant: {source[start:i]}")
    return ord(text), i


def _scan_escape(source: str, i: int, start: int) -> tuple[str, int, bool]:
    letter = source[i : i + 1]
    if letter in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[letter], i + 1, False
    count, base, first = _HEX_ESCAPES.get(letter, 0), 16, i + 1
    if letter and letter in "01234567":
        count, base, first = 3, 8, i
    digits = source[first : first + count]
    try:
        code = int(digits, base) if count and len(digits) == count and digits.isalnum() else -1
        is_byte = letter not in ("u", "U")
        if code < 0 or (is_byte and code > 255) or 0xD800 <= code < 0xE000:
            raise ValueError
        return chr(code), first + count, is_byte
    except (ValueError, OverflowError):
        raise _fail(source, start, "invalid escape in a quoted string") from None


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse(source: str, functions: Collection[str]) -> tuple[Node, ...]:
    """The tree of a template; functions are the names it may call.

    Raises InvalidArgument, worded as Docker's, for what is no template.
    """
    parser = _Parser(source, _scan(source), functions)
    return parser.block(())[0]


class _Parser:
    def __init__(self, source: str, tokens: list[_Token], functions: Collection[str]) -> None:
        self.source = source
        self.tokens = tokens
        self.functions = functions
        self.at = 0
        self.variables = ["$"]
        self.ranges = 0
        self.depth = 0

    def fail(self, why: str, token: _Token | None = None) -> errors.InvalidArgument:
        token = token or self.peek()
        return _fail(self.source, token.pos if token else len(self.source), why)

    def unexpected(self, where: str, token: _Token | None = None) -> errors.InvalidArgument:
        token = token or self.peek()
        if token is None:
            return self.fail("unexpected EOF")
        text = self.source[token.pos : token.end].strip()
        if token.kind == ")":
            return self.fail("unexpected right paren", token)
        if token.kind in ("field", "dot") or text in _KEYWORDS:
            return self.fail(f"unexpected <{text}> in {where}", token)
        return self.fail(f"unexpected {_quoted(text)} in {where}", token)

    def peek(self, ahead: int = 0) -> _Token | None:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else None

    def kind(self, ahead: int = 0) -> str:
        token = self.peek(ahead)
        return token.kind if token else ""

    def next(self) -> _Token:
        token = self.peek()
        if token is None:
            raise self.fail("unexpected EOF")
        self.at += 1
        return token

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail("nested too deeply")

    def block(self, ends: Sequence[str]) -> tuple[tuple[Node, ...], str]:
        """Nodes up to one of the keywords `ends`, which is taken (its delimiter is not), or to the end: ""."""
        nodes: list[Node] = []
        while (token := self.peek()) is not None:
            self.at += 1
            if token.kind == "text":
                nodes.append(Text(token.value))
                continue
            word = self.peek()
            keyword = word.value if word and word.kind == "word" and word.value in _KEYWORDS else ""
            if not keyword:
                nodes.append(Action(self.pipeline("command", "right")))
                continue
            self.at += 1
            if keyword in ("else", "end"):
                if keyword not in ends:
                    if ends == ("end",):
                        raise self.fail(f"expected end; found {{{{{keyword}}}}}", word)
                    raise self.fail(f"unexpected {{{{{keyword}}}}}", word)
                return tuple(nodes), keyword
            if keyword in ("if", "range", "with"):
                nodes.append(self.branch(keyword))
            elif keyword in ("break", "continue"):
                if not self.ranges:
                    raise self.fail(f"{{{{{keyword}}}}} outside {{{{range}}}}", word)
                self.close(keyword)
                nodes.append(Jump(keyword))
            else:
                raise self.fail(f"{{{{{keyword}}}}} is not supported here", word)
        if ends:
            raise self.fail("unexpected EOF: an {{end}} is missing")
        return tuple(nodes), ""

    def close(self, where: str) -> None:
        if self.kind() != "right":
            raise self.unexpected(where)
        self.at += 1

    def branch(self, kind: str) -> Branch:
        self.deeper()
        known = len(self.variables)
        pipe = self.pipeline(kind, "right")
        declared = len(self.variables)
        self.ranges += kind == "range"
        body, end = self.block(("else", "end"))
        self.ranges -= kind == "range"
        del self.variables[declared:]
        orelse: tuple[Node, ...] = ()
        if end == "else":
            word = self.peek()
            if kind != "range" and word and word.kind == "word" and word.value == kind:
                self.at += 1
                orelse = (self.branch(kind),)  # {{else if}} shares the {{end}}
            else:
                self.close("else")
                orelse, _ = self.block(("end",))
                self.close("end")
        else:
            self.close("end")
        del self.variables[known:]
        self.depth -= 1
        return Branch(kind, pipe, body, orelse)

    def pipeline(self, where: str, closing: str) -> Pipe:
        """A pipeline up to and with its closing token."""
        first = self.peek()
        pos = first.pos if first else len(self.source)
        names, assign = self.declaration(where)
        commands: list[Command] = []
        while True:
            if self.kind() in (closing, "|", ""):
                raise self.fail(f"missing value for {where}")
            command = self.command(closing)
            if commands and isinstance(command.args[0], (Dot, Nil, Literal)):
                raise self.fail(f"non executable command in pipeline stage {len(commands) + 1}")
            commands.append(command)
            if self.next().kind == closing:
                break
        self.variables += () if assign else names
        return Pipe(pos, names, assign, tuple(commands))

    def declaration(self, where: str) -> tuple[tuple[str, ...], bool]:
        if self.kind() != "variable":
            return (), False
        names = [self.tokens[self.at].value]
        if where == "range" and self.kind(1) == "," and self.kind(2) == "variable":
            names.append(self.tokens[self.at + 2].value)
        sign = self.kind(2 * len(names) - 1)
        if sign not in (":=", "="):
            if len(names) > 1 or sign == ",":
                raise self.fail(f"too many declarations in {where}")
            return (), False
        if sign == "=":
            for name in names:
                self.check_variable(name)
        self.at += 2 * len(names)
        return tuple(names), sign == "="

    def check_variable(self, name: str) -> None:
        if name not in self.variables:
            raise self.fail(f'undefined variable "{name}"')

    def command(self, closing: str) -> Command:
        start = self.tokens[self.at].pos
        args: list[Operand] = []
        texts: list[str] = []
        while True:
            first = self.tokens[self.at].pos
            args.append(self.operand())
            texts.append(self.source[first : self.tokens[self.at - 1].end])
            if self.kind() in (closing, "|"):
                return Command(start, tuple(args), tuple(texts))
            token = self.peek()
            if token is not None and token.kind == "right":
                raise self.fail("unclosed left paren", token)
            if token is None or not token.spaced or token.kind == ")":
                raise self.unexpected("operand", token)

    def operand(self) -> Operand:
        token = self.next()
        base: Operand
        if token.kind == "literal":
            base = Literal(token.pos, token.value)
        elif token.kind == "dot":
            base = Dot(token.pos)
        elif token.kind == "field":
            base = Field(token.pos, (token.value,))
        elif token.kind == "variable":
            self.check_variable(token.value)
            base = Variable(token.pos, token.value)
        elif token.kind == "word":
            base = self.word(token)
        elif token.kind == "(":
            self.deeper()
            base = self.pipeline("parenthesized pipeline", ")")
            self.depth -= 1
        else:
            raise self.unexpected("command", token)
        fields: list[str] = []
        after = self.peek()
        while (token_ := self.peek()) and token_.kind == "field" and not token_.spaced:
            fields.append(token_.value)
            self.at += 1
        if not fields or after is None:
            return base
        if isinstance(base, (Field, Variable)):
            return base.replace(pos=after.pos, fields=(*base.fields, *fields))  # where Go says it is
        if isinstance(base, (Literal, Nil, Dot)):
            raise self.fail(f"unexpected . after term {_quoted(self.source[token.pos : token.end])}")
        return Chain(token.pos, base, tuple(fields))

    def word(self, token: _Token) -> Operand:
        if token.value in ("true", "false"):
            return Literal(token.pos, token.value == "true")
        if token.value == "nil":
            return Nil(token.pos)
        if token.value in _KEYWORDS:
            raise self.unexpected("command", token)
        if token.value not in self.functions:
            raise self.fail(f'function "{token.value}" not defined', token)
        return Function(token.pos, token.value)
