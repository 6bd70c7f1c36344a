"""Cancellation and deadlines: one small object, handed down, checked at each wait (DESIGN §1.5).

A blocking verb takes `cancel: Cancel = NEVER`. It calls `check()` between steps, bounds its waits by `remaining()`,
and registers what a cancellation must close (`closing(sock.close)`) so that a wait in another thread ends at once.
"""

from __future__ import annotations

import time

from . import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Cancel:
    """A cancellation token with an optional deadline; safe to use from any thread.

    timeout: seconds from now, or None for no deadline.
    """

    __slots__ = ("_closers", "_deadline", "_reason")

    def __init__(self, timeout: float | None = None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._reason: str | None = None
        self._closers: dict[int, Callable[[], object]] = {}

    def cancel(self, reason: str = "cancelled") -> None:
        """Cancel: every registered closer is called (its errors are ignored: the thing is being given up)."""
        if self._reason is not None:
            return
        self._reason = reason
        for closer in list(self._closers.values()):
            try:
                closer()
            except Exception:  # noqa: BLE001, S110 - a closer's failure must not hide the cancellation
                pass

    @property
    def cancelled(self) -> bool:
        return self._reason is not None or (self._deadline is not None and time.monotonic() >= self._deadline)

    def check(self) -> None:
        """Raise Cancelled or DeadlineExceeded when it is time to stop."""
        if self._reason is not None:
            raise errors.Cancelled(self._reason)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise errors.DeadlineExceeded("deadline exceeded")

    def remaining(self, at_most: float | None = None) -> float | None:
        """Seconds a wait may still take (never below 0), or None for as long as it likes."""
        if self._deadline is None:
            return at_most
        left = max(0.0, self._deadline - time.monotonic())
        return left if at_most is None else min(left, at_most)

    def closing(self, closer: Callable[[], object]) -> _Closing:
        """A context in which `closer` is called if the token is cancelled."""
        return _Closing(self, closer)


class _Closing:
    __slots__ = ("_cancel", "_closer")

    def __init__(self, cancel: Cancel, closer: Callable[[], object]) -> None:
        self._cancel = cancel
        self._closer = closer

    def __enter__(self) -> None:
        self._cancel._closers[id(self)] = self._closer
        try:
            self._cancel.check()
        except errors.OrlopError:
            self._cancel._closers.pop(id(self), None)
            raise

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._cancel._closers.pop(id(self), None)


NEVER = Cancel()
"""The token that nobody cancels."""
