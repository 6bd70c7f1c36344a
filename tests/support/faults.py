"""Crashes on purpose: a child process that is killed at the n-th fault point it passes (src/orlop/base/faults.py)."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orlop.base import faults


def points(work: Callable[[], object]) -> list[str]:
    """The fault points that `work` passes, in order, when nothing goes wrong. It runs in a child process."""
    reader, writer = os.pipe()

    def record(name: str) -> None:
        os.write(writer, f"{name}\n".encode())

    status = _in_child(work, record)
    os.close(writer)
    with os.fdopen(reader) as file:
        names = file.read().split()
    if status != 0:
        raise AssertionError(f"the work failed with status {status} after {names[-1:]}")
    return names


def killed_at(work: Callable[[], object], index: int) -> None:
    """Run `work` in a child process that kills itself (SIGKILL) at the index-th point it passes, counted from 0."""
    passed = 0

    def count(_: str) -> None:
        nonlocal passed
        if passed == index:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    status = _in_child(work, count)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        raise AssertionError(f"the child was not killed at point {index}: status {status}")


@contextmanager
def failing_at(name: str, error: BaseException, times: int = 1) -> Iterator[None]:
    """Have the point `name` raise `error` the first `times` times, in this process."""
    left = times

    def fail(passed: str) -> None:
        nonlocal left
        if passed == name and left:
            left -= 1
            raise error

    faults.hook = fail
    try:
        yield
    finally:
        faults.hook = None
    if left:
        raise AssertionError(f"the point {name} was passed {times - left} times only")


def start(work: Callable[[], object], log: str) -> int:
    """Run `work` in a child process and return its id at once; what it raises is written to the file `log`."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            with open(log, "w") as file:
                traceback.print_exc(file=file)
        finally:
            os._exit(code)
    return pid


def _in_child(work: Callable[[], object], hook: Callable[[str], object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            faults.hook = hook
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]
