"""Pull: an image from a registry into the stores, layers in parallel, unpacked while they arrive."""

from __future__ import annotations

from ...base import errors
from ...base.cancel import NEVER, Cancel
from ...base.oci import manifest as manifests
from ...base.oci import mediatypes, platform
from ...base.progress import SILENT, Report, Sink
from ...base.record import Record
from . import fetch, tree, unpack, workers
from .parts import RESUMABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.oci.descriptor import Descriptor
    from ...base.oci.digest import Digest
    from ...base.oci.manifest import Index, Manifest
    from ...base.oci.platform import Platform
    from ...base.oci.reference import Reference
    from ...stores.images.api import Image
    from .parts import Parts

    Node = tuple[Descriptor, Index | Manifest, bytes]

AT_ONCE = 3
"""Layers fetched at once (containerd's and Docker's default)."""


class Pulled(Record):
    """What a pull brought.

    changed: whether the name pointed elsewhere (or nowhere) before. chain_id: the top snapshot, "" if not unpacked.
    """

    image: Image
    manifest_digest: Digest
    changed: bool
    chain_id: str


def pull(
    parts: Parts,
    reference: Reference,
    *,
    wanted: Platform,
    all_platforms: bool = False,
    unpacked: bool = True,
    at_once: int = AT_ONCE,
    progress: Sink = SILENT,
    cancel: Cancel = NEVER,
) -> Pulled:
    """Bring an image here and, unless told otherwise, unpack the wanted platform so that it can run.

    The image's name changes only when everything it refers to is stored: a failed or killed pull leaves the old image
    as it was, and what has arrived is found again by the next try.
    """
    fetcher = fetch.Fetcher(parts, reference, progress)
    try:
        return _pull(parts, fetcher, str(reference), wanted, all_platforms, unpacked, at_once, progress, cancel)
    except errors.OrlopError as error:
        if not isinstance(error, RESUMABLE):
            fetcher.abandon()
        raise


def _pull(
    parts: Parts,
    fetcher: fetch.Fetcher,
    name: str,
    wanted: Platform,
    all_platforms: bool,
    unpacked: bool,
    at_once: int,
    progress: Sink,
    cancel: Cancel,
) -> Pulled:
    progress.report(Report(name, "resolving"))
    target, raw = fetcher.target(cancel)
    path, manifest = _find(fetcher, ((target, fetcher.parse(raw, target), raw),), wanted, name, cancel)
    chain_id = _manifest(parts, fetcher, manifest, wanted, name, unpacked, at_once, progress, cancel)
    if all_platforms:
        _others(fetcher, path, at_once, cancel)
    for descriptor, each, each_raw in reversed(path):
        fetcher.keep_manifest(descriptor, each, each_raw)
    try:
        changed = parts.images.get(name).target.digest != target.digest
    except errors.NotFound:
        changed = True
    image = parts.images.put(name, target)
    progress.report(Report(name, "done"))
    return Pulled(image=image, manifest_digest=path[-1][0].digest, changed=changed, chain_id=chain_id)


def _find(
    fetcher: fetch.Fetcher, path: tuple[Node, ...], wanted: Platform, name: str, cancel: Cancel
) -> tuple[tuple[Node, ...], Manifest]:
    """From the last of the path, an index or a manifest, down to the manifest for a platform. NotFound: none."""
    parsed = path[-1][1]
    if isinstance(parsed, manifests.Manifest):
        return path, parsed
    if len(path) > tree.DEEPEST:
        raise errors.DataLoss(f"{name}: indexes nested more than {tree.DEEPEST} deep")
    candidates = tree.pick(parsed, wanted, name)
    missing: errors.NotFound | None = None
    for candidate in candidates:
        child, raw = fetcher.manifest(candidate, cancel)
        if candidate.platform is None and len(candidates) > 1 and not _may_fit(fetcher, child, wanted, cancel):
            continue
        try:
            return _find(fetcher, (*path, (candidate, child, raw)), wanted, name, cancel)
        except tree.NoPlatform as error:  # an index within an index, for other platforms
            missing = error
    raise missing or tree.NoPlatform(
        f"{name} has no manifest for platform {platform.format(wanted)}: its manifests' configs name others",
        advice="choose one of its manifests by digest",
    )


def _may_fit(fetcher: fetch.Fetcher, child: Index | Manifest, wanted: Platform, cancel: Cancel) -> bool:
    """Whether a manifest that its index gives no platform is for the wanted one, by its config."""
    if isinstance(child, manifests.Index):
        return True
    return tree.is_image(child) and platform.matches(wanted, fetcher.config(child, cancel).platform)


def _manifest(
    parts: Parts,
    fetcher: fetch.Fetcher,
    manifest: Manifest,
    wanted: Platform,
    name: str,
    unpacked: bool,
    at_once: int,
    progress: Sink,
    cancel: Cancel,
) -> str:
    if not tree.is_image(manifest):
        if unpacked:
            raise errors.InvalidArgument(
                f"{name} is not a container image: its config has the media type {manifest.config.media_type!r}",
                advice="pull it as an artifact with --unpack=false",
            )
        _blobs(fetcher, (manifest.config, *manifest.layers), at_once, cancel)
        return ""
    config = fetcher.config(manifest, cancel)
    unpack.check_layers(manifest, config)
    offered = config.platform
    if unpacked and not platform.matches(wanted, offered):
        raise errors.NotFound(
            f"{name} is for platform {platform.format(offered)}, not {platform.format(wanted)}",
            advice=f"to use it all the same: --platform {platform.format(offered)}",
        )
    if not unpacked:
        _blobs(fetcher, manifest.layers, at_once, cancel)
        return ""
    _layers(parts, fetcher, manifest, config.diff_ids, at_once, progress, cancel)
    return unpack.stack(parts, manifest, config)


def _layers(
    parts: Parts,
    fetcher: fetch.Fetcher,
    manifest: Manifest,
    diff_ids: tuple[Digest, ...],
    at_once: int,
    progress: Sink,
    cancel: Cancel,
) -> None:
    def task(layer: Descriptor, diff_id: Digest) -> Callable[[Cancel], None]:
        def work(inner: Cancel) -> None:
            streamed = fetcher.blob(layer, lambda: unpack.open_build(parts, layer, diff_id, inner), inner)
            if not streamed:
                unpack.build_from_content(parts, layer, diff_id, progress, inner)
                progress.report(Report(str(layer.digest), "done", layer.size, layer.size))

        return work

    once = {layer.digest: (layer, diff_id) for layer, diff_id in zip(manifest.layers, diff_ids)}
    # The largest first, so that the last to end is a small one.
    order = sorted(once.values(), key=lambda pair: -pair[0].size)
    workers.run_all([task(layer, diff_id) for layer, diff_id in order], at_once, cancel)


def _blobs(fetcher: fetch.Fetcher, descriptors: tuple[Descriptor, ...], at_once: int, cancel: Cancel) -> None:
    def task(descriptor: Descriptor) -> Callable[[Cancel], bool]:
        return lambda inner: fetcher.blob(descriptor, None, inner)

    once = {d.digest: d for d in descriptors}
    workers.run_all([task(d) for d in once.values()], at_once, cancel)


def _others(
    fetcher: fetch.Fetcher,
    path: tuple[Node, ...],
    at_once: int,
    cancel: Cancel,
) -> None:
    """Fetch the rest of every index on the path, without unpacking it."""
    have = {descriptor.digest for descriptor, _, _ in path}
    todo = [child for _, parsed, _ in path if isinstance(parsed, manifests.Index) for child in parsed.manifests]
    while todo:
        child = todo.pop()
        if child.digest in have:
            continue
        have.add(child.digest)
        if child.media_type not in mediatypes.MANIFESTS | mediatypes.INDEXES:
            fetcher.blob(child, None, cancel)
            continue
        parsed, raw = fetcher.manifest(child, cancel)
        if isinstance(parsed, manifests.Index):
            todo.extend(parsed.manifests)
        else:
            _blobs(fetcher, (parsed.config, *parsed.layers), at_once, cancel)
        fetcher.keep_manifest(child, parsed, raw)
