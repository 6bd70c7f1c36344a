"""From stored layers to a chain of snapshots: builds the layer data that is missing, then stacks it.

A layer is built once per host, under its flock, whoever needs it first (single-flight across processes).
"""

from __future__ import annotations

from ...base import errors
from ...base.cancel import NEVER, Cancel
from ...base.oci import config as configs
from ...base.oci import mediatypes
from ...base.progress import SILENT, Report, Sink
from ...stores.leases.api import Resource
from . import tree, workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.oci.config import ImageConfig
    from ...base.oci.descriptor import Descriptor
    from ...base.oci.digest import Digest
    from ...base.oci.manifest import Manifest
    from ...stores.layers.api import Builder
    from .parts import Parts, Unpacker

CHUNK = 1 << 20


def read_config(parts: Parts, manifest: Manifest) -> ImageConfig:
    """The image's config. DataLoss when it does not fit the manifest's layers."""
    config = parse_config(parts, manifest)
    check_layers(manifest, config)
    return config


def parse_config(parts: Parts, manifest: Manifest) -> ImageConfig:
    """The image's config as it is. InvalidArgument names it when it is none."""
    try:
        return configs.parse(parts.content.read(manifest.config.digest))
    except errors.InvalidArgument as error:
        raise errors.InvalidArgument(
            f"image config {manifest.config.digest}: {error.message}", advice=error.advice
        ) from error


def check_layers(manifest: Manifest, config: ImageConfig) -> None:
    """Raise unless config and manifest agree on the layers and every layer can be unpacked."""
    if len(config.diff_ids) != len(manifest.layers):
        raise errors.DataLoss(
            f"image config {manifest.config.digest} lists {len(config.diff_ids)} diff IDs "
            f"for {len(manifest.layers)} layers",
            advice="the image is broken; ask who built it",
        )
    known: dict[Digest, Digest] = {}
    for layer, diff_id in zip(manifest.layers, config.diff_ids):
        compression_of(layer)
        if known.setdefault(layer.digest, diff_id) != diff_id:
            raise errors.DataLoss(
                f"image config {manifest.config.digest} gives layer {layer.digest} two diff IDs",
                advice="the image is broken; ask who built it",
            )


def compression_of(layer: Descriptor) -> str:
    """How a layer is compressed. InvalidArgument for a media type that is not a layer."""
    kind = mediatypes.COMPRESSION.get(layer.media_type)
    if kind is None:
        raise errors.InvalidArgument(
            f"layer {layer.digest} has the unknown media type {layer.media_type!r}",
            advice="it may be an artifact, not a container image",
        )
    return kind


class BuildFailed(Exception):
    """A layer that could not be built, as opposed to one that could not be fetched. reason: what to tell."""

    def __init__(self, reason: errors.OrlopError) -> None:
        super().__init__(str(reason))
        self.reason = reason

    @property
    def is_of_content(self) -> bool:
        """Whether the bytes were to blame: if they turn out to be others than announced, that is to be told first."""
        return isinstance(self.reason, (errors.DataLoss, errors.InvalidArgument))


class LayerBuild:
    """A layer being built from its compressed bytes: a builder of the layer store with an unpacker on its directory."""

    __slots__ = ("_builder", "_digest", "_unpacker", "diff_id")

    def __init__(self, diff_id: Digest, digest: Digest, builder: Builder, unpacker: Unpacker) -> None:
        self.diff_id = diff_id
        self._digest = digest
        self._builder = builder
        self._unpacker = unpacker

    def write(self, data: bytes) -> None:
        """Hand over the next compressed bytes. Raises BuildFailed."""
        try:
            self._unpacker.write(data)
        except errors.OrlopError as error:
            raise self._failed(error) from error

    def commit(self) -> None:
        """Finish unpacking, check the diff ID, make the layer data durable and known. Raises BuildFailed."""
        try:
            self._commit()
        except errors.OrlopError as error:
            raise self._failed(error) from error

    def _failed(self, error: errors.OrlopError) -> BuildFailed:
        if isinstance(error, (errors.Cancelled, errors.DeadlineExceeded)) or self._digest in error.message:
            return BuildFailed(error)
        named = type(error)(f"layer {self._digest}: {error.message}", advice=error.advice)
        named.__cause__ = error
        return BuildFailed(named)

    def _commit(self) -> None:
        applied = self._unpacker.finish()
        if applied.diff_id != self.diff_id:
            raise errors.DataLoss(
                f"layer {self._digest} unpacks to diff ID {applied.diff_id}, its image's config says {self.diff_id}",
                advice="the image is broken or was tampered with; ask who built it",
            )
        self._builder.commit(
            self.diff_id,
            size=applied.size,
            inodes=applied.inodes,
            tar_size=applied.tar_size,
            implied=applied.implied,
            foreign_links=applied.foreign_links,
        )

    def abort(self) -> None:
        """Give up: nothing of it stays. Fine after commit."""
        self._unpacker.abort()
        self._builder.abort()


def open_build(parts: Parts, layer: Descriptor, diff_id: Digest, cancel: Cancel) -> LayerBuild | None:
    """Begin to build a layer, or None when its data is there (perhaps after waiting for who was building it)."""
    parts.hold(Resource("layers", str(diff_id)))
    try:
        parts.layers.get(diff_id)
        return None
    except errors.NotFound:
        pass
    try:
        builder = parts.layers.build(diff_id, cancel)
    except errors.AlreadyExists:
        return None
    try:
        return LayerBuild(
            diff_id, layer.digest, builder, parts.open_unpacker(compression_of(layer), builder.path, cancel)
        )
    except BaseException:
        builder.abort()
        raise


def build_from_content(
    parts: Parts, layer: Descriptor, diff_id: Digest, progress: Sink = SILENT, cancel: Cancel = NEVER
) -> None:
    """Build a layer's data from its stored blob, unless it is there."""
    build = open_build(parts, layer, diff_id, cancel)
    if build is None:
        return
    try:
        with parts.content.open(layer.digest) as reader:
            offset = 0
            while offset < reader.size:
                cancel.check()
                chunk = reader.read_at(offset, CHUNK)
                if not chunk:
                    raise errors.DataLoss(f"blob {layer.digest} ends at {offset} of {reader.size} bytes")
                build.write(chunk)
                offset += len(chunk)
                progress.report(Report(str(layer.digest), "unpacking", offset, reader.size))
        build.commit()
    except BuildFailed as failed:
        raise failed.reason from failed.reason.__cause__
    finally:
        build.abort()


def stack(parts: Parts, manifest: Manifest, config: ImageConfig) -> str:
    """Make the image's chain of snapshots from built layers; returns the top's chain ID ("" for no layers).

    The config blob gets the label that keeps the chain while the image lives.
    """
    parent = ""
    snapshotter = parts.snapshots
    for diff_id, chain_id in zip(config.diff_ids, configs.chain_ids(config.diff_ids)):
        parts.hold(Resource(f"snapshots/{snapshotter.name}", str(chain_id)))
        try:
            snapshotter.stat(str(chain_id))
        except errors.NotFound:
            try:
                snapshotter.stack(str(chain_id), parent, diff_id)
            except errors.AlreadyExists:
                pass  # another process was quicker
        parent = str(chain_id)
    if parent:
        label = f"{tree.GC_SNAPSHOT}{snapshotter.name}"
        parts.content.update(manifest.config.digest, {label: parent}, [f"labels.{label}"])
    return parent


def unpack(
    parts: Parts, manifest: Manifest, *, at_once: int = 2, progress: Sink = SILENT, cancel: Cancel = NEVER
) -> str:
    """Everything from stored blobs to the top snapshot; returns its chain ID."""
    config = read_config(parts, manifest)
    jobs = {diff_id: layer for layer, diff_id in zip(manifest.layers, config.diff_ids)}

    def one(layer: Descriptor, diff_id: Digest) -> Callable[[Cancel], None]:
        return lambda inner: build_from_content(parts, layer, diff_id, progress, inner)

    workers.run_all([one(layer, diff_id) for diff_id, layer in jobs.items()], at_once, cancel)
    return stack(parts, manifest, config)
