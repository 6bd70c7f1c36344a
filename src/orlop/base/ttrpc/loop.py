"""A single-threaded epoll loop: descriptors, timers, nothing else. Servers and monitors live in one.

May import only `select`, `sys` and `time`: a monitor's memory is counted in pages.
"""

from __future__ import annotations

import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ, WRITE = 0x001, 0x004
GONE = 0x008 | 0x010
"""EPOLLIN, EPOLLOUT, EPOLLERR | EPOLLHUP: by number, since `select` has the names on Linux only."""


class Timer:
    """A callback that is due; `cancel` it or let it come."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], object]) -> None:
        self.when = when
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Calls back when a descriptor is ready or a time has come, one callback at a time, until `stop`.

    A callback that raises is reported on standard error and the loop goes on: one bad client ends nobody else.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Callable[[int], object], int]] = {}
        self._timers: list[Timer] = []
        self._round = 0
        self._running = False

    def watch(self, fd: int, events: int, callback: Callable[[int], object]) -> None:
        """Call `callback(events)` whenever `fd` has some of `events` (level-triggered; GONE always counts)."""
        self._epoll.register(fd, events)
        self._watched[fd] = (callback, self._round)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events of a watched descriptor."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching; call it before the descriptor is closed. Unknown ones are fine."""
        if self._watched.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # closed already: the kernel has forgotten it

    def after(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once, `seconds` from now."""
        timer = Timer(time.monotonic() + seconds, callback)
        self._timers.append(timer)
        self._timers.sort(key=lambda one: one.when)
        return timer

    def stop(self) -> None:
        """Let `run` return after the current callback."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`."""
        self._running = True
        while self._running:
            self.run_once(None)

    def run_once(self, timeout: float | None) -> None:
        """Wait at most `timeout` seconds (None: as long as it takes) for something, and serve it."""
        ready = self._epoll.poll(self._until_next_timer(timeout))
        self._round += 1
        for fd, events in ready:
            callback, since = self._watched.get(fd, (None, 0))
            # One that is watched since this round began is another than the event was for: numbers are reused.
            if callback is not None and since < self._round:
                self.call(callback, events)
        now = time.monotonic()
        while self._timers and (self._timers[0].call is None or self._timers[0].when <= now):
            due = self._timers.pop(0).call
            if due is not None:
                self.call(due)

    def close(self) -> None:
        self._epoll.close()

    def _until_next_timer(self, timeout: float | None) -> float | None:
        while self._timers and self._timers[0].call is None:
            self._timers.pop(0)
        if not self._timers:
            return timeout
        wait = max(0.0, self._timers[0].when - time.monotonic())
        return wait if timeout is None else min(wait, timeout)

    @staticmethod
    def call(callback: Callable[..., object], *args: object) -> None:
        """Call, and report on standard error whatever is raised: the way the loop itself calls."""
        try:
            callback(*args)
        except Exception:  # noqa: BLE001 - see the class's docstring
            sys.excepthook(*sys.exc_info())
