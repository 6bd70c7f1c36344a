"""The task API's own standard streams: FIFOs (or files) that a containerd client names in Create and Exec.

Like containerd's shims we hold both ends of a FIFO, so that a client may come, go and come back: while nobody reads,
the FIFO fills up and then holds the process back. Source: containerd docs/runtime-v2.md, "Logging" and "IO".
"""

from __future__ import annotations

import os
import stat

from ...base import errors
from ...base.ttrpc import task_v2
from ...base.ttrpc.loop import GONE, READ, WRITE
from . import stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.ttrpc.loop import Loop
    from .exitfile import Exited
    from .stdio import Stdio


def attach(loop: Loop, streams: Stdio, stdin: str, stdout: str, stderr: str) -> list[Callable[[], object]]:
    """Connect a process's streams with paths (empty: none). Returns what closes them again.

    Raises Unimplemented for a log URI other than file://, NotFound and PermissionDenied as open(2) says.
    """
    closers: list[Callable[[], object]] = []
    try:
        for stream, path in ((stdio.STDOUT, stdout), (stdio.STDERR, stderr)):
            if path and path != task_v2.ATTACHED:
                sink = Sink(loop, streams, stream, _open(path, os.O_RDWR))
                streams.add(sink)
                closers.append(sink.close)
        if stdin and stdin != task_v2.ATTACHED:
            closers.append(Source(loop, streams, _open(stdin, os.O_RDONLY)).close)
    except BaseException:
        for close in closers:
            close()
        raise
    return closers


def end_input(closers: list[Callable[[], object]]) -> bool:
    """CloseIO: end the input that `attach` (which gave `closers`) connected, after what its FIFO holds by now.

    False when there is none.
    """
    found = False
    for close in closers:
        source = getattr(close, "__self__", None)
        if isinstance(source, Source):
            source.finish()
            found = True
    return found


def _open(name: str, access: int) -> int:
    path = name
    if "://" in name:
        scheme, _, path = name.partition("://")
        if scheme not in ("file", "fifo") or not path.startswith("/"):
            raise errors.Unimplemented(f"standard stream {name}: only paths, fifo:// and file:// are served here")
        if scheme == "file":
            return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        return os.open(path, access | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise errors.from_os(error, f"cannot open standard stream {name}") from error


class Sink:
    """An outlet that writes one stream to a descriptor."""

    def __init__(self, loop: Loop, streams: Stdio, stream: int, fd: int) -> None:
        self._loop = loop
        self._streams = streams
        self._stream = stream
        self._fd = fd
        self._out = bytearray()
        self._watched = False
        self._finishing = False

    @property
    def backlog(self) -> int:
        return len(self._out)

    def put(self, stream: int, data: bytes) -> None:
        if stream == self._stream:
            self._out += data
            if not self._watched:
                self._flush()

    def finish(self, exited: Exited | None) -> None:
        self._finishing = True
        if not self._out:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._out.clear()
            self._streams.remove(self)

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: os.write(self._fd, self._out[: stdio.READ_BYTES])]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if not self._out and self._finishing:
            self.close()
            return
        if bool(self._out) != self._watched:
            self._watched = not self._watched
            if self._watched:
                self._loop.watch(self._fd, WRITE, lambda _: self._flush())
            else:
                self._loop.forget(self._fd)
        self._streams.taken()


class Source:
    """Copies a FIFO to the process's input. Its end is told by CloseIO, not by a writer that goes."""

    def __init__(self, loop: Loop, streams: Stdio, fd: int) -> None:
        self._loop = loop
        self._streams = streams
        self._fd = fd
        # The second end keeps the FIFO open between two writers. A file has an end of its own.
        self._keeper = -1
        self._finishing = False
        self._waits_for_room = False
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            self._keeper = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            loop.watch(fd, READ, self._ready)
        else:
            loop.after(0, lambda: self._ready(READ))

    def finish(self) -> None:
        """No more will be written: end the process's input when the FIFO is empty."""
        self._finishing = True
        self._look_again()

    def _look_again(self) -> None:
        if self._finishing and self._keeper >= 0:
            self._loop.after(0, lambda: self._ready(READ))

    def close(self) -> None:
        for fd in (self._fd, self._keeper):
            if fd >= 0:
                self._loop.forget(fd)
                os.close(fd)
        self._fd = self._keeper = -1

    def _ready(self, events: int) -> None:
        if self._fd < 0 or self._waits_for_room:
            return
        try:
            data = os.read(self._fd, stdio.READ_BYTES)
        except BlockingIOError:
            if self._finishing:
                self._streams.end_input()
                self.close()
            return
        except OSError:
            data = b""
        if not data:
            if self._keeper < 0 or events & GONE:
                self._streams.end_input()
                self.close()
            return
        room = self._streams.feed(data)
        if self._keeper < 0:
            again = lambda: self._ready(READ)  # noqa: E731 - a file is always readable: it is read piece by piece
            if room:
                self._loop.after(0, again)
            else:
                self._streams.on_room(again)
        elif not room:
            self._waits_for_room = True
            self._loop.forget(self._fd)
            self._streams.on_room(self._again)
        else:
            self._look_again()

    def _again(self) -> None:
        self._waits_for_room = False
        if self._fd >= 0:
            self._loop.watch(self._fd, READ, self._ready)
            self._look_again()
