"""Load: images from a docker-archive (old or new), an OCI archive or an OCI layout directory.

An archive is read once, front to back, so that it may come from a pipe: every file is put into the content store under
its digest as it passes, and what it is called is settled when the manifests at its end are known.
Sources: image-spec image-layout.md; moby image/tarexport (v1.0 and v1.2 of `docker save`).
"""

from __future__ import annotations

import os
import posixpath
import stat

from ...base import errors, jsonio
from ...base.archive.entry import FILE, LINK, SYMLINK
from ...base.archive.tar import TarReader
from ...base.cancel import NEVER, Cancel
from ...base.oci import descriptor as descriptors
from ...base.oci import digest as digests
from ...base.oci import manifest as manifests
from ...base.oci import mediatypes
from ...base.oci import reference as references
from ...base.oci.descriptor import Descriptor
from ...base.progress import SILENT, Report, Sink
from ...base.record import Record
from . import streams, tree, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import IO, Any

    from ...base.oci.digest import Digest
    from ...base.oci.manifest import Manifest
    from ...base.oci.platform import Platform
    from ...stores.images.api import Image
    from .parts import Parts

_SMALL = 4 << 20
_CHUNK = 1 << 20
_LINKS = 8


class _Stored(Record):
    """A file of the archive, now a blob. data: its bytes when it is small enough to be a manifest or an index."""

    digest: Digest
    size: int
    data: bytes | None


def load(
    parts: Parts,
    source: str | IO[bytes],
    *,
    wanted: Platform,
    progress: Sink = SILENT,
    cancel: Cancel = NEVER,
) -> list[Image]:
    """Load all images of an archive (a path or an open file, compressed or not) or of a layout directory.

    The wanted platform of each is unpacked. Returns the images' records; one without a name is kept by its digest.
    Raises InvalidArgument for what is no image archive, DataLoss for a damaged one.
    """
    shown = source if isinstance(source, str) else "the archive"
    try:
        if isinstance(source, str) and os.path.isdir(source):
            files = _from_directory(parts, source, progress, cancel)
        elif isinstance(source, str):
            with open(source, "rb") as file:
                files = _from_archive(parts, file, progress, cancel)
        else:
            files = _from_archive(parts, source, progress, cancel)
    except OSError as error:
        raise errors.from_os(error, f"load {shown}") from error
    found = _targets(parts, files, shown)
    if not found:
        raise errors.InvalidArgument(f"{shown} holds no image", advice="it must hold an index.json or a manifest.json")
    return [_keep(parts, name, target, wanted, progress, cancel) for name, target in found]


def _from_archive(parts: Parts, file: IO[bytes], progress: Sink, cancel: Cancel) -> dict[str, _Stored]:
    """Every regular file of the archive as a blob, by its cleaned path; links point to the blob of their target."""
    files: dict[str, _Stored] = {}
    links: dict[str, str] = {}
    tar = TarReader(streams.decompressed(file), strict_tail=False)
    while (entry := tar.next()) is not None:
        cancel.check()
        path = posixpath.normpath(entry.path).lstrip("/")
        if entry.kind == FILE:
            expected = _expected(path)

            def pieces(size: int = entry.size) -> Iterator[memoryview]:
                left = size
                while left > 0:
                    piece = tar.read_some()
                    left -= len(piece)
                    yield piece

            files[path] = _store(parts, path, entry.size, expected, pieces(), progress, cancel)
        elif entry.kind == SYMLINK:
            target = os.fsdecode(entry.linkname)
            links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), target)).lstrip("/")
        elif entry.kind == LINK:
            links[path] = posixpath.normpath(os.fsdecode(entry.linkname)).lstrip("/")
    for path in links:
        target = path
        for _ in range(_LINKS):
            target = links.get(target, target)
        if target in files:
            files[path] = files[target]
    return files


def _from_directory(parts: Parts, path: str, progress: Sink, cancel: Cancel) -> dict[str, _Stored]:
    """The files of a layout, not what else lies beside them. Blobs may be symbolic links (Bazel's are)."""
    files: dict[str, _Stored] = {}
    for relative in _layout_files(path):
        full = os.path.join(path, relative)
        fd = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb", buffering=0) as file:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                raise errors.InvalidArgument(f"{full} is not a file", advice="is this an OCI layout?")

            def chunks(source: IO[bytes] = file) -> Iterator[bytes]:
                while chunk := source.read(_CHUNK):
                    yield chunk

            files[relative] = _store(parts, relative, about.st_size, _expected(relative), chunks(), progress, cancel)
    return files


def _layout_files(path: str) -> Iterator[str]:
    for name in ("oci-layout", "index.json", "manifest.json"):
        if os.path.lexists(os.path.join(path, name)):
            yield name
    for algorithm in digests.HEX_LENGTH:
        directory = f"blobs/{algorithm}"
        try:
            names = sorted(os.listdir(os.path.join(path, directory)))
        except FileNotFoundError:
            continue
        for name in names:
            if _expected(f"{directory}/{name}") is not None:  # else a file that its writer has not finished
                yield f"{directory}/{name}"


def _expected(path: str) -> Digest | None:
    """The digest that a path of the form blobs/ALGORITHM/HEX promises."""
    words = path.split("/")
    if len(words) == 3 and words[0] == "blobs":
        try:
            return digests.parse(f"{words[1]}:{words[2]}")
        except errors.InvalidArgument:
            return None
    return None


def _store(
    parts: Parts,
    path: str,
    size: int,
    expected: Digest | None,
    chunks: Iterator[bytes] | Iterator[memoryview],
    progress: Sink,
    cancel: Cancel,
) -> _Stored:
    small = bytearray() if size <= _SMALL else None
    item = str(expected) if expected else path
    ref = f"load-{os.urandom(8).hex()}"
    try:
        with parts.content.writer(ref, size, expected, cancel) as writer:
            writer.truncate(0)
            done = 0
            for chunk in chunks:
                cancel.check()
                writer.write(chunk)
                done += len(chunk)
                if small is not None:
                    small += chunk
                if size > _SMALL:
                    progress.report(Report(item, "reading", done, size))
            reached = writer.digest()
            if expected is not None and reached != expected:
                raise errors.DataLoss(f"{path} in the archive has digest {reached}", advice="the archive is damaged")
            try:
                writer.commit(size, expected)
            except errors.AlreadyExists:
                pass
    except errors.AlreadyExists:  # the namespace has it; `expected` is then known
        if expected is None:
            raise
        reached, size = expected, parts.content.info(expected).size
        small = bytearray(parts.content.read(expected, _SMALL)) if size <= _SMALL else None
    except BaseException:  # its name is random: no second try would find it
        _abort(parts, ref)
        raise
    if size > _SMALL:
        progress.report(Report(item, "done", size, size))
    return _Stored(reached, size, bytes(small) if small is not None else None)


def _abort(parts: Parts, ref: str) -> None:
    try:
        parts.content.abort(ref)
    except errors.OrlopError:
        pass


def _targets(parts: Parts, files: Mapping[str, _Stored], shown: str) -> list[tuple[str, Descriptor]]:
    """(name or "", descriptor) of the archive's images."""
    if "index.json" in files and "oci-layout" in files:
        return _oci_targets(files, shown)
    if "manifest.json" in files:
        return _docker_targets(parts, files, shown)
    return []


def _json(stored: _Stored, what: str) -> Any:
    if stored.data is None:
        raise errors.DataLoss(f"{what} is larger than {_SMALL} bytes")
    try:
        return jsonio.loads(stored.data)
    except ValueError as error:
        raise errors.DataLoss(f"{what} is not JSON: {error}") from error


def _oci_targets(files: Mapping[str, _Stored], shown: str) -> list[tuple[str, Descriptor]]:
    index = _json(files["index.json"], f"index.json of {shown}")
    if not isinstance(index, dict) or not isinstance(index.get("manifests"), list):
        raise errors.DataLoss(f"index.json of {shown} has no list of manifests")
    found = []
    tags = _docker_tags(files, shown)
    for value in index["manifests"]:
        descriptor = descriptors.from_json(value, f"index.json of {shown}")
        if descriptor.digest not in {stored.digest for stored in files.values()}:
            raise errors.DataLoss(f"{shown} lacks {descriptor.digest}, which its index lists")
        name = descriptor.annotations.get("io.containerd.image.name", "")
        if not name:
            ref = descriptor.annotations.get("org.opencontainers.image.ref.name", "")
            name = ref if "/" in ref or ":" in ref else ""
        target = descriptor.replace(annotations={})
        found.append((_name(name), target))
    if len(found) == 1 and not found[0][0] and tags:
        return [(_name(tag), found[0][1]) for tag in tags]
    return found


def _docker_tags(files: Mapping[str, _Stored], shown: str) -> list[str]:
    if "manifest.json" not in files:
        return []
    listed = _json(files["manifest.json"], f"manifest.json of {shown}")
    if not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0], dict):
        return []
    return [str(tag) for tag in listed[0].get("RepoTags") or ()]


def _name(text: str) -> str:
    return str(references.parse_normalized(text).with_default_tag()) if text else ""


def _docker_targets(parts: Parts, files: Mapping[str, _Stored], shown: str) -> list[tuple[str, Descriptor]]:
    """Images of an archive that has only Docker's manifest.json: their OCI manifests are made here."""
    listed = _json(files["manifest.json"], f"manifest.json of {shown}")
    if not isinstance(listed, list):
        raise errors.DataLoss(f"manifest.json of {shown} is not a list")
    found: list[tuple[str, Descriptor]] = []
    for element in listed:
        if not isinstance(element, dict) or not isinstance(element.get("Layers"), list):
            raise errors.DataLoss(f"manifest.json of {shown} has an element without layers")
        config = _file(files, element.get("Config"), shown)
        layers = [_layer(parts, _file(files, path, shown)) for path in element["Layers"]]
        raw = manifests.manifest_bytes(Descriptor(mediatypes.CONFIG, config.digest, config.size), layers)
        with parts.content.writer(f"load-{os.urandom(8).hex()}", len(raw)) as writer:
            writer.write(raw)
            try:
                writer.commit(len(raw))
            except errors.AlreadyExists:
                pass
        target = Descriptor(mediatypes.MANIFEST, digests.of_bytes(raw), len(raw))
        names = [_name(str(tag)) for tag in element.get("RepoTags") or ()]
        found.extend((name, target) for name in names or [""])
    return found


def _file(files: Mapping[str, _Stored], path: object, shown: str) -> _Stored:
    stored = files.get(posixpath.normpath(path).lstrip("/")) if isinstance(path, str) else None
    if stored is None:
        raise errors.DataLoss(f"{shown} lacks {path!r}, which its manifest.json lists")
    return stored


def _layer(parts: Parts, stored: _Stored) -> Descriptor:
    with parts.content.open(stored.digest) as reader:
        kind = streams.kind_of(reader.read_at(0, 16) if reader.size else b"")
    media_type = {"gzip": mediatypes.LAYER_GZIP, "zstd": mediatypes.LAYER_ZSTD}.get(kind, mediatypes.LAYER)
    return Descriptor(media_type, stored.digest, stored.size)


def _keep(parts: Parts, name: str, target: Descriptor, wanted: Platform, progress: Sink, cancel: Cancel) -> Image:
    """Label an image's content, unpack the wanted platform of it, name it."""
    for descriptor, parsed in tree.walk(parts.content, target):
        stored = parts.content.info(descriptor.digest).size
        if stored != descriptor.size:
            raise errors.DataLoss(
                f"{name or target.digest}: {descriptor.digest} has {stored} bytes, its descriptor says "
                f"{descriptor.size}",
                advice="the archive is broken; ask who made it",
            )
        if parsed is not None:
            labels = tree.gc_labels(parsed)
            parts.content.update(descriptor.digest, labels, [f"labels.{key}" for key in labels])
    try:
        chosen = tree.choose(parts.content, target, wanted, name or str(target.digest))
    except errors.NotFound:
        chosen = None  # an archive for other machines is kept as it is
    if chosen is not None and tree.is_image(chosen.manifest):
        _check_complete(parts, chosen.manifest, name or str(target.digest))
        unpack.unpack(parts, chosen.manifest, progress=progress, cancel=cancel)
    return parts.images.put(name or str(target.digest), target)


def _check_complete(parts: Parts, manifest: Manifest, shown: str) -> None:
    """Raise DataLoss unless all that a manifest refers to is stored."""
    for descriptor in (manifest.config, *manifest.layers):
        try:
            parts.content.info(descriptor.digest)
        except errors.NotFound:
            raise errors.DataLoss(
                f"{shown}: the archive lacks {descriptor.digest}, which manifest {manifest.digest} refers to",
                advice="the archive is incomplete; ask who made it",
            ) from None
