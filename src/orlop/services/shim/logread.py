"""Reading a container's json-file logs: Docker's format, across rotation, from the end, and following.

Knows only files: who writes them is the monitor (`jsonlog.py`), and whether more will come is told by the caller.
"""

from __future__ import annotations

import os
import time

from ...base import errors, jsonio
from ...base.cancel import NEVER, Cancel
from ...base.record import Record
from ...base.times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 1 << 20
_POLL_S = 0.05


class Line(Record):
    """One record of the log. text: as written, with its line feed unless the line was cut (16 KiB) or unfinished."""

    stream: str
    time_ns: int
    text: str


def files(path: str) -> list[str]:
    """The log's files, oldest first: PATH.2, PATH.1, PATH (those that exist)."""
    found = []
    number = 1
    while os.path.exists(f"{path}.{number}"):
        found.append(f"{path}.{number}")
        number += 1
    found.reverse()
    if os.path.exists(path):
        found.append(path)
    return found


def read(
    path: str,
    *,
    tail: int = -1,
    since_ns: int = 0,
    until_ns: int = 0,
    follow: Callable[[], bool] | None = None,
    cancel: Cancel = NEVER,
) -> Iterator[Line]:
    """The log's lines in order.

    tail: only the last so many lines (-1: all). since_ns, until_ns: bounds of time, 0 for none. follow: asked when the
    end is reached; while it returns true, more is waited for. A half-written last record is waited for when following
    and passed over otherwise. NotFound when there is no log.
    """
    there = files(path)
    if not there and follow is None:
        raise errors.NotFound(f"there is no log at {path}")
    fds = [os.open(name, os.O_RDONLY | os.O_CLOEXEC) for name in there]
    try:
        first, offset = _tail_start(fds, tail) if tail >= 0 else (0, 0)
        for index in range(first, len(fds)):
            is_last = index == len(fds) - 1
            if is_last and follow is not None:
                break
            yield from _bounded(_records(fds[index], offset if index == first else 0), since_ns, until_ns)
        if follow is not None:
            start = offset if fds and first == len(fds) - 1 else 0
            fd = fds.pop() if fds else -1
            yield from _bounded(_follow(path, fd, start, follow, cancel), since_ns, until_ns)
    finally:
        for fd in fds:
            os.close(fd)


def _bounded(lines: Iterator[Line], since_ns: int, until_ns: int) -> Iterator[Line]:
    for line in lines:
        if since_ns and line.time_ns < since_ns:
            continue
        if until_ns and line.time_ns > until_ns:
            return
        yield line


def _parse(record: bytes) -> Line | None:
    try:
        value = jsonio.loads(record)
        return Line(value.get("stream", "stdout"), parse_time(value["time"]), value["log"])
    except (ValueError, KeyError, TypeError, AttributeError, errors.InvalidArgument):
        return None  # what a crash left half-written must not hide the rest


def _records(fd: int, offset: int) -> Iterator[Line]:
    rest = b""
    while True:
        block = os.pread(fd, _BLOCK, offset)
        if not block:
            return
        offset += len(block)
        *whole, rest = (rest + block).split(b"\n")
        for record in whole:
            line = _parse(record)
            if line is not None:
                yield line


def _follow(path: str, fd: int, offset: int, more: Callable[[], bool], cancel: Cancel) -> Iterator[Line]:
    rest = b""
    try:
        while True:
            goes_on = more()  # asked before the read: what was written before the end is then seen for sure
            if fd < 0:
                fd, offset, rest = _open_if_there(path), 0, b""
            block = os.pread(fd, _BLOCK, offset) if fd >= 0 else b""
            if block:
                offset += len(block)
                *whole, rest = (rest + block).split(b"\n")
                for record in whole:
                    line = _parse(record)
                    if line is not None:
                        yield line
                continue
            if fd >= 0 and _rotated(path, fd):
                os.close(fd)
                fd = -1
                continue
            if not goes_on:
                return
            cancel.check()
            time.sleep(cancel.remaining(_POLL_S) or 0)
    finally:
        if fd >= 0:
            os.close(fd)


def _open_if_there(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _rotated(path: str, fd: int) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _tail_start(fds: list[int], tail: int) -> tuple[int, int]:
    """(file index, offset) where the last `tail` lines begin: whole files are searched backwards for line feeds."""
    if not fds:
        return 0, 0
    if tail == 0:
        return len(fds) - 1, os.fstat(fds[-1]).st_size
    left = tail
    for index in range(len(fds) - 1, -1, -1):
        end = os.fstat(fds[index]).st_size
        position = end
        while position > 0:
            start = max(0, position - _BLOCK)
            block = os.pread(fds[index], position - start, start)
            at = len(block)
            while True:
                at = block.rfind(b'\\n"', 0, at)  # the end of a whole line's text: escaped line feed, closing quote
                if at < 0:
                    break
                if left == 0:
                    after = block.find(b"\n", at)
                    if after >= 0:
                        return index, start + after + 1
                    return index, _next_record(fds[index], start + at, end)
                left -= 1
            position = start
    return 0, 0


def _next_record(fd: int, offset: int, end: int) -> int:
    while offset < end:
        block = os.pread(fd, _BLOCK, offset)
        at = block.find(b"\n")
        if at >= 0:
            return offset + at + 1
        if not block:
            break
        offset += len(block)
    return end
