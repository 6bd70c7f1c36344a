"""A bounded queue of buffers between two threads, read like a stream: it blocks, it fails on both ends."""

from __future__ import annotations

import threading
from collections import deque

from ...base import errors
from ...base.cancel import NEVER, Cancel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Pipe:
    """Bytes from one thread to another, at most `limit` of them waiting (more only for a single larger buffer).

    An end that gives up says why by `fail`; the other end's next call then raises that. `cancel` is looked at in every
    wait; who cancels must call `fail` too (a wait without a deadline sleeps until it is woken).
    """

    def __init__(self, limit: int, cancel: Cancel = NEVER) -> None:
        self._limit = limit
        self._cancel = cancel
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._closed = False
        self._failure: BaseException | None = None
        self._rest: memoryview = memoryview(b"")

    def write(self, data: bytes) -> None:
        """Hand over a buffer, which must not change any more; waits while the pipe is full. Raises what `fail` said."""
        with self._changed:
            self._wait(lambda: self._size < self._limit)
            if self._closed:
                raise errors.Internal("write to a closed pipe")
            if data:
                self._waiting.append(data)
                self._size += len(data)
                self._changed.notify()

    def close(self) -> None:
        """No more will be written."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        """Make every further call of either end raise `error` (the first one counts)."""
        with self._changed:
            if self._failure is None:
                self._failure = error
            self._waiting.clear()
            self._size = 0
            self._changed.notify_all()

    def read(self, n: int = -1) -> bytes:
        """1 to n bytes (a whole buffer for n < 0), b"" after the last. One reader only. Raises what `fail` said."""
        if not self._rest:
            with self._changed:
                self._wait(lambda: bool(self._waiting) or self._closed)
                if not self._waiting:
                    return b""
                data = self._waiting.popleft()
                self._size -= len(data)
                self._changed.notify()
            if n < 0 or len(data) <= n:
                return data
            self._rest = memoryview(data)
        piece = self._rest if n < 0 else self._rest[:n]
        self._rest = self._rest[len(piece) :]
        return bytes(piece)

    def _wait(self, ready: Callable[[], bool]) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            self._cancel.check()
            if ready():
                return
            self._changed.wait(self._cancel.remaining())
