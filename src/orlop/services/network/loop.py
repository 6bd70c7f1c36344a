"""A small epoll loop for the helper process: edge-triggered watches, work to go on with, timers. One thread."""

from __future__ import annotations

import select
import sys
import time
import traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# By number: <sys/epoll.h>; the module must import on systems that have no epoll.
IN, OUT = 0x001, 0x004
_EDGES = IN | OUT | 0x2000 | 1 << 31  # with EPOLLRDHUP and EPOLLET
_TICK_S = 0.25


class Loop:
    """Calls `handler(events)` for every watched descriptor. A handler's failure is logged and stops nobody else."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], object]] = {}
        self._again: dict[int, Callable[[int], object]] = {}
        self._timers: list[tuple[float, Callable[[], object]]] = []
        self.now = time.monotonic()

    def watch(self, fd: int, handler: Callable[[int], object], *, edges: bool = False) -> None:
        """edges: told once when it becomes readable or writable, until it has been exhausted; else while readable."""
        self._handlers[fd] = handler
        self._epoll.register(fd, _EDGES if edges else IN)

    def unwatch(self, fd: int) -> None:
        """Before the descriptor is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)
        self._again.pop(fd, None)

    def again(self, fd: int) -> None:
        """Call the handler of a watched descriptor in the next turn too: it has let others go first."""
        handler = self._handlers.get(fd)
        if handler is not None:
            self._again[fd] = handler

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call once, about so many seconds from now."""
        self._timers.append((self.now + seconds, call))

    def turn(self, at_most_s: float) -> None:
        """Wait for what comes next, at most so many seconds, and handle it."""
        wait = 0.0 if self._again else min(at_most_s, _TICK_S) if self._timers else at_most_s
        try:
            ready = self._epoll.poll(wait, 256)
        except InterruptedError:
            ready = []
        self.now = time.monotonic()
        again, self._again = self._again, {}
        for fd, events in ready:
            again.pop(fd, None)
            self._call(fd, events)
        for fd, handler in again.items():
            if self._handlers.get(fd) is handler:
                self._call(fd, IN | OUT)
        if self._timers:
            due = [call for when, call in self._timers if when <= self.now]
            self._timers = [timer for timer in self._timers if timer[0] > self.now]
            for call in due:
                self._guard(call)

    def _call(self, fd: int, events: int) -> None:
        handler = self._handlers.get(fd)
        if handler is None:
            return  # closed by a handler before it in this turn
        try:
            handler(events)
        except Exception:  # noqa: BLE001
            traceback.print_exc(file=sys.stderr)

    def _guard(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001
            traceback.print_exc(file=sys.stderr)
