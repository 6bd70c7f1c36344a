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
    from collections.abc import Iterable
    from typing import Any, NoReturn

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
                f"'{rest[0]}' is not a command of 'orlop {name}'{_nearest(rest[0], commands)}",
                advice=f"See 'orlop {name} --help'.",
            )
        command, *implied = target.split()
        return command, [*implied, *rest[1:]]
    if name not in table.COMMANDS or "_" in name[1:]:
        raise errors.UsageError(
            f"'{name}' is not an orlop command{_nearest(name, table.COMMANDS)}", advice="See 'orlop --help'."
        )
    return name, rest


def _nearest(name: str, commands: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, [n for n in commands if "_" not in n], 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def told(error: errors.OrlopError) -> str:
    """An error as people read it, in three lines at most: what failed, why, what to do."""
    lines = [f"orlop: {_one_line(error.message)}"]
    cause = error.__cause__
    if cause is not None:
        why = (cause.strerror or "") if isinstance(cause, OSError) else ""
        why = _one_line(why or str(cause))
        if why and why.lower() not in lines[0].lower():
            lines.append(f"  because: {why}")
    advice = error.advice
    if not advice and isinstance(error, errors.PermissionDenied) and os.geteuid():
        advice = "run it as root (sudo orlop …)"
    if advice:
        lines.append(f"  {advice}" if isinstance(error, errors.UsageError) else f"  to fix: {advice}")
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip()) if "\n" in text else text


def _complain(error: errors.OrlopError, debug: bool) -> None:
    lines = [told(error)]
    if debug:
        import traceback

        lines.append("".join(traceback.format_exception(error)).rstrip())
    try:
        write(2, "\n".join(lines) + "\n")
    except OSError:
        pass


def _unexpected(error: Exception) -> errors.OrlopError:
    """A fault of ours, told in the same form as every error."""
    fault = errors.Internal(
        f"unexpected {type(error).__name__}: {error}",
        advice="this is a fault in Orlop: please report it with what 'orlop --debug …' prints",
    )
    fault.__cause__ = error
    return fault


def _fill_standard_streams() -> None:
    """Open /dev/null where a standard descriptor is closed: a file opened later must never be taken for one."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)


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
    spoken = name.replace("_", " ")  # "volume_ls" is typed "volume ls"
    values, arguments = parse.parse_flags(rest, flags, interspersed, spoken)
    if values.get("help"):
        from . import help as help_

        write(1, help_.command_text(name) + "\n")
        return 0
    parse.check_arguments(arguments, least, most, spoken, usage)
    invocation = Invocation(name, values, arguments, options)
    command = __import__(f"{__package__}.commands.{module}", fromlist=["main"])
    try:
        try:
            return int(command.main(invocation))
        finally:
            invocation.close()
    except errors.OrlopError as error:
        _with_code(error, name)
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _with_code(errors.from_os(error, spoken), name) from error
    except Exception as error:
        raise _with_code(_unexpected(error), name) from error


def _with_code(error: errors.OrlopError, command: str) -> errors.OrlopError:
    if command in _RUNNING and error.exit_code == 1:
        error.exit_code = 125
    return error


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    _fill_standard_streams()
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
        _complain(errors.from_os(error, "orlop"), debug)
        return 1


def run_and_exit(argv: list[str]) -> NoReturn:
    """`main` for a process that is nothing but this command: what the launcher calls.

    The collector of cycles hardly ever runs and the interpreter is not taken down piece by piece: both together cost a
    quick command a tenth of its time, and the kernel frees everything anyway.
    """
    import gc

    gc.set_threshold(100_000, 50, 50)
    code = 1
    try:
        code = main(argv)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BrokenPipeError:
        code = code or 141
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001 - printed, as the interpreter would have
        import traceback

        traceback.print_exc()
        code = 1
    os._exit(code)
