"""Save: stored images into a docker-archive, an OCI archive or an OCI layout directory.

The docker-archive is both at once, as Docker's has been since version 25: an OCI layout with Docker's `manifest.json`
beside it, so that old and new readers take it. Blobs go as they are stored, byte for byte.
Sources: image-spec image-layout.md; moby image/tarexport.
"""

from __future__ import annotations

import os

from ...base import errors, fsio, jsonio
from ...base.archive.entry import DIR, FILE, Entry
from ...base.archive.tarwrite import TarWriter
from ...base.cancel import NEVER, Cancel
from ...base.oci import config as configs
from ...base.oci import descriptor as descriptors
from ...base.oci import manifest as manifests
from ...base.oci import mediatypes
from ...base.oci import reference as references
from ...base.progress import SILENT, Report, Sink
from . import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO, Any, Protocol

    from ...base.oci.descriptor import Descriptor
    from ...base.oci.digest import Digest
    from ...base.oci.manifest import Manifest
    from ...base.oci.platform import Platform
    from ...stores.images.api import Image
    from .parts import Parts

    class Layout(Protocol):
        """Where a layout's files go: an archive or a directory. there(): the images that it holds already."""

        def there(self) -> list[Descriptor]: ...
        def directory(self, name: str) -> None: ...
        def small(self, name: str, data: bytes) -> None: ...
        def blob(self, name: str, size: int, chunks: Iterator[bytes]) -> None: ...


FORMATS = ("docker-archive", "oci-archive", "oci-dir")
NAME_ANNOTATION = "io.containerd.image.name"
REF_ANNOTATION = "org.opencontainers.image.ref.name"
_CHUNK = 1 << 20


def save(
    parts: Parts,
    images: Sequence[tuple[str, Image]],
    output: str | IO[bytes],
    *,
    format: str,
    wanted: Platform | None,
    host_platform: Platform,
    progress: Sink = SILENT,
    cancel: Cancel = NEVER,
) -> None:
    """Write images, each (name or "", record), to `output`: a path, or for archives an open file.

    wanted: only this platform of each. An archive at a path appears whole or not at all; a layout that is there keeps
    its other images. Raises NotFound for content
    that is not stored.
    """
    if format not in FORMATS:
        raise errors.InvalidArgument(f"unknown format {format!r}", advice=f"use {', '.join(FORMATS)}")
    if format == "oci-dir":
        if not isinstance(output, str):
            raise errors.InvalidArgument("an OCI layout directory needs a path to write to", advice="use --output DIR")
        try:
            _write(parts, images, _Directory(output), False, wanted, host_platform, progress, cancel)
        except OSError as error:
            raise errors.from_os(error, f"save to {output}") from error
        return
    docker = format == "docker-archive"
    if not isinstance(output, str):
        _write_archive(parts, images, output, docker, wanted, host_platform, progress, cancel)
        return
    temporary = f"{output}.part-{os.urandom(4).hex()}"
    try:
        with open(temporary, "xb") as file:
            _write_archive(parts, images, file, docker, wanted, host_platform, progress, cancel)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, output)
    except OSError as error:
        raise errors.from_os(error, f"save to {output}") from error
    finally:
        try:
            os.unlink(temporary)
        except OSError:
            pass


def _write_archive(
    parts: Parts,
    images: Sequence[tuple[str, Image]],
    file: IO[bytes],
    docker: bool,
    wanted: Platform | None,
    host_platform: Platform,
    progress: Sink,
    cancel: Cancel,
) -> None:
    archive = TarWriter(file)
    _write(parts, images, _Archive(archive), docker, wanted, host_platform, progress, cancel)
    archive.close()


class _Archive:
    def __init__(self, tar: TarWriter) -> None:
        self._tar = tar

    def there(self) -> list[Descriptor]:
        return []

    def directory(self, name: str) -> None:
        self._tar.add(Entry(os.fsencode(name), DIR, mode=0o755))

    def small(self, name: str, data: bytes) -> None:
        self._tar.add(Entry(os.fsencode(name), FILE, size=len(data)))
        self._tar.write(data)

    def blob(self, name: str, size: int, chunks: Iterator[bytes]) -> None:
        self._tar.add(Entry(os.fsencode(name), FILE, size=size))
        for chunk in chunks:
            self._tar.write(chunk)


class _Directory:
    def __init__(self, path: str) -> None:
        self._path = path
        self.directory("")

    def there(self) -> list[Descriptor]:
        path = os.path.join(self._path, "index.json")
        try:
            raw = fsio.read_file(path, manifests.MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            return []
        try:
            index = manifests.parse(raw, mediatypes.INDEX)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(
                f"{path} is not the index of an OCI layout: {error.message}", advice="save to another directory"
            ) from error
        return list(index.manifests) if isinstance(index, manifests.Index) else []

    def directory(self, name: str) -> None:
        fsio.make_dirs(os.path.join(self._path, name).rstrip("/"), 0o755)

    def small(self, name: str, data: bytes) -> None:
        fsio.write_atomic(os.path.join(self._path, name), data, 0o644)

    def blob(self, name: str, size: int, chunks: Iterator[bytes]) -> None:
        path = os.path.join(self._path, name)
        if os.path.exists(path) and os.stat(path).st_size == size:
            return
        temporary = f"{path}.part"
        with open(temporary, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)


def _write(
    parts: Parts,
    images: Sequence[tuple[str, Image]],
    layout: Layout,
    docker: bool,
    wanted: Platform | None,
    host_platform: Platform,
    progress: Sink,
    cancel: Cancel,
) -> None:
    before = layout.there()
    entries: list[Descriptor] = []
    legacy: list[dict[str, Any]] = []
    written: set[Digest] = set()
    for name in ("blobs", "blobs/sha256"):
        layout.directory(name)
    for name, image in images:
        target = image.target
        if wanted is not None:
            target = tree.choose(parts.content, target, wanted, image.name).descriptor
        for descriptor, _ in tree.walk(parts.content, target):
            if descriptor.digest not in written:
                written.add(descriptor.digest)
                if descriptor.digest.algorithm != "sha256":
                    layout.directory(f"blobs/{descriptor.digest.algorithm}")
                _blob(parts, layout, descriptor, progress, cancel)
        if target.digest not in written:
            raise errors.NotFound(
                f"{image.name}: {target.digest} is not stored here", advice=f"orlop pull {image.name}"
            )
        annotations = {}
        if name:
            reference = references.parse_normalized(name)
            annotations = {NAME_ANNOTATION: str(reference), REF_ANNOTATION: reference.tag or str(reference.digest)}
        entries.append(target.replace(annotations=annotations, data=None))
        if docker:
            legacy.append(_legacy(parts, name, target, wanted or host_platform))
    named = {_named(entry) for entry in entries}
    kept = [entry for entry in before if _named(entry) not in named]
    layout.small("index.json", manifests.index_bytes([*kept, *entries]))
    if docker:
        layout.small("manifest.json", jsonio.dump_bytes(_merged(legacy)))
    layout.small("oci-layout", jsonio.dump_bytes({"imageLayoutVersion": "1.0.0"}))


def _blob(parts: Parts, layout: Layout, descriptor: Descriptor, progress: Sink, cancel: Cancel) -> None:
    item = str(descriptor.digest)
    with parts.content.open(descriptor.digest) as reader:

        def chunks() -> Iterator[bytes]:
            offset = 0
            while offset < reader.size:
                cancel.check()
                chunk = reader.read_at(offset, _CHUNK)
                if not chunk:
                    raise errors.DataLoss(f"blob {item} ends at {offset} of {reader.size} bytes")
                offset += len(chunk)
                progress.report(Report(item, "writing", offset, reader.size))
                yield chunk

        layout.blob(_path(descriptor.digest), reader.size, chunks())
    progress.report(Report(item, "done", descriptor.size, descriptor.size))


def _named(entry: Descriptor) -> tuple[str, ...]:
    """What an image in a layout goes by: its name, or its digest when it has none."""
    name, ref = (entry.annotations.get(key, "") for key in (NAME_ANNOTATION, REF_ANNOTATION))
    return (name, ref) if name or ref else (str(entry.digest),)


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def _legacy(parts: Parts, name: str, target: Descriptor, platform: Platform) -> dict[str, Any]:
    """One element of Docker's manifest.json: of one platform, since that format knows no other."""
    manifest = _one(parts, target, platform, name or str(target.digest))
    config = configs.parse(parts.content.read(manifest.config.digest))
    sources = {
        str(diff_id): descriptors.to_json(layer.replace(annotations={}, data=None))
        for diff_id, layer in zip(config.diff_ids, manifest.layers)
    }
    return {
        "Config": _path(manifest.config.digest),
        "RepoTags": [references.parse_normalized(name).familiar()] if name and "@" not in name else None,
        "Layers": [_path(layer.digest) for layer in manifest.layers if layer.media_type in mediatypes.LAYERS],
        "LayerSources": sources,
    }


def _one(parts: Parts, target: Descriptor, platform: Platform, shown: str) -> Manifest:
    """The manifest for a platform, or the first image that is stored where that one is not."""
    try:
        manifest = tree.choose(parts.content, target, platform, shown).manifest
        if tree.is_image(manifest):
            return manifest
    except errors.NotFound:
        pass
    for _, parsed in tree.walk(parts.content, target):
        if isinstance(parsed, manifests.Manifest) and tree.is_image(parsed):
            return parsed
    raise errors.InvalidArgument(
        f"{shown} is not a container image, which is all that a docker-archive can hold",
        advice="use --format oci-archive",
    )


def _merged(elements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Elements of one image under several names as one with several tags."""
    by_config: dict[str, dict[str, Any]] = {}
    for element in elements:
        known = by_config.setdefault(element["Config"], element)
        if known is not element:
            tags = [*(known["RepoTags"] or ()), *(element["RepoTags"] or ())]
            known["RepoTags"] = list(dict.fromkeys(tags)) or None
    return list(by_config.values())
