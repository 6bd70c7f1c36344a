"""Files of a container's root, opened before (or without) mounting it, and never outside it.

Two views with one shape, `open_in_root(path) -> descriptor or None`: of a directory, and of the stack of layer
directories an overlay is made of. Nothing but a regular file is ever opened: not a device, a FIFO or a socket an image
may have put there. Sources: openat2(2); the kernel's overlayfs.rst for whiteouts and opaque directories.
"""

from __future__ import annotations

import errno
import os
import stat

from ...base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    OpenInRoot = Callable[[str], int | None]

_MAX_LINKS = 40
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def none(_path: str) -> int | None:
    """The view of an empty root."""
    return None


def over_directory(root: str) -> OpenInRoot:
    """The view of a directory, such as a mounted root. Links in it are followed as if it were "/" (RESOLVE_IN_ROOT)."""

    def open_in_root(path: str) -> int | None:
        from ...base.kernel import files

        top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = files.openat2(top, path, os.O_PATH | os.O_CLOEXEC, 0, files.RESOLVE_IN_ROOT)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise
        finally:
            os.close(top)
        return _reopen_regular(found, path)

    return open_in_root


def over_layers(layers: Sequence[str]) -> OpenInRoot:
    """The view of what an overlay of these directories would show, the topmost first.

    Whiteouts (character device 0:0) hide what is below them, opaque directories hide the directories below; links are
    followed within the stack.
    """

    def open_in_root(path: str) -> int | None:
        walk = _Walk(layers)
        try:
            found = walk.find(path)
            return None if found is None else _reopen_regular(found, path)
        finally:
            walk.close()

    return open_in_root


def _reopen_regular(found: int, path: str) -> int:
    """A readable descriptor of what an O_PATH descriptor (closed here) stands for, if it is a regular file."""
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise errors.RuntimeFailed(f"{path} in the container is not a regular file")
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    finally:
        os.close(found)


class _Walk:
    """One resolution of a path: at each level the directories (topmost first) that are merged there."""

    def __init__(self, layers: Sequence[str]) -> None:
        self._open: list[int] = []
        root = tuple(self._keep(os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) for layer in layers)
        self._levels: list[tuple[int, ...]] = [root]

    def _keep(self, fd: int) -> int:
        self._open.append(fd)
        return fd

    def close(self) -> None:
        for fd in self._open:
            os.close(fd)
        self._open.clear()

    def find(self, path: str) -> int | None:
        """An O_PATH descriptor of what path names (the caller closes it), or None when there is nothing."""
        rest = _parts(path)
        links = 0
        while rest:
            name = rest.pop()
            if name == ".":
                continue
            if name == "..":
                if len(self._levels) > 1:
                    self._levels.pop()
                continue
            found = self._look(name)
            if found is None:
                return None
            if isinstance(found, tuple):
                self._levels.append(found)
                continue
            if stat.S_ISLNK(os.fstat(found).st_mode):
                links += 1
                if links > _MAX_LINKS:
                    return None
                target = os.readlink("", dir_fd=found)
                if target.startswith("/"):
                    del self._levels[1:]
                rest += _parts(target)
                continue
            if rest:
                return None  # a file where a directory should be
            return os.dup(found)
        top = self._levels[-1]
        return os.dup(top[0]) if top else None

    def _look(self, name: str) -> int | tuple[int, ...] | None:
        """What the merged directory on top has by this name: nothing, one file's descriptor, or merged directories."""
        merged: list[int] = []
        for directory in self._levels[-1]:
            try:
                fd = self._keep(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR):
                    return None
                raise
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                merged.append(fd)
                if _is_opaque(fd):
                    break
                continue
            if merged:
                break  # a directory above hides a file below
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                return None
            return fd
        return tuple(merged) or None


def _parts(path: str) -> list[str]:
    """The names of a path, last first. A "/" at the end asks for a directory, as "/." does."""
    names = [name for name in path.split("/") if name]
    if path.endswith("/"):
        names.append(".")
    names.reverse()
    return names


def _is_opaque(fd: int) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(f"/proc/self/fd/{fd}", name) == b"y":
                return True
        except OSError:
            continue
    return False
