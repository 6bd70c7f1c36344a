"""Several tasks at once in threads: the first error cancels the rest and is the one that is raised."""

from __future__ import annotations

import threading

from ...base import errors
from ...base.cancel import Cancel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    T = TypeVar("T")


def run_all(tasks: Sequence[Callable[[Cancel], T]], at_once: int, cancel: Cancel) -> list[T]:
    """Run the tasks, at most `at_once` at a time, in order of start; returns their results in that order.

    Each gets a token that is cancelled when the caller's is or when another task fails. Returns or raises only when
    every thread has ended. One task is run in the caller's thread.
    """
    if not tasks:
        return []
    if len(tasks) == 1:
        return [tasks[0](cancel)]
    inner = Cancel(cancel.remaining())
    results: dict[int, T] = {}
    failures: list[BaseException] = []
    guard = threading.Lock()
    pending = iter(enumerate(tasks))

    def work() -> None:
        while True:
            with guard:
                if failures:
                    return
                following = next(pending, None)
            if following is None:
                return
            index, task = following
            try:
                inner.check()
                results[index] = task(inner)
            except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
                with guard:
                    failures.append(error)
                inner.cancel("another part of this transfer failed")
                return

    threads = [
        threading.Thread(target=work, name=f"transfer-{n}", daemon=True) for n in range(min(at_once, len(tasks)))
    ]
    with cancel.closing(lambda: inner.cancel("cancelled")):
        started: list[threading.Thread] = []
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
            for thread in started:
                while thread.is_alive():
                    thread.join(0.2)  # a join without a bound would not let Ctrl-C through
        except BaseException:
            inner.cancel("interrupted")
            for thread in started:
                thread.join()
            raise
    cancel.check()
    if failures:
        raise next((f for f in failures if not isinstance(f, errors.Cancelled)), failures[0])
    return [results[index] for index in range(len(tasks))]
