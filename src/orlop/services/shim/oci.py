"""Running an OCI runtime (crun, runc, …): one command at a time or several, with a deadline, its errors in one line.

The only place that starts one. Callbacks, not waits: a monitor has one thread. The command line is runc's, which every
runtime follows. Every command's log (JSON, one object a line) and standard error are read for the reason of a failure.
"""

from __future__ import annotations

import os

from ...base import errors, jsonio
from ...base.kernel import mounts, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...base.ttrpc.loop import Loop, Timer
    from .reaper import Exit, Reaper

UNIFIED = "/sys/fs/cgroup/unified"
_MAX_MESSAGE_BYTES = 64 << 10
_MAX_REASON = 1000

# What the runtimes say of a command that is not there, and of one that cannot be executed. Only sayings that speak of
# the container's command: a missing mount source is "no such file" as well.
_NOT_FOUND = (
    ("executable file", "not found"),  # crun: executable file `x` not found in $PATH; runc: exec: "x": executable …
    ('exec: "', ": no such file or directory"),  # runc, for a command with a slash
    ("exec container process", ": No such file or directory"),  # crun: the script's interpreter is missing
)
_NOT_EXECUTABLE = (
    ("open executable", ": Permission denied"),
    ("open executable", ": Operation not permitted"),
    ('exec: "', ": permission denied"),
    ('exec: "', ": is a directory"),
    ("exec container process", ": Permission denied"),
    ("exec container process", ": Exec format error"),
    ("exec format error", ""),
)

_COLOUR = ("\x1b[1;31m", "\x1b[0m")
"""Around what crun says on a terminal."""


class Runtime:
    """One OCI runtime as monitor.json names it.

    argv: the program and its global options. name: for messages. directory: where logs of commands may be written.
    hide_unified: see docs/architecture.md. timeout: seconds a command may take.
    """

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        argv: Sequence[str],
        name: str,
        directory: str,
        *,
        hide_unified: bool = False,
        timeout: float = 60.0,
    ) -> None:
        self._loop = loop
        self._reaper = reaper
        self._argv = tuple(argv)
        self.name = name
        self._directory = directory
        self._hide_unified = hide_unified
        self._timeout = timeout
        self._count = 0

    def run(
        self,
        verb: str,
        args: Sequence[str],
        done: Callable[[errors.OrlopError | None, bytes], object],
        *,
        stdio: tuple[int, int, int] | None = None,
        said: Callable[[], bytes] | None = None,
    ) -> None:
        """Run `verb args…`; then call done(error or None, standard output).

        stdio: three descriptors for a command whose standard streams become the container's; else they are /dev/null,
        captured, captured. said: with stdio, reads what the command left on the container's standard error, for when
        its log does not give the reason. Raises nothing: a runtime that cannot be started is told to `done` as well.
        """
        self._count += 1
        log = f"{self._directory}/runtime-{self._count}.log"
        out, err = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("out", "err"))
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        argv = [*self._argv, "--log", log, "--log-format", "json", verb, *args]
        command = _Command(self, verb, log, out, err, said, done)
        try:
            command.pid = self._spawn(argv, stdio or (null, out, err))
        except OSError as error:
            advice = "install crun or runc" if isinstance(error, FileNotFoundError) else ""
            failure = errors.RuntimeFailed(f"cannot run {self._argv[0]}: {error.strerror}", advice=advice)
            self._loop.after(0, lambda: command.finish(failure))
            return
        finally:
            os.close(null)
        self._reaper.hold()
        self._reaper.expect(command.pid, command.ended)
        command.timer = self._loop.after(self._timeout, command.expired)

    def _spawn(self, argv: Sequence[str], stdio: tuple[int, int, int]) -> int:
        if not self._hide_unified:
            return _posix_spawn(argv, stdio)
        # For the length of one exec this process itself lives in a mount namespace of its own: cheaper than a fork of
        # Python, and no other process sees it. Only the covered mount becomes private; the rest keeps propagating, so
        # that shared volumes work. The namespace ends with the runtime, and keeps nobody's mounts busy.
        here = namespaces.open_namespace("mnt")
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        cwd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            namespaces.unshare(namespaces.CLONE_NEWNS)
            try:
                mounts.mount("", UNIFIED, "", mounts.MS_PRIVATE)
                mounts.mount("tmpfs", UNIFIED, "tmpfs", 0, "size=1m,mode=755")
                return _posix_spawn(argv, stdio)
            finally:
                namespaces.setns(here, namespaces.CLONE_NEWNS)
                os.fchdir(root)  # setns leaves us at the namespace's root: back to ours, which a chroot may have set
                os.chroot(".")
                os.fchdir(cwd)
        finally:
            for fd in (here, root, cwd):
                os.close(fd)


class _Command:
    """One run of the runtime."""

    def __init__(
        self,
        runtime: Runtime,
        verb: str,
        log: str,
        out: int,
        err: int,
        said: Callable[[], bytes] | None,
        done: Callable[[errors.OrlopError | None, bytes], object],
    ) -> None:
        self.pid = 0
        self.timer: Timer | None = None
        self._runtime = runtime
        self._verb = verb
        self._log = log
        self._out = out
        self._err = err
        self._said = said
        self._done = done
        self._too_late = False

    def expired(self) -> None:
        self._too_late = True
        try:
            os.killpg(self.pid, 9)  # its own session: helpers it started go with it
        except ProcessLookupError:
            pass

    def ended(self, how: Exit) -> None:
        if self.timer is not None:
            self.timer.cancel()
        name = f"{self._runtime.name} {self._verb}"
        error: errors.OrlopError | None = None
        if self._too_late:
            last = _one_line(self._noise())
            said = f"; it said: {last}" if last else ""
            error = errors.RuntimeFailed(
                f"{name} did not end within {self._runtime._timeout:g} s and was killed{said}",
                advice="the OCI runtime hangs: look at the machine's load and at the runtime's own state",
            )
        elif how.status:
            error = failure(name, how.status, _read_log(self._log), self._noise())
        try:
            self.finish(error)
        finally:
            self._runtime._reaper.release()

    def _noise(self) -> bytes:
        """What it printed on standard error."""
        return _read_all(self._err) or (self._said() if self._said is not None else b"")

    def finish(self, error: errors.OrlopError | None) -> None:
        out = b"" if error is not None else _read_all(self._out)
        os.close(self._out)
        os.close(self._err)
        try:
            os.unlink(self._log)
        except FileNotFoundError:
            pass
        self._done(error, out)


def failure(command: str, status: int, log: bytes, stderr: bytes) -> errors.OrlopError:
    """The error of a runtime's command that failed: CommandNotFound, CommandNotExecutable or RuntimeFailed.

    command: "crun create". status: its exit status. log: its JSON log. stderr: what it printed.
    """
    reason = _reason(log) or _one_line(stderr)
    if not reason:
        ended = f"was ended by signal {status - 128}" if status > 128 else f"failed with status {status}"
        return errors.RuntimeFailed(f"{command} {ended} and gave no reason")
    kind = _kind_of(reason)
    if kind is not errors.RuntimeFailed:
        return kind(reason)
    return kind(f"{command}: {reason}")


def exec_failure_status(stderr: bytes) -> int | None:
    """126 or 127 when `stderr`, all a process ever wrote, is a runtime saying that it could not execute the command.

    execve is the last thing a runtime does in the container, after `start` was answered: its failure comes as the
    container's own output. runc: "exec /x: exec format error"; crun: a line of its JSON log, or "exec: …".
    """
    text = stderr.decode("utf-8", "replace").strip()
    if text.startswith(_COLOUR[0]):
        text = text.removeprefix(_COLOUR[0]).removesuffix(_COLOUR[1])
    if "\n" in text:
        return None
    if text.startswith('{"msg":'):
        text = _reason(text.encode("utf-8", "replace"))
    if not text.startswith(("exec /", "exec: ", "exec container process")):
        return None
    lowered = text.lower()
    if lowered.endswith((": exec format error", ": permission denied")):
        return errors.CommandNotExecutable.exit_code
    if lowered.endswith(": no such file or directory"):
        return errors.CommandNotFound.exit_code
    return None


def _kind_of(reason: str) -> type[errors.OrlopError]:
    for sayings, kind in ((_NOT_FOUND, errors.CommandNotFound), (_NOT_EXECUTABLE, errors.CommandNotExecutable)):
        for start, end in sayings:
            at = reason.find(start)
            if at >= 0 and end in reason[at:]:
                return kind
    return errors.RuntimeFailed


def _reason(log: bytes) -> str:
    """The last error of a runtime's JSON log, else the last line that is a message at all."""
    found = ""
    for line in log.splitlines():
        try:
            entry = jsonio.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("msg"), str):
            level = str(entry.get("level", "error"))
            if level in ("error", "fatal", "panic") or not found:
                found = _one_line(entry["msg"].encode("utf-8", "replace"))
    return found


def _one_line(text: bytes) -> str:
    """Printable text on one line, of bounded length: runtimes print whatever they like."""
    words = text.decode("utf-8", "replace").split()
    line = " ".join(words)
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
    return line if len(line) <= _MAX_REASON else line[:_MAX_REASON] + " …"


def _read_log(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        return _read_all(fd)
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    """The end of a file, at most 64 KiB: a reason stands last."""
    size = os.fstat(fd).st_size
    return os.pread(fd, _MAX_MESSAGE_BYTES, max(0, size - _MAX_MESSAGE_BYTES))


def _posix_spawn(argv: Sequence[str], stdio: tuple[int, int, int]) -> int:
    # Duplicates above 2 first: one of the three may be a low number itself, which the next would overwrite.
    import fcntl

    held = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in stdio]
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(held)]
        return os.posix_spawn(
            argv[0],
            list(argv),
            os.environ,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=(_SIGPIPE, _SIGCHLD),
        )
    finally:
        for fd in held:
            os.close(fd)


_SIGPIPE, _SIGCHLD = 13, 17
