"""Files: what the system calls of Linux can and Python's `os` cannot. Constants as in <linux/openat2.h>.

May import only `_sys` and the interpreter's cheap modules.
"""

from __future__ import annotations

import os

from . import _sys

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# By name, 0 where the system lacks one: modules that use them must import on every system.
O_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
O_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
O_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
O_NOCTTY = getattr(os, "O_NOCTTY", 0)
O_CLOEXEC = getattr(os, "O_CLOEXEC", 0)

_CLONE_FS = 0x00000200


def openat2(dirfd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open `path` from the directory `dirfd`, with rules for how it may be resolved; returns the descriptor.

    flags: O_ flags (O_CLOEXEC is always added). resolve: RESOLVE_ bits: IN_ROOT takes dirfd for "/", BENEATH refuses
    (EXDEV) what leaves it, NO_SYMLINKS and NO_MAGICLINKS refuse (ELOOP) links. The kernel answers EAGAIN when a rename
    elsewhere disturbed it: tried again here. Raises OSError, ValueError for a NUL in path.
    """
    import struct

    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError(f"embedded null character in {path!r}")
    while True:
        try:
            return _sys.syscall(_sys.SYS_openat2, dirfd, name, how, len(how), path=os.fsdecode(path))
        except BlockingIOError:
            continue


def syncfs(fd: int) -> None:
    """Write everything of the file system that fd lies on to the disk (syncfs(2)). Raises OSError."""
    _sys.call("syncfs", fd)


def take_own_umask(mask: int) -> None:
    """Give the calling thread a umask (and working directory) of its own, and set it.

    The umask is otherwise shared by all threads of a process, so that no thread may change it. For threads that end
    with their work only. Raises OSError.
    """
    _sys.call("unshare", _CLONE_FS)
    os.umask(mask)


def umask() -> int:
    """The calling thread's umask, read without changing it. Falls back to 0o777 ("trust no mode") without /proc."""
    try:
        fd = os.open("/proc/thread-self/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0o777
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    _, found, rest = text.partition(b"\nUmask:")
    return int(rest.split(None, 1)[0], 8) if found else 0o777
