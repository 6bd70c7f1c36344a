"""Finds out how one tree differs from another and writes that as a layer: containerd's Comparer ("walking differ").

Both trees are as a container sees them (merged). Applying the layer to the lower tree gives the upper one. The result
depends on the trees only: members are sorted, parents before children, and of a file with several names the first is
the file, the others are links.
"""

from __future__ import annotations

import os
import stat

from ...base import errors
from ...base.archive.entry import SECOND_NS
from ...base.cancel import NEVER, Cancel
from ...base.progress import SILENT, Sink
from ...base.record import Record
from . import xattrs
from .directories import OPEN_FLAGS, Dir, Directories
from .members import PLAIN, Members, Options, Written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...base.archive.compression import Sink as Out

_READ = 1 << 18
_EMIT, _DELETE, _SAME = "emit", "delete", "same"

_Place = tuple[int, bytes]
"""A directory's descriptor and a name in it."""

_File = tuple[int, int]
"""What tells one file from another, whatever its names: device and inode."""


def diff_trees(
    lower: str | None,
    upper: str,
    out: Out,
    *,
    options: Options = PLAIN,
    cancel: Cancel = NEVER,
    progress: Sink = SILENT,
    item: str = "",
) -> Written:
    """Write to `out` the layer that turns the tree `lower` (None: nothing) into `upper`.

    Files count as unchanged when type, owner, mode, size, xattrs and time are the same; and, when the time has no
    fraction of a second (it may then come from an archive) or options.exact is set, the content too. Directories that
    lead to a change are written as well. The trees must not change meanwhile.
    Raises InvalidArgument for a file with a whiteout's name, Unavailable for one that changes meanwhile.
    """
    try:
        with Directories(upper) as above:
            members = Members(out, options, cancel, progress, item)
            if lower is None:
                events = list(_Comparison(above, None, options.exact, cancel).run())
            else:
                with Directories(lower) as below:
                    events = list(_Comparison(above, below, options.exact, cancel).run())
            _emit(above, events, members)
            return members.finish()
    except OSError as error:
        raise errors.from_os(error, f"compare {lower or 'nothing'} with {upper}") from error


class _Event(Record):
    """One name of either tree. node: the upper directory it is in. file, old: which file it is now and was before."""

    action: str
    node: Dir
    name: bytes
    path: bytes
    file: _File | None = None
    old: _File | None = None


def _emit(above: Directories, events: list[_Event], members: Members) -> None:
    done: set[Dir] = {above.root}
    for event in events:
        if event.path == b"":
            members.root(above.root.fd)
            continue
        parents: list[Dir] = []
        node = event.node
        while node not in done:
            parents.append(node)
            done.add(node)
            node = node.parent or above.root
        for parent in reversed(parents):
            if parent.parent is not None:
                _add(above, parent.parent, parent.name, parent.path(), members)
        if event.action is _DELETE:
            members.whiteout(event.path)
            continue
        here = event.node.child(event.name)
        if here is None or here not in done:
            _add(above, event.node, event.name, event.path, members)
            if here is not None:
                done.add(here)


def _add(above: Directories, node: Dir, name: bytes, path: bytes, members: Members) -> None:
    directory = above.fd(node)
    members.add(directory, name, path, os.stat(name, dir_fd=directory, follow_symlinks=False))


class _Comparison:
    """Walks both trees side by side."""

    def __init__(self, above: Directories, below: Directories | None, exact: bool, cancel: Cancel) -> None:
        self._above = above
        self._below = below
        self._exact = exact
        self._cancel = cancel

    def run(self) -> Iterator[_Event]:
        """What is to be written, in order."""
        events = list(self._walk())
        torn = _torn(events)
        for event in events:
            if event.action is not _SAME:
                yield event
            elif event.file in torn:
                yield event.replace(action=_EMIT)

    def _walk(self) -> Iterator[_Event]:
        above, below = self._above, self._below
        root = above.root
        if below is None or not self._same(*_root(below), *_root(above)):
            yield _Event(_EMIT, root, b"", b"")
        todo: list[tuple[bytes, Dir, Dir | None, bytes]] = []

        def enter(node: Dir, old: Dir | None, path: bytes) -> None:
            names = {os.fsencode(name) for name in os.listdir(above.fd(node))}
            if old is not None and below is not None:
                names.update(os.fsencode(name) for name in os.listdir(below.fd(old)))
            prefix = path + b"/" if path else b""
            todo.extend((name, node, old, prefix + name) for name in sorted(names, reverse=True))

        enter(root, below.root if below is not None else None, b"")
        while todo:
            self._cancel.check()
            name, node, old, path = todo.pop()
            now = _status(above, node, name)
            was = _status(below, old, name) if below is not None and old is not None else None
            if now is not None and stat.S_ISSOCK(now.st_mode):
                now = None
            if now is None:
                if was is not None and not stat.S_ISSOCK(was.st_mode):
                    yield _Event(_DELETE, node, name, path)
                continue
            if stat.S_ISDIR(now.st_mode):
                both = was is not None and stat.S_ISDIR(was.st_mode)
                if not both or not self._unchanged(was, now, old, node, name):
                    yield _Event(_EMIT, node, name, path)
                enter(node.adopt(name), old.adopt(name) if both and old is not None else None, path)
                continue
            same = self._unchanged(was, now, old, node, name)
            links = now.st_nlink > 1 or (was is not None and was.st_nlink > 1)
            if same and not links:
                continue
            yield _Event(
                _SAME if same else _EMIT,
                node,
                name,
                path,
                (now.st_dev, now.st_ino) if links else None,
                (was.st_dev, was.st_ino) if same and was is not None else None,
            )

    def _unchanged(
        self, was: os.stat_result | None, now: os.stat_result, old: Dir | None, node: Dir, name: bytes
    ) -> bool:
        if was is None or old is None or self._below is None:
            return False
        return self._same(was, (self._below.fd(old), name), now, (self._above.fd(node), name))

    def _same(self, was: os.stat_result, was_at: _Place, now: os.stat_result, now_at: _Place) -> bool:
        mode = now.st_mode
        if (was.st_mode, was.st_uid, was.st_gid, was.st_mtime_ns) != (mode, now.st_uid, now.st_gid, now.st_mtime_ns):
            return False
        if (was.st_dev, was.st_ino) == (now.st_dev, now.st_ino):
            return True
        if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and was.st_rdev != now.st_rdev:
            return False
        if stat.S_ISREG(mode) and was.st_size != now.st_size:
            return False
        old, new = xattrs.place(*was_at), xattrs.place(*now_at)
        if stat.S_ISLNK(mode) and os.readlink(old) != os.readlink(new):
            return False
        if xattrs.get(old) != xattrs.get(new):
            return False
        if not stat.S_ISREG(mode) or (now.st_mtime_ns % SECOND_NS and not self._exact):
            return True
        return self._same_content(was_at, now_at)

    def _same_content(self, was: _Place, now: _Place) -> bool:
        flags = (OPEN_FLAGS & ~os.O_DIRECTORY) | os.O_NONBLOCK | os.O_NOCTTY
        one = os.open(was[1], flags, dir_fd=was[0])
        try:
            other = os.open(now[1], flags, dir_fd=now[0])
            try:
                while True:
                    data = os.read(one, _READ)
                    if data != os.read(other, _READ):
                        return False
                    if not data:
                        return True
                    self._cancel.check()
            finally:
                os.close(other)
        finally:
            os.close(one)


def _root(directories: Directories) -> tuple[os.stat_result, _Place]:
    fd = directories.root.fd
    return os.fstat(fd), (fd, b".")


def _status(directories: Directories, node: Dir, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directories.fd(node), follow_symlinks=False)
    except FileNotFoundError:
        return None


def _torn(events: list[_Event]) -> set[_File]:
    """Files some of whose unchanged names must be written all the same, because what they are linked with changed.

    A file can be left out only when all its names are unchanged and exactly those were the names of one file before.
    """
    now: dict[_File, set[bytes]] = {}
    was: dict[_File, set[bytes]] = {}
    olds: dict[_File, set[_File | None]] = {}
    for event in events:
        if event.file is not None:
            now.setdefault(event.file, set()).add(event.path)
            olds.setdefault(event.file, set()).add(event.old)
            if event.old is not None:
                was.setdefault(event.old, set()).add(event.path)
    torn = set()
    for file, names in now.items():
        old = next(iter(olds[file]))
        if len(olds[file]) > 1 or old is None or was[old] != names:
            torn.add(file)
    return torn
