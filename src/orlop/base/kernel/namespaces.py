"""Namespaces: unshare, setns, and what names them. Constants as in <linux/sched.h>; see namespaces(7).

May import only `_sys` and the interpreter's cheap modules.
"""

from __future__ import annotations

import os

from . import _sys

CLONE_FS = 0x00000200
CLONE_FILES = 0x00000400
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

KINDS: dict[str, int] = {
    "user": CLONE_NEWUSER,
    "mnt": CLONE_NEWNS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}
"""Name in /proc/PID/ns → CLONE flag."""


def unshare(flags: int) -> None:
    """Leave the namespaces named by CLONE_ flags for new ones (unshare(2)).

    Acts on the calling thread only; CLONE_NEWUSER is refused to a process with more than one. Raises OSError.
    """
    _sys.call("unshare", flags)


def setns(fd: int, kind: int = 0) -> None:
    """Enter the namespace (or, for a pidfd, the namespaces of `kind`) that fd refers to (setns(2)). Raises OSError."""
    _sys.call("setns", fd, kind)


def open_namespace(kind: str, pid: int | str = "self") -> int:
    """A descriptor of a process's namespace (a key of KINDS), which keeps it alive. Raises OSError."""
    _sys.require_linux()
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def namespace_id(kind: str, pid: int | str = "self") -> int:
    """The inode number that identifies a process's namespace on this machine. Raises OSError."""
    _sys.require_linux()
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def is_initial_user_namespace() -> bool:
    """Whether this process lives in the machine's first user namespace (all ids map to themselves)."""
    _sys.require_linux()
    with open("/proc/self/uid_map", "rb", buffering=0) as file:
        return file.read(256).split() == [b"0", b"0", b"4294967295"]
