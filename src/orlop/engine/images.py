"""The verbs of images: pull, push, list, tag, remove, save, load, import, inspect."""

from __future__ import annotations

from ..base import errors
from ..base.cancel import NEVER, Cancel
from ..base.oci import digest as digests
from ..base.oci import platform as platforms
from ..base.oci import reference as references
from ..base.progress import SILENT, Sink
from ..base.record import Record
from ..services.transfer import tree
from .wiring import Hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import IO, Any

    from ..base.oci.config import ImageConfig
    from ..base.oci.descriptor import Descriptor
    from ..base.oci.digest import Digest
    from ..base.oci.manifest import Manifest
    from ..base.oci.platform import Platform
    from ..base.oci.reference import Reference
    from ..services.transfer.pull import Pulled
    from ..services.transfer.push import Pushed
    from ..stores.images.api import Image
    from .wiring import Wiring


class Resolved(Record):
    """An image with the manifest and config that run here."""

    image: Image
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig

    @property
    def chain_id(self) -> str:
        """The snapshot its containers start from; "" for an image without layers."""
        from ..base.oci import config as configs

        chain = configs.chain_ids(self.config.diff_ids)
        return str(chain[-1]) if chain else ""


class Removed(Record):
    """One line of what a removal did. kind: "untagged" (a name) or "deleted" (an image's digest)."""

    kind: str
    what: str


def wanted_platform(text: str | Platform | None) -> Platform:
    """A platform from what a user said; the host's when nothing."""
    if not text:
        return platforms.host()
    return platforms.parse(text) if isinstance(text, str) else text


class Images:
    """`engine.images`."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    # ------------------------------------------------------------------ finding

    def list(self, *filters: str) -> Sequence[Image]:
        """All images in order of name; filters in containerd's language."""
        return self._wiring.images.list(*filters)

    def get(self, text: str) -> Image:
        """An image by name ("alpine", "host/repo:tag@sha256:…") or by (a prefix of) its digest or ID.

        NotFound when there is none; InvalidArgument when a prefix fits several images.
        """
        if not references.is_identifier(text):
            try:
                reference = references.parse_normalized(text)
            except errors.InvalidArgument:
                if not _looks_like_id(text):
                    raise
            else:
                found = self._by_reference(reference)
                if found is not None:
                    return found
        if _looks_like_id(text):
            found = self._by_id(text)
            if found is not None:
                return found
        raise errors.NotFound(f"no such image: {text}", advice=f"orlop pull {text}")

    def _by_reference(self, reference: Reference) -> Image | None:
        store = self._wiring.images
        try:
            return store.get(str(reference.with_default_tag()))
        except errors.NotFound:
            pass
        if reference.digest is None:
            return None
        for image in store.list():
            if image.target.digest == reference.digest and _name_of(image.name) == reference.name:
                return image
        return None

    def _by_id(self, text: str) -> Image | None:
        wanted = text if text.startswith(("sha256:", "sha512:")) else f"sha256:{text}"
        found: dict[Digest, Image] = {}
        for image in self._wiring.images.list():
            if image.target.digest.startswith(wanted):
                found.setdefault(image.target.digest, image)
        if len(found) > 1:
            raise errors.InvalidArgument(f"image ID {text} is ambiguous: it fits {len(found)} images")
        return next(iter(found.values()), None)

    def resolve(self, text: str, platform: str | Platform | None = None) -> Resolved:
        """An image with its manifest and config for a platform. NotFound when that platform is not stored."""
        image = self.get(text)
        return self.read(image, platform)

    def read(self, image: Image, platform: str | Platform | None = None) -> Resolved:
        """The manifest and config of an image's record for a platform (the host's by default).

        Without a platform, an image that holds only another one is taken as it is.
        """
        from ..base.oci import config as configs

        content = self._wiring.content()
        chosen = tree.choose(content, image.target, wanted_platform(platform), image.name)
        config = configs.parse(content.read(chosen.manifest.config.digest))
        if platform and not platforms.matches(wanted_platform(platform), config.platform):
            raise errors.NotFound(
                f"{image.name} is stored for {platforms.format(config.platform)}, "
                f"not for {platforms.format(wanted_platform(platform))}"
            )
        return Resolved(image=image, descriptor=chosen.descriptor, manifest=chosen.manifest, config=config)

    def read_any(self, image: Image) -> Resolved:
        """As `read`, but of an image that is stored only for other platforms, the first of those: to tell of it."""
        try:
            return self.read(image)
        except errors.NotFound as error:
            content = self._wiring.content()
            for descriptor, parsed in tree.walk(content, image.target):
                if descriptor.platform is not None and parsed is not None:
                    try:
                        return self.read(image, descriptor.platform)
                    except errors.NotFound:
                        continue
            raise error

    # ------------------------------------------------------------------ moving

    def pull(
        self,
        name: str,
        *,
        platform: str | Platform | None = None,
        all_platforms: bool = False,
        unpack: bool = True,
        progress: Sink = SILENT,
        cancel: Cancel = NEVER,
        trace: Callable[[str], None] | None = None,
    ) -> Pulled:
        """Bring an image from its registry, verified, and unpack it so that it can run.

        platform: "os/arch[/variant]" (the host's by default). all_platforms: fetch the others as well.
        Raises NotFound, Unauthenticated, PermissionDenied, Unavailable, DataLoss, ResourceExhausted, …
        """
        from ..services.transfer import pull as pulling

        reference = references.parse_normalized(name).with_default_tag()
        registry = self._wiring.new_registry(trace) if trace else None
        with Hold(self._wiring, str(reference), registry=registry, with_registry=True) as parts:
            return pulling.pull(
                parts,
                reference,
                wanted=wanted_platform(platform),
                all_platforms=all_platforms,
                unpacked=unpack,
                progress=progress,
                cancel=cancel,
            )

    def push(
        self,
        name: str,
        *,
        platform: str | Platform | None = None,
        progress: Sink = SILENT,
        cancel: Cancel = NEVER,
        trace: Callable[[str], None] | None = None,
    ) -> Pushed:
        """Send a stored image to the registry its name tells."""
        from ..services.transfer import push as pushing

        reference = references.parse_normalized(name).with_default_tag()
        image = self.get(name)
        registry = self._wiring.new_registry(trace) if trace else None
        with Hold(self._wiring, registry=registry, with_registry=True) as parts:
            return pushing.push(
                parts,
                reference,
                image.target,
                wanted=wanted_platform(platform) if platform else None,
                host_platform=platforms.host(),
                progress=progress,
                cancel=cancel,
            )

    def tags_of(self, repository: str) -> Sequence[str]:
        """The stored names of one repository ("docker.io/library/alpine")."""
        name = references.parse_normalized(repository).name
        return [image.name for image in self._wiring.images.list() if _name_of(image.name) == name]

    def unpack(
        self, text: str, *, platform: str | Platform | None = None, progress: Sink = SILENT, cancel: Cancel = NEVER
    ) -> Resolved:
        """Make sure that an image's snapshots are there (after `pull(unpack=False)`, or with another snapshotter)."""
        from ..services.transfer import unpack as unpacking

        resolved = self.resolve(text, platform)
        with Hold(self._wiring) as parts:
            unpacking.unpack(parts, resolved.manifest, progress=progress, cancel=cancel)
        return resolved

    def load(
        self,
        source: str | IO[bytes],
        *,
        platform: str | Platform | None = None,
        progress: Sink = SILENT,
        cancel: Cancel = NEVER,
    ) -> Sequence[Image]:
        """Read images from a docker-archive, an OCI archive (a path or an open file) or an OCI layout (a directory)."""
        from ..services.transfer import archive_import

        with Hold(self._wiring) as parts:
            return archive_import.load(
                parts, source, wanted=wanted_platform(platform), progress=progress, cancel=cancel
            )

    def save(
        self,
        names: Iterable[str],
        output: str | IO[bytes],
        *,
        format: str = "docker-archive",
        platform: str | Platform | None = None,
        progress: Sink = SILENT,
        cancel: Cancel = NEVER,
    ) -> None:
        """Write images to an archive. format: "docker-archive", "oci-archive" or "oci-dir" (output is then a path)."""
        from ..services.transfer import archive_export

        images = [self._named_for_save(name) for name in names]
        with Hold(self._wiring) as parts:
            archive_export.save(
                parts,
                images,
                output,
                format=format,
                wanted=wanted_platform(platform) if platform else None,
                host_platform=platforms.host(),
                progress=progress,
                cancel=cancel,
            )

    def _named_for_save(self, text: str) -> tuple[str, Image]:
        """(name to write or "", image): what was asked for by its ID is saved without a name, as Docker does."""
        image = self.get(text)
        return ("" if _looks_like_id(text) and self._is_id_of(text, image) else image.name), image

    @staticmethod
    def _is_id_of(text: str, image: Image) -> bool:
        wanted = text if ":" in text else f"sha256:{text}"
        return image.target.digest.startswith(wanted)

    def import_(
        self,
        source: str | IO[bytes],
        name: str = "",
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str | Platform | None = None,
        compression: str = "gzip",
        progress: Sink = SILENT,
        cancel: Cancel = NEVER,
    ) -> Image:
        """Make an image of one layer from a root file system's tar (a path or an open file; may be compressed).

        changes: Dockerfile instructions for the config (CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR,
        STOPSIGNAL, HEALTHCHECK). name "" keeps the image by its digest only.
        """
        from ..services.transfer import rootfs_import

        reference = references.parse_normalized(name).with_default_tag() if name else None
        with Hold(self._wiring) as parts:
            return rootfs_import.import_rootfs(
                parts,
                source,
                str(reference) if reference else "",
                changes=changes,
                message=message,
                platform=wanted_platform(platform),
                compression=compression,
                progress=progress,
                cancel=cancel,
            )

    # ------------------------------------------------------------------ naming and removing

    def tag(self, source: str, target: str) -> Image:
        """Give an image another name (which is taken from the image that had it)."""
        image = self.get(source)
        reference = references.parse_normalized(target)
        if reference.digest is not None:
            raise errors.InvalidArgument(f"refusing to create a tag with a digest reference: {target}")
        return self._wiring.images.put(str(reference.with_default_tag()), image.target)

    def remove(self, text: str, *, force: bool = False, prune: bool = True) -> Sequence[Removed]:
        """Remove a name of an image; with its last name, what it alone kept is collected.

        By ID: all its names when there is one, or with force. FailedPrecondition when a container uses the image
        (with force, only a running one holds it).
        """
        store = self._wiring.images
        image = self.get(text)
        by_id = _looks_like_id(text) and self._is_id_of(text, image)
        same = [other for other in store.list() if other.target.digest == image.target.digest]
        if by_id and len(same) > 1 and not force:
            raise errors.FailedPrecondition(
                f"unable to delete {text} (must be forced): it has several names",
                advice="remove them one by one, or use --force",
            )
        victims = same if by_id else [image]
        if len(victims) == len(same):
            self._refuse_if_used(image, force)
        removed = []
        for victim in victims:
            store.delete(victim.name)
            if not victim.name.startswith("sha256:"):
                removed.append(Removed(kind="untagged", what=references.parse_normalized(victim.name).familiar()))
        if len(victims) == len(same):
            removed.append(Removed(kind="deleted", what=str(image.target.digest)))
        if prune:
            from .system import System

            System(self._wiring).gc()
        return removed

    def _refuse_if_used(self, image: Image, force: bool) -> None:
        from .containers import ACTIVE, Containers

        for container in Containers(self._wiring).list(all=True):
            if container.record.image_digest != image.target.digest:
                continue
            running = container.state().status in ACTIVE
            if running or not force:
                raise errors.FailedPrecondition(
                    f"unable to remove {references.parse_normalized(image.name).familiar()}: "
                    f"{'running ' if running else ''}container {container.short_id} uses it",
                    advice=f"orlop {'rm -f' if running else 'rm'} {container.short_id}",
                )

    # ------------------------------------------------------------------ telling

    def size(self, resolved: Resolved) -> int:
        """Bytes of an image's files, unpacked; compressed where it is not unpacked."""
        layers = self._wiring.layers
        total = 0
        for layer, diff_id in zip(resolved.manifest.layers, resolved.config.diff_ids):
            try:
                total += layers.get(diff_id).size
            except errors.NotFound:
                total += layer.size
        return total

    def inspect(self, text: str, platform: str | Platform | None = None) -> dict[str, Any]:
        """What `orlop image inspect` prints: Docker's members."""
        from . import views

        resolved = self.resolve(text, platform) if platform else self.read_any(self.get(text))
        names = [
            image.name for image in self._wiring.images.list() if image.target.digest == resolved.image.target.digest
        ]
        return views.image(resolved, names, self.size(resolved))


def _looks_like_id(text: str) -> bool:
    encoded = text.partition(":")[2] if text.startswith(("sha256:", "sha512:")) else text
    return 1 <= len(encoded) <= 128 and digests._HEX.issuperset(encoded)


def _name_of(text: str) -> str:
    """The repository of a stored name."""
    try:
        return references.parse_normalized(text).name
    except errors.InvalidArgument:
        return ""
