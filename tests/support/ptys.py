"""A person at a terminal, for tests: a command line on a pseudo-terminal of its own, keys typed, screen read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

TIMEOUT_S = 30.0


class Person:
    """A command on a terminal. `screen` is all it has shown."""

    def __init__(self, argv: list[str], env: dict[str, str], columns: int = 80, rows: int = 24) -> None:
        self.master, self.slave = os.openpty()
        self.resize(columns, rows, tell=False)
        self.before = self.attributes()
        self.screen = b""
        self._seen = 0
        self.process = subprocess.Popen(
            argv, env=env, stdin=self.slave, stdout=self.slave, stderr=self.slave, preexec_fn=_become_leader
        )

    def attributes(self) -> list[Any]:
        return termios.tcgetattr(self.slave)

    @property
    def is_raw(self) -> bool:
        return not self.attributes()[3] & termios.ICANON

    def resize(self, columns: int, rows: int, tell: bool = True) -> None:
        """As a terminal emulator does: the kernel sends SIGWINCH to the foreground."""
        termios.tcsetwinsize(self.master, (rows, columns))

    def type(self, keys: bytes) -> None:
        view = memoryview(keys)
        while view:
            view = view[os.write(self.master, view[:1024]) :]

    def sees(self, pattern: bytes) -> bytes:
        """Wait until the pattern shows on what has not been seen yet; returns it."""
        end = time.monotonic() + TIMEOUT_S
        while True:
            match = re.search(pattern, self.screen[self._seen :], re.DOTALL)
            if match:
                self._seen += match.end()
                return match.group()
            if time.monotonic() > end or (not self._look(0.05) and self.process.poll() is not None):
                if re.search(pattern, self.screen[self._seen :], re.DOTALL):
                    continue
                raise AssertionError(f"{pattern!r} never showed; the screen: {self.screen[-2000:]!r}")

    def wait(self) -> int:
        """Wait for its end, reading; returns its exit code."""
        end = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None:
            self._look(0.02)
            assert time.monotonic() < end, f"it does not end; the screen: {self.screen[-2000:]!r}"
        while self._look(0):
            pass
        return self.process.returncode

    def _look(self, timeout: float) -> bool:
        if not select.select([self.master], [], [], timeout)[0]:
            return False
        self.screen += os.read(self.master, 1 << 16)
        return True

    def until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            self._look(0.01)
            assert time.monotonic() < end, f"never came: {what}"

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@contextlib.contextmanager
def person(argv: list[str], env: dict[str, str], columns: int = 80, rows: int = 24) -> Iterator[Person]:
    one = Person(argv, env, columns, rows)
    try:
        yield one
    finally:
        one.close()


def _become_leader() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
