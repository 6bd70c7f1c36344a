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
from .stackview import OPAQUE, Entry, View, is_opaque, normal
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
        self._copies: dict[tuple[int, int], str] = {}
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
        self._copier.file(link.path, self._place(path), link.status)
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
        self._ensure(target)
        with os.scandir(f"{self._tree}/{source}") as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            here = f"{source}/{name}"
            there = f"{target}/{name}" if target else name
            place = f"{self._tree}/{here}"
            status = os.lstat(place)
            own = self._own.lookup(there)  # what the layer says of a path by its real name goes first
            if not stat.S_ISDIR(status.st_mode):
                if own is None:
                    self._copy(place, there, status)
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

    def _copy(self, place: str, path: str, status: os.stat_result) -> None:
        target = self._place(path)
        if os.path.lexists(target):
            if path in self._made:
                raise self._refusal(path, "the layer has a directory there as well")
            os.unlink(target)
        first = self._copies.get((status.st_dev, status.st_ino))
        if first is not None:
            os.link(first, target, follow_symlinks=False)
            return
        self._copier.file(place, target, status)
        self._copies[status.st_dev, status.st_ino] = target

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
            os.link(self._place(first), self._place(name), follow_symlinks=False)
            self._named[name] = first
            return
        found = self._below.lookup(target)
        if found is None:
            raise self._bad_link(*written, "no layer below has it")
        if found.is_dir:
            raise self._bad_link(*written, "that is a directory")
        self._copy(found.path, name, found.status)
        self._named[name] = name
        now = self._all.lookup(target)
        if now is not None and now.path == found.path:  # the layer itself has not replaced or removed it
            self._ensure(target.rpartition("/")[0])
            os.link(self._place(name), self._place(target), follow_symlinks=False)
            self._named[target] = name

    def _resolve_parent(self, path: str) -> str:
        parent, _, name = path.rpartition("/")
        parent = self._all.resolve(parent)
        return f"{parent}/{name}" if parent else name

    def _bad_link(self, name: str, target: str, why: str) -> errors.DataLoss:
        return errors.DataLoss(
            f"layer {self._layer}: hard link {name} to {target} cannot be made: {why}",
            advice="the image is broken; ask who built it",
        )


def _attributes(path: str) -> dict[str, bytes]:
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in xattrs(path)}
