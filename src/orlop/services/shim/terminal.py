"""A process's standard streams when they are a terminal: one descriptor, the master of a pseudo-terminal.

The OCI runtime makes the pseudo-terminal inside the container and hands its master over a "console socket" (runc
docs/terminals.md). All that comes from it is standard output. Input never ends: ^D is the user's to type. May import
only the interpreter's cheap modules.
"""

from __future__ import annotations

import os

from ...base import errors
from ...base.kernel import terminal
from ...base.ttrpc import unixsock
from ...base.ttrpc.loop import READ
from . import exitfile, stdio
from .stdio import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from ...base.ttrpc.loop import Loop
    from .jsonlog import JsonLog

_MAX_PATH_BYTES = 107
_EDGE = 1 << 31
"""EPOLLET"""


class Terminal(Stdio):
    """The streams of one process with a terminal. wants_stdin: whether input reaches it. log: as for Stdio.

    path: where the console socket is made.
    """

    terminal = True
    _errors_come_on = stdio.STDOUT

    def __init__(self, loop: Loop, wants_stdin: bool, log: JsonLog | None, path: str) -> None:
        super().__init__(loop, wants_stdin, log)
        self._path = path
        self._directory = -1
        self._listener: _socket.socket | None = None
        self._sender: _socket.socket | None = None
        self._master = -1
        self._size: tuple[int, int] | None = None
        self.user = 0
        """Whom the terminal is given to: crun 1.8 leaves that of an exec with root."""
        self._resting = False

    # -- the console socket

    def listen(self) -> str:
        """Make the console socket; returns the name under which the runtime finds it."""
        exitfile.unlink_quietly(self._path)
        self._listener = unixsock.listen(self._path, 1)
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), READ, lambda _: self._take_master())
        if len(os.fsencode(self._path)) <= _MAX_PATH_BYTES:
            return self._path
        directory, name = os.path.split(self._path)
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/{os.getpid()}/fd/{self._directory}/{name}"

    def received(self) -> bool:
        """The runtime has come to its end: whether it has handed the terminal over. The socket goes either way."""
        self._take_master()
        self._close_socket()
        return self._master >= 0

    def _take_master(self) -> None:
        """Take the next step that is possible without waiting: the connection, then the terminal."""
        try:
            if self._sender is None and self._listener is not None:
                self._sender = unixsock.accept(self._listener)
                self._loop.forget(self._listener.fileno())
                self._loop.watch(self._sender.fileno(), READ, lambda _: self._take_master())
            if self._sender is None or self._master >= 0:
                return
            master = terminal.receive(self._sender)
        except BlockingIOError:
            return
        except (OSError, errors.InvalidArgument):
            master = -1
        if self._sender is not None:
            self._loop.forget(self._sender.fileno())
        if master < 0:
            return
        os.set_blocking(master, False)
        self._master = master
        self._outputs[master] = stdio.STDOUT
        if self._wants_stdin:
            self._stdin = os.dup(master)  # epoll takes a descriptor once: this one is for writing
        if self._size is not None:
            self._apply_size()
        try:
            terminal.give(master, self.user)
        except OSError:
            pass  # it cannot open its terminal by name, and else misses nothing

    def _close_socket(self) -> None:
        for sock in (self._sender, self._listener):
            if sock is not None:
                self._loop.forget(sock.fileno())
                sock.close()
        if self._listener is not None:
            exitfile.unlink_quietly(self._path)
        self._sender = self._listener = None
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    # -- size

    def resize(self, columns: int, rows: int) -> None:
        if not (0 <= columns <= terminal.MAX_SIZE and 0 <= rows <= terminal.MAX_SIZE):
            raise errors.InvalidArgument(f"a terminal cannot have {columns} columns and {rows} rows")
        self._size = (columns, rows)
        if self._master in self._outputs:
            self._apply_size()

    def _apply_size(self) -> None:
        if self._size is None:
            return
        try:
            terminal.set_size(self._master, *self._size)
        except OSError:
            pass  # nobody has it open any more: nobody misses its size

    # -- as streams

    def feed(self, data: bytes) -> bool:
        if self._wants_stdin and self._master < 0:
            self._stdin_waiting += data  # typed ahead of the start
            return len(self._stdin_waiting) < stdio.STDIN_BYTES
        return super().feed(data)

    def end_input(self) -> None:
        """A terminal has no end of input."""

    def close(self) -> None:
        self._close_socket()
        super().close()

    def _take(self, fd: int) -> bytes | None:
        try:
            data = super()._take(fd)
        except OSError:  # EIO: no process has it open
            if self._ended:
                return b""
            self._rest(fd)
            return None
        if self._resting:
            self._resting = False
            self._watch_outputs()
        return data

    def _rest(self, fd: int) -> None:
        """All have closed it, but the process lives and may open it again (an init its console, say).

        A terminal that nobody has open wakes us for ever, so only changes are watched for now.
        """
        if not self._resting:
            self._resting = True
            self._loop.forget(fd)
            self._loop.watch(fd, READ | _EDGE, lambda _: self._readable(fd))

    def _reader_gone(self) -> None:
        self._stdin_waiting.clear()
        self._unwatch_stdin()
        self._tell_room()
