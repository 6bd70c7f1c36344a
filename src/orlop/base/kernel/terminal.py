"""Terminals: their size, raw mode, and taking a pseudo-terminal's master from another process's hands.

Sources: termios(3), ioctl_tty(2), unix(7). `termios` is loaded at first use: most containers have no terminal. May
import nothing but the interpreter's cheap modules and `errors`.
"""

from __future__ import annotations

import os
import sys

from .. import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

MAX_SIZE = 0xFFFF
"""Columns and rows are unsigned shorts in struct winsize."""

_SOL_SOCKET, _SCM_RIGHTS = 1, 1
_MSG_CMSG_CLOEXEC = 0x40000000
_TIOCGPTPEER = 0x5441
_FD_BYTES = 4
_NAME_BYTES = 4096


def size(fd: int) -> tuple[int, int] | None:
    """(columns, rows) of the terminal behind `fd`; None when it is not a terminal, or one without a size."""
    import termios

    try:
        rows, columns = termios.tcgetwinsize(fd)
    except (termios.error, OSError):
        return None
    return (columns, rows) if columns and rows else None


def set_size(fd: int, columns: int, rows: int) -> None:
    """Set a terminal's size; its foreground processes get SIGWINCH when it is another (TIOCSWINSZ).

    Raises InvalidArgument for a size no terminal has, OSError.
    """
    import termios

    if not (0 <= columns <= MAX_SIZE and 0 <= rows <= MAX_SIZE):
        raise errors.InvalidArgument(f"a terminal cannot have {columns} columns and {rows} rows")
    try:
        termios.tcsetwinsize(fd, (rows, columns))
    except termios.error as error:
        raise OSError(*error.args) from None


def attributes(fd: int) -> list[Any]:
    """The terminal's attributes, for `set_attributes`. Raises OSError when it is not a terminal."""
    import termios

    try:
        return termios.tcgetattr(fd)
    except termios.error as error:
        raise OSError(*error.args) from None


def set_attributes(fd: int, wanted: list[Any]) -> None:
    """Set a terminal's attributes at once; what was typed already stays typed. Raises OSError."""
    import termios

    try:
        termios.tcsetattr(fd, termios.TCSANOW, wanted)
    except termios.error as error:
        raise OSError(*error.args) from None


def raw(wanted: list[Any]) -> list[Any]:
    """These attributes made raw, as cfmakeraw(3) does: every key is a byte, every byte is printed as it is."""
    import termios

    input, output, control, local, ispeed, ospeed, characters = wanted
    input &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    output &= ~termios.OPOST
    local &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    control = control & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    characters = list(characters)
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [input, output, control, local, ispeed, ospeed, characters]


def give(master: int, user: int) -> None:
    """Let the terminal behind a master belong to this user, if it is still its maker's (ours). Raises OSError.

    By the master, not by a name: what the container calls its terminal may be another file (TIOCGPTPEER, Linux 4.13).
    """
    import fcntl

    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if os.fstat(slave).st_uid == os.geteuid() != user:
            os.fchown(slave, user, -1)
    finally:
        os.close(slave)


def receive(sock: _socket.socket) -> int:
    """The descriptor of a terminal that the other end sends, close-on-exec; -1 when it closed without sending one.

    Raises BlockingIOError when nothing has come yet, InvalidArgument when what came is no terminal.
    """
    import _socket

    space = _socket.CMSG_SPACE(_FD_BYTES * 2)
    _, ancillary, _, _ = sock.recvmsg(_NAME_BYTES, space, _MSG_CMSG_CLOEXEC)
    received: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (_SOL_SOCKET, _SCM_RIGHTS):
            for at in range(0, len(data) - _FD_BYTES + 1, _FD_BYTES):
                received.append(int.from_bytes(data[at : at + _FD_BYTES], sys.byteorder))
    for extra in received[1:]:
        os.close(extra)
    if not received:
        return -1
    if not os.isatty(received[0]):
        os.close(received[0])
        raise errors.InvalidArgument("the descriptor that came is not a terminal's")
    return received[0]
