"""Runs a template's tree over a value. Pure; the values and functions are `_template_functions`'."""

from __future__ import annotations

from ...base import errors
from . import _template_functions as functions
from . import _template_syntax as syntax
from . import _template_values as values
from ._template_values import MISSING, FunctionError, Map, Method, force

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any


class _Absent:
    """No value comes down the pipe."""


_ABSENT = _Absent()
_MAX_OUTPUT = 64 << 20


class _Jump(Exception):
    """A {{break}} or {{continue}} on its way to its range."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Runner:
    """One execution.

    what: the kind of the root value, for messages ("container"). out: the text so far, also when it fails midway.
    """

    def __init__(
        self,
        source: str,
        root: Any,
        what: str,
        table: dict[str, functions.Function] | None = None,
    ) -> None:
        self.source = source
        self.root = root = force(root)
        self.what = what
        self.table = functions.FUNCTIONS if table is None else table
        self.variables: list[list[Any]] = [["$", root]]
        self.out: list[str] = []
        self.length = 0

    def run(self, nodes: Sequence[syntax.Node]) -> str:
        """The text. Raises InvalidArgument, worded as Docker's, when the value lacks what the template asks for."""
        try:
            self._walk(nodes, self.root)
        except RecursionError:
            raise errors.InvalidArgument("template parsing error: template: nested too deeply") from None
        return "".join(self.out)

    def _fail(self, operand: Any, text: str, why: str, advice: str = "") -> errors.InvalidArgument:
        where = syntax.place(self.source, operand.pos)
        return errors.InvalidArgument(
            f'template parsing error: template: :{where}: executing "" at <{text}>: {why}', advice=advice
        )

    def _walk(self, nodes: Sequence[syntax.Node], dot: Any) -> None:
        known = len(self.variables)
        for node in nodes:
            if isinstance(node, syntax.Text):
                self._emit(node.text)
            elif isinstance(node, syntax.Action):
                value = self._pipe(node.pipe, dot)
                if not node.pipe.names:
                    self._emit(values.show(value))
            elif isinstance(node, syntax.Jump):
                del self.variables[known:]
                raise _Jump(node.kind)
            elif node.kind == "range":
                self._range(node, dot)
            else:
                self._if(node, dot)
        del self.variables[known:]

    def _emit(self, text: str) -> None:
        self.length += len(text)
        if self.length > _MAX_OUTPUT:
            raise errors.ResourceExhausted(f"the template prints more than {_MAX_OUTPUT} characters")
        self.out.append(text)

    def _if(self, node: syntax.Branch, dot: Any) -> None:
        known = len(self.variables)
        try:
            value = self._pipe(node.pipe, dot)
            if values.truth(value):
                self._walk(node.body, value if node.kind == "with" else dot)
            else:
                self._walk(node.orelse, dot)
        finally:
            del self.variables[known:]

    def _range(self, node: syntax.Branch, dot: Any) -> None:
        known = len(self.variables)
        value = self._pipe(node.pipe.replace(names=()), dot)
        pairs: Iterable[tuple[Any, Any]]
        if isinstance(value, dict):
            pairs = [(key, value[key]) for key in sorted(value) if not isinstance(value[key], Method)]
        elif isinstance(value, (list, tuple)):
            pairs = enumerate(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = ((n, n) for n in range(value))
        elif value is None or value is MISSING:
            pairs = ()
        else:
            raise self._fail(node.pipe, node.pipe.commands[0].text, f"range can't iterate over {values.show(value)}")
        empty = True
        names = node.pipe.names
        for key, item in pairs:
            empty = False
            item = force(item)
            for name, each in zip(names, (item,) if len(names) == 1 else (key, item)):
                self._set(name, each, node.pipe.assign)
            try:
                self._walk(node.body, item)
            except _Jump as jump:
                if jump.kind == "break":
                    break
            finally:
                del self.variables[known:]
        if empty:
            self._walk(node.orelse, dot)

    def _set(self, name: str, value: Any, assign: bool) -> None:
        if not assign:
            self.variables.append([name, value])
            return
        for variable in reversed(self.variables):
            if variable[0] == name:
                variable[1] = value
                return

    def _pipe(self, pipe: syntax.Pipe, dot: Any) -> Any:
        value: Any = _ABSENT
        for command in pipe.commands:
            value = force(self._command(command, dot, value))
        for name in pipe.names:
            self._set(name, value, pipe.assign)
        return value

    def _command(self, command: syntax.Command, dot: Any, final: Any) -> Any:
        first, rest = command.args[0], command.args[1:]
        if isinstance(first, syntax.Function):
            return self._call(first, command, dot, final)
        if isinstance(first, (syntax.Field, syntax.Variable, syntax.Chain)) and first.fields:
            return self._field_chain(first, command, dot, rest, final)
        if rest or final is not _ABSENT:
            raise self._fail(first, command.texts[0], f"can't give argument to non-function {command.texts[0]}")
        if isinstance(first, syntax.Nil):
            raise self._fail(first, "nil", "nil is not a command")
        return self._operand(first, dot)

    def _operand(self, operand: syntax.Operand, dot: Any) -> Any:
        """An operand in the place of an argument, where nothing is given to it."""
        if isinstance(operand, syntax.Literal):
            return operand.value
        if isinstance(operand, syntax.Dot):
            return force(dot)
        if isinstance(operand, syntax.Nil):
            return None
        if isinstance(operand, syntax.Pipe):
            return self._pipe(operand, dot)
        if isinstance(operand, syntax.Function):
            return self._call(operand, syntax.Command(operand.pos, (operand,), (operand.name,)), dot, _ABSENT)
        if isinstance(operand, syntax.Variable) and not operand.fields:
            return force(next(value for name, value in reversed(self.variables) if name == operand.name))
        command = syntax.Command(operand.pos, (operand,), (self._text(operand),))
        return self._field_chain(operand, command, dot, (), _ABSENT)

    def _text(self, operand: syntax.Field | syntax.Variable | syntax.Chain) -> str:
        head = operand.name if isinstance(operand, syntax.Variable) else ""
        return head + "".join(f".{field}" for field in operand.fields)

    def _field_chain(
        self,
        operand: syntax.Field | syntax.Variable | syntax.Chain,
        command: syntax.Command,
        dot: Any,
        rest: Sequence[syntax.Operand],
        final: Any,
    ) -> Any:
        if isinstance(operand, syntax.Field):
            value = dot
        elif isinstance(operand, syntax.Variable):
            value = self._operand(operand.replace(fields=()), dot)
        else:
            value = self._operand(operand.base, dot)
        text = self._text(operand)
        for field in operand.fields[:-1]:
            value = self._field(operand, text, value, field, ())
        arguments = [self._operand(argument, dot) for argument in rest]
        if final is not _ABSENT:
            arguments.append(final)
        return self._field(operand, text, value, operand.fields[-1], arguments)

    def _field(self, operand: Any, text: str, receiver: Any, name: str, arguments: Sequence[Any]) -> Any:
        receiver = force(receiver)
        if receiver is MISSING and not arguments:
            return MISSING
        if receiver is None or receiver is MISSING:
            raise self._fail(operand, text, f"nil pointer evaluating {name}")
        if not isinstance(receiver, dict):
            raise self._fail(operand, text, f"can't evaluate field {name} in type {values.type_name(receiver)}")
        key = _spelling(receiver, name)
        if key is None:
            is_root = receiver is self.root and not isinstance(receiver, Map)
            if is_root or values.is_struct(receiver):
                what = self.what if receiver is self.root else "struct"
                raise self._fail(
                    operand, text, f"can't evaluate field {name} in type {what or 'struct'}", _fields(receiver)
                )
            return MISSING
        value = receiver[key]
        if isinstance(value, Method):
            try:
                return force(value.call(*arguments))
            except TypeError as error:
                raise self._fail(operand, text, f"wrong arguments for {name}") from error
        if arguments:
            raise self._fail(operand, text, f"{name} has arguments but cannot be invoked as function")
        return force(value)

    def _call(self, operand: syntax.Function, command: syntax.Command, dot: Any, final: Any) -> Any:
        name, rest = operand.name, command.args[1:]
        if name in ("and", "or"):
            return self._and_or(operand, rest, dot, final)
        function = self.table[name]
        count = len(rest) + (final is not _ABSENT)
        if not function.least <= count <= function.most:
            want = f"at least {function.least}" if function.most > function.least else f"{function.least}"
            raise self._fail(operand, name, f"wrong number of args for {name}: want {want} got {count}")
        arguments: list[Any] = []
        for argument, text, kind in zip(rest, command.texts[1:], function.kinds.ljust(len(rest))):
            value = self._operand(argument, dot)
            self._check(kind, value, argument, text)
            arguments.append(value)
        if final is not _ABSENT:
            self._check(function.kinds[len(rest) : len(rest) + 1], final, operand, name)
            arguments.append(final)
        try:
            return function.call(*arguments)
        except FunctionError as error:
            raise self._fail(operand, command.text, f"error calling {name}: {error}") from None

    def _check(self, kind: str, value: Any, argument: syntax.Operand, text: str) -> None:
        """Refuse an argument that is not of the kind its function takes (see `Function.kinds`)."""
        if kind == "s":
            good, wanted, found = isinstance(value, str), "string", "expected string; found"
        elif kind == "i":
            good = isinstance(value, int) and not isinstance(value, bool)
            wanted, found = "int", "expected integer; found"
        elif kind == "l":
            good = value is None or isinstance(value, (list, tuple))
            wanted, found = "[]string", "expected []string; found"
        else:
            return
        if good:
            return
        if isinstance(argument, syntax.Literal):
            raise self._fail(argument, text, f"{found} {text}")
        if isinstance(argument, syntax.Nil):
            raise self._fail(argument, text, f"cannot assign nil to {wanted}")
        got = values.type_name(value)
        raise self._fail(argument, text, f"wrong type for value; expected {wanted}; got {got}")

    def _and_or(self, function: syntax.Function, rest: Sequence[syntax.Operand], dot: Any, final: Any) -> Any:
        """The first argument that decides, or the last; those after it are not looked at."""
        value: Any = _ABSENT
        for argument in rest:
            value = self._operand(argument, dot)
            if values.truth(value) == (function.name == "or"):
                return value
        if final is not _ABSENT:
            return final
        if value is _ABSENT:
            raise self._fail(
                function, function.name, f"wrong number of args for {function.name}: want at least 1 got 0"
            )
        return value


def _fields(receiver: dict[str, Any]) -> str:
    return "the fields are " + ", ".join(f".{name}" for name in sorted(receiver)) if receiver else ""


def _spelling(receiver: dict[str, Any], name: str) -> str | None:
    """The key a field is kept under: Docker takes both .ID and .Id, as Go and JSON spell it."""
    if name in receiver:
        return name
    other = f"{name[:-2]}Id" if name.endswith("ID") else f"{name[:-2]}ID" if name.endswith("Id") else ""
    return other if other and other in receiver else None
