"""What only a stack can settle about a layer that was built alone, put into a small directory that lies above it.

    implied directories   take the attributes (mode, owner, xattrs, mtime) of the directory below; where no layer has
                          one they stay root:root 0755. Where a layer below has a symbolic link of that name (lib →
                          usr/lib), the link stays and what the layer has in the directory goes where the link leads:
                          that is what extracting the archive on top of the others does.
    foreign hard links    the target's content is copied once, and both names are links to the copy.

Truth is what extracting the layers one after the other gives (as umoci and containerd's applier do). Nothing is
written unless something differs, so most layers have no such directory.
Reads layer trees and writes the one directory it is given. May import its neighbours and `errors`.
"""

from __future__ import annotations

import os
import stat

from ...base import errors
from .stackview import OPAQUE, Entry, View, is_opaque, is_whiteout, normal
from .treecopy import Copier, xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULT_MODE = 0o755


def build(
    directory: str,
    tree: str,
    below: Sequence[str],
    implied: Sequence[str],
    foreign_links: Sequence[tuple[str, str]],
    layer: str,
) -> bool:
    """Fill the empty `directory` with what `tree` lacks in the stack on `below`; whether anything was needed.

    tree, below: absolute paths of directories in overlay form, `below` uppermost first. implied, foreign_links: what
    the layer's builder recorded. layer: its name for messages.
    Raises DataLoss, naming both names, for a hard link whose target no layer has; OSError.
    """
    return _Fixup(directory, tree, below, implied, foreign_links, layer).build()


class _Fixup:
    def __init__(
        self,
        directory: str,
        tree: str,
        below: Sequence[str],
        implied: Sequence[str],
        foreign_links: Sequence[tuple[str, str]],
        layer: str,
    ) -> None:
        self._directory = directory
        self._tree = tree
        self._implied = {normal(path): None for path in implied}
        self._foreign_links = foreign_links
        self._layer = layer
        self._own = View([tree])
        self._below = View(below)
        self._all = View([tree, *below], list(self._implied))
        self._copier = Copier()
        # Directories made, and where their attributes come from (None: the default): set last, children first.
        self._made: dict[str, Entry | None] = {}
        # (device, inode) of what was copied → its tree, its path there, where the first copy is, how many names it has.
        self._copies: dict[tuple[int, int], tuple[str, str, str, int]] = {}
        self._kept: set[str] = set()  # links of layers below that stay
        # Names that foreign links made → the first name of the same file.
        self._named: dict[str, str] = {}

    def build(self) -> bool:
        moved: list[str] = []
        for path in self._implied:
            if any(path.startswith(f"{above}/") for above in moved):
                continue  # went with it
            entry = self._all.lookup(path)
            if entry is not None and entry.is_link:
                moved.append(path)
                self._keep_link(path, entry)
            elif entry is not None and self._differs(path, entry):
                self._ensure(path)
        for name, target in self._foreign_links:
            self._link(normal(name), normal(target))
        self._keep_links_together()
        for path in reversed(self._made):
            self._finish(path)
        return bool(self._made)

    def _differs(self, path: str, entry: Entry) -> bool:
        place = f"{self._tree}/{path}" if path else self._tree
        status = os.lstat(place)
        if 0 in entry.layers and entry.path == place:  # no layer below has it
            return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) != (_DEFAULT_MODE, 0, 0)
        seen = entry.status
        return (
            (status.st_mode, status.st_uid, status.st_gid) != (seen.st_mode, seen.st_uid, seen.st_gid)
            # The root's mtime alone is not worth one more layer in every mount.
            or (path != "" and status.st_mtime_ns != seen.st_mtime_ns)
            or _attributes(place) != _attributes(entry.path)
        )

    def _ensure(self, path: str, source: Entry | None = None) -> None:
        """Make a directory here, with its parents; source: where its attributes come from, if not from the stack."""
        if path in self._made:
            if source is not None:
                self._made[path] = source
            return
        if path:
            self._ensure(path.rpartition("/")[0])
            os.mkdir(self._place(path), 0o700)
        if source is None:
            entry = self._all.lookup(path)
            if entry is not None and entry.is_dir and not self._is_placeholder(path, entry):
                source = entry
        self._made[path] = source

    def _is_placeholder(self, path: str, entry: Entry) -> bool:
        return path in self._implied and entry.path == (f"{self._tree}/{path}" if path else self._tree)

    def _finish(self, path: str) -> None:
        source, place = self._made[path], self._place(path)
        if source is not None:
            Copier().attributes(source.path, place, source.status)
            return
        os.chown(place, 0, 0)
        os.chmod(place, _DEFAULT_MODE)
        mtime = os.lstat(self._tree).st_mtime_ns  # any time that is the same for every stack
        os.utime(place, ns=(mtime, mtime))

    def _place(self, path: str) -> str:
        return f"{self._directory}/{path}" if path else self._directory

    # ------------------------------------------------------------ links below an implied directory

    def _keep_link(self, path: str, link: Entry) -> None:
        self._ensure(path.rpartition("/")[0])
        self._kept.add(path)
        self._copy(link.path[: -len(path) - 1], path, path, link.status)
        self._merge(path, self._lead(path))

    def _lead(self, path: str) -> str:
        """Where a link leads: a directory, or nothing yet."""
        try:
            target = self._all.resolve(path)
        except OSError as error:
            raise self._refusal(path, f"{error.strerror or error}") from error
        entry = self._all.lookup(target)
        if entry is not None and not entry.is_dir:
            raise self._refusal(path, f"{target} is not a directory")
        return target

    def _refusal(self, path: str, why: str) -> errors.DataLoss:
        return errors.DataLoss(
            f"layer {self._layer} puts files into {path}, which is a symbolic link in the layers below: {why}",
            advice="the image is broken; ask who built it",
        )

    def _merge(self, source: str, target: str) -> None:
        """What the layer has in the directory `source` goes to `target`, where a link led."""
        if source in self._implied and is_opaque(f"{self._tree}/{source}"):
            raise self._refusal(source, "it would be emptied as well")
        self._ensure(target)
        with os.scandir(f"{self._tree}/{source}") as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            here = f"{source}/{name}"
            there = f"{target}/{name}" if target else name
            place = f"{self._tree}/{here}"
            status = os.lstat(place)
            if there in self._kept:
                raise self._refusal(here, "it would replace the link itself")
            own = self._own.lookup(there)  # what the layer says of a path by its real name goes first
            if not stat.S_ISDIR(status.st_mode):
                if own is None:
                    self._copy(self._tree, here, there, status)
                continue
            if own is not None and not own.is_dir:
                continue
            if here in self._implied:
                entry = self._all.lookup(there)
                if entry is not None and entry.is_link:
                    self._merge(here, self._lead(there))
                else:
                    self._merge(here, there)
                continue
            self._ensure(there, None if own is not None and there not in self._implied else Entry(place, status, (0,)))
            if own is None and is_opaque(place):
                os.setxattr(self._place(there), OPAQUE, b"y")
            self._merge(here, there)

    def _copy(self, tree: str, source: str, path: str, status: os.stat_result) -> None:
        """Copy the file `source` of a tree to `path` here, or link `path` to the copy there is already."""
        if os.path.lexists(self._place(path)):
            if path in self._made:
                raise self._refusal(path, "the layer has a directory there as well")
            os.unlink(self._place(path))
        if is_whiteout(status):
            os.mknod(self._place(path), stat.S_IFCHR, 0)
            return
        inode = (status.st_dev, status.st_ino)
        if inode in self._copies:
            self._link_here(self._copies[inode][2], path)
            return
        self._copier.file(f"{tree}/{source}", self._place(path), status)
        self._copies[inode] = (tree, source, path, status.st_nlink)

    def _link_here(self, first: str, path: str) -> None:
        if os.path.lexists(self._place(path)):
            os.unlink(self._place(path))
        os.link(self._place(first), self._place(path), follow_symlinks=False)

    def _keep_links_together(self) -> None:
        """A copied file that has more names where it came from is one file under all that are still seen.

        Names that the layer has replaced or removed, and those of what went elsewhere, are not seen any more.
        """
        for (device, inode), (tree, source, copy, count) in list(self._copies.items()):
            for path in _names_of(tree, device, inode) if count > 1 else [source]:
                seen = self._all.lookup(path)
                if seen is not None and seen.path == f"{tree}/{path}" and not os.path.lexists(self._place(path)):
                    self._ensure(path.rpartition("/")[0])
                    self._link_here(copy, path)

    # ------------------------------------------------------------ foreign hard links

    def _link(self, name: str, target: str) -> None:
        if self._own.lookup(name) is not None:
            return  # a later entry of the archive replaced it
        written = (name, target)
        try:
            target = self._resolve_parent(target)
            name = self._resolve_parent(name)
        except OSError as error:
            raise self._bad_link(*written, error.strerror or str(error)) from error
        self._ensure(name.rpartition("/")[0])
        first = self._named.get(target)
        if first is not None:  # the target is itself a name that a foreign link made
            self._link_here(first, name)
            self._named[name] = first
            return
        found = self._below.lookup(target)
        if found is None:
            raise self._bad_link(*written, "no layer below has it")
        if found.is_dir:
            raise self._bad_link(*written, "that is a directory")
        # The target's own name (unless the layer has replaced or removed it) follows in _keep_links_together.
        self._copy(found.path[: -len(target) - 1], target, name, found.status)
        self._named[name] = name

    def _resolve_parent(self, path: str) -> str:
        parent, _, name = path.rpartition("/")
        parent = self._all.resolve(parent)
        return f"{parent}/{name}" if parent else name

    def _bad_link(self, name: str, target: str, why: str) -> errors.DataLoss:
        return errors.DataLoss(
            f"layer {self._layer}: hard link {name} to {target} cannot be made: {why}",
            advice="the image is broken; ask who built it",
        )


def _names_of(tree: str, device: int, inode: int) -> list[str]:
    """All names a file has in a tree."""
    found: list[str] = []
    todo = [""]
    while todo:
        directory = todo.pop()
        with os.scandir(f"{tree}/{directory}") as entries:
            for entry in entries:
                path = f"{directory}/{entry.name}" if directory else entry.name
                if entry.is_dir(follow_symlinks=False):
                    todo.append(path)
                elif entry.inode() == inode and entry.stat(follow_symlinks=False).st_dev == device:
                    found.append(path)
    return sorted(found)


def _attributes(path: str) -> dict[str, bytes]:
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in xattrs(path)}
