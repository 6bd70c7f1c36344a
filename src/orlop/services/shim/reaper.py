"""Children and orphans: whose end is it, and how did it end.

A monitor is a subreaper: every descendant that loses its parent becomes its child, some before anyone knows their pid
(a process that `runtime exec --detach` started may end before its pid file is read). So while a runtime is at work the
ends of unknown children are kept. May import only the interpreter's cheap modules.
"""

from __future__ import annotations

import os
import time

from ...base.record import Record
from ...base.ttrpc.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from ...base.ttrpc.loop import Loop
else:
    import _signal as signal  # `signal` itself brings enum, which costs more than the rest of the monitor


class Exit(Record):
    """How a process ended. status: 0–255, 128 + n when signal n ended it (shells' convention). at_ns: when."""

    status: int
    at_ns: int


class Reaper:
    """Collects ended children of this process; one a process."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._expected: dict[int, Callable[[Exit], object]] = {}
        self._early: dict[int, Exit] = {}
        self._holds = 0
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        loop.watch(self._wake_r, READ, lambda _: self._woken())

    def hold(self) -> None:
        """Keep the ends of unknown children, until as many `release`."""
        self._holds += 1

    def release(self) -> None:
        self._holds -= 1
        if not self._holds:
            self._early.clear()

    def expect(self, pid: int, call: Callable[[Exit], object]) -> None:
        """Call back, once and never from inside this call, when child `pid` has ended."""
        ended = self._early.pop(pid, None)
        if ended is None:
            self._expected[pid] = call
        else:
            early = ended  # a name of its own: mypy knows that it is not None inside the lambda
            self._loop.after(0, lambda: call(early))

    def forget(self, pid: int) -> None:
        self._expected.pop(pid, None)

    def close(self) -> None:
        """Stop listening to SIGCHLD (a test's process lives on; a monitor's does not)."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._loop.forget(self._wake_r)
        os.close(self._wake_r)
        os.close(self._wake_w)

    def _woken(self) -> None:
        try:
            os.read(self._wake_r, 4096)
        except BlockingIOError:
            pass
        self.reap()

    def reap(self) -> None:
        """Collect everything that has ended, then tell who asked (so that no order between them matters)."""
        ended = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            ended.append((pid, Exit(exit_status(status), time.time_ns())))
        for pid, how in ended:
            if pid not in self._expected and self._holds:
                self._early[pid] = how
        for pid, how in ended:
            call = self._expected.pop(pid, None)
            if call is not None:
                self._loop.call(call, how)


def exit_status(wait_status: int) -> int:
    """waitpid's status as shells and Docker tell it: the exit code, or 128 + the signal's number."""
    if os.WIFSIGNALED(wait_status):
        return 128 + os.WTERMSIG(wait_status)
    return os.WEXITSTATUS(wait_status)
