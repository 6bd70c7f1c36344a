"""Import: a root file system's tar becomes an image of one layer.

The stream is read once: a compressed one is stored as it is, a plain one is compressed on the way; in the same pass
the diff ID is found, which the image's config needs and under which the layer is then unpacked.
"""

from __future__ import annotations

import os
import time

from ...base import errors, times
from ...base.archive import compression as archive_compression
from ...base.cancel import NEVER, Cancel
from ...base.oci import config as configs
from ...base.oci import digest as digests
from ...base.oci import manifest as manifests
from ...base.oci import mediatypes
from ...base.oci.config import History, ImageConfig, RunConfig
from ...base.oci.descriptor import Descriptor
from ...base.progress import SILENT, Report, Sink
from . import changes as instructions
from . import streams, tree, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import IO

    from ...base.oci.digest import Digest
    from ...base.oci.platform import Platform
    from ...stores.images.api import Image
    from .parts import Parts

_CHUNK = 1 << 20
_MEDIA = {"none": mediatypes.LAYER, "gzip": mediatypes.LAYER_GZIP, "zstd": mediatypes.LAYER_ZSTD}


def import_rootfs(
    parts: Parts,
    source: str | IO[bytes],
    name: str,
    *,
    changes: Sequence[str],
    message: str,
    platform: Platform,
    compression: str,
    progress: Sink = SILENT,
    cancel: Cancel = NEVER,
) -> Image:
    """See `engine.images.import_`. Raises InvalidArgument, DataLoss (not a tar), NotFound (no such file)."""
    if compression not in _MEDIA:
        raise errors.InvalidArgument(f"unknown compression {compression!r}", advice=f"use {', '.join(_MEDIA)}")
    run_config = instructions.apply(RunConfig(), changes)
    if isinstance(source, str):
        try:
            with open(source, "rb") as file:
                layer, diff_id = _layer(parts, file, compression, progress, cancel)
        except OSError as error:
            raise errors.from_os(error, f"import {source}") from error
    else:
        layer, diff_id = _layer(parts, source, compression, progress, cancel)
    created = times.rfc3339(time.time_ns())
    shown = source if isinstance(source, str) else "standard input"
    config = ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        created=created,
        diff_ids=(diff_id,),
        history=(History(created=created, comment=message or f"Imported from {shown}"),),
        config=run_config,
    )
    raw_config = configs.config_bytes(config)
    config_blob = _put(parts, mediatypes.CONFIG, raw_config, {})
    raw = manifests.manifest_bytes(config_blob, (layer,))
    parsed = manifests.parse(raw)
    target = _put(parts, mediatypes.MANIFEST, raw, tree.gc_labels(parsed))
    if isinstance(parsed, manifests.Manifest):
        unpack.unpack(parts, parsed, progress=progress, cancel=cancel)
    return parts.images.put(name or str(target.digest), target)


def _put(parts: Parts, media_type: str, raw: bytes, labels: dict[str, str]) -> Descriptor:
    digest = digests.of_bytes(raw)
    try:
        with parts.content.writer(f"import-{digest}", len(raw), digest) as writer:
            writer.truncate(0)
            writer.write(raw)
            writer.commit(len(raw), digest, labels)
    except errors.AlreadyExists:
        if labels:
            parts.content.update(digest, labels, [f"labels.{key}" for key in labels])
    return Descriptor(media_type, digest, len(raw))


class _Tee:
    """A source that hands what is read from it on to a writer."""

    def __init__(self, source: streams.Source, write: Callable[[bytes], object]) -> None:
        self._source = source
        self._write = write

    def read(self, n: int, /) -> bytes:
        data = self._source.read(n)
        if data:
            self._write(data)
        return data


def _layer(parts: Parts, file: IO[bytes], wanted: str, progress: Sink, cancel: Cancel) -> tuple[Descriptor, Digest]:
    """Store the stream as a layer's blob; returns its descriptor and diff ID."""
    peeked = streams.Peeked(file)
    have = streams.kind_of(peeked.head)
    kind = have if have != "none" else wanted
    ref = f"import-{os.urandom(8).hex()}"
    hasher = digests.hasher()
    done = 0
    try:
        with parts.content.writer(ref, cancel=cancel) as writer:
            if have != "none":  # stored as it is
                plain: streams.Source = archive_compression.open_reader(_Tee(peeked, writer.write), have)
                sink = None
            else:
                plain = peeked
                sink = archive_compression.open_writer(writer, kind)
            while chunk := plain.read(_CHUNK):
                cancel.check()
                hasher.update(chunk)
                if sink is not None:
                    sink.write(chunk)
                done += len(chunk)
                progress.report(Report("layer", "reading", done, None))
            if sink is not None:
                sink.close()
            if not done:
                raise errors.InvalidArgument("the archive is empty")
            size, digest = writer.status().offset, writer.digest()
            try:
                writer.commit(size, digest)
            except errors.AlreadyExists:
                pass
    except BaseException:  # its name is random: no second try would find it
        try:
            parts.content.abort(ref)
        except errors.OrlopError:
            pass
        raise
    return Descriptor(_MEDIA[kind], digest, size), digests.from_hasher(hasher)
