"""Push: a stored image to a registry. Blobs the registry has are skipped, mounted where another repository has them."""

from __future__ import annotations

from ...base import errors
from ...base.cancel import NEVER, Cancel
from ...base.oci import manifest as manifests
from ...base.oci import mediatypes
from ...base.progress import SILENT, Report, Sink
from ...base.record import Record
from . import tree, workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.oci.descriptor import Descriptor
    from ...base.oci.digest import Digest
    from ...base.oci.manifest import Index, Manifest
    from ...base.oci.platform import Platform
    from ...base.oci.reference import Reference
    from .parts import Parts

AT_ONCE = 3


class Pushed(Record):
    """digest, size: the manifest or index now behind the tag. reduced: only one platform of an index was sent."""

    digest: Digest
    size: int
    reduced: bool


def push(
    parts: Parts,
    reference: Reference,
    target: Descriptor,
    *,
    wanted: Platform | None = None,
    host_platform: Platform,
    at_once: int = AT_ONCE,
    progress: Sink = SILENT,
    cancel: Cancel = NEVER,
) -> Pushed:
    """Send an image under a name.

    With `wanted`, only that platform's manifest. Without, everything, if everything is stored; of an index of which
    only some platforms are stored, the host platform's manifest alone, or the only one that is stored (the digest
    behind the tag is then that manifest's: `reduced`). NotFound names the content that is missing.
    """
    reduced = False
    if wanted is None and not _complete(parts, target):
        wanted, reduced = host_platform, True
    if wanted is not None:
        try:
            chosen = tree.choose(parts.content, target, wanted, str(reference)).descriptor
        except errors.NotFound:
            only = _only_one(parts, target) if reduced else None
            if only is None:
                raise
            chosen = only
        reduced = reduced or chosen.digest != target.digest
        target = chosen
    nodes = list(tree.walk(parts.content, target))
    stored = {descriptor.digest for descriptor, _ in nodes}
    for descriptor, parsed in nodes:
        for child in _children(parsed):
            if child.digest not in stored and child.media_type not in mediatypes.NONDISTRIBUTABLE:
                raise errors.NotFound(
                    f"{reference}: {child.digest}, which {descriptor.digest} refers to, is not stored here",
                    advice=f"orlop pull {reference}, or push one platform with --platform",
                )
    blobs = [d for d, parsed in nodes if parsed is None and d.media_type not in mediatypes.NONDISTRIBUTABLE]
    blobs.sort(key=lambda d: -d.size)
    workers.run_all([_blob_task(parts, reference, blob, progress) for blob in blobs], at_once, cancel)
    for descriptor, parsed in nodes:
        if parsed is None:
            continue
        is_target = descriptor.digest == target.digest
        under = reference if is_target else reference.replace(tag="", digest=descriptor.digest)
        item = str(descriptor.digest)
        progress.report(Report(item, "uploading", 0, descriptor.size))
        parts.registry.push_manifest(under, parsed.raw, descriptor.media_type, cancel=cancel)
        _remember(parts, reference, descriptor)
        progress.report(Report(item, "done", descriptor.size, descriptor.size))
    return Pushed(digest=target.digest, size=target.size, reduced=reduced)


def _children(parsed: Index | Manifest | None) -> tuple[Descriptor, ...]:
    if parsed is None:
        return ()
    return parsed.manifests if isinstance(parsed, manifests.Index) else (parsed.config, *parsed.layers)


def _complete(parts: Parts, target: Descriptor) -> bool:
    nodes = list(tree.walk(parts.content, target))
    stored = {descriptor.digest for descriptor, _ in nodes}
    return all(
        child.digest in stored or child.media_type in mediatypes.NONDISTRIBUTABLE
        for _, parsed in nodes
        for child in _children(parsed)
    )


def _only_one(parts: Parts, target: Descriptor) -> Descriptor | None:
    """The one image of an index that is stored whole; None when there are none or several."""
    found = [
        descriptor
        for descriptor, parsed in tree.walk(parts.content, target)
        if isinstance(parsed, manifests.Manifest) and tree.is_image(parsed) and _complete(parts, descriptor)
    ]
    return found[0] if len(found) == 1 else None


def _blob_task(parts: Parts, reference: Reference, blob: Descriptor, progress: Sink) -> Callable[[Cancel], None]:
    item, total = str(blob.digest), blob.size

    def work(cancel: Cancel) -> None:
        progress.report(Report(item, "preparing", 0, total))
        known = parts.content.info(blob.digest).labels.get(f"{tree.SOURCE}{reference.domain}", "")
        mount_from = tuple(r for r in known.split(",") if r and r != reference.path)
        how = parts.registry.push_blob(
            reference,
            blob,
            lambda: parts.content.open(blob.digest),
            mount_from=mount_from,
            progress=lambda done: progress.report(Report(item, "uploading", done, total)),
            cancel=cancel,
        )
        _remember(parts, reference, blob)
        progress.report(Report(item, how, total, total))

    return work


def _remember(parts: Parts, reference: Reference, descriptor: Descriptor) -> None:
    """Label a blob with the repository that now has it, so that a later push can mount it from there."""
    key = f"{tree.SOURCE}{reference.domain}"
    known = [r for r in parts.content.info(descriptor.digest).labels.get(key, "").split(",") if r]
    if reference.path not in known:
        parts.content.update(descriptor.digest, {key: ",".join([*known, reference.path])}, [f"labels.{key}"])
