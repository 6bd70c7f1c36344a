"""The tree of an image's content: index → manifests → config and layers; its GC labels; choosing a platform.

Pure but for reads from the content store.
"""

from __future__ import annotations

from ...base import errors
from ...base.oci import manifest as manifests
from ...base.oci import mediatypes, platform
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...base.oci.descriptor import Descriptor
    from ...base.oci.digest import Digest
    from ...base.oci.manifest import Index, Manifest
    from ...base.oci.platform import Platform
    from ...stores.content.api import ContentStore

GC_CONTENT = "containerd.io/gc.ref.content."
GC_SNAPSHOT = "containerd.io/gc.ref.snapshot."
SOURCE = "containerd.io/distribution.source."
"""Label on a blob: SOURCE + registry host → the repositories there that have it, separated by commas (containerd's)."""

DEEPEST = 4
"""Indexes may be nested so deep: far more than registries take."""


class NoPlatform(errors.NotFound):
    """An index, or a part of it, has nothing for the wanted platform."""


class Chosen(Record):
    """One platform's manifest of an image. path: the descriptors from the image's target down to it."""

    descriptor: Descriptor
    manifest: Manifest
    path: tuple[Descriptor, ...]


def gc_labels(parsed: Index | Manifest) -> dict[str, str]:
    """The labels that make a manifest or index keep its children (containerd's ChildGCLabels)."""
    labels: dict[str, str] = {}
    if isinstance(parsed, manifests.Index):
        for number, child in enumerate(parsed.manifests):
            labels[f"{GC_CONTENT}m.{number}"] = str(child.digest)
    else:
        labels[f"{GC_CONTENT}config"] = str(parsed.config.digest)
        for number, child in enumerate(parsed.layers):
            labels[f"{GC_CONTENT}l.{number}"] = str(child.digest)
    return labels


def read_manifest(content: ContentStore, descriptor: Descriptor) -> Index | Manifest:
    """Parse a manifest or index that the store has. NotFound otherwise."""
    return manifests.parse(content.read(descriptor.digest), descriptor.media_type, descriptor.digest)


def is_image(manifest: Manifest) -> bool:
    """Whether a manifest describes a container image (and not some other artifact)."""
    return manifest.config.media_type in mediatypes.CONFIGS


def pick(index: Index, wanted: Platform, name: str) -> tuple[Descriptor, ...]:
    """The manifests of an index that fit the platform, best first. NotFound tells which platforms there are."""
    offered = [d for d in index.manifests if d.media_type in mediatypes.MANIFESTS | mediatypes.INDEXES]
    with_platform = [d for d in offered if d.platform is not None]
    ranks = [platform.rank(wanted, d.platform) for d in with_platform if d.platform is not None]
    ordered = sorted((rank, position) for position, rank in enumerate(ranks) if rank >= 0)
    found = tuple(with_platform[position] for _, position in ordered)
    # A manifest without a platform may fit; only its config can tell.
    found += tuple(d for d in offered if d.platform is None)
    if found:
        return found
    there = sorted({platform.format(d.platform) for d in with_platform if d.platform} - {"unknown/unknown"})
    raise NoPlatform(
        f"{name} has no manifest for platform {platform.format(wanted)}; it has {', '.join(there) or 'none'}",
        advice="choose one of these with --platform",
    )


def choose(content: ContentStore, target: Descriptor, wanted: Platform, name: str) -> Chosen:
    """The manifest of a stored image for a platform. NotFound when it is not there or its content is missing."""
    return _choose(content, target, wanted, name, ())


def _choose(
    content: ContentStore, target: Descriptor, wanted: Platform, name: str, path: tuple[Descriptor, ...]
) -> Chosen:
    if len(path) > DEEPEST:
        raise errors.DataLoss(f"{name}: indexes nested more than {DEEPEST} deep")
    parsed = read_manifest(content, target)
    path += (target,)
    if isinstance(parsed, manifests.Manifest):
        return Chosen(descriptor=target, manifest=parsed, path=path)
    missing: errors.NotFound | None = None
    for candidate in pick(parsed, wanted, name):
        try:
            return _choose(content, candidate, wanted, name, path)
        except errors.NotFound as error:
            missing = error
    raise errors.NotFound(
        f"{name} for platform {platform.format(wanted)} is not stored here",
        advice=f"orlop pull --platform {platform.format(wanted)} {name}",
    ) from missing


def walk(content: ContentStore, target: Descriptor) -> Iterator[tuple[Descriptor, Index | Manifest | None]]:
    """Every descriptor of an image that is stored here, children before parents, each once.

    Yields (descriptor, parsed manifest or None for a leaf). Children that are not stored are passed over: an image may
    hold only some of its platforms.
    """
    seen: set[Digest] = set()
    yield from _walk(content, target, seen, 0)


def _walk(
    content: ContentStore, target: Descriptor, seen: set[Digest], depth: int
) -> Iterator[tuple[Descriptor, Index | Manifest | None]]:
    if target.digest in seen or depth > DEEPEST + 1:
        return
    seen.add(target.digest)
    if target.media_type in mediatypes.MANIFESTS or target.media_type in mediatypes.INDEXES:
        try:
            parsed = read_manifest(content, target)
        except errors.NotFound:
            return
        children = parsed.manifests if isinstance(parsed, manifests.Index) else (parsed.config, *parsed.layers)
        for child in children:
            yield from _walk(content, child, seen, depth + 1)
        yield target, parsed
        return
    try:
        content.info(target.digest)
    except errors.NotFound:
        return
    yield target, None
