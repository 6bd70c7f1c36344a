"""Unix stream sockets by path, of any length: the kernel takes 107 bytes, a descriptor's name in /proc any path.

May import only `os` and `_socket`: `run` comes through here.
"""

from __future__ import annotations

import _socket
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_PATH_BYTES = 107


def connect(path: str) -> _socket.socket:
    """A blocking stream socket connected to `path` (an abstract one begins with a NUL). Raises OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        with_short_name(path, sock.connect)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(path: str, backlog: int = 128) -> _socket.socket:
    """A listening socket at `path`, mode 0600. A stale socket there must be gone (EADDRINUSE). Raises OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        os.fchmod(sock.fileno(), 0o600)  # bind(2) gives the name the socket's mode, so it is never open to others
        with_short_name(path, sock.bind)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def accept(listener: _socket.socket) -> _socket.socket:
    """The next connection, non-blocking. Raises BlockingIOError when there is none."""
    fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.accept itself calls
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
    sock.setblocking(False)
    return sock


def with_short_name(path: str, use: Callable[[str], object]) -> None:
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        use(path)
        return
    directory, name = os.path.split(path)
    fd = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)
