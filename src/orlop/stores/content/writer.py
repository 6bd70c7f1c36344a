"""Open ingests: hashing while writing, resume, commit (DESIGN §3, "Crash safety").

Commit: data fsync → the digest's flock → rename to its name → directory fsync → row, and only then the flock goes. A
crash between any two steps leaves an ingest or a file that no row names, never half a blob under a blob's name.
"""

from __future__ import annotations

import os
import time

from ...base import errors, faults, fsio
from ...base.oci import digest as digests
from ..events.publish import publish
from ..metadata import blobs as rows
from ..metadata import leases
from . import ingest
from .api import Info, Status
from .layout import BLOB_MODE, Bound, already_exists, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

    from ...base.cancel import Cancel
    from ...base.oci.digest import Digest

_CHUNK = 1 << 20


class LocalWriter:
    """An open ingest; `LocalContentStore.writer` makes it. For one thread at a time. Close it in any case."""

    def __init__(
        self, bound: Bound, ref: str, total: int, expected: Digest | None, lock: fsio.Lock, cancel: Cancel
    ) -> None:
        """Takes over the ingest's flock. Hashes what an earlier writer left."""
        self._bound = bound
        self._ref = ref
        self._directory = bound.layout.ingest(bound.namespace, ref)
        self._lock = lock
        self._blob_lock: fsio.Lock | None = None
        self._adopted_size: int | None = None
        self._fd = -1
        self._cancel = cancel
        self._committed = False
        ingest.make(self._directory, bound.namespace, ref, total, expected, time.time_ns())
        faults.point("content.ingest.made")
        said = ingest.status(self._directory)
        self._total = total or (said.total if said else 0)
        self._expected = expected or (said.expected if said else None)
        self._algorithm = self._expected.algorithm if self._expected is not None else "sha256"
        self._fd = ingest.open_data(self._directory)
        try:
            self._offset = os.fstat(self._fd).st_size
            self._hash = self._hashed(self._algorithm)
        except BaseException:
            os.close(self._fd)
            raise

    def adopt(self, size: int, lock: fsio.Lock) -> None:
        """The blob's file is there already: stand at its end. Takes over the digest's flock."""
        self._cut(0)
        self._adopted_size = size
        self._blob_lock = lock

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append; returns the number of bytes, which is all of them.

        ResourceExhausted when the disk is full: nothing of `data` is kept, and the ingest stays usable.
        """
        self._check_open()
        if self._adopted_size is not None:
            raise errors.FailedPrecondition(
                f"ingest {self._ref}: {self._expected} is complete", advice="truncate(0) to write it again"
            )
        self._cancel.check()
        try:
            fsio.write_all(self._fd, data)
        except BaseException as error:
            os.ftruncate(self._fd, self._offset)
            if isinstance(error, OSError):
                raise errors.from_os(error, f"write ingest {self._ref}") from error
            raise
        self._hash.update(data)
        length = data.nbytes if isinstance(data, memoryview) else len(data)
        self._offset += length
        faults.point("content.ingest.written")
        return length

    def status(self) -> Status:
        """Where it stands."""
        self._check_open()
        known = ingest.status(self._directory)
        now = time.time_ns()
        return Status(
            ref=self._ref,
            offset=self._offset if self._adopted_size is None else self._adopted_size,
            total=self._total,
            expected=self._expected,
            started_ns=known.started_ns if known else now,
            updated_ns=known.updated_ns if known else now,
        )

    def digest(self) -> Digest:
        """The digest of what has been written so far."""
        self._check_open()
        if self._adopted_size is not None and self._expected is not None:
            return self._expected
        return digests.from_hasher(self._hash)

    def truncate(self, size: int = 0) -> None:
        """Drop all bytes from `size` on. OutOfRange when there are fewer."""
        self._check_open()
        if self._adopted_size is not None and size == 0:
            self._adopted_size = None
        if size < 0 or size > self._offset:
            raise errors.OutOfRange(f"ingest {self._ref} has {self._offset} bytes: it cannot be cut to {size}")
        if size < self._offset:
            self._cut(size)

    def _cut(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self._offset = size
        self._hash = self._hashed(self._algorithm)

    def commit(self, size: int = 0, expected: Digest | None = None, labels: Mapping[str, str] | None = None) -> Info:
        """Check, make durable, name; see the interface.

        After ResourceExhausted or Unavailable the writer can be committed again; every other outcome closes it.
        """
        self._check_open()
        size = size or self._total
        expected = expected or self._expected
        if self._adopted_size is not None:
            return self._commit_adopted(size, expected, labels)
        if size and size != self._offset:
            came = self._offset
            self._discard()
            raise errors.DataLoss(f"ingest {self._ref}: {came} bytes came, {size} were expected", advice="try again")
        digest = digests.from_hasher(self._hash)
        if expected is not None and expected.algorithm != self._algorithm:
            digest = digests.from_hasher(self._hashed(expected.algorithm))
        if expected is not None and digest != expected:
            self._discard()
            raise errors.DataLoss(
                f"ingest {self._ref}: the bytes have digest {digest}, {expected} was expected", advice="try again"
            )
        try:
            self._make_durable()
            faults.point("content.commit.synced")
            if self._blob_lock is None:
                self._blob_lock = self._bound.layout.lock_blob(digest, cancel=self._cancel)
            return self._name(digest, labels)
        except OSError as error:
            raise errors.from_os(error, f"commit {digest}") from error

    def _make_durable(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError:
            self._cut(0)  # what the kernel could not write it has forgotten: a second fsync would say all is well
            raise

    def _name(self, digest: Digest, labels: Mapping[str, str] | None) -> Info:
        """Give the data its name and its row, under the digest's flock."""
        data, path = f"{self._directory}/data", self._bound.layout.blob(digest)
        directory = self._bound.layout.make_blob_dir(digest)
        size = self._offset
        healed = size_of(path) != size
        os.fchmod(self._fd, BLOB_MODE)
        os.rename(data, path)  # a file that is there is replaced: these bytes are known to be right
        try:
            faults.point("content.commit.renamed")
            fsio.fsync_dir(directory)
            faults.point("content.commit.named")
            info = self._record(digest, size, labels, healed)
        except BaseException:
            # It has its name and no row. The next commit needs only the row; who gives up leaves a file for GC.
            os.close(self._fd)
            self._fd = ingest.open_data(self._directory)
            self._cut(0)
            self._expected, self._adopted_size = digest, size
            raise
        self._finish()
        if info is None:
            raise already_exists(digest, self._bound.namespace)
        return info

    def _commit_adopted(self, size: int, expected: Digest | None, labels: Mapping[str, str] | None) -> Info:
        digest, there = self._expected, self._adopted_size
        if digest is None or there is None:
            raise errors.Internal(f"ingest {self._ref}: nothing was adopted")
        if (size and size != there) or (expected is not None and expected != digest):
            self._discard()
            raise errors.DataLoss(
                f"ingest {self._ref}: {digest} with {there} bytes is stored; {expected or digest} with {size} bytes was"
                " expected"
            )
        info = self._record(digest, there, labels, healed=False)
        self._finish()
        if info is None:
            raise already_exists(digest, self._bound.namespace)
        return info

    def _record(self, digest: Digest, size: int, labels: Mapping[str, str] | None, healed: bool) -> Info | None:
        """Rows of the blob, the namespace's view and the lease's hold; None when the namespace had it already.

        healed: the file was missing or cut short; the namespace's row then stands for this one.
        """
        bound = self._bound
        with bound.db.write() as tx:
            made = rows.insert(tx, bound.namespace, digest, size, labels)
            if bound.lease is not None:
                leases.add_resource(tx, bound.namespace, bound.lease, "content", digest)
            if made:
                publish(tx, bound.layout.root, bound.namespace, "/content/create", {"digest": digest, "size": size})
            elif not healed:
                return None
            row = rows.get(tx, bound.namespace, digest)
            faults.point("content.commit.inserted")
        faults.point("content.commit.recorded")
        return Info(row.digest, row.size, row.created_ns, row.updated_ns, row.labels)

    def _hashed(self, algorithm: str) -> Any:
        """A hash of the data from its first byte to the offset, read from the file."""
        hasher = digests.hasher(algorithm)
        at = 0
        while at < self._offset:
            self._cancel.check()
            chunk = os.pread(self._fd, min(_CHUNK, self._offset - at), at)
            if not chunk:
                raise errors.DataLoss(f"ingest {self._ref}: its data ends at {at}, not {self._offset}")
            hasher.update(chunk)
            at += len(chunk)
        return hasher

    def _finish(self) -> None:
        """The blob has its name and row: what is left of the ingest goes."""
        self._committed = True
        if self._blob_lock is not None:
            self._blob_lock.release(unlink=True)
            self._blob_lock = None
        self._discard()

    def _discard(self) -> None:
        """Remove the ingest and close."""
        try:
            fsio.remove_tree(self._directory)
        except OSError:  # it is not in the way of anything; GC will try again
            pass
        faults.point("content.ingest.removed")
        self._committed = True
        self.close()

    def close(self) -> None:
        """Close. Without commit, what was written is kept for a later writer of the same ref, and held by the lease."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        try:
            if not self._committed:
                ingest.touch(self._directory, time.time_ns())
                self._hold_ingest()
        finally:
            if self._blob_lock is not None:
                self._blob_lock.release(unlink=True)
                self._blob_lock = None
            self._lock.release(unlink=True)

    def _hold_ingest(self) -> None:
        bound = self._bound
        if bound.lease is None or not self._offset:
            return
        try:
            with bound.db.write() as tx:
                leases.add_resource(tx, bound.namespace, bound.lease, "ingests", self._ref)
        except errors.OrlopError:  # the lease is gone, the disk is full, …: then its age protects it
            pass

    def _check_open(self) -> None:
        if self._fd < 0:
            raise errors.FailedPrecondition(f"ingest {self._ref}: the writer is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
