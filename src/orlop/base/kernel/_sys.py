"""libc and system calls for the rest of `kernel`: the only module of Orlop that loads ctypes.

Everything here is lazy, so that the package imports on every operating system; a *call* anywhere but on Linux raises
Unimplemented. A failed call raises OSError with the errno, a sentence and the path it was about. Calls release the
GIL; errno is per thread. May import nothing but the interpreter's cheap modules and `errors`.
"""

from __future__ import annotations

import os
import sys

from .. import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from typing import Any

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_NO_AUTOMOUNT = 0x800
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# System calls since Linux 5.0 have one number on every architecture (except alpha, which has no containers).
SYS_pidfd_send_signal = 424
SYS_open_tree = 428
SYS_move_mount = 429
SYS_fsopen = 430
SYS_fsconfig = 431
SYS_fsmount = 432
SYS_fspick = 433
SYS_pidfd_open = 434
SYS_close_range = 436
SYS_openat2 = 437
SYS_mount_setattr = 442

_libc: ctypes.CDLL | None = None


def require_linux() -> None:
    """Raise Unimplemented anywhere but on Linux."""
    if sys.platform != "linux":
        raise errors.Unimplemented(
            f"containers need the Linux kernel; this is {sys.platform}",
            advice="run Orlop on Linux, or in a Linux virtual machine",
        )


def libc() -> ctypes.CDLL:
    """The process's C library. Raises Unimplemented anywhere but on Linux."""
    global _libc
    if _libc is None:
        require_linux()
        import ctypes

        _libc = ctypes.CDLL(None, use_errno=True)
        _libc.syscall.restype = ctypes.c_long
    return _libc


def os_error(number: int, path: str = "", path2: str = "") -> OSError:
    """The OSError (of the subclass that fits the errno) for a failed call."""
    if path2:
        return OSError(number, os.strerror(number), path, None, path2)
    if path:
        return OSError(number, os.strerror(number), path)
    return OSError(number, os.strerror(number))


def check(result: int, path: str = "", path2: str = "") -> int:
    """Return a call's result; raise the OSError that errno says when it is negative."""
    if result < 0:
        import ctypes

        raise os_error(ctypes.get_errno(), path, path2)
    return result


def call(name: str, *args: Any, path: str = "", path2: str = "") -> int:
    """Call a function of libc. int arguments are passed as C long, bytes as char pointers, None as NULL."""
    function = getattr(libc(), name)
    return check(function(*_c(args)), path, path2)


def syscall(number: int, *args: Any, path: str = "", path2: str = "") -> int:
    """Make a system call by its number. ENOSYS becomes Unimplemented, naming the call's number."""
    import errno

    try:
        return check(libc().syscall(*_c((number, *args))), path, path2)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise errors.Unimplemented(f"this kernel ({os.uname().release}) lacks system call {number}") from error
        raise


def encode(path: str | None) -> bytes | None:
    """A path or option as the kernel takes it. A NUL inside raises ValueError, as everywhere in os."""
    if path is None:
        return None
    data = os.fsencode(path)
    if b"\0" in data:
        raise ValueError(f"embedded null character in {path!r}")
    return data


def _c(args: tuple[Any, ...]) -> list[Any]:
    # A bare int would be passed as a 32-bit C int; flags such as CLONE_NEWUSER and size_t arguments need all of a long.
    import ctypes

    return [ctypes.c_long(arg) if type(arg) is int else arg for arg in args]
