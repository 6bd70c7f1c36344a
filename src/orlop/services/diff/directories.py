"""The directories of a tree that is being written or read: found, resolved, held open, never outside the tree.

A path is walked from the tree's root one component at a time. A component is opened with O_NOFOLLOW from its parent's
descriptor; a symbolic link is read and walked as well, "/" being the tree's root and ".." never leading above it, which
is how containerd's applier and a container itself would see it. So no name, whatever it holds, leads out.

Known directories form a tree of `Dir`s, a few of them with an open descriptor. May import `kernel.files` and `xattrs`.
"""

from __future__ import annotations

import errno
import os
import stat

from ...base import errors
from ...base.archive.entry import shown
from ...base.kernel import files
from . import xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN_FLAGS = os.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC
OPEN_MAX = 128
"""Descriptors held at once (three layers unpack in parallel, and many systems allow 1,024 in all)."""

_LINKS_MAX = 40
_FAR = files.RESOLVE_BENEATH | files.RESOLVE_NO_SYMLINKS | files.RESOLVE_NO_MAGICLINKS


class Dir:
    """A real directory inside the tree.

    fd: -1 when it is not held open; always read it afresh, any call of `Directories` may close it.
    listed: whether the archive has an entry for it; touched: whether the archive puts anything into it.
    times: (atime, mtime) in ns that it gets at the very end, or None. inherits: whether what is made in it inherits a
    group (setgid) or, `acl`, an ACL, so that attributes must be set even where they look right.
    brought: names of what the archive put here that is no directory (kept only when applying onto other layers).
    opaque: whether nothing of the layers below shows in it. dead: it has been removed.
    """

    __slots__ = (
        "acl", "brought", "children", "dead", "depth", "fd", "inherits", "listed", "name", "opaque", "parent",
        "times", "touched",
    )  # fmt: skip

    def __init__(self, parent: Dir | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self.fd = -1
        self.children: dict[bytes, Dir] | None = None
        self.listed = False
        self.touched = False
        self.times: tuple[int, int] | None = None
        self.inherits = False
        self.acl = False
        self.brought: set[bytes] | None = None
        self.opaque = False
        self.dead = False

    def path(self, name: bytes = b"") -> bytes:
        """Its path relative to the tree's root (b"" for the root), or that of a name in it."""
        parts = [name] if name else []
        node: Dir = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return b"/".join(reversed(parts))

    def child(self, name: bytes) -> Dir | None:
        return self.children.get(name) if self.children is not None else None

    def adopt(self, name: bytes) -> Dir:
        """The Dir of a directory that is now known to be here."""
        node = Dir(self, name)
        if self.children is None:
            self.children = {}
        self.children[name] = node
        return node

    def below(self) -> Iterator[Dir]:
        """Itself and all known directories below it, parents before children, by name."""
        todo = [self]
        while todo:
            node = todo.pop()
            yield node
            if node.children:
                todo += [node.children[name] for name in sorted(node.children, reverse=True)]

    def hidden_from_below(self) -> bool:
        """Whether an opaque directory on the way here hides what layers below have."""
        node: Dir | None = self
        while node is not None:
            if node.opaque:
                return True
            node = node.parent
        return False


class NotADirectory(Exception):
    """Something else stands where a directory is needed. parent, name: where; status: its lstat."""

    def __init__(self, parent: Dir, name: bytes, status: os.stat_result) -> None:
        super().__init__(name)
        self.parent = parent
        self.name = name
        self.status = status


class Directories:
    """See the module's docstring. Use as a context manager: it closes what it holds open."""

    def __init__(self, tree_path: str) -> None:
        self.root = Dir(None, b"")
        self.root.fd = os.open(tree_path, OPEN_FLAGS & ~os.O_NOFOLLOW)
        self._open: dict[Dir, None] = {}

    def __enter__(self) -> Directories:
        return self

    def __exit__(self, *exc: object) -> None:
        for node in self._open:
            os.close(node.fd)
            node.fd = -1
        self._open.clear()
        if self.root.fd >= 0:
            os.close(self.root.fd)
            self.root.fd = -1

    def fd(self, node: Dir) -> int:
        """Its descriptor, opened when it is not. Valid until the next call but one. Raises OSError."""
        fd = node.fd
        if node.parent is None:
            return fd
        if fd >= 0:
            del self._open[node]
            self._open[node] = None
            return fd
        if node.parent.fd >= 0:
            fd = os.open(node.name, OPEN_FLAGS, dir_fd=node.parent.fd)
        else:
            try:
                fd = files.openat2(self.root.fd, node.path(), OPEN_FLAGS, resolve=_FAR)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                fd = os.open(node.name, OPEN_FLAGS, dir_fd=self.fd(node.parent))
        self.hold(node, fd)
        return fd

    def hold(self, node: Dir, fd: int) -> None:
        """Take over an open descriptor of a directory; the one not used for longest is closed when there are many."""
        node.fd = fd
        self._open[node] = None
        if len(self._open) > OPEN_MAX:
            oldest = next(iter(self._open))
            del self._open[oldest]
            os.close(oldest.fd)
            oldest.fd = -1

    def walk(self, parts: list[bytes]) -> tuple[Dir, list[bytes]]:
        """Follow components (none of them "..") from the root as far as there are directories.

        Returns the last directory reached and the components that do not exist there; none when all were found. Links
        on the way have been followed. Raises NotADirectory when something else is in the way, DataLoss for a loop of
        links, OSError.
        """
        node, todo, links = self.root, parts[::-1], 0
        missing: list[bytes] = []
        while todo:
            name = todo.pop()
            if name == b"..":  # from a link; never above the root
                if missing:
                    missing.pop()
                else:
                    node = node.parent or node
                continue
            if missing:
                missing.append(name)
                continue
            known = node.child(name)
            if known is not None:
                node = known
                continue
            directory = self.fd(node)
            try:
                fd = os.open(name, OPEN_FLAGS, dir_fd=directory)
            except FileNotFoundError:
                missing.append(name)
                continue
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if not stat.S_ISLNK(status.st_mode):
                    raise NotADirectory(node, name, status) from None
                links += 1
                if links > _LINKS_MAX:
                    raise errors.DataLoss(
                        f"too many symbolic links on the way to {shown(b'/'.join(parts))}",
                        advice="the image is broken or hostile",
                    ) from None
                target = os.readlink(name, dir_fd=directory)
                if target[:1] == b"/":
                    node = self.root
                todo += [part for part in target.split(b"/") if part not in (b"", b".")][::-1]
                continue
            node = node.adopt(name)
            self.hold(node, fd)
            self.inspect(node, fd)
        return node, missing

    @staticmethod
    def inspect(node: Dir, fd: int) -> None:
        """Note of a directory that was there before what matters for what is put into it."""
        status = os.fstat(fd)
        node.acl = xattrs.ACL_DEFAULT in xattrs.names(fd)
        node.inherits = node.acl or bool(status.st_mode & stat.S_ISGID)
        node.times = (status.st_atime_ns, status.st_mtime_ns)

    def forget(self, node: Dir) -> None:
        """Drop a directory that is being removed, with all below it."""
        if node.parent is not None and node.parent.children is not None:
            node.parent.children.pop(node.name, None)
        for each in node.below():
            each.dead = True
            if each.fd >= 0:
                del self._open[each]
                os.close(each.fd)
                each.fd = -1
