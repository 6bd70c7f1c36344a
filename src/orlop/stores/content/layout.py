"""Where content lies on disk (containerd's layout), and the flocks that guard it.

    content/blobs/<algorithm>/<hex>                    a blob: complete, durable, never changed
    content/ingest/<sha256 of the ref>/                a blob that is growing
        ref  data  total  expected  startedat  updatedat
    locks/ingest-<sha256 of the ref>                   held by the open writer of that ingest
    locks/blob-<algorithm>-<hex>                       held from a blob's rename to its row, and while it is unlinked

Whoever needs both flocks takes the ingest's first. As in containerd, the `ref` file holds "<namespace>/<ref>", so that
namespaces do not meet in one ingest. Source: containerd plugins/content/local.
"""

from __future__ import annotations

import os

from ...base import errors, fsio
from ...base.oci import digest as digests
from ...base.oci.digest import HEX_LENGTH, Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...base.cancel import Cancel
    from ..metadata.database import Database

BLOB_MODE = 0o444


class Layout:
    """Paths and flocks of one root. Makes directories when they are first needed."""

    __slots__ = ("_blobs", "_ingests", "_locks", "root")

    def __init__(self, root: str) -> None:
        self.root = root
        self._blobs = f"{root}/content/blobs"
        self._ingests = f"{root}/content/ingest"
        self._locks = f"{root}/locks"

    def blob(self, digest: Digest) -> str:
        """The path of a blob's file."""
        algorithm, _, encoded = digest.partition(":")
        return f"{self._blobs}/{algorithm}/{encoded}"

    def size(self, digest: Digest) -> int:
        """Bytes of a blob's file, 0 when there is none."""
        return size_of(self.blob(digest)) or 0

    def make_blob_dir(self, digest: Digest) -> str:
        """The directory a blob lies in, made durable when it is new."""
        directory = f"{self._blobs}/{digest.algorithm}"
        if not os.path.isdir(directory):
            fsio.make_dirs(directory)
            for parent in (self._blobs, os.path.dirname(self._blobs), self.root):
                fsio.fsync_dir(parent)
        return directory

    def blobs(self) -> Iterator[Digest]:
        """Digests of all files there are, on record or not. Files with other names are passed over."""
        for algorithm, length in HEX_LENGTH.items():
            for name in _names(f"{self._blobs}/{algorithm}"):
                if len(name) == length:
                    try:
                        yield digests.parse(f"{algorithm}:{name}")
                    except errors.InvalidArgument:
                        continue

    def ingest(self, namespace: str, ref: str) -> str:
        """The directory of an ingest."""
        return f"{self._ingests}/{ingest_key(namespace, ref)}"

    def ingest_by_key(self, key: str) -> str:
        """The directory of an ingest by its name."""
        return f"{self._ingests}/{key}"

    def ingests(self) -> Iterator[str]:
        """The directories of all ingests of all namespaces."""
        for name in _names(self._ingests):
            yield f"{self._ingests}/{name}"

    def lock_ingest(self, directory: str, *, wait: bool = True, cancel: Cancel | None = None) -> fsio.Lock:
        """The flock of an ingest. Unavailable when wait is False and another holds it."""
        return self._lock(f"ingest-{os.path.basename(directory)}", wait, cancel)

    def lock_blob(self, digest: Digest, *, wait: bool = True, cancel: Cancel | None = None) -> fsio.Lock:
        """The flock of a digest. Unavailable when wait is False and another holds it."""
        return self._lock(f"blob-{digest.algorithm}-{digest.encoded}", wait, cancel)

    def lock_collector(self, cancel: Cancel | None = None) -> fsio.Lock:
        """The flock that lets one collection run at a time."""
        return self._lock("gc", True, cancel)

    def _lock(self, name: str, wait: bool, cancel: Cancel | None) -> fsio.Lock:
        path = f"{self._locks}/{name}"
        try:
            return fsio.lock(path, wait=wait, cancel=cancel)
        except FileNotFoundError:
            fsio.make_dirs(self._locks)
            return fsio.lock(path, wait=wait, cancel=cancel)

    def stale_locks(self) -> Iterator[fsio.Lock]:
        """Lock files of content that nobody holds (left by a kill), each locked: release them with unlink=True."""
        for name in _names(self._locks):
            if name.startswith(("ingest-", "blob-")):
                try:
                    yield fsio.lock(f"{self._locks}/{name}", wait=False)
                except (errors.Unavailable, FileNotFoundError):
                    continue


class Bound:
    """What a content store and its writers are bound to."""

    __slots__ = ("db", "layout", "lease", "namespace", "shared")

    def __init__(self, db: Database, layout: Layout, namespace: str, lease: str | None, shared: bool) -> None:
        self.db = db
        self.layout = layout
        self.namespace = namespace
        self.lease = lease
        self.shared = shared


def already_exists(digest: Digest, namespace: str) -> errors.AlreadyExists:
    """The error of who would write what is there."""
    return errors.AlreadyExists(f"content {digest} exists in namespace {namespace!r}")


def size_of(path: str) -> int | None:
    """Bytes of a file, None when there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def ingest_key(namespace: str, ref: str) -> str:
    """The name of an ingest's directory: the sha256 of "<namespace>/<ref>" in hex."""
    return digests.of_bytes(f"{namespace}/{ref}".encode("utf-8", "surrogatepass")).encoded


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
