"""Layer data as directories under `ROOT/layers`, with a row for each.

    layers/<algorithm>/<hex>/fs      a finished layer: complete, durable and never changed again
    layers/ingest/<name>/fs          one being built, by the holder of the layer's flock
    layers/trash/<name>              what was removed, deleted by `cleanup`
    layers/l/<12 hex digits>         a short link to a layer's tree, for mounts of very many layers
    locks/layer-<algorithm>-<hex>    the layer's flock, held from the first byte to the row, and by who removes it

A layer exists when its row does. A directory without a row is what a crash left: `build` and `cleanup` clear it away,
under the flock, after looking for the row again. Deleting is put off because file systems may be slow to create files
just after many were deleted.
"""

from __future__ import annotations

import os
import time

from ...base import errors, faults, fsio
from ...base.cancel import NEVER, Cancel
from ...base.oci import digest as digests
from ..metadata import layers as rows
from .api import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from ...base.oci.digest import Digest
    from ..metadata.database import Database

FORM = "tree"
_ALGORITHMS = tuple(digests.HEX_LENGTH)
_LINK_DIGITS = 12


def tree_path(root: str, diff_id: str) -> str:
    """Where the tree of a layer lies (or would lie)."""
    algorithm, _, encoded = diff_id.partition(":")
    return f"{root}/layers/{algorithm}/{encoded}/fs"


def short_tree_path(root: str, diff_id: str) -> str:
    """A shorter path of a layer's tree when it has a link of its own, else `tree_path`."""
    path = tree_path(root, diff_id)
    link = _link_path(root, diff_id)
    try:
        return link if os.readlink(link) == _link_target(diff_id) else path
    except OSError:
        return path


def lock_path(root: str, diff_id: str) -> str:
    """The file whose flock who builds or removes the layer holds."""
    return f"{root}/locks/layer-{diff_id.replace(':', '-')}"


class LocalLayerStore:
    """The layer store of a root directory; shared by all namespaces. Safe in many threads and processes."""

    def __init__(self, db: Database, root: str) -> None:
        self._db = db
        self._root = root

    def get(self, diff_id: Digest) -> Layer:
        """NotFound when it is not built."""
        with self._db.read() as tx:
            return _layer(self._root, rows.get(tx, diff_id))

    def list(self) -> Iterator[Layer]:
        """All layers, in order of diff ID."""
        with self._db.read() as tx:
            found = rows.listed(tx)
        return iter([_layer(self._root, row) for row in found])

    def build(self, diff_id: Digest, cancel: Cancel = NEVER) -> LocalBuilder:
        """Open a builder. Waits while another process builds this layer; AlreadyExists when it is built by then."""
        diff_id = digests.parse(diff_id)
        lock: fsio.Lock | None = None
        try:
            fsio.make_dirs(f"{self._root}/locks")
            lock = fsio.lock(lock_path(self._root, diff_id), cancel=cancel)
            if self._has_row(diff_id):
                raise errors.AlreadyExists(f"layer {diff_id} is already unpacked")
            return LocalBuilder(self._db, self._root, diff_id, lock)
        except OSError as error:
            _release(lock)
            raise _failure(error, f"begin to unpack layer {diff_id}") from error
        except BaseException:
            _release(lock)
            raise

    def remove(self, diff_id: Digest) -> None:
        """Remove a layer. NotFound when it is not there, FailedPrecondition while a snapshot uses it."""
        diff_id = digests.parse(diff_id)
        try:
            fsio.make_dirs(f"{self._root}/locks")
            with fsio.lock(lock_path(self._root, diff_id)) as lock:
                with self._db.write() as tx:
                    rows.delete(tx, diff_id)
                faults.point("layers.remove.row")
                _remove_files(self._root, diff_id)
                lock.release(unlink=True)
        except OSError as error:
            raise _failure(error, f"remove layer {diff_id}") from error

    def remove_files(self, diff_id: str) -> None:
        """Take the files of a layer that has no row (any more) out of the way; they are deleted by `cleanup`.

        Does nothing when it has a row, or is being built or removed by another. Raises OSError.
        """
        lock = self._try_lock(diff_id)
        if lock is None:
            return
        try:
            if not self._has_row(diff_id):
                _remove_files(self._root, diff_id)
        finally:
            lock.release(unlink=True)

    def cleanup(self) -> None:
        """Delete what was removed, and what crashes left. Layers being built are left alone."""
        try:
            self._sweep_ingests()
            self._sweep_rowless()
            empty_trash(f"{self._root}/layers/trash")
        except OSError as error:
            raise _failure(error, "clean up layers") from error

    def _sweep_ingests(self) -> None:
        for name in _names(f"{self._root}/layers/ingest"):
            diff_id = ":".join(name.split("-")[:2])
            path = f"{self._root}/layers/ingest/{name}"
            lock = self._try_lock(diff_id)
            if lock is not None:
                try:
                    _to_trash(self._root, path)
                finally:
                    lock.release(unlink=True)

    def _sweep_rowless(self) -> None:
        for algorithm in _ALGORITHMS:
            names = _names(f"{self._root}/layers/{algorithm}")
            with self._db.read() as tx:
                known = {row.diff_id for row in rows.listed(tx)} if names else set()
            for name in names:
                diff_id = f"{algorithm}:{name}"
                if diff_id not in known:
                    self.remove_files(diff_id)

    def _has_row(self, diff_id: str) -> bool:
        with self._db.read() as tx:
            try:
                rows.get(tx, diff_id)
            except errors.NotFound:
                return False
        return True

    def _try_lock(self, diff_id: str) -> fsio.Lock | None:
        fsio.make_dirs(f"{self._root}/locks")
        try:
            return fsio.lock(lock_path(self._root, diff_id), wait=False)
        except errors.Unavailable:
            return None  # being built or removed right now


class LocalBuilder:
    """A layer being built. `path` is an empty directory, root:root 0755; the layer's flock is held until the end."""

    def __init__(self, db: Database, root: str, diff_id: Digest, lock: fsio.Lock) -> None:
        self._db = db
        self._root = root
        self._diff_id = diff_id
        self._lock = lock
        self._done = False
        fsio.make_dirs(f"{root}/layers")
        fsio.make_dirs(f"{root}/layers/ingest")
        self._ingest = f"{root}/layers/ingest/{diff_id.algorithm}-{diff_id.encoded}-{os.urandom(4).hex()}"
        self.path = f"{self._ingest}/fs"
        os.mkdir(self._ingest, 0o700)
        os.mkdir(self.path, 0o755)
        os.chmod(self.path, 0o755)
        os.chown(self.path, os.geteuid(), os.getegid())

    def commit(
        self,
        diff_id: Digest,
        *,
        size: int,
        inodes: int,
        tar_size: int,
        implied: tuple[str, ...] = (),
        foreign_links: tuple[tuple[str, str], ...] = (),
    ) -> Layer:
        """Make durable (syncfs), name, and record. DataLoss when diff_id is not the one the builder was opened for.

        Afterwards, or when it fails, the builder is done with: what it had is kept, or thrown away.
        """
        if self._done:
            raise errors.FailedPrecondition(f"layer {self._diff_id}: the builder is closed")
        try:
            if diff_id != self._diff_id:
                raise errors.DataLoss(f"layer {self._diff_id} unpacked to another diff ID, {diff_id}")
            target = os.path.dirname(tree_path(self._root, self._diff_id))
            self._publish(target)
            row = rows.LayerRow(
                self._diff_id,
                FORM,
                os.path.relpath(f"{target}/fs", self._root),
                size,
                inodes,
                tar_size,
                time.time_ns(),
                tuple(implied),
                tuple((name, link) for name, link in foreign_links),
            )
            faults.point("layers.commit.renamed")
            with self._db.write() as tx:
                rows.insert(tx, row)
            faults.point("layers.commit.row")
        except OSError as error:
            self.abort()
            raise _failure(error, f"store layer {self._diff_id}") from error
        except BaseException:
            self.abort()
            raise
        self._done = True
        self._lock.release(unlink=True)
        return _layer(self._root, row)

    def _publish(self, target: str) -> None:
        faults.point("layers.commit.sync")
        sync(self._ingest)
        faults.point("layers.commit.synced")
        parent = os.path.dirname(target)
        fsio.make_dirs(parent)
        if os.path.lexists(target):  # a crash came between the rename and the row
            _to_trash(self._root, target)
        os.rename(self._ingest, target)
        fsio.fsync_dir(parent)
        fsio.fsync_dir(f"{self._root}/layers")
        link = _link_path(self._root, self._diff_id)
        try:
            fsio.make_dirs(os.path.dirname(link))
            os.symlink(_link_target(self._diff_id), link)
        except FileExistsError:
            pass  # another layer's digest begins alike: this one goes by its long name

    def abort(self) -> None:
        """Throw away what was built. Fine after commit, and twice. The disk may be full: it is deleted at once."""
        if self._done:
            return
        self._done = True
        gone = ""
        try:
            gone = _to_trash(self._root, self._ingest)
        except OSError:
            pass  # `cleanup` finds it
        self._lock.release(unlink=True)
        try:
            if gone:
                fsio.remove_tree(gone)
        except OSError:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abort()


def _layer(root: str, row: rows.LayerRow) -> Layer:
    return Layer(
        digests.Digest(row.diff_id),
        row.form,
        f"{root}/{row.path}",
        row.size,
        row.inodes,
        row.tar_size,
        row.created_ns,
        row.implied,
        row.foreign_links,
    )


def _failure(error: OSError, doing: str) -> errors.OrlopError:
    """As from_os, but a file that is there or missing says nothing about the layer."""
    found = errors.from_os(error, doing)
    return errors.Internal(found.message) if isinstance(found, (errors.AlreadyExists, errors.NotFound)) else found


def sync(directory: str) -> None:
    """Make all that was written to a directory's file system durable: one syncfs for any number of files.

    Raises OSError, also (since Linux 5.8) for earlier writes that failed.
    """
    from ...base.kernel import files

    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        files.syncfs(fd)
    finally:
        os.close(fd)


def empty_trash(directory: str) -> None:
    """Delete what lies in a trash directory. Two at once do not disturb each other.

    What cannot be deleted does not keep the rest from it; the first failure is raised at the end.
    """
    failure: Exception | None = None
    for name in _names(directory):
        try:
            fsio.remove_tree(f"{directory}/{name}")
        except (OSError, errors.OrlopError) as error:
            failure = failure or error
    if failure is not None:
        raise failure


def _remove_files(root: str, diff_id: str) -> None:
    """Take the directory of a layer that has no row out of the way. The caller holds the layer's flock."""
    link = _link_path(root, diff_id)
    try:
        if os.readlink(link) == _link_target(diff_id):
            os.unlink(link)
    except OSError:
        pass
    _to_trash(root, os.path.dirname(tree_path(root, diff_id)))


def _to_trash(root: str, path: str) -> str:
    """Take a directory out of the way; where it is now, "" when there was none."""
    trash = f"{root}/layers/trash"
    fsio.make_dirs(trash)
    gone = f"{trash}/{os.path.basename(path)[:80]}-{os.urandom(4).hex()}"
    try:
        os.rename(path, gone)
    except FileNotFoundError:
        return ""
    return gone


def _link_path(root: str, diff_id: str) -> str:
    return f"{root}/layers/l/{diff_id.partition(':')[2][:_LINK_DIGITS]}"


def _link_target(diff_id: str) -> str:
    algorithm, _, encoded = diff_id.partition(":")
    return f"../{algorithm}/{encoded}/fs"


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _release(lock: fsio.Lock | None) -> None:
    if lock is not None:
        lock.release()
