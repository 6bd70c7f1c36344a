"""Carries TCP connections of a published port to its container, bytes moved by the kernel (splice(2)), not by Python.

Each direction has a pipe while it has bytes; half-closes are passed on; a reset of one side resets the other. A
connection the container refuses is reset.
"""

from __future__ import annotations

import _socket
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .loop import Loop

PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_ROUNDS = 8
"""How many times one direction is moved on before other connections have their turn."""
_ACCEPTS = 64
_PAUSE_S = 0.2
_SPARE_PIPES = 16
_RESET = b"\x01\0\0\0\0\0\0\0"  # struct linger: on, 0 seconds
_FLAGS = getattr(os, "SPLICE_F_NONBLOCK", 2) | getattr(os, "SPLICE_F_MOVE", 1)

_spare: list[tuple[int, int, int]] = []


def _pipe() -> tuple[int, int, int]:
    """(read end, write end, capacity in bytes) of an empty pipe."""
    if _spare:
        return _spare.pop()
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    import fcntl

    try:
        size = fcntl.fcntl(writer, _F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        size = 65536  # the user's share of pipe memory is used up: the usual size will do
    return reader, writer, size


class _Way:
    """One direction of a connection: from a socket, through a pipe, to a socket."""

    __slots__ = ("ended", "held", "pipe", "shut", "source", "target")

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.pipe: tuple[int, int, int] | None = None
        self.held = 0
        self.ended = False
        self.shut = False

    def move(self) -> bool:
        """Move what can be moved; True when there may be more at once. Raises OSError when a side is broken."""
        for _ in range(_ROUNDS):
            moved = False
            if not self.ended:
                if self.pipe is None:
                    self.pipe = _pipe()
                if self.held < self.pipe[2]:
                    try:
                        count = os.splice(self.source, self.pipe[1], self.pipe[2], flags=_FLAGS)
                    except BlockingIOError:  # nothing has come, or the pipe has no slot left
                        pass
                    else:
                        self.ended = count == 0
                        self.held += count
                        moved = True
            if self.held and self.pipe is not None:
                try:
                    count = os.splice(self.pipe[0], self.target, self.held, flags=_FLAGS)
                except BlockingIOError:
                    return False
                self.held -= count
                moved = True
            if not moved:
                break
            if self.ended and not self.held:
                break
        else:
            return True
        if not self.held:
            self.give_back()
        return False

    def give_back(self) -> None:
        """Let the pipe go; one that is empty serves another connection."""
        if self.pipe is None:
            return
        if not self.held and len(_spare) < _SPARE_PIPES:
            _spare.append(self.pipe)
        else:
            os.close(self.pipe[0])
            os.close(self.pipe[1])
        self.pipe = None


class _Connection:
    """A client's connection and the one to the container."""

    __slots__ = ("_back", "_client", "_connected", "_port", "_server", "_there")

    def __init__(self, port: TcpPort, client: _socket.socket) -> None:
        self._port = port
        self._client = client
        self._server = _socket.socket(
            _socket.AF_INET6 if ":" in port.address else _socket.AF_INET,
            _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK,
        )
        self._connected = False
        self._there = _Way(client.fileno(), self._server.fileno())
        self._back = _Way(self._server.fileno(), client.fileno())
        loop = port.loop
        try:
            for sock in (client, self._server):
                sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
            number = self._server.connect_ex((port.address, port.port))
        except OSError as error:
            number = error.errno or errno.EIO
        if number not in (0, errno.EINPROGRESS):
            self._client.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
            self._client.close()
            self._server.close()
            return
        port.connections.add(self)
        loop.watch(self._server.fileno(), self._on_server, edges=True)
        loop.watch(self._client.fileno(), self._on_client, edges=True)

    def _on_client(self, events: int) -> None:
        if self._connected or self._connect():
            self._move(self._there, self._back)

    def _on_server(self, events: int) -> None:
        if self._connected:
            self._move(self._back, self._there)
        elif self._connect():
            self._move(self._there, self._back)  # what the client said meanwhile
            if self in self._port.connections:
                self._move(self._back, self._there)

    def _connect(self) -> bool:
        """Whether the container has accepted; one that has refused ends the connection."""
        if self._server.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
            self.close(reset=True)
            return False
        try:
            self._server.getpeername()
        except OSError:
            return False  # not yet
        self._connected = True
        return True

    def _move(self, way: _Way, other: _Way) -> None:
        """Move on the way whose source has an event, and the other one if it waited for this socket to take more."""
        try:
            self._move_one(way)
            if other.held:
                self._move_one(other)
        except OSError:
            self.close(reset=True)
            return
        if way.shut and other.shut:
            self.close()

    def _move_one(self, way: _Way) -> None:
        if way.move():
            self._port.loop.again(way.source)
        if way.ended and not way.held and not way.shut:
            way.shut = True
            (self._server if way is self._there else self._client).shutdown(_socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        self._port.connections.discard(self)
        for way in (self._there, self._back):
            way.give_back()
        for sock in (self._client, self._server):
            if sock.fileno() < 0:
                continue
            self._port.loop.unwatch(sock.fileno())
            if reset:
                try:
                    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
                except OSError:
                    pass
            sock.close()


class TcpPort:
    """A published TCP port: its listening socket, and where its connections go."""

    def __init__(self, loop: Loop, listener: _socket.socket, address: str, port: int) -> None:
        self.loop = loop
        self.address = address
        self.port = port
        self.connections: set[_Connection] = set()
        self._listener = listener
        loop.watch(listener.fileno(), self._accept)

    def _accept(self, events: int) -> None:
        for _ in range(_ACCEPTS):
            try:
                fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # what socket.accept itself calls
                client = _socket.socket(self._listener.family, _socket.SOCK_STREAM, 0, fd)
                client.setblocking(False)
                os.set_inheritable(fd, False)
                _Connection(self, client)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # Others wait in the backlog until connections have ended.
                    self.loop.unwatch(self._listener.fileno())
                    self.loop.later(_PAUSE_S, self._resume)
                    return
                # The client has gone before it was served.

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self.loop.watch(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening; connections end with the container."""
        if self._listener.fileno() >= 0:
            self.loop.unwatch(self._listener.fileno())
            self._listener.close()
        for connection in list(self.connections):
            connection.close(reset=True)
