"""A process's standard streams: pipes in, log and listeners out, nothing lost and nothing reordered.

What the process writes goes to its log and to every outlet (an attached client, a FIFO) in the order it came. An
outlet that does not take its bytes holds the pipes back, as Docker does: a foreground run loses nothing. One that has
gone is dropped. May import only the interpreter's cheap modules.
"""

from __future__ import annotations

import os

from ...base import errors
from ...base.ttrpc.loop import GONE, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from ...base.ttrpc.loop import Loop
    from .exitfile import Exited
    from .jsonlog import JsonLog

    class Outlet(Protocol):
        """Who is given a copy of the output."""

        @property
        def backlog(self) -> int: ...
        def put(self, stream: int, data: bytes) -> None: ...
        def finish(self, exited: Exited | None) -> None: ...


STDIN, STDOUT, STDERR = 0, 1, 2
NAMES = ("stdin", "stdout", "stderr")

READ_BYTES = 64 << 10
HIGH_BYTES = 256 << 10
"""An outlet with so much waiting holds the process's pipes back, until it is below half of it."""
STDIN_BYTES = 64 << 10
"""Input that may wait for the process; more stays with who sends it."""
GRACE_S = 0.3
"""After the process has ended and its pipes are empty: how long a descendant that holds them may still write."""
CAP_S = 2.0
"""After the process has ended: how long its end may wait for the output to be taken."""
_KEPT_BYTES = 1024
_DRAIN_ROUNDS = 32


class Stdio:
    """The standard streams of one process.

    wants_stdin: whether it gets a pipe (else /dev/null). log: where its output is kept, or None.
    """

    terminal = False
    """Whether the streams are a terminal (services.shim.terminal)."""
    _errors_come_on = STDERR

    def __init__(self, loop: Loop, wants_stdin: bool, log: JsonLog | None = None) -> None:
        self._loop = loop
        self._wants_stdin = wants_stdin
        self._log = log
        self._outlets: list[Outlet] = []
        self._child_ends: list[int] = []
        self._outputs: dict[int, int] = {}
        self._held_back = False
        self._begun = False
        self._stdin = -1
        self._stdin_waiting = bytearray()
        self._stdin_watched = False
        self._stdin_closing = False
        self._stdin_room: list[Callable[[], object]] = []
        self._drained: Callable[[], object] | None = None
        self._ended = False
        self._dry = False
        self._complete = False
        self._overdue = False
        self._final: Exited | None = None
        self.first_bytes: bytes | None = b""
        """All that was written, while it is little and where errors are written to; else None."""

    # -- the process's ends

    def open(self) -> tuple[int, int, int]:
        """Make the pipes; returns the descriptors for the process. They are open until `begin` or `close`."""
        if self._wants_stdin:
            theirs, self._stdin = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._stdin, False)
        else:
            theirs = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._child_ends.append(theirs)
        for stream in (STDOUT, STDERR):
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(ours, False)
            self._outputs[ours] = stream
            self._child_ends.append(theirs)
        return self._child_ends[0], self._child_ends[1], self._child_ends[2]

    def begin(self) -> None:
        """The process has its ends: let go of them and start to copy."""
        self._begun = True
        self._close_child_ends()
        self._watch_outputs()
        if self._stdin_waiting or self._stdin_closing:
            self._write_stdin()

    def leftovers(self) -> bytes:
        """What a process that never came to be has left on standard error; before `begin`."""
        for fd, stream in self._outputs.items():
            if stream == STDERR:
                try:
                    return os.read(fd, READ_BYTES)
                except BlockingIOError:
                    return b""
        return b""

    def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size, now or when there is one. FailedPrecondition when there will be none."""
        raise errors.FailedPrecondition("the process has no terminal")

    def close(self) -> None:
        """Close everything; what is in the pipes is still copied, and outlets are told that this was all."""
        self._close_child_ends()
        for _ in range(_DRAIN_ROUNDS):
            if not self._read_all():
                break
        self._held_back = False
        self._tell_outlets()
        for fd in list(self._outputs):
            self._close_output(fd)
        self._close_stdin()
        self._drained = None

    # -- output

    def add(self, outlet: Outlet) -> None:
        """Give a copy of everything from now on to `outlet`."""
        self._outlets.append(outlet)

    def remove(self, outlet: Outlet) -> None:
        if outlet in self._outlets:
            self._outlets.remove(outlet)
            self.taken()

    def taken(self) -> None:
        """An outlet has got rid of something: go on reading when all are low."""
        if self._held_back and all(outlet.backlog < HIGH_BYTES // 2 for outlet in self._outlets):
            self._held_back = False
            self._watch_outputs()
            if self._ended:
                self._drain()

    def drain(self, drained: Callable[[], object]) -> None:
        """The process has ended: call `drained` when what it wrote has been copied.

        That is at the end of both pipes; or, when a descendant keeps one open, shortly after they are empty; or after
        CAP_S when an outlet does not take what there is.
        """
        self._ended = True
        self._drained = drained
        self._loop.after(CAP_S, self._late)
        self._drain()

    def finish(self, exited: Exited | None) -> None:
        """Tell every outlet that this was all: at once, or when one that is slow has been given the rest."""
        self._final = exited
        self._ended = True
        if self._complete or not self._held_back:
            self._tell_outlets()

    def _drain(self) -> None:
        for _ in range(_DRAIN_ROUNDS):  # a descendant may write for ever
            if self._held_back or not self._read_all():
                break
        else:
            if not self._overdue:
                return
        if not self._outputs or (self._overdue and not self._held_back):
            self._completed()
        elif not self._held_back and not self._dry:
            self._dry = True
            self._loop.after(GRACE_S, self._completed)

    def _late(self) -> None:
        self._overdue = True
        self._done()

    def _completed(self) -> None:
        self._complete = True
        self._done()
        if self._final is not None:
            self._tell_outlets()

    def _done(self) -> None:
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained()

    def _tell_outlets(self) -> None:
        outlets, self._outlets = self._outlets, []
        for outlet in outlets:
            outlet.finish(self._final)
        self.taken()

    def _readable(self, fd: int) -> None:
        self._read(fd)
        if self._ended and not self._complete:
            self._drain()

    def _read_all(self) -> bool:
        """Copy one piece of each pipe. False when there was none."""
        return bool(sum(self._read(fd) for fd in list(self._outputs)))

    def _read(self, fd: int) -> bool:
        """Copy one piece. False when there was none."""
        stream = self._outputs.get(fd)
        if stream is None:
            return False
        data = self._take(fd)
        if data is None:
            return False
        if not data:
            self._close_output(fd)
            return True
        self._keep_first(stream, data)
        if self._log is not None:
            self._log.write(NAMES[stream], data)
        for outlet in list(self._outlets):
            outlet.put(stream, data)
        if any(outlet.backlog >= HIGH_BYTES for outlet in self._outlets):
            self._hold_back()
        return True

    def _take(self, fd: int) -> bytes | None:
        """What can be read: b"" at the end, None when there is nothing now."""
        try:
            return os.read(fd, READ_BYTES)
        except BlockingIOError:
            return None

    def _watch_outputs(self) -> None:
        for fd in self._outputs:
            self._loop.forget(fd)
            self._loop.watch(fd, READ, lambda _, fd=fd: self._readable(fd))  # type: ignore[misc]

    def _hold_back(self) -> None:
        if not self._held_back:
            self._held_back = True
            # Not watched at all: a pipe whose writer has gone would wake us for ever.
            for fd in self._outputs:
                self._loop.forget(fd)

    def _keep_first(self, stream: int, data: bytes) -> None:
        if self.first_bytes is None:
            return
        kept = self.first_bytes + data
        self.first_bytes = kept if stream == self._errors_come_on and len(kept) <= _KEPT_BYTES else None

    def _close_output(self, fd: int) -> None:
        stream = self._outputs.pop(fd)
        self._loop.forget(fd)
        os.close(fd)
        if self._log is not None:
            self._log.end(NAMES[stream])

    def _close_child_ends(self) -> None:
        for fd in self._child_ends:
            os.close(fd)
        self._child_ends.clear()

    # -- input

    def feed(self, data: bytes) -> bool:
        """Give input to the process. False when enough waits: send the rest after `on_room` has called."""
        early = self._wants_stdin and not self._begun  # input of an exec that is not started yet
        if (self._stdin >= 0 or early) and not self._stdin_closing:
            self._stdin_waiting += data
            if not self._child_ends and not early:
                self._write_stdin()
        return len(self._stdin_waiting) < STDIN_BYTES

    def on_room(self, call: Callable[[], object]) -> None:
        """Call once when there is room for input again."""
        self._stdin_room.append(call)

    def end_input(self) -> None:
        """End of input, after what waits has been taken. Twice is fine."""
        self._stdin_closing = True
        if not self._stdin_waiting and not self._child_ends:
            self._close_stdin()

    def _write_stdin(self) -> None:
        try:
            while self._stdin_waiting:
                del self._stdin_waiting[: os.write(self._stdin, self._stdin_waiting[:READ_BYTES])]
        except BlockingIOError:
            pass
        except OSError:  # it reads no more: the rest has no reader
            self._reader_gone()
            return
        if not self._stdin_waiting and self._stdin_closing:
            self._close_stdin()
            return
        if bool(self._stdin_waiting) != self._stdin_watched:
            self._stdin_watched = not self._stdin_watched
            if self._stdin_watched:
                self._loop.watch(self._stdin, WRITE, self._stdin_ready)
            else:
                self._loop.forget(self._stdin)
        self._tell_room()

    def _stdin_ready(self, events: int) -> None:
        if events & GONE and not events & WRITE:
            self._reader_gone()
        else:
            self._write_stdin()

    def _reader_gone(self) -> None:
        self._close_stdin()

    def _unwatch_stdin(self) -> None:
        if self._stdin_watched:
            self._stdin_watched = False
            self._loop.forget(self._stdin)

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            self._loop.forget(self._stdin)
            os.close(self._stdin)
            self._stdin = -1
        self._stdin_watched = False
        self._stdin_waiting.clear()
        self._tell_room()

    def _tell_room(self) -> None:
        if len(self._stdin_waiting) < STDIN_BYTES and self._stdin_room:
            waiting, self._stdin_room = self._stdin_room, []
            for call in waiting:
                self._loop.after(0, call)
