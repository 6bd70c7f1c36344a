"""Network namespaces that have a name in the file system: made, entered, removed. See network_namespaces(7).

The calling thread never changes its own namespace: whatever must happen inside one happens in a thread made for it, or
over a socket made inside. On the path of `run`: `_thread` in place of `threading`.
"""

from __future__ import annotations

import _thread
import os

from . import mounts, namespaces, rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from .netlink import Netlink

    T = TypeVar("T")

_OWN = "/proc/thread-self/ns/net"


class Namespace:
    """An open network namespace: its descriptor, and an rtnetlink socket inside it. Close it, or use `with`."""

    __slots__ = ("fd", "kernel", "path")

    def __init__(self, path: str, fd: int, kernel: Netlink) -> None:
        self.path = path
        self.fd = fd
        self.kernel = kernel

    def close(self) -> None:
        if self.fd >= 0:
            self.kernel.close()
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def call(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread that has entered the namespace; sockets it makes belong there."""

        def inside() -> T:
            namespaces.setns(self.fd, namespaces.CLONE_NEWNET)
            return work()

        return _in_thread(inside)


def create(path: str) -> Namespace:
    """Make a namespace and its name `path` (a bind mount on an empty file, whose directory exists).

    It lives until `remove` and until its last process, socket and descriptor are gone. A leftover file that is no
    namespace is taken over; FileExistsError when a namespace is there. Raises OSError.
    """

    def inside() -> tuple[int, Netlink]:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel = rtnetlink.open_route()
            try:
                mounts.mount(_OWN, path, "", mounts.MS_BIND)
            except BaseException:
                kernel.close()
                raise
        except BaseException:
            os.close(fd)
            raise
        return fd, kernel

    if exists(path):
        raise FileExistsError(17, "network namespace exists", path)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o444))
    fd, kernel = _in_thread(inside)
    return Namespace(path, fd, kernel)


def open(path: str) -> Namespace:
    """Open a namespace by its name. FileNotFoundError when there is none (or the name has lost its mount)."""
    if not exists(path):
        raise FileNotFoundError(2, "no network namespace", path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def inside() -> Netlink:
        namespaces.setns(fd, namespaces.CLONE_NEWNET)
        return rtnetlink.open_route()

    try:
        return Namespace(path, fd, _in_thread(inside))
    except BaseException:
        os.close(fd)
        raise


def exists(path: str) -> bool:
    """Whether a namespace is mounted at `path` (a plain file there is what a crash or a reboot left)."""
    try:
        return os.stat(path).st_dev == os.stat(_OWN).st_dev
    except FileNotFoundError:
        return False


def remove(path: str) -> None:
    """Take the name away; a name that is not there is fine. Who is inside keeps the namespace alive. Raises OSError."""
    try:
        mounts.unmount_all(path)
        os.unlink(path)
    except FileNotFoundError:
        pass


def own_id() -> str:
    """What tells the calling thread's network namespace from the others that exist now."""
    return str(os.stat(_OWN).st_ino)


def _in_thread(work: Callable[[], T]) -> T:
    """Call `work` in a thread of its own and return, or raise, what it does."""
    done = _thread.allocate_lock()
    done.acquire()
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failures.append(error)
        finally:
            done.release()

    _thread.start_new_thread(run, ())
    done.acquire()
    if failures:
        raise failures[0]
    return results[0]
