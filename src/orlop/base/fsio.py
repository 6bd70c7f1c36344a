"""Files that must survive a crash: atomic durable writes, directory fsync, flocks, safe removal.

The only place that writes such files (DESIGN §1.3). A name appears with its whole content or not at all; when a
function with `durable=True` returns, a power cut does not undo it. May import only the interpreter's cheap modules:
`run` comes through here.
"""

from __future__ import annotations

import errno
import os

from . import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cancel import Cancel

_LOCK_POLL_S = 0.02


def make_dirs(path: str, mode: int = 0o700) -> None:
    """Make a directory and its missing parents, all with `mode` whatever the umask."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_dirs(os.path.dirname(path), mode)
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            return
    os.chmod(path, mode)


def fsync_dir(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of data to a descriptor (a short write is gone on with)."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_atomic(path: str, data: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Replace `path` with a file that holds exactly `data`.

    Temporary file beside it → fsync → rename → directory fsync. The temporary file starts with ".tmp-" and carries the
    process id; a crash leaves at most that. Raises OSError.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".tmp-{name[:100]}-{os.getpid()}-{os.urandom(4).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        try:
            os.fchmod(fd, mode)
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        _unlink_quietly(temporary)
        raise
    if durable:
        fsync_dir(directory or ".")


def read_file(path: str, limit: int = 64 << 20) -> bytes:
    """The whole of a file. ResourceExhausted when it is larger than limit bytes; OSError as open(2) and read(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if size > limit:
            raise errors.ResourceExhausted(f"{path} is larger than {limit} bytes")
        chunks = []
        left = limit + 1
        while left > 0:
            chunk = os.read(fd, min(left, max(size + 1, 65536)))
            if not chunk:
                break
            chunks.append(chunk)
            left -= len(chunk)
    finally:
        os.close(fd)
    if left <= 0:
        raise errors.ResourceExhausted(f"{path} is larger than {limit} bytes")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class Lock:
    """A held flock; release by `release` or as a context manager. The kernel releases it when the process dies."""

    __slots__ = ("fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd

    def release(self, *, unlink: bool = False) -> None:
        """Let go. unlink: remove the file first, while it is still ours (a waiter notices and opens a new one)."""
        if self.fd < 0:
            return
        if unlink:
            _unlink_quietly(self.path)
        os.close(self.fd)
        self.fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


def lock(path: str, *, shared: bool = False, wait: bool = True, cancel: Cancel | None = None) -> Lock:
    """Take the flock of the file `path`, which is made when it is missing.

    Flocks belong to the open file, so threads of one process exclude each other as processes do. After the lock is
    taken the file is checked to be still the one at `path` (a holder may unlink it on release). wait=False: raises
    Unavailable when another holds it. With `cancel` the wait ends when it is cancelled or its deadline passes.
    """
    import fcntl

    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(fd, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise errors.Unavailable(f"{path} is locked by another process") from None
                if cancel is None:
                    fcntl.flock(fd, how)
                else:
                    _wait_for_flock(fd, how | fcntl.LOCK_NB, cancel)
            if _is_still(fd, path):
                return Lock(path, fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def is_locked(path: str) -> bool:
    """Whether somebody holds the exclusive flock of `path` now. A missing file is not locked."""
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _wait_for_flock(fd: int, how: int, cancel: Cancel) -> None:
    import fcntl
    import time

    while True:
        cancel.check()
        try:
            fcntl.flock(fd, how)
            return
        except BlockingIOError:
            time.sleep(cancel.remaining(_LOCK_POLL_S) or 0)


def _is_still(fd: int, path: str) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


_DEPTH = 64


def remove_tree(path: str) -> None:
    """Remove a file or a directory tree. Never follows a symbolic link; a missing path is fine.

    Works on descriptors, so a tree that is changed meanwhile cannot lead it elsewhere. Directories deeper than 64 are
    first moved up, so neither depth nor path length matters. Does not cross into a file system that is mounted inside:
    it stops with FailedPrecondition.
    """
    parent, name = os.path.split(path.rstrip("/"))
    try:
        parent_fd = os.open(parent or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not _unlink_at(parent_fd, name):
            try:
                top = _open_dir(parent_fd, name, path)
            except FileNotFoundError:
                return
            try:
                _empty(top, top, 0, path)
            finally:
                os.close(top)
            _rmdir_at(parent_fd, name, path)
    finally:
        os.close(parent_fd)


def _unlink_at(parent_fd: int, name: str) -> bool:
    """Unlink anything but a directory; returns False for a directory."""
    try:
        os.unlink(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return True
    except IsADirectoryError:
        return False
    except PermissionError as error:  # what unlink(2) says of a directory on some file systems
        if error.errno != errno.EPERM:
            raise
        return False
    return True


def _open_dir(parent_fd: int, name: str, path: str) -> int:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    if os.fstat(fd).st_dev != os.fstat(parent_fd).st_dev:
        os.close(fd)
        raise errors.FailedPrecondition(f"cannot remove {path}: a file system is mounted there")
    return fd


def _rmdir_at(parent_fd: int, name: str, path: str) -> None:
    try:
        os.rmdir(name, dir_fd=parent_fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise errors.FailedPrecondition(f"cannot remove {path}: a file system is mounted there") from error
        raise


def _empty(top: int, fd: int, depth: int, path: str) -> None:
    """Remove all a directory holds. top: the tree's first directory, where deep ones are moved to."""
    while True:
        with os.scandir(fd) as entries:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        moved = False
        for name, is_dir in names:
            if not is_dir and _unlink_at(fd, name):
                continue
            if depth >= _DEPTH:
                try:
                    os.rename(name, f".orlop-{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top)
                except FileNotFoundError:
                    pass
                continue
            try:
                child = _open_dir(fd, name, f"{path}/{name}")
            except FileNotFoundError:
                continue
            try:
                _empty(top, child, depth + 1, f"{path}/{name}")
            finally:
                os.close(child)
            _rmdir_at(fd, name, f"{path}/{name}")
        if fd == top:
            # Deep directories were moved here while it was read.
            with os.scandir(fd) as entries:
                moved = next(entries, None) is not None
        if not moved:
            return
