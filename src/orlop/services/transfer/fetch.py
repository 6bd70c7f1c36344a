"""Blobs of one repository into the content store: resumed, verified, each byte read once, fed on while it arrives.

A blob that is being fetched by another process or thread is waited for, not fetched twice: the content store's ingest
flock is the single-flight.
"""

from __future__ import annotations

from ...base import errors
from ...base.cancel import NEVER, Cancel
from ...base.oci import digest as digests
from ...base.oci import manifest as manifests
from ...base.progress import SILENT, Report, Sink
from . import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.oci.descriptor import Descriptor
    from ...base.oci.manifest import Index, Manifest
    from ...base.oci.reference import Reference
    from ...stores.content.api import Writer
    from .parts import Parts
    from .unpack import LayerBuild

CHUNK = 1 << 20
_TRIES = 2
"""How often a blob is fetched from its first byte when what came has the wrong digest."""


class Fetcher:
    """Fetches manifests and blobs of one reference's repository."""

    def __init__(self, parts: Parts, reference: Reference, progress: Sink = SILENT) -> None:
        self._parts = parts
        self._reference = reference
        self._progress = progress
        self._source = {f"{tree.SOURCE}{reference.domain}": reference.path}

    def target(self, cancel: Cancel = NEVER) -> tuple[Descriptor, bytes]:
        """What the reference points to, by one request (none at all for a digest that is stored)."""
        reference = self._reference
        if reference.digest is not None:
            try:
                raw = self._parts.content.read(reference.digest)
                parsed = manifests.parse(raw)
                return parsed.descriptor(), raw
            except errors.NotFound:
                pass
        descriptor, raw = self._parts.registry.fetch_tag(reference, cancel=cancel)
        return descriptor, raw

    def manifest(self, descriptor: Descriptor, cancel: Cancel = NEVER) -> tuple[Index | Manifest, bytes]:
        """A manifest or index, from the store or the registry; not yet kept (see `keep_manifest`)."""
        try:
            raw = self._parts.content.read(descriptor.digest)
        except errors.NotFound:
            raw = descriptor.data or self._parts.registry.fetch_manifest(self._reference, descriptor, cancel=cancel)
        return manifests.parse(raw, descriptor.media_type), raw

    def keep_manifest(self, descriptor: Descriptor, parsed: Index | Manifest, raw: bytes) -> None:
        """Store a manifest's bytes with the labels that keep its children."""
        self._keep(descriptor, raw, tree.gc_labels(parsed))

    def _keep(self, descriptor: Descriptor, raw: bytes, labels: dict[str, str]) -> None:
        labels = {**labels, **self._source}
        try:
            with self._parts.content.writer(f"manifest-{descriptor.digest}", len(raw), descriptor.digest) as writer:
                writer.truncate(0)
                writer.write(raw)
                writer.commit(len(raw), descriptor.digest, labels)
        except errors.AlreadyExists:
            self._label(descriptor, labels)

    def _label(self, descriptor: Descriptor, labels: dict[str, str]) -> None:
        """Add labels to a stored blob; its source repositories are added to, not replaced."""
        have = self._parts.content.info(descriptor.digest).labels
        changes = dict(labels)
        for key, repository in self._source.items():
            known = [r for r in have.get(key, "").split(",") if r]
            changes[key] = ",".join([*known, repository] if repository not in known else known)
        if any(have.get(key) != value for key, value in changes.items()):
            self._parts.content.update(descriptor.digest, changes, [f"labels.{key}" for key in changes])

    def blob(
        self,
        descriptor: Descriptor,
        open_build: Callable[[], LayerBuild | None] | None = None,
        cancel: Cancel = NEVER,
    ) -> bool:
        """Bring a blob into the store.

        open_build: opens a build that is fed the bytes as they arrive; called only when they will all come from the
        network in order. Returns whether the layer was built in passing.
        """
        if (
            descriptor.data is not None
            and digests.of_bytes(descriptor.data, descriptor.digest.algorithm) == descriptor.digest
        ):
            self._keep(descriptor, descriptor.data, {})
            return False
        for attempt in range(_TRIES):
            try:
                return self._blob_once(descriptor, open_build, cancel)
            except errors.DataLoss:
                if attempt + 1 == _TRIES:
                    raise
                cancel.check()
        raise AssertionError("unreachable")

    def _blob_once(
        self, descriptor: Descriptor, open_build: Callable[[], LayerBuild | None] | None, cancel: Cancel
    ) -> bool:
        item, total = str(descriptor.digest), descriptor.size
        self._progress.report(Report(item, "waiting", 0, total))
        try:
            writer = self._parts.content.writer(f"layer-{item}", total, descriptor.digest, cancel)
        except errors.AlreadyExists:
            self._label(descriptor, {})
            self._progress.report(Report(item, "exists", total, total))
            return False
        with writer:
            offset = writer.status().offset
            build = open_build() if open_build is not None and offset == 0 and total > 0 else None
            try:
                failure = self._copy(descriptor, writer, build, offset, cancel) if offset < total else None
                try:
                    writer.commit(total, descriptor.digest, dict(self._source))
                except errors.AlreadyExists:
                    self._label(descriptor, {})
                if failure is not None:
                    raise failure
                if build is None:
                    self._progress.report(Report(item, "downloaded", total, total))
                    return False
                self._progress.report(Report(item, "unpacking", total, total))
                build.commit()
            finally:
                if build is not None:
                    build.abort()
        self._progress.report(Report(item, "done", total, total))
        return True

    def _copy(
        self, descriptor: Descriptor, writer: Writer, build: LayerBuild | None, offset: int, cancel: Cancel
    ) -> errors.OrlopError | None:
        """Registry → ingest (and build). Returns the build's failure, so that a wrong digest is told before it."""
        failure: errors.OrlopError | None = None
        item, total = str(descriptor.digest), descriptor.size
        buffer = memoryview(bytearray(CHUNK))
        with self._parts.registry.open_blob(self._reference, descriptor, offset=offset, cancel=cancel) as stream:
            if stream.offset != offset:
                writer.truncate(stream.offset)
                offset = stream.offset
            while True:
                cancel.check()
                count = stream.readinto(buffer)
                if count == 0:
                    break
                writer.write(buffer[:count])
                if build is not None and failure is None:
                    try:
                        build.write(bytes(buffer[:count]))
                    except errors.DataLoss as error:
                        failure = error
                offset += count
                self._progress.report(Report(item, "downloading", offset, total))
        return failure
