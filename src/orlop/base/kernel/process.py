"""Processes: prctl, pidfds, close_range, start times. Constants as in <linux/prctl.h>, <linux/close_range.h>, <wait.h>.

A pid alone may name another process by the time it is used; a pidfd, or a pid with its start time, cannot.
May import only `_sys` and the interpreter's cheap modules; what `os` offers is used without ctypes.
"""

from __future__ import annotations

import os

from . import _sys

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39

CLOSE_RANGE_UNSHARE = 1 << 1
CLOSE_RANGE_CLOEXEC = 1 << 2
_UINT_MAX = (1 << 32) - 1

P_PIDFD = 3


def prctl(option: int, arg2: int | bytes = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2) as it is. Raises OSError."""
    return _sys.call("prctl", option, arg2, arg3, arg4, arg5)


def set_subreaper(on: bool = True) -> None:
    """Become (or cease to be) the process that orphaned descendants are given to."""
    prctl(PR_SET_CHILD_SUBREAPER, int(on))


def is_subreaper() -> bool:
    import ctypes

    value = ctypes.c_int()
    _sys.call("prctl", PR_GET_CHILD_SUBREAPER, ctypes.byref(value), 0, 0, 0)
    return bool(value.value)


def set_parent_death_signal(signal: int) -> None:
    """Have this process sent `signal` when the *thread* that forked it ends; 0 clears it."""
    prctl(PR_SET_PDEATHSIG, signal)


def set_no_new_privs() -> None:
    """From here on execve gives no privileges (set-user-id, file capabilities). Cannot be undone."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def no_new_privs() -> bool:
    return bool(prctl(PR_GET_NO_NEW_PRIVS))


def set_dumpable(on: bool) -> None:
    """Whether others of our user may read /proc/PID and trace this process."""
    prctl(PR_SET_DUMPABLE, int(on))


def set_name(name: str) -> None:
    """The calling thread's name in ps and top; the kernel keeps 15 bytes."""
    prctl(PR_SET_NAME, os.fsencode(name)[:15])


def pidfd_open(pid: int) -> int:
    """A descriptor of a process (close-on-exec). Raises ProcessLookupError when there is none."""
    _sys.require_linux()
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    return _sys.syscall(_sys.SYS_pidfd_open, pid, 0)


def pidfd_send_signal(fd: int, signal: int) -> None:
    """Signal the process a pidfd refers to. Raises ProcessLookupError when it has ended and been reaped."""
    _sys.syscall(_sys.SYS_pidfd_send_signal, fd, signal, None, 0)


def wait_pidfd(fd: int, options: int = 0) -> tuple[int, int] | None:
    """Reap the child a pidfd refers to: (pid, wait status as waitpid(2) gives it).

    options: os.WNOHANG makes it return None while the child runs. Raises ChildProcessError when it is not our child.
    """
    _sys.require_linux()
    result = os.waitid(P_PIDFD, fd, os.WEXITED | options)
    if result is None:
        return None
    status = result.si_status
    if result.si_code == os.CLD_EXITED:
        return result.si_pid, (status & 0xFF) << 8
    return result.si_pid, (status & 0x7F) | (0x80 if result.si_code == os.CLD_DUMPED else 0)


def close_range(first: int, last: int = _UINT_MAX, flags: int = 0) -> None:
    """Close all descriptors from first to last, both included (close_range(2), Linux 5.9).

    flags: CLOSE_RANGE_CLOEXEC (Linux 5.11) marks them close-on-exec instead. Raises OSError.
    """
    _sys.syscall(_sys.SYS_close_range, first, last, flags)


def start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since boot: with the pid it names the process for good (proc(5), field 22).

    Raises ProcessLookupError when there is none.
    """
    return _stat_fields(pid)[19]


def parent_of(pid: int) -> int:
    """The pid of a process's parent. Raises ProcessLookupError when there is none."""
    return _stat_fields(pid)[1]


def is_alive(pid: int, ticks: int) -> bool:
    """Whether the very process that (pid, start_ticks) names exists and is no zombie."""
    try:
        data = _stat(pid)
    except ProcessLookupError:
        return False
    fields = data[data.rindex(b")") + 2 :].split()
    return int(fields[19]) == ticks and fields[0] not in (b"Z", b"X")


def _stat(pid: int) -> bytes:
    _sys.require_linux()
    import errno

    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _sys.os_error(errno.ESRCH, str(pid)) from None
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def _stat_fields(pid: int) -> list[int]:
    # The name (field 2) is in parentheses and may hold blanks and parentheses itself: the last one ends it.
    data = _stat(pid)
    return [0, *(int(field) for field in data[data.rindex(b")") + 4 :].split())]
