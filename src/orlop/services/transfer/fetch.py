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
from . import tree, unpack
from .unpack import BuildFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...base.oci.config import ImageConfig
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
        self._unfinished: set[str] = set()

    def abandon(self) -> None:
        """Remove what was begun and not finished: what has come of it is of no use to a second try."""
        for ref in list(self._unfinished):
            self._drop(ref)

    def _drop(self, ref: str) -> None:
        """Remove an ingest, if it is there."""
        self._unfinished.discard(ref)
        try:
            self._parts.content.abort(ref)
        except errors.OrlopError:
            pass  # as a rule there is none; another process may be going on with it

    def parse(self, raw: bytes, descriptor: Descriptor) -> Index | Manifest:
        """A manifest or index whose bytes were verified. InvalidArgument names it and where it comes from."""
        try:
            return manifests.parse(raw, descriptor.media_type, descriptor.digest)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(
                f"{self._reference.name}@{descriptor.digest}: {error.message}", advice=error.advice
            ) from error

    def target(self, cancel: Cancel = NEVER) -> tuple[Descriptor, bytes]:
        """What the reference points to, by one request (none at all for a digest that is stored)."""
        reference = self._reference
        if reference.digest is not None:
            try:
                raw = self._parts.content.read(reference.digest)
                return manifests.parse(raw, "", reference.digest).descriptor(), raw
            except errors.NotFound:
                pass
        descriptor, raw = self._parts.registry.fetch_tag(reference, cancel=cancel)
        return descriptor, raw

    def manifest(self, descriptor: Descriptor, cancel: Cancel = NEVER) -> tuple[Index | Manifest, bytes]:
        """A manifest or index, from the store or the registry; not yet kept (see `keep_manifest`)."""
        try:
            raw = self._parts.content.read(descriptor.digest)
        except errors.NotFound:
            raw = _embedded(descriptor) or self._parts.registry.fetch_manifest(
                self._reference, descriptor, cancel=cancel
            )
        return self.parse(raw, descriptor), raw

    def config(self, manifest: Manifest, cancel: Cancel = NEVER) -> ImageConfig:
        """An image's config, from the store or the registry (it is then stored)."""
        self.blob(manifest.config, None, cancel)
        return unpack.parse_config(self._parts, manifest)

    def keep_manifest(self, descriptor: Descriptor, parsed: Index | Manifest, raw: bytes) -> None:
        """Store a manifest's bytes with the labels that keep its children."""
        self._keep(descriptor, raw, tree.gc_labels(parsed))

    def _keep(self, descriptor: Descriptor, raw: bytes, labels: dict[str, str]) -> None:
        labels = {**labels, **self._source}
        ref = f"manifest-{descriptor.digest}"
        self._unfinished.add(ref)
        try:
            with self._parts.content.writer(ref, len(raw), descriptor.digest) as writer:
                writer.truncate(0)
                writer.write(raw)
                writer.commit(len(raw), descriptor.digest, labels)
        except errors.AlreadyExists:
            self._label(descriptor, labels)
            self._drop(ref)
        self._unfinished.discard(ref)

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
        embedded = _embedded(descriptor)
        if embedded is not None:
            self._keep(descriptor, embedded, {})
            return False
        for attempt in range(_TRIES):
            try:
                return self._blob_once(descriptor, open_build, cancel)
            except BuildFailed as failed:
                raise failed.reason from failed.reason.__cause__
            except errors.DataLoss:
                if attempt + 1 == _TRIES:
                    raise
                cancel.check()
        raise AssertionError("unreachable")

    def _blob_once(
        self, descriptor: Descriptor, open_build: Callable[[], LayerBuild | None] | None, cancel: Cancel
    ) -> bool:
        item, total = str(descriptor.digest), descriptor.size
        ref = f"layer-{item}"
        self._progress.report(Report(item, "waiting", 0, total))
        self._unfinished.add(ref)
        try:
            writer = self._parts.content.writer(ref, total, descriptor.digest, cancel)
        except errors.AlreadyExists:
            self._drop(ref)  # who committed it may have been killed before it removed this
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
                except errors.DataLoss as error:
                    raise errors.DataLoss(
                        f"blob {self._reference.name}@{item} is not what the registry says: {error.message}",
                        advice="try again; if it stays so, the image in the registry is damaged",
                    ) from error
                self._unfinished.discard(ref)
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
    ) -> BuildFailed | None:
        """Registry → ingest (and build). Returns the build's failure, so that a wrong digest is told before it."""
        failure: BuildFailed | None = None
        item, total = str(descriptor.digest), descriptor.size
        buffer = memoryview(bytearray(CHUNK))
        with self._open(descriptor, offset, cancel) as stream:
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
                    except BuildFailed as error:
                        if not error.is_of_content:
                            raise
                        failure = error
                offset += count
                self._progress.report(Report(item, "downloading", offset, total))
        return failure

    def _open(self, descriptor: Descriptor, offset: int, cancel: Cancel) -> Any:
        """The registry's stream, from the first byte when it has none at the offset (what has come is then wrong)."""
        try:
            return self._parts.registry.open_blob(self._reference, descriptor, offset=offset, cancel=cancel)
        except errors.OutOfRange:
            if not offset:
                raise
        return self._parts.registry.open_blob(self._reference, descriptor, cancel=cancel)


def _embedded(descriptor: Descriptor) -> bytes | None:
    """The content that a descriptor carries itself, if it is what the descriptor says."""
    data = descriptor.data
    if data is None or len(data) != descriptor.size:
        return None
    return data if digests.of_bytes(data, descriptor.digest.algorithm) == descriptor.digest else None
