"""What the snapshotters of this machine share: rows, directories, removal, usage. `overlay` and `native` add the rest.

    snapshots/<snapshotter>/<number>/        the files of one snapshot; the number is its row's
    snapshots/<snapshotter>/new/<name>       files being made, under the flock of <name>.lock
    snapshots/<snapshotter>/trash/<name>     files of removed snapshots, deleted by `cleanup` (small ones at once)

A snapshot exists when its row does. Files get their number inside the transaction that makes the row, and go after the
row has gone, so that a crash anywhere leaves at most files that no row names; `cleanup` clears them away. It looks for
rows inside a write transaction: no number can be on its way into the database then.
"""

from __future__ import annotations

import os
import stat

from ...base import errors, faults, fsio
from ..layers.local import empty_trash, sync
from ..metadata import labels as _labels
from ..metadata import layers as _layers
from ..metadata import snapshots as rows
from .api import Info, Mount, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Protocol, Self

    from ...base.oci.digest import Digest
    from ..metadata.database import Database, Transaction
    from ..metadata.layers import LayerRow
    from ..metadata.snapshots import SnapshotRow

    class Files(Protocol):
        """What one kind of snapshotter knows: how snapshots lie on disk and are mounted.

        slow: making an active snapshot takes too long to be done inside a transaction.
        below: a snapshot's ancestors, uppermost first.
        """

        slow: bool

        def mounts(self, row: SnapshotRow, below: Sequence[SnapshotRow]) -> list[Mount]:
            """The mounts of an active snapshot or view."""

        def make(self, directory: str, kind: str, below: Sequence[SnapshotRow]) -> None:
            """Fill the new, empty directory of an active snapshot or view."""

        def stacking_needs_files(self, layer: LayerRow) -> bool:
            """Whether a layer put on a snapshot may need a directory of its own."""

        def stack(self, directory: str, below: Sequence[SnapshotRow], layer: LayerRow) -> bool:
            """Fill that directory, new and empty; whether it turned out to be needed."""


_BLOCK = 512
_SMALL = 100
"""Trash of at most this many entries is deleted at once."""


def snapshots_path(root: str, snapshotter: str) -> str:
    """The directory of a snapshotter."""
    return f"{root}/snapshots/{snapshotter}"


def remove_snapshot_files(root: str, snapshotter: str, number: int) -> None:
    """Take the files of a snapshot whose row has gone out of the way; big ones are deleted at the next `cleanup`.

    Fine when there are none. Raises OSError.
    """
    base = snapshots_path(root, snapshotter)
    gone = _to_trash(base, f"{base}/{number}")
    try:
        if gone and _is_small(gone):
            fsio.remove_tree(gone)
    except FileNotFoundError:
        pass  # a `cleanup` was quicker


class LocalSnapshotter:
    """A snapshotter on this machine, bound to a namespace. Safe in many threads and processes."""

    name: str

    def __init__(self, db: Database, root: str, namespace: str, files: Files) -> None:
        self._db = db
        self._root = root
        self._namespace = namespace
        self._base = snapshots_path(root, self.name)
        self._files = files

    # ------------------------------------------------------------ reading

    def stat(self, key: str) -> Info:
        """NotFound when there is no such snapshot."""
        with self._db.read() as tx:
            row = self._row(tx, key)
            return _info(row, rows.chain(tx, row.number))

    def usage(self, key: str) -> Usage:
        """What the snapshot's own files take. Of an active one: now. NotFound when there is no such snapshot."""
        with self._db.read() as tx:
            row = self._row(tx, key)
        if row.size is not None and row.inodes is not None:
            return Usage(row.size, row.inodes)
        try:
            return measure(self._directory(row.number))
        except OSError as error:
            raise _failure(error, f"measure snapshot {key}") from error

    def mounts(self, key: str) -> list[Mount]:
        """How to mount an active snapshot or view. FailedPrecondition for a committed one."""
        with self._db.read() as tx:
            row = self._row(tx, key)
            if row.kind == "committed":
                raise errors.FailedPrecondition(
                    f"snapshot {key} is committed: it cannot be mounted itself", advice="make a view of it"
                )
            chain = rows.chain(tx, row.number)
        try:
            return self._files.mounts(row, chain[1:])
        except OSError as error:
            raise _failure(error, f"mounts of snapshot {key}") from error

    def walk(self, *filters: str) -> Iterator[Info]:
        """All of this namespace that match any of the filters, parents before children.

        Fields: name, parent, kind, labels. InvalidArgument for a filter that cannot be read.
        """
        from ..metadata import filters as _filters

        match = _filters.compile(*filters)
        with self._db.read() as tx:
            found = rows.walk(tx, self.name, self._namespace)
        known = {row.number: row for row in found}
        infos = [_info(row, _lineage(row, known)) for row in found]
        return iter(
            [
                info
                for info in infos
                if match(_filters.fields({"name": info.name, "parent": info.parent, "kind": info.kind}, info.labels))
            ]
        )

    # ------------------------------------------------------------ changing

    def update(self, key: str, labels: Mapping[str, str], fields: Sequence[str] = ()) -> Info:
        """Replace the labels, or only those that fields name ("labels.KEY"). NotFound, InvalidArgument."""
        with self._db.write() as tx:
            row = self._row(tx, key)
            row = rows.update_labels(tx, row.number, _labels.changed(row.labels, labels, fields))
            return _info(row, rows.chain(tx, row.number))

    def prepare(self, key: str, parent: str = "", labels: Mapping[str, str] | None = None) -> list[Mount]:
        """A writable snapshot. AlreadyExists, NotFound for the parent, InvalidArgument when it is not committed."""
        return self._create("active", key, parent, labels)

    def view(self, key: str, parent: str = "", labels: Mapping[str, str] | None = None) -> list[Mount]:
        """The same, read-only."""
        return self._create("view", key, parent, labels)

    def commit(self, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """Make an active snapshot a committed one. Its labels are those given; the data is durable when this returns.

        NotFound, FailedPrecondition when it is not active, AlreadyExists when name is taken.
        """
        with self._db.read() as tx:
            row = self._row(tx, key)
            if row.kind != "active":
                raise errors.FailedPrecondition(f"snapshot {key} is {row.kind}, not active: it cannot be committed")
            if name == key or self._exists(tx, name):
                raise errors.AlreadyExists(f"snapshot {name!r} exists")
        try:
            usage = _settle(self._directory(row.number))
            faults.point("snapshots.commit.synced")
            with self._db.write() as tx:
                again = self._row(tx, key)
                if again.number != row.number:
                    raise errors.NotFound(f"snapshot {key} was removed while it was being committed")
                rows.commit(tx, row.number, name, usage.size, usage.inodes, labels or {})
            faults.point("snapshots.commit.row")
        except OSError as error:
            raise _failure(error, f"commit snapshot {key}") from error

    def stack(self, name: str, parent: str, diff_id: Digest, labels: Mapping[str, str] | None = None) -> Info:
        """A committed snapshot made of `parent` and one layer of the layer store.

        NotFound for parent or layer, AlreadyExists when name is taken, DataLoss when the layer does not fit on the
        parent (a hard link to nothing).
        """
        with self._db.read() as tx:
            below = self._lineage(tx, parent)
            layer = _layers.get(tx, diff_id)
            if self._exists(tx, name):
                raise errors.AlreadyExists(f"snapshot {name!r} exists")
        staging: _Staging | None = None
        usage = Usage(0, 0)
        try:
            if self._files.stacking_needs_files(layer):
                staging = _Staging(self._base)
                if self._files.stack(staging.path, below, layer):
                    usage = _settle(staging.path)
                else:
                    staging.close()
                    staging = None
            faults.point("snapshots.stack.made")
            with self._db.write() as tx:
                number = rows.insert(
                    tx, self.name, self._namespace, name, "committed", self._same_parent(tx, parent, below),
                    str(diff_id), labels, size=usage.size, inodes=usage.inodes,
                )  # fmt: skip
                if staging is not None:
                    self._place(staging, number)
                    fsio.fsync_dir(self._base)
                faults.point("snapshots.stack.placed")
                info = _info(rows.by_number(tx, number), rows.chain(tx, number))
            faults.point("snapshots.stack.row")
            return info
        except OSError as error:
            raise _failure(error, f"stack layer {diff_id} as snapshot {name}") from error
        finally:
            if staging is not None:
                staging.close()

    def remove(self, key: str) -> None:
        """NotFound, FailedPrecondition when it has children. Its files go after its row: small ones now."""
        with self._db.write() as tx:
            row = self._row(tx, key)
            rows.delete(tx, row.number)
        faults.point("snapshots.remove.row")
        try:
            remove_snapshot_files(self._root, self.name, row.number)
        except (OSError, errors.OrlopError):
            pass  # the snapshot is gone; `cleanup` tries its files again

    def cleanup(self) -> None:
        """Delete files that no row of any namespace names: of removed snapshots, and what crashes left."""
        try:
            self._sweep_new()
            listed = [int(name) for name in _names(self._base) if name.isdigit()]
            if listed:
                with self._db.write() as tx:
                    known = rows.numbers(tx, self.name)
                    for number in listed:
                        if number not in known:
                            _to_trash(self._base, self._directory(number))
            empty_trash(f"{self._base}/trash")
        except OSError as error:
            raise _failure(error, f"clean up snapshots of {self.name}") from error

    def close(self) -> None:
        """Nothing is held open."""

    # ------------------------------------------------------------ inside

    def _directory(self, number: int) -> str:
        return f"{self._base}/{number}"

    def _row(self, tx: Transaction, key: str) -> SnapshotRow:
        return rows.get(tx, self.name, self._namespace, key)

    def _exists(self, tx: Transaction, key: str) -> bool:
        try:
            self._row(tx, key)
        except errors.NotFound:
            return False
        return True

    def _lineage(self, tx: Transaction, parent: str) -> list[SnapshotRow]:
        """The parent and its ancestors, uppermost first; [] for no parent."""
        if not parent:
            return []
        row = self._row(tx, parent)
        if row.kind != "committed":
            raise errors.InvalidArgument(f"snapshot {parent} is {row.kind}: only a committed one can be a parent")
        return rows.chain(tx, row.number)

    def _same_parent(self, tx: Transaction, parent: str, below: Sequence[SnapshotRow]) -> int:
        """The parent's number; NotFound when it was removed (and perhaps made anew) since it was looked at."""
        if not parent:
            return 0
        number = self._row(tx, parent).number
        if number != below[0].number:
            raise errors.NotFound(f"snapshot {parent} was removed meanwhile")
        return number

    def _create(self, kind: str, key: str, parent: str, labels: Mapping[str, str] | None) -> list[Mount]:
        staging: _Staging | None = None
        try:
            if self._files.slow:
                with self._db.read() as tx:
                    below = self._lineage(tx, parent)
                    if self._exists(tx, key):
                        raise errors.AlreadyExists(f"snapshot {key!r} exists")
                staging = _Staging(self._base)
                self._files.make(staging.path, kind, below)
            else:
                fsio.make_dirs(self._base)
            with self._db.write() as tx:
                if staging is None:
                    below = self._lineage(tx, parent)
                number = rows.insert(
                    tx, self.name, self._namespace, key, kind, self._same_parent(tx, parent, below), "", labels
                )
                if staging is None:
                    directory = self._directory(number)
                    _to_trash(self._base, directory)  # what a crash left of a number that was never acknowledged
                    os.mkdir(directory, 0o700)
                    self._files.make(directory, kind, below)
                else:
                    self._place(staging, number)
                faults.point("snapshots.prepare.made")
                row = rows.by_number(tx, number)
            faults.point("snapshots.prepare.row")
            return self._files.mounts(row, below)
        except OSError as error:
            raise _failure(error, f"prepare snapshot {key}") from error
        finally:
            if staging is not None:
                staging.close()

    def _place(self, staging: _Staging, number: int) -> None:
        directory = self._directory(number)
        _to_trash(self._base, directory)
        os.rename(staging.path, directory)

    def _sweep_new(self) -> None:
        new = f"{self._base}/new"
        for name in {name.removesuffix(".lock") for name in _names(new)}:
            try:
                lock = fsio.lock(f"{new}/{name}.lock", wait=False)
            except errors.Unavailable:
                continue  # being made right now
            try:
                fsio.remove_tree(f"{new}/{name}")
            finally:
                lock.release(unlink=True)


class _Staging:
    """A directory in which the files of a snapshot-to-be are made; its flock says that somebody is at it."""

    __slots__ = ("_lock", "path")

    def __init__(self, base: str) -> None:
        fsio.make_dirs(base)
        fsio.make_dirs(f"{base}/new")
        self.path = f"{base}/new/{os.urandom(6).hex()}"
        self._lock = fsio.lock(f"{self.path}.lock")
        os.mkdir(self.path, 0o700)

    def close(self) -> None:
        """Throw away what was not placed."""
        try:
            fsio.remove_tree(self.path)
        finally:
            self._lock.release(unlink=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def measure(directory: str) -> Usage:
    """Bytes on disk (blocks, as du counts) and inodes of everything in a directory; hard links count once."""
    size = inodes = 0
    seen: set[tuple[int, int]] = set()
    for status in _statuses(directory):
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
        size += status.st_blocks * _BLOCK
        inodes += 1
    return Usage(size, inodes)


def _statuses(directory: str) -> Iterator[os.stat_result]:
    """The lstat of everything below a directory, however deep: one descriptor is open at a time.

    What is removed meanwhile is left out. Ends early when a directory on the way is moved.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(directory, flags)
    above: list[tuple[tuple[int, int], list[str]]] = []  # (identity, subdirectories still to visit)
    try:
        while True:
            own = os.fstat(fd)
            below = []
            with os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        below.append(entry.name)
                    yield status
            above.append(((own.st_dev, own.st_ino), below))
            while True:
                if above[-1][1]:
                    try:
                        child = os.open(above[-1][1].pop(), flags, dir_fd=fd)
                    except (FileNotFoundError, NotADirectoryError):
                        continue
                    break
                above.pop()
                if not above:
                    return
                child = os.open("..", flags, dir_fd=fd)
                os.close(fd)
                fd = child
                there = os.fstat(fd)
                if (there.st_dev, there.st_ino) != above[-1][0]:
                    return
            os.close(fd)
            fd = child
    finally:
        os.close(fd)


def _settle(directory: str) -> Usage:
    """Make a directory's content durable, and measure it."""
    sync(directory)
    return measure(directory)


def _failure(error: OSError, doing: str) -> errors.OrlopError:
    """As from_os, but a file that is there or missing says nothing about the snapshot."""
    found = errors.from_os(error, doing)
    return errors.Internal(found.message) if isinstance(found, (errors.AlreadyExists, errors.NotFound)) else found


def _info(row: SnapshotRow, chain: Sequence[SnapshotRow]) -> Info:
    layers = dict.fromkeys(each.diff_id for each in reversed(chain) if each.diff_id)
    return Info(row.kind, row.key, row.parent_key, row.created_ns, row.updated_ns, row.labels, tuple(layers))


def _lineage(row: SnapshotRow, known: Mapping[int, SnapshotRow]) -> list[SnapshotRow]:
    found = [row]
    while found[-1].parent in known:
        found.append(known[found[-1].parent])
    return found


def _to_trash(base: str, path: str) -> str:
    """Take a directory out of the way; where it is now, "" when there was none."""
    if not os.path.lexists(path):
        return ""
    trash = f"{base}/trash"
    fsio.make_dirs(trash)
    gone = f"{trash}/{os.path.basename(path)}-{os.urandom(4).hex()}"
    try:
        os.rename(path, gone)
    except FileNotFoundError:
        return ""
    return gone


def _is_small(directory: str) -> bool:
    return all(count < _SMALL for count, _ in enumerate(_statuses(directory)))


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
