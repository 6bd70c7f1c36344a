"""The command line's entry: find the command, parse its flags, load its one module, turn errors into exit codes.

On the path of `run`: imports nothing it does not need. Holds no behaviour of the engine.
"""

from __future__ import annotations

import os
import sys

from ...base import errors
from . import parse, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...engine import Engine

_RUNNING = ("run", "create", "start", "exec")
"""Commands whose own failures exit with 125, so that the container's codes stay its own (Docker's convention)."""


class Invocation:
    """One command as it was typed, and what a command module needs to carry it out."""

    __slots__ = ("_engine", "args", "command", "flags", "options")

    def __init__(self, command: str, flags: dict[str, Any], args: list[str], options: dict[str, Any]) -> None:
        self.command = command
        self.flags = flags
        self.args = args
        self.options = options
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine that the global options and the environment name, opened at first use."""
        if self._engine is None:
            from ...engine import Engine

            environ, options = os.environ, self.options
            self._engine = Engine.open(
                root=options.get("root") or environ.get("ORLOP_ROOT", ""),
                state=options.get("state") or environ.get("ORLOP_STATE", ""),
                namespace=options.get("namespace") or environ.get("ORLOP_NAMESPACE", "") or "default",
                snapshotter=options.get("snapshotter") or environ.get("ORLOP_SNAPSHOTTER", ""),
                insecure_registry=bool(options.get("insecure-registry")),
            )
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def out(self, text: str) -> None:
        """Print a line on standard output."""
        write(1, text + "\n")

    def warn(self, text: str) -> None:
        """Print a line on standard error."""
        write(2, text + "\n")


def write(fd: int, text: str) -> None:
    """Write text to a descriptor at once. Raises BrokenPipeError when nobody reads."""
    data = memoryview(text.encode("utf-8", "surrogateescape"))
    while data:
        data = data[os.write(fd, data) :]


def _find(words: list[str]) -> tuple[str, list[str]]:
    """The command's name in the table and the words after it."""
    name, rest = words[0], words[1:]
    if name in table.GROUPS:
        commands = table.GROUPS[name][1]
        if not rest or rest[0] in ("--help", "-h"):
            return f"{name} --help", []
        target = commands.get(rest[0])
        if target is None:
            raise errors.UsageError(
                f"'{rest[0]}' is not a command of 'orlop {name}'", advice=f"See 'orlop {name} --help'."
            )
        return target, rest[1:]
    if name not in table.COMMANDS:
        raise errors.UsageError(f"'{name}' is not an orlop command{_nearest(name)}", advice="See 'orlop --help'.")
    return name, rest


def _nearest(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, [n for n in table.COMMANDS if n[0] != "_"], 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _complain(error: errors.OrlopError, debug: bool) -> None:
    lines = [f"orlop: {error.message}"]
    cause = error.__cause__
    if cause is not None and str(cause) and str(cause) not in error.message:
        lines.append(f"  because: {cause}")
    if error.advice:
        lines.append(f"  {error.advice}" if isinstance(error, errors.UsageError) else f"  to fix: {error.advice}")
    if debug:
        import traceback

        lines.append("".join(traceback.format_exception(error)).rstrip())
    try:
        write(2, "\n".join(lines) + "\n")
    except OSError:
        pass


def _dispatch(argv: list[str]) -> int:
    if len(argv) >= 2 and argv[0] == "help":
        argv = [*argv[1:], "--help"]
    options, words = parse.parse_flags(argv, table.GLOBAL_FLAGS, False, "")
    if options.get("version"):
        from ... import __version__

        write(1, f"orlop version {__version__}\n")
        return 0
    if options.get("help") or not words or words == ["help"]:
        from . import help as help_

        write(1, help_.main_text() + "\n")
        return 0
    name, rest = _find(words)
    if name.endswith(" --help"):
        from . import help as help_

        write(1, help_.group_text(name.partition(" ")[0]) + "\n")
        return 0
    module, usage, _, flags, interspersed, least, most, _ = table.COMMANDS[name]
    values, arguments = parse.parse_flags(rest, flags, interspersed, name)
    if values.get("help"):
        from . import help as help_

        write(1, help_.command_text(name) + "\n")
        return 0
    parse.check_arguments(arguments, least, most, name, usage)
    invocation = Invocation(name, values, arguments, options)
    command = __import__(f"{__package__}.commands.{module}", fromlist=["main"])
    try:
        return int(command.main(invocation))
    except errors.OrlopError as error:
        if name in _RUNNING and error.exit_code == 1:
            error.exit_code = 125
        raise
    finally:
        invocation.close()


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    debug = "--debug" in argv or "-D" in argv or bool(os.environ.get("ORLOP_DEBUG"))
    try:
        return _dispatch(argv)
    except errors.OrlopError as error:
        _complain(error, debug)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        _complain(errors.from_os(error, argv[0] if argv else "orlop"), debug)
        return 125 if argv and argv[0] in _RUNNING else 1
