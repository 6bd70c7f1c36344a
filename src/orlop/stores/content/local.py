"""The content store on this machine: files named by their digest, rows of the metadata database.

See `api.py` for the life of a blob, `layout.py` for the files and flocks, `writer.py` for how a blob is committed.
"""

from __future__ import annotations

import os

from ...base import errors, faults
from ...base.cancel import NEVER, Cancel
from ...base.oci import digest as digests
from ..events.publish import publish
from ..metadata import blobs as rows
from ..metadata import labels as _labels
from .api import Info
from .layout import Bound, Layout, already_exists, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    from ...base.oci.digest import Digest
    from ..metadata.database import Database
    from .api import Status
    from .writer import LocalWriter

_CHUNK = 1 << 20
_MAX_REF = 4096


class LocalReader:
    """An open blob. It can be read to its end even when it is deleted meanwhile. Safe to use from any thread."""

    __slots__ = ("_digest", "_fd", "size")

    def __init__(self, digest: Digest, path: str, size: int) -> None:
        """DataLoss when the file is missing or has another size than its row."""
        self._fd = -1
        self._digest = digest
        self.size = size
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise _damaged(digest, "its file is missing") from None
        except OSError as error:
            raise errors.from_os(error, f"open {digest}") from error
        found = os.fstat(self._fd).st_size
        if found != size:
            self.close()
            raise _damaged(digest, f"its file has {found} bytes, not {size}")

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to length bytes from offset; fewer only at the end. OutOfRange when offset is past the end."""
        if self._fd < 0:
            raise errors.FailedPrecondition(f"content {self._digest}: the reader is closed")
        if offset < 0 or length < 0 or offset > self.size:
            raise errors.OutOfRange(f"content {self._digest} has {self.size} bytes, none at {offset}")
        try:
            data = os.pread(self._fd, min(length, self.size - offset), offset)
            wanted = min(length, self.size - offset)
            while len(data) < wanted:
                more = os.pread(self._fd, wanted - len(data), offset + len(data))
                if not more:
                    raise _damaged(self._digest, f"its file ends at {offset + len(data)}")
                data += more
            return data
        except OSError as error:
            raise errors.from_os(error, f"read {self._digest}") from error

    def fileno(self) -> int:
        """A descriptor for sendfile and mmap; it is the reader's."""
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class LocalContentStore:
    """The content of one namespace. Safe to use from any thread. Publishes /content/create and /content/delete.

    lease: what is committed is added to it in the same transaction. policy: "shared" lets a namespace adopt a blob of
    another by its digest alone; "isolated" only from namespaces labelled `containerd.io/namespace.shareable=true`, so
    that knowing a digest is no proof of having the bytes (containerd's content sharing policies).
    """

    def __init__(
        self, db: Database, root: str, namespace: str, lease: str | None = None, *, policy: str = "shared"
    ) -> None:
        if policy not in ("shared", "isolated"):
            raise errors.InvalidArgument(f"unknown content sharing policy {policy!r}", advice="use shared or isolated")
        self._bound = Bound(db, Layout(root), namespace, lease or None, policy == "shared")

    def info(self, digest: Digest) -> Info:
        """NotFound when this namespace does not have it."""
        with self._bound.db.read() as tx:
            return _info(rows.get(tx, self._bound.namespace, digest))

    def update(self, digest: Digest, labels: Mapping[str, str], fields: Sequence[str] = ()) -> Info:
        """Replace the labels, or only those named by fields ("labels.KEY"; an empty value removes the label)."""
        bound = self._bound
        with bound.db.write() as tx:
            have = rows.get(tx, bound.namespace, digest)
            return _info(rows.update_labels(tx, bound.namespace, digest, _labels.changed(have.labels, labels, fields)))

    def walk(self, *filters: str) -> Iterator[Info]:
        """All blobs of the namespace that match any of the filters, in order of digest, as of this call.

        Fields: digest, size, labels.KEY.
        """
        with self._bound.db.read() as tx:
            found = [_info(row) for row in rows.walk(tx, self._bound.namespace)]
        if filters:
            from ..metadata import filters as language

            match = language.compile(*filters)
            found = [
                info
                for info in found
                if match(language.fields({"digest": info.digest, "size": str(info.size)}, info.labels))
            ]
        return iter(found)

    def delete(self, digest: Digest) -> None:
        """Take the blob out of this namespace. The bytes go when no namespace has it. NotFound when it is not there."""
        bound = self._bound
        with bound.db.write() as tx:
            unused = rows.delete(tx, bound.namespace, digest)
            publish(tx, bound.layout.root, bound.namespace, "/content/delete", {"digest": digest})
        faults.point("content.delete.recorded")
        if unused:
            try:
                unlink_unrecorded(bound.db, bound.layout, digests.parse(digest))
            except errors.OrlopError:  # it is deleted; what is left of it goes at the next collection
                pass

    def open(self, digest: Digest) -> LocalReader:
        """NotFound when this namespace does not have it, DataLoss when its file is missing or cut short."""
        bound = self._bound
        with bound.db.read() as tx:
            row = rows.get(tx, bound.namespace, digest)
        try:
            return LocalReader(row.digest, bound.layout.blob(row.digest), row.size)
        except errors.DataLoss:
            with bound.db.read() as tx:  # deleted between row and file?
                rows.get(tx, bound.namespace, digest)
            raise

    def read(self, digest: Digest, limit: int = 4 << 20) -> bytes:
        """The whole blob. ResourceExhausted when it is larger than limit bytes."""
        with self.open(digest) as reader:
            if reader.size > limit:
                raise errors.ResourceExhausted(f"content {digest} has {reader.size} bytes, more than {limit}")
            return reader.read_at(0, reader.size)

    def verify(self, digest: Digest, cancel: Cancel = NEVER) -> Info:
        """Read the blob from disk and compare its digest. DataLoss when it differs."""
        info = self.info(digest)
        hasher = digests.hasher(digests.parse(digest).algorithm)
        with self.open(digest) as reader:
            at = 0
            while at < reader.size:
                cancel.check()
                chunk = reader.read_at(at, _CHUNK)
                hasher.update(chunk)
                at += len(chunk)
        found = digests.from_hasher(hasher)
        if found != digest:
            raise _damaged(digests.parse(digest), f"its bytes have digest {found}")
        return info

    def writer(
        self, ref: str, size: int = 0, expected: Digest | None = None, cancel: Cancel = NEVER, *, wait: bool = True
    ) -> LocalWriter:
        """Open or go on with the ingest `ref`; see the interface.

        When AlreadyExists is raised, the lease (if the store is bound to one) holds the blob from then on.
        A thread that has a writer open must not open another with the same ref, or the same expected digest.
        """
        if not ref or len(ref) > _MAX_REF or "\0" in ref:
            raise errors.InvalidArgument(f"invalid ingest reference {ref[:100]!r}")
        if size < 0:
            raise errors.InvalidArgument(f"ingest {ref}: size {size} is not a count of bytes")
        from .writer import LocalWriter

        bound = self._bound
        if expected is not None:
            expected = digests.parse(expected)
            self._raise_if_there(expected)
        directory = bound.layout.ingest(bound.namespace, ref)
        try:
            lock = bound.layout.lock_ingest(directory, wait=wait, cancel=cancel)
        except OSError as error:
            raise errors.from_os(error, f"open ingest {ref}") from error
        try:
            if expected is not None:
                self._raise_if_there(expected)  # its writer may have been the one that was waited for
            writer = LocalWriter(bound, ref, size, expected, lock, cancel)
        except BaseException as error:
            lock.release(unlink=True)
            if isinstance(error, OSError):
                raise errors.from_os(error, f"open ingest {ref}") from error
            raise
        try:
            if expected is not None:
                self._try_to_adopt(writer, expected, wait, cancel)
        except BaseException:
            writer.close()
            raise
        return writer

    def _raise_if_there(self, digest: Digest) -> None:
        """AlreadyExists when the namespace has the blob and its file is whole; the lease then holds it."""
        bound = self._bound
        with bound.db.read() as tx:
            row = rows.find(tx, bound.namespace, digest)
        if row is None or size_of(bound.layout.blob(row.digest)) != row.size:
            return
        if bound.lease is not None:
            from ..metadata import leases

            with bound.db.write() as tx:
                if rows.find(tx, bound.namespace, digest) is None:
                    return
                leases.add_resource(tx, bound.namespace, bound.lease, "content", digest)
        raise already_exists(digest, bound.namespace)

    def _try_to_adopt(self, writer: LocalWriter, digest: Digest, wait: bool, cancel: Cancel) -> None:
        """When the file is there (another namespace's, or left by a crash), nothing need be written."""
        bound = self._bound
        path = bound.layout.blob(digest)
        if size_of(path) is None:
            return
        lock = bound.layout.lock_blob(digest, wait=wait, cancel=cancel)
        try:
            size = size_of(path)
            with bound.db.read() as tx:
                known = rows.size_on_disk(tx, digest)
                allowed = bound.shared or rows.is_shareable(tx, digest)
            if size is not None and allowed and known in (None, size) and writer.status().total in (0, size):
                writer.adopt(size, lock)
                return
        except BaseException:
            lock.release(unlink=True)
            raise
        lock.release(unlink=True)

    def status(self, ref: str) -> Status:
        """NotFound when there is no such ingest."""
        from . import ingest

        found = ingest.status(self._bound.layout.ingest(self._bound.namespace, ref))
        if found is None:
            raise errors.NotFound(f"no ingest {ref!r} in namespace {self._bound.namespace!r}")
        return found.replace(ref=ref)

    def list_statuses(self, *filters: str) -> Sequence[Status]:
        """The ingests of this namespace that match any of the filters, in order of ref. Field: ref."""
        from . import ingest

        found = []
        for directory in self._bound.layout.ingests():
            if ingest.owner(directory)[0] == self._bound.namespace:
                status = ingest.status(directory)
                if status is not None:
                    found.append(status)
        if filters:
            from ..metadata import filters as language

            match = language.compile(*filters)
            found = [status for status in found if match(language.fields({"ref": status.ref}, {}))]
        return sorted(found, key=lambda status: status.ref)

    def abort(self, ref: str) -> None:
        """Remove an ingest. NotFound when there is none, Unavailable while a living writer holds it."""
        bound = self._bound
        directory = bound.layout.ingest(bound.namespace, ref)
        if not os.path.isdir(directory):
            raise errors.NotFound(f"no ingest {ref!r} in namespace {bound.namespace!r}")
        try:
            lock = bound.layout.lock_ingest(directory, wait=False)
        except errors.Unavailable:
            raise errors.Unavailable(f"ingest {ref!r} is being written") from None
        from ...base import fsio

        try:
            fsio.remove_tree(directory)
        finally:
            lock.release(unlink=True)


def unlink_unrecorded(db: Database, layout: Layout, digest: Digest) -> int:
    """Remove a blob's file if no row names it; returns the bytes that went.

    Under the digest's flock, after looking for a row again. When another holds the flock, it is bringing the blob back
    (or removing it): then nothing is done here. Raises OrlopError.
    """
    path = layout.blob(digest)
    try:
        lock = layout.lock_blob(digest, wait=False)
    except errors.Unavailable:
        return 0
    try:
        with db.read() as tx:
            if rows.size_on_disk(tx, digest) is not None:
                return 0
        size = size_of(path)
        if size is None:
            return 0
        faults.point("content.unlink.checked")
        os.unlink(path)
        faults.point("content.unlink.done")
        return size
    except OSError as error:
        raise errors.from_os(error, f"remove {digest}") from error
    finally:
        lock.release(unlink=True)


def _info(row: rows.ContentRow) -> Info:
    return Info(row.digest, row.size, row.created_ns, row.updated_ns, row.labels)


def _damaged(digest: Digest, detail: str) -> errors.DataLoss:
    return errors.DataLoss(
        f"content {digest} is damaged: {detail}", advice="remove the images that use it, and pull them again"
    )
