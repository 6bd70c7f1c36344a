"""Copying files and trees with everything they carry: content (holes kept), owner, mode, xattrs, times, hard links.

Content is cloned where the file system can (FICLONE), else copied in the kernel. The source must not change meanwhile
and is never followed out of: directories are entered by descriptor, links copied as links, so that no path grows past
what the kernel takes. overlayfs's own xattrs stay behind unless asked for.
May import only `stackview` for its constants, and the interpreter's cheap modules.
"""

from __future__ import annotations

import errno
import os
import stat

from .stackview import OVERLAY_XATTRS

_FICLONE = 0x40049409
_CHUNK = 1 << 30
_BUFFER = 1 << 20
_NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)


class Copier:
    """Copies that belong together: a hard link between two things copied becomes one between their copies.

    overlay_xattrs: copy overlayfs's own attributes (opaque marks) as well.
    """

    def __init__(self, *, overlay_xattrs: bool = False) -> None:
        self._overlay_xattrs = overlay_xattrs
        self._seen: dict[tuple[int, int], str] = {}
        self._seen_dir = ""
        self._clones = True

    def tree(self, source: str, target: str) -> None:
        """Copy the directory `source`, all below it included, to the existing directory `target`."""
        self._seen_dir = target
        status = os.lstat(source)
        source_fd, target_fd = _open_dir(source), _open_dir(target)
        try:
            self._children(f"/proc/self/fd/{source_fd}", f"/proc/self/fd/{target_fd}", "")
            self.attributes(source, target, status)
        finally:
            os.close(source_fd)
            os.close(target_fd)

    def file(self, source: str, target: str, status: os.stat_result) -> None:
        """Copy one thing that is no directory. target must not exist. Its links are not looked for."""
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self._content(source, target, status.st_size)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(source), target)
        else:
            os.mknod(target, kind | 0o600, status.st_rdev)
        self.attributes(source, target, status)

    def attributes(self, source: str, target: str, status: os.stat_result) -> None:
        """Give target the owner, mode, xattrs and times of source; status is the lstat of source."""
        link = stat.S_ISLNK(status.st_mode)
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
        if not link:
            os.chmod(target, stat.S_IMODE(status.st_mode))  # after chown, which takes set-user-id away
        for name in xattrs(source, overlay=self._overlay_xattrs):
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)

    def _children(self, source: str, target: str, below: str) -> None:
        with os.scandir(source) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            here, there = f"{source}/{name}", f"{target}/{name}"
            status = os.lstat(here)
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(there, 0o700)
                here_fd, there_fd = _open_dir(here), _open_dir(there)
                try:
                    self._children(f"/proc/self/fd/{here_fd}", f"/proc/self/fd/{there_fd}", f"{below}{name}/")
                finally:
                    os.close(here_fd)
                    os.close(there_fd)
                self.attributes(here, there, status)
            elif status.st_nlink > 1:
                key = (status.st_dev, status.st_ino)
                first = self._seen.get(key)
                if first is None:
                    self._seen[key] = f"{below}{name}"
                    self.file(here, there, status)
                else:
                    os.link(f"{self._seen_dir}/{first}", there, follow_symlinks=False)
            else:
                self.file(here, there, status)

    def _content(self, source: str, target: str, size: int) -> None:
        source_fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            target_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                if size and not (self._clones and self._clone(source_fd, target_fd)):
                    _copy_data(source_fd, target_fd, size)
            finally:
                os.close(target_fd)
        finally:
            os.close(source_fd)

    def _clone(self, source_fd: int, target_fd: int) -> bool:
        import fcntl

        try:
            fcntl.ioctl(target_fd, _FICLONE, source_fd)
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            self._clones = False
            return False
        return True


def xattrs(path: str, *, overlay: bool = False) -> list[str]:
    """The names of a file's extended attributes; overlay: overlayfs's own among them."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise
    return names if overlay else [name for name in names if not name.startswith(OVERLAY_XATTRS)]


def _open_dir(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _copy_data(source_fd: int, target_fd: int, size: int) -> None:
    """Copy all data of a file, leaving its holes holes."""
    position = 0
    while position < size:
        try:
            position = os.lseek(source_fd, position, os.SEEK_DATA)
            end = os.lseek(source_fd, position, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here
                break
            if error.errno != errno.EINVAL:
                raise
            end = size
        while position < end:
            position += _copy_some(source_fd, target_fd, position, min(end - position, _CHUNK))
    os.ftruncate(target_fd, size)


def _copy_some(source_fd: int, target_fd: int, position: int, length: int) -> int:
    try:
        count = os.copy_file_range(source_fd, target_fd, length, position, position)
        if count:
            return count
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
    data = os.pread(source_fd, min(length, _BUFFER), position)
    if not data:
        raise OSError(errno.EIO, "file grew shorter while it was copied")
    return os.pwrite(target_fd, data, position)
