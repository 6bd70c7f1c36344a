"""Carrying out a container's health checks, inside its monitor: one exec at a time, its output kept, its time bounded.

Loaded only by monitors of containers that have checks. What the results mean is `health`'s.
"""

from __future__ import annotations

import time

from ...base import errors, fsio, jsonio
from . import exitfile, health
from .process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...base.ttrpc.loop import Loop, Timer
    from .exitfile import Exited
    from .reaper import Reaper
    from .stdio import Stdio

    Done = Callable[[errors.OrlopError | None, bytes], object]

_KILL = 9


class Checker:
    """Checks one run of a container, from `begin` to `stop`.

    said: monitor.json's "health": {"process": an OCI process object, "check": health.Check's fields}. directory: where
    health.json is kept. streams: makes a process's streams. run: the monitor's way to run a command of the OCI runtime
    with them. A paused container is not checked.
    """

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        said: dict[str, Any],
        id: str,
        bundle: str,
        directory: str,
        *,
        streams: Callable[[], Stdio],
        run: Callable[[str, list[str], Done, Stdio], object],
        is_paused: Callable[[], bool],
        note: Callable[[str], object],
    ) -> None:
        self._loop = loop
        self._reaper = reaper
        self._id = id
        self._directory = directory
        self._streams = streams
        self._run = run
        self._is_paused = is_paused
        self._note = note
        fields = dict(said["check"])
        self._check = health.Check(**{**fields, "args": tuple(fields["args"])})
        self._spec = f"{bundle}/health-process.json"
        self._bundle = bundle
        fsio.write_atomic(self._spec, jsonio.dump_bytes(said["process"]), durable=False)
        self._health = health.Health()
        self._started_ns = 0
        self._timer: Timer | None = None
        self._stopped = False

    def begin(self, started_ns: int) -> None:
        """The container has been started: the first check comes after the interval."""
        self._started_ns = started_ns
        self._keep()
        self._later()

    def stop(self) -> None:
        """The container has ended; a check that is under way ends with it and does not count."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _later(self) -> None:
        wait_ns = health.pause_ns(self._health, self._check, time.time_ns(), self._started_ns)
        self._timer = self._loop.after(wait_ns / 1e9, self._begin_one)

    def _begin_one(self) -> None:
        if self._is_paused():
            self._later()
            return
        try:
            _One(self)
        except OSError as error:
            self._note(f"cannot check the health of {self._id}: {error.strerror}")
            self._later()

    def ended(self, result: health.Result) -> None:
        """A check is over."""
        if self._stopped:
            return
        self._health = health.after(self._health, self._check, result, self._started_ns)
        self._keep()
        self._later()

    def _keep(self) -> None:
        try:
            health.write(self._directory, self._health)
        except OSError as error:
            self._note(f"cannot write {self._directory}/{health.FILE}: {error.strerror}")


class _One:
    """One check: an exec, and the outlet of its streams."""

    backlog = 0

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._output = bytearray()
        self._start_ns = time.time_ns()
        self._too_late = False
        self._over = False
        # One of its own: a check of the run before may still be under way.
        self._pid_file = f"{checker._bundle}/health-{self._start_ns}.pid"
        stdio = checker._streams()
        stdio.add(self)
        self._process = Process(checker._loop, checker._reaper, "health", stdio, self._process_ended)
        self._timer = checker._loop.after(checker._check.timeout_ns / 1e9, self._expired)
        args = ["--process", checker._spec, "--detach", "--pid-file", self._pid_file, checker._id]
        checker._run("exec", args, self._started, stdio)

    # -- as an outlet

    def put(self, stream: int, data: bytes) -> None:
        room = health.KEPT_BYTES - len(self._output)
        if room > 0:
            self._output += data[:room]

    def finish(self, exited: Exited | None) -> None:
        return

    # -- its course

    def _started(self, error: errors.OrlopError | None, _: bytes) -> None:
        try:
            pid = int(fsio.read_file(self._pid_file, 64))
        except (OSError, ValueError, errors.ResourceExhausted):
            pid = 0
        exitfile.unlink_quietly(self._pid_file)
        if error is None and not pid:
            error = errors.RuntimeFailed("the OCI runtime's exec succeeded without telling a process id")
        if error is not None:
            self._output[:] = error.message.encode("utf-8", "replace")
            self._finish(health.TIMED_OUT)
            return
        self._process.stdio.begin()
        self._process.run(pid)
        if self._too_late:
            self._kill()

    def _expired(self) -> None:
        self._too_late = True
        if self._process.pid:
            self._kill()

    def _kill(self) -> None:
        try:
            self._process.kill(_KILL)
        except errors.OrlopError:
            pass  # it has just ended

    def _process_ended(self, process: Process) -> None:
        exited = process.exited
        self._finish(exited.exit_status if exited is not None else health.TIMED_OUT)

    def _finish(self, exit_code: int) -> None:
        if self._over:
            return
        self._over = True
        self._timer.cancel()
        # Not from inside the process's own end: it still tells its outlets.
        self._checker._loop.after(0, self._process.close)
        output = bytes(self._output[: health.KEPT_BYTES]).decode("utf-8", "replace")
        if self._too_late:
            seconds = self._checker._check.timeout_ns / 1e9
            exit_code, output = health.TIMED_OUT, f"Health check exceeded timeout ({seconds:g}s)"
        self._checker.ended(health.Result(self._start_ns, time.time_ns(), exit_code, output))
