"""The layer that an overlay's upper directory holds: every file in it was changed, whiteouts say what was deleted.

Nothing is compared with the layers below, so the work is that of the change, not of the image.
Source: the kernel's Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import stat

from ...base import errors
from ...base.archive import whiteout
from ...base.archive.entry import shown
from ...base.cancel import NEVER, Cancel
from ...base.kernel import files
from ...base.progress import SILENT, Sink
from . import xattrs
from .directories import Dir, Directories
from .members import PLAIN, Members, Options, Written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...base.archive.compression import Sink as Out

_INSIDE = files.RESOLVE_BENEATH | files.RESOLVE_NO_SYMLINKS | files.RESOLVE_NO_MAGICLINKS


def diff_upper(
    upper_dir: str,
    lower_roots: Sequence[str],
    out: Out,
    *,
    options: Options = PLAIN,
    cancel: Cancel = NEVER,
    progress: Sink = SILENT,
    item: str = "",
) -> Written:
    """Write the layer in `upper_dir` to `out`.

    lower_roots: the trees below it, the uppermost first (overlay form): whiteouts of what none of them has are left
    out, and the root directory's attributes are written when they differ from the uppermost's. May be empty: every
    whiteout is then written, the root's attributes are not.
    Raises Unimplemented for renamed directories and metadata-only copies (mounts with redirect_dir or metacopy),
    InvalidArgument for a file with a whiteout's name, Unavailable for one that changes meanwhile.
    """
    lowers: list[int] = []
    try:
        try:
            lowers += [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for root in lower_roots]
            with Directories(upper_dir) as directories:
                members = Members(out, options, cancel, progress, item)
                _walk(directories, lowers, members)
                return members.finish()
        finally:
            for fd in lowers:
                os.close(fd)
    except OSError as error:
        raise errors.from_os(error, f"read the changes in {upper_dir}") from error


def _walk(directories: Directories, lowers: list[int], members: Members) -> None:
    root = directories.root
    if lowers and not _same_owner_and_mode(root.fd, lowers[0]):
        members.root(root.fd)
    todo: list[tuple[Dir, bytes, bytes, bool]] = []

    def enter(node: Dir, path: bytes) -> None:
        fd = directories.fd(node)
        mark = whiteout.opaque_mark(xattrs.get(fd, notes=True))
        if mark == b"y":
            members.opaque(path)
        names = sorted(os.fsencode(name) for name in os.listdir(fd))
        prefix = path + b"/" if path else b""
        todo.extend((node, name, prefix + name, mark == b"x") for name in reversed(names))

    enter(root, b"")
    while todo:
        node, name, path, may_hold_marks = todo.pop()
        directory = directories.fd(node)
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        hides = whiteout.is_overlay_whiteout(status.st_mode, status.st_rdev)
        is_dir = stat.S_ISDIR(status.st_mode)
        if not hides and (is_dir or stat.S_ISREG(status.st_mode)):
            notes = xattrs.get(xattrs.place(directory, name), notes=True)
            hides = may_hold_marks and whiteout.is_file_whiteout(status.st_mode, status.st_size, notes)
            _refuse(notes, path)
        if hides:
            if not lowers or _is_below(lowers, path):
                members.whiteout(path)
            continue
        members.add(directory, name, path, status)
        if is_dir:
            enter(node.adopt(name), path)


def _refuse(notes: Mapping[bytes, bytes], path: bytes) -> None:
    for note, what in ((b"redirect", "a directory that was renamed"), (b"metacopy", "a copy of attributes only")):
        if b"trusted.overlay." + note in notes or b"user.overlay." + note in notes:
            raise errors.Unimplemented(
                f"{shown(path)} is {what} (overlay.{note.decode()}): its content cannot be told from the upper "
                "directory alone",
                advice="mount the overlay with redirect_dir=off,metacopy=off, or compare the merged trees",
            )


def _is_below(lowers: list[int], path: bytes) -> bool:
    """Whether one of the layers below may show something of that name. When in doubt, it does."""
    for lower in lowers:
        try:
            fd = files.openat2(lower, path, os.O_PATH | os.O_NOFOLLOW, resolve=_INSIDE)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
            return True
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        return not whiteout.is_overlay_whiteout(status.st_mode, status.st_rdev)
    return False


def _same_owner_and_mode(one: int, other: int) -> bool:
    a, b = os.fstat(one), os.fstat(other)
    return (a.st_mode, a.st_uid, a.st_gid) == (b.st_mode, b.st_uid, b.st_gid)
