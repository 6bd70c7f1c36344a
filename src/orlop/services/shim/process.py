"""One process of a task: the container's own, or one that Exec added: state, streams, end, who waits for it.

May import only the interpreter's cheap modules.
"""

from __future__ import annotations

import os
import time

from ...base import errors
from ...base.kernel import process as kernel_process
from ...base.ttrpc import task_v2
from ...base.ttrpc.loop import READ
from . import oci
from .exitfile import UNKNOWN_STATUS, Exited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.ttrpc.loop import Loop
    from .reaper import Exit, Reaper
    from .stdio import Stdio


class Process:
    """exec_id: "" for the container's own. status: a containerd.v1.types.Status (task_v2's constants).

    on_exit: called once its end is known and its output is copied; `exited` is set by then.
    """

    def __init__(
        self, loop: Loop, reaper: Reaper, exec_id: str, stdio: Stdio, on_exit: Callable[[Process], object]
    ) -> None:
        self.exec_id = exec_id
        self.stdio = stdio
        self.status = task_v2.CREATED
        self.pid = 0
        self.exited: Exited | None = None
        self.paths = ("", "", "")
        """The streams' names as the task API gave them."""
        self.spec = ""
        """For an exec: the file that holds its OCI process object."""
        self.closers: list[Callable[[], object]] = []
        self._loop = loop
        self._reaper = reaper
        self._on_exit = on_exit
        self._pidfd = -1
        self._held: Exited | None = None
        self._holding = False
        self._waiters: list[Callable[[Exited], object]] = []

    def run(self, pid: int) -> None:
        """It is this child of ours (it may have ended already)."""
        self.pid = pid
        self._open_pidfd()
        self._reaper.expect(pid, self._ended)

    def adopt(self, pid: int) -> bool:
        """It is this process, started by a monitor that is no more: its end will be seen, its status will not.

        False when there is no such process any more.
        """
        self.pid = pid
        self._open_pidfd()
        if self._pidfd < 0:
            return False
        self._loop.watch(self._pidfd, READ, lambda _: self._vanished())
        return True

    def hold(self) -> None:
        """Keep an end back until `release`: the command that starts it is not through yet."""
        self._holding = True

    def release(self) -> None:
        self._holding = False
        if self._held is not None:
            held, self._held = self._held, None
            self._settle(held)

    def wait(self, call: Callable[[Exited], object]) -> None:
        """Call with its end, now or later."""
        if self.exited is not None:
            call(self.exited)
        else:
            self._waiters.append(call)

    def kill(self, signal: int) -> None:
        """Send a signal. NotFound when it has ended, FailedPrecondition when it has not begun."""
        if self.status == task_v2.STOPPED or (self.pid and self._pidfd < 0):
            raise errors.NotFound(f"process {self.pid} has ended")
        if self._pidfd < 0:
            raise errors.FailedPrecondition("the process is not started")
        try:
            kernel_process.pidfd_send_signal(self._pidfd, signal)
        except ProcessLookupError:
            raise errors.NotFound(f"process {self.pid} has ended") from None
        except OSError as error:
            raise errors.InvalidArgument(f"cannot send signal {signal}: {error.strerror}") from error

    def fail(self, status: int, at_ns: int) -> None:
        """It never came to be; who waits is told so."""
        self._publish(Exited(status, at_ns, 0))

    def close(self) -> None:
        """Let go of everything it holds."""
        self._reaper.forget(self.pid)
        self._close_pidfd()
        for close in self.closers:
            close()
        self.stdio.close()

    def _open_pidfd(self) -> None:
        try:
            self._pidfd = kernel_process.pidfd_open(self.pid)
        except OSError:
            self._pidfd = -1  # ended and reaped already: its end is on its way

    def _close_pidfd(self) -> None:
        if self._pidfd >= 0:
            self._loop.forget(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _vanished(self) -> None:
        self._loop.forget(self._pidfd)
        self._settle(Exited(UNKNOWN_STATUS, time.time_ns(), self.pid))

    def _ended(self, how: Exit) -> None:
        exited = Exited(how.status, how.at_ns, self.pid)
        if self._holding:
            self._held = exited
        else:
            self._settle(exited)

    def _settle(self, exited: Exited) -> None:
        self._close_pidfd()
        self.stdio.drain(lambda: self._publish(exited))

    def _publish(self, exited: Exited) -> None:
        self.status = task_v2.STOPPED
        if exited.exit_status in (1, 255) and self.stdio.first_bytes:
            better = oci.exec_failure_status(self.stdio.first_bytes)
            if better is not None:
                exited = exited.replace(exit_status=better)
        self.exited = exited
        self._on_exit(self)  # writes the end down, before anyone is told
        exited = self.exited
        self.stdio.finish(exited)
        waiters, self._waiters = self._waiters, []
        for call in waiters:
            call(exited)
