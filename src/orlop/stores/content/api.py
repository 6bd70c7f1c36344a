"""The content store: bytes kept by their digest. The interface; `local.py` keeps files, `remote.py` will speak gRPC.

The life of a blob
    ingest   `writer(ref, …)` opens an *ingest*: a growing temporary file known by a reference of the caller's choice
             ("layer-sha256:…", "upload-42"). Bytes are hashed as they are written. A process that dies leaves the
             ingest; the next `writer` with the same ref goes on where it stopped (`status().offset`).
    commit   `Writer.commit(size, digest)` checks both, makes the bytes durable and gives them their name. From here on
             the blob is immutable and visible, whole, in this namespace.
    provide  `open(digest)` reads at any offset; `info` tells size, times and labels.
    collect  a blob lives while something refers to it: a lease, or a `containerd.io/gc.ref.content.*` label of a
             live image's blob (see `stores/gc.py`). `delete` takes it out of this namespace at once.

Blobs are shared between namespaces on disk; each namespace has its own labels and sees only what it has committed.
A handle is bound to a namespace and, optionally, a lease: what it commits is added to that lease in the same
transaction. All methods may be called from any thread. Source: containerd core/content, docs/content-flow.md.
"""

from __future__ import annotations

from ...base.cancel import NEVER, Cancel
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Protocol, Self

    from ...base.oci.digest import Digest
else:
    Protocol = object


class Info(Record):
    """One blob as a namespace sees it; size in bytes, times in ns since the epoch."""

    digest: Digest
    size: int
    created_ns: int
    updated_ns: int
    labels: dict[str, str] = {}


class Status(Record):
    """One ingest under way. total is 0 and expected None while unknown."""

    ref: str
    offset: int
    total: int
    expected: Digest | None
    started_ns: int
    updated_ns: int


class Reader(Protocol):
    """An open blob. Close it (or use it as a context manager)."""

    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to length bytes from offset; fewer only at the end. OutOfRange when offset is past the end."""

    def fileno(self) -> int:
        """A descriptor for sendfile and mmap. Unavailable when the blob is not a local file."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Writer(Protocol):
    """An open ingest. Closing it without commit keeps what was written, for a later resume."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append. ResourceExhausted when the disk is full; the ingest stays usable at its last good offset."""

    def status(self) -> Status: ...

    def digest(self) -> Digest:
        """The digest of what has been written so far."""

    def truncate(self, size: int = 0) -> None:
        """Drop all bytes from `size` on (a source that cannot resume begins again at 0)."""

    def commit(self, size: int = 0, expected: Digest | None = None, labels: Mapping[str, str] | None = None) -> Info:
        """Check, make durable, name. size 0 and expected None mean "what was said at `writer`, else whatever came".

        DataLoss when size or digest differ; the ingest is then removed, so that a retry begins at 0.
        AlreadyExists when this namespace has the blob (the ingest is removed; labels are not changed).
        """

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class ContentStore(Protocol):
    def info(self, digest: Digest) -> Info:
        """NotFound when this namespace does not have it."""

    def update(self, digest: Digest, labels: Mapping[str, str], fields: Sequence[str] = ()) -> Info:
        """Replace the labels, or only those named by fields ("labels.KEY"; an empty value removes the label)."""

    def walk(self, *filters: str) -> Iterator[Info]:
        """All blobs of the namespace that match any of the filters (containerd's filter language)."""

    def delete(self, digest: Digest) -> None:
        """Take the blob out of this namespace. The bytes go when no namespace has it."""

    def open(self, digest: Digest) -> Reader: ...

    def read(self, digest: Digest, limit: int = 4 << 20) -> bytes:
        """The whole blob. ResourceExhausted when it is larger than limit bytes."""

    def verify(self, digest: Digest, cancel: Cancel = NEVER) -> Info:
        """Read the blob from where it is kept and compare its digest. DataLoss when it differs."""

    def writer(
        self, ref: str, size: int = 0, expected: Digest | None = None, cancel: Cancel = NEVER, *, wait: bool = True
    ) -> Writer:
        """Open or go on with the ingest `ref`.

        size, expected: what will be committed, when known. With `expected`, AlreadyExists when the namespace has the
        blob (the lease holds it from then on); when another namespace has it (policy "shared"), it is adopted by commit
        without any write: the writer starts at offset == size (truncate(0) to write it all the same). The ingest's
        flock is held until close: a second opener waits (single-flight across processes, and threads: a thread must
        not open a second writer of one ref or one expected digest) or, with wait=False, raises Unavailable.
        """

    def status(self, ref: str) -> Status: ...

    def list_statuses(self, *filters: str) -> Sequence[Status]: ...

    def abort(self, ref: str) -> None:
        """Remove an ingest. NotFound when there is none, Unavailable while a living writer holds it."""
