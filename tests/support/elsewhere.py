"""Run as a program: imports every module of Orlop as another operating system would, and prints what failed.

    python elsewhere.py darwin|win32 SOURCE_DIRECTORY

The standard library is loaded first, as what it is here; then the names that the other system lacks are taken away and
the C library cannot be opened. What a module does at import time therefore shows, not what its functions would do.
"""

from __future__ import annotations

import ast
import ctypes
import importlib
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

LINUX_ONLY = {
    os: """
        O_PATH O_TMPFILE O_DIRECT O_NOATIME CLONE_NEWNS CLONE_NEWPID CLONE_NEWUSER CLONE_NEWNET CLONE_NEWUTS
        CLONE_NEWIPC CLONE_NEWCGROUP P_PIDFD pidfd_open eventfd memfd_create setns unshare setxattr getxattr listxattr
        removexattr posix_fadvise posix_fallocate copy_file_range splice sched_getaffinity sched_setaffinity getrandom
        fdatasync pipe2 MFD_CLOEXEC EFD_CLOEXEC RWF_NOWAIT XATTR_CREATE SPLICE_F_MOVE setresuid setresgid
        """,
    select: "epoll EPOLLIN EPOLLHUP EPOLL_CLOEXEC",
    socket: "SOCK_CLOEXEC SOCK_NONBLOCK SO_PEERCRED AF_NETLINK AF_VSOCK SCM_CREDENTIALS SO_PASSCRED",
    signal: "SIGRTMIN SIGRTMAX SIGPWR SIGSTKFLT pidfd_send_signal sigtimedwait sigwaitinfo",
}
UNIX_ONLY = {
    os: """
        O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC fork getuid geteuid getgid getegid getgroups setuid setgid
        setsid killpg getpgid mkfifo mknod makedev major minor statvfs uname WNOHANG WIFEXITED wait4 waitid chown lchown
        fchown sendfile posix_spawn readv writev pread pwrite SCHED_OTHER openpty initgroups chroot sync WEXITED P_PID
        P_PGID P_ALL RTLD_LAZY EX_USAGE
        """,
    select: "poll POLLIN POLLHUP POLLERR POLLOUT",
    socket: "AF_UNIX SCM_RIGHTS CMSG_LEN CMSG_SPACE MSG_CMSG_CLOEXEC MSG_DONTWAIT MSG_NOSIGNAL",
    signal: """
        SIGKILL SIGCHLD SIGHUP SIGQUIT SIGPIPE SIGSTOP SIGCONT SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH pthread_sigmask
        SIG_BLOCK
        """,
}
UNIX_MODULES = "fcntl pwd grp termios tty pty resource syslog crypt spwd nis posix readline _posixsubprocess".split()


def standard_modules_used(package: Path) -> set[str]:
    """Names of standard modules that the package imports anywhere."""
    names = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module)
    return names


def become(system: str, package: Path) -> None:
    """Take away what the system lacks."""
    gone = UNIX_MODULES if system == "win32" else []
    for name in sorted(standard_modules_used(package) - set(gone)):
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # optional, and not installed
    for lacking in [LINUX_ONLY, UNIX_ONLY] if system == "win32" else [LINUX_ONLY]:
        for module, attributes in lacking.items():
            for attribute in attributes.split():
                for holder in (module, sys.modules.get(f"_{module.__name__}")):
                    if holder is not None and hasattr(holder, attribute):
                        delattr(holder, attribute)
    for name in gone:
        sys.modules[name] = None  # type: ignore[assignment]

    def cannot_load(*_: object, **__: object) -> NoReturn:
        raise OSError("no such library")

    ctypes.CDLL = ctypes.PyDLL = cannot_load  # type: ignore[assignment, misc]
    sys.platform = system


def main() -> int:
    system, source = sys.argv[1], Path(sys.argv[2])
    sys.path.insert(0, str(source))
    sys.dont_write_bytecode = True
    package = source / "orlop"
    become(system, package)
    failed = 0
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        try:
            importlib.import_module(name)
        except BaseException as error:
            failed += 1
            line = error.__traceback__
            while line is not None and line.tb_next is not None:
                line = line.tb_next
            where = f"{line.tb_frame.f_code.co_filename}:{line.tb_lineno}" if line else ""
            print(f"{name}: {type(error).__name__}: {error} ({where})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
