"""Command-line grammar: what pflag and cobra accept, so that a line typed for Docker means the same here.

`--flag=value`, `--flag value`, `-fvalue`, `-f value`, `-f=value`, bundled short booleans, `--flag=false`, `--`.
Pure functions over the table; on the path of `run`.
"""

from __future__ import annotations

from ...base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Flag = tuple[str, str, str, str, str]

_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


def parse_flags(
    argv: list[str], flags: tuple[Flag, ...], interspersed: bool, command: str
) -> tuple[dict[str, Any], list[str]]:
    """Flags and arguments of a command line.

    Returns ({long name: value}, arguments); a flag that was not given is absent. Raises UsageError naming the flag.
    """
    by_long = {flag[0]: flag for flag in flags}
    by_short = {flag[1]: flag for flag in flags if flag[1]}
    values: dict[str, Any] = {}
    arguments: list[str] = []
    index, count = 0, len(argv)
    while index < count:
        word = argv[index]
        index += 1
        if word == "--":
            arguments.extend(argv[index:])
            break
        if len(word) < 2 or word[0] != "-":
            if not interspersed:
                arguments.extend(argv[index - 1 :])
                break
            arguments.append(word)
            continue
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            flag = by_long.get(name)
            if flag is None:
                if name == "help":
                    values["help"] = True
                    continue
                raise _usage(f"unknown flag: --{name}", command)
            if flag[2] == "alias":
                flag = by_long[flag[3]]
            if flag[2] == "bool":
                _store(values, flag, value if equals else "true", command)
                continue
            if not equals:
                if index >= count:
                    raise _usage(f"flag needs an argument: --{name}", command)
                value = argv[index]
                index += 1
            _store(values, flag, value, command)
            continue
        position = 1
        while position < len(word):
            short = word[position]
            position += 1
            flag = by_short.get(short)
            if flag is None:
                if word == "-h":
                    values["help"] = True
                    break
                raise _usage(f"unknown shorthand flag: {short!r} in {word}", command)
            rest = word[position:]
            if flag[2] == "bool":
                if rest.startswith("="):
                    _store(values, flag, rest[1:], command)
                    break
                values[flag[0]] = True
                continue
            if rest:
                value = rest[1:] if rest[0] == "=" else rest
            elif index < count:
                value = argv[index]
                index += 1
            else:
                raise _usage(f"flag needs an argument: {short!r} in {word}", command)
            _store(values, flag, value, command)
            break
    return values, arguments


def _store(values: dict[str, Any], flag: Flag, text: str, command: str) -> None:
    name, kind = flag[0], flag[2]
    if kind == "list":
        values.setdefault(name, []).append(text)
        return
    if kind == "bool":
        if text not in _TRUE and text not in _FALSE:
            raise _invalid(text, flag, "it is not true or false", command)
        values[name] = text in _TRUE
    elif kind == "int":
        try:
            values[name] = int(text)
        except ValueError:
            raise _invalid(text, flag, "it is not a whole number", command) from None
    elif kind == "float":
        try:
            number = float(text)
        except ValueError:
            raise _invalid(text, flag, "it is not a number", command) from None
        if number != number or number in (float("inf"), float("-inf")):
            raise _invalid(text, flag, "it is not a number", command)
        values[name] = number
    elif kind == "size":
        from . import human

        try:
            values[name] = human.parse_size(text)
        except errors.InvalidArgument as error:
            raise _invalid(text, flag, error.message, command) from None
    else:
        values[name] = text


def _usage(message: str, command: str) -> errors.UsageError:
    return errors.UsageError(message, advice=f"See 'orlop {command} --help'." if command else "See 'orlop --help'.")


def _invalid(text: str, flag: Flag, why: str, command: str) -> errors.UsageError:
    shown = f"-{flag[1]}, --{flag[0]}" if flag[1] else f"--{flag[0]}"
    return _usage(f'invalid argument "{text}" for "{shown}" flag: {why}', command)


def check_arguments(arguments: list[str], least: int, most: int, command: str, usage: str) -> None:
    """Raise UsageError, worded as Docker's, when there are too few or too many arguments."""
    count = len(arguments)
    if count >= least and (most < 0 or count <= most):
        return
    if least == most == 0:
        wants = "accepts no arguments"
    elif least == most:
        wants = f"requires exactly {least} argument{'s' if least != 1 else ''}"
    elif most < 0 or count < least:
        wants = f"requires at least {least} argument{'s' if least != 1 else ''}"
    else:
        wants = f"requires at most {most} argument{'s' if most != 1 else ''}"
    raise errors.UsageError(
        f'"orlop {command}" {wants}.', advice=f"See 'orlop {command} --help'.  Usage: orlop {usage}"
    )
