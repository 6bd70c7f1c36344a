"""What a stack of layer trees looks like from above, found by reading the trees: no mount, nothing changed.

The rules are overlayfs's own (Documentation/filesystems/overlayfs.rst): the uppermost layer that has a name decides;
directories merge downwards until an opaque one or something else of that name; a whiteout (character device 0:0)
hides all below. Symbolic links are followed only by `resolve`, and never out of the stack. The trees must not change
meanwhile (layer data and committed snapshots never do).

Reads the file system only. May import nothing of Orlop but `record`.
"""

from __future__ import annotations

import errno
import os
import stat

from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

OPAQUE = "trusted.overlay.opaque"
OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")
"""Prefixes of the attributes in which overlayfs keeps its own notes; they are not part of the file."""

_LINKS_MAX = 40


class Entry(Record):
    """What a path shows. path: where it lies on disk (of a merged directory: the uppermost part, whose attributes
    are the ones seen). status: its lstat. layers: the layers it comes from, 0 the uppermost; several for a directory.
    """

    path: str
    status: os.stat_result
    layers: tuple[int, ...]

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)


class View:
    """A stack of layer trees; layers: absolute paths of directories, uppermost first.

    implied: directories that the uppermost layer has only because something in them needed a place. They show the
    attributes of what is below them and give way to a symbolic link there, as when the layer's archive is extracted
    on top of the others.
    """

    def __init__(self, layers: Sequence[str], implied: Sequence[str] = ()) -> None:
        self._layers = tuple(layers)
        self._implied = frozenset(normal(path) for path in implied)
        self._directories: dict[str, tuple[int, ...]] = {"": tuple(range(len(self._layers)))}

    def lookup(self, path: str) -> Entry | None:
        """What is at a relative path ("" is the root), or None. Does not follow links, not even on the way."""
        path = normal(path)
        if not path:
            return self._entry("", self._directories[""]) if self._layers else None
        parent, _, name = path.rpartition("/")
        return self._entry(path, self._candidates(parent, name))

    def resolve(self, path: str) -> str:
        """The path without links: where opening it inside the stack would lead, whether or not that exists.

        Raises OSError: ELOOP for too many links, ENOTDIR when something that is no directory is on the way.
        """
        todo = [name for name in path.split("/") if name not in ("", ".")][::-1]
        done: list[str] = []
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                del done[-1:]
                continue
            entry = self.lookup("/".join([*done, name]))
            if entry is not None and entry.is_link:
                links += 1
                if links > _LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(entry.path)
                if target.startswith("/"):
                    done = []
                todo += [part for part in target.split("/") if part not in ("", ".")][::-1]
                continue
            if entry is not None and not entry.is_dir and todo:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            done.append(name)
        return "/".join(done)

    def _entry(self, path: str, layers: tuple[int, ...]) -> Entry | None:
        if not layers:
            return None
        first = layers[0]
        if first == 0 and path in self._implied:
            # An opaque mark hides what is in the directory below, not the directory's attributes.
            below = self._below_implied(path)
            first = below[0] if below and os.path.isdir(self._place(below[0], path)) else 0
        place = self._place(first, path)
        return Entry(place, os.lstat(place), layers)

    def _place(self, index: int, path: str) -> str:
        return f"{self._layers[index]}/{path}" if path else self._layers[index]

    def _directory(self, path: str) -> tuple[int, ...]:
        """The layers that make up the directory at path, uppermost first; () when there is none."""
        found = self._directories.get(path)
        if found is None:
            parent, _, name = path.rpartition("/")
            layers = self._candidates(parent, name)
            found = ()
            if layers and stat.S_ISDIR(os.lstat(self._place(layers[0], path)).st_mode):
                found = layers
            self._directories[path] = found
        return found

    def _candidates(self, parent: str, name: str) -> tuple[int, ...]:
        """The layers that show `name` in the directory `parent`: one, or all parts of a merged directory."""
        path = f"{parent}/{name}" if parent else name
        above = self._directory(parent)
        if above and above[0] == 0 and path in self._implied:
            below = self._search(path, above[1:])
            if below and stat.S_ISLNK(os.lstat(self._place(below[0], path)).st_mode):
                return below
        return self._search(path, above)

    def _below_implied(self, path: str) -> tuple[int, ...]:
        if not path:
            return tuple(range(1, len(self._layers)))
        return self._search(path, self._directory(path.rpartition("/")[0])[1:])

    def _search(self, path: str, above: tuple[int, ...]) -> tuple[int, ...]:
        found: list[int] = []
        for index in above:
            place = self._place(index, path)
            try:
                status = os.lstat(place)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(status.st_mode):
                if not found and not is_whiteout(status):
                    found.append(index)
                break
            found.append(index)
            if index != above[-1] and is_opaque(place):
                break
        return tuple(found)


def normal(path: str) -> str:
    """A relative path without empty and "." parts; "" for the root. Paths of layers hold no ".."."""
    if path in ("", ".", "/"):
        return ""
    if "//" in path or path[0] == "/" or path[-1] == "/" or "./" in path or path.endswith("/."):
        return "/".join(name for name in path.split("/") if name not in ("", "."))
    return path


def is_whiteout(status: os.stat_result) -> bool:
    """Whether an lstat is that of an overlay whiteout."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: str) -> bool:
    """Whether a directory on disk hides what layers below have in it."""
    try:
        return os.getxattr(directory, OPAQUE, follow_symlinks=False) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise
