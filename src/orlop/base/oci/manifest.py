"""Image manifests and indexes: typed views of raw bytes, and writers of new ones.

OCI image specification 1.1 (manifest.md, image-index.md) and Docker's schema 2. The raw bytes stay the truth: a view
keeps them, and they are what is stored, hashed and sent on. On the hot path; pure data.
"""

from __future__ import annotations

from .. import errors, jsonio
from ..record import Record
from . import descriptor as _descriptor
from . import digest as _digest
from . import mediatypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .descriptor import Descriptor
    from .digest import Digest
    from .platform import Platform

MAX_MANIFEST_BYTES = 4 << 20
"""The largest manifest read; registries must take 4 MiB and need not take more (distribution-spec)."""

_GENERIC = frozenset({"", "application/json", "application/octet-stream", "text/plain"})
"""Content types that say nothing about which kind of manifest it is; some registries send them."""


class Manifest(Record):
    """One image or artifact.

    raw: the bytes as received. digest: theirs. subject: what this one refers to (an OCI referrer), or None.
    """

    raw: bytes
    media_type: str
    digest: Digest
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str] = {}
    artifact_type: str = ""
    subject: Descriptor | None = None

    def descriptor(self) -> Descriptor:
        """A descriptor of this manifest."""
        return _descriptor.Descriptor(self.media_type, self.digest, len(self.raw), artifact_type=self.artifact_type)


class Index(Record):
    """A list of manifests, one a platform (Docker calls it a manifest list); members as in `Manifest`."""

    raw: bytes
    media_type: str
    digest: Digest
    manifests: tuple[Descriptor, ...]
    annotations: dict[str, str] = {}
    artifact_type: str = ""
    subject: Descriptor | None = None

    def descriptor(self) -> Descriptor:
        """A descriptor of this index."""
        return _descriptor.Descriptor(self.media_type, self.digest, len(self.raw), artifact_type=self.artifact_type)

    def select(self, wanted: Platform, *, strict: bool = False) -> Descriptor | None:
        """The manifest that suits the platform best, or None.

        One that names no platform is taken only when no other fits: its config must tell. strict: see `platform.rank`.
        """
        from . import platform as _platform

        chosen: Descriptor | None = None
        chosen_rank = -1
        unnamed: Descriptor | None = None
        for candidate in self.manifests:
            if candidate.media_type not in mediatypes.MANIFESTS and candidate.media_type not in mediatypes.INDEXES:
                continue
            if candidate.platform is None:
                unnamed = unnamed or candidate
                continue
            position = _platform.rank(wanted, candidate.platform, strict=strict)
            if position >= 0 and (chosen_rank < 0 or position < chosen_rank):
                chosen, chosen_rank = candidate, position
        return chosen or unnamed


def parse(raw: bytes, media_type: str = "", digest: Digest | None = None) -> Manifest | Index:
    """The view of a manifest's or index's bytes.

    media_type: what the descriptor or the registry's answer called it; parameters are dropped and generic types
    ignored. digest: the one the bytes were verified against; the sha256 is computed when it is None.

    Raises InvalidArgument when the bytes are not one manifest or one index beyond doubt: too large, not JSON, both
    kinds' members at once, a mediaType that contradicts the argument, or Docker's schema 1.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise errors.InvalidArgument(f"manifest has {len(raw)} bytes; at most {MAX_MANIFEST_BYTES} are read")
    named = media_type.partition(";")[0].strip().lower()
    if named in _GENERIC:
        named = ""
    if named in (mediatypes.DOCKER_SCHEMA1, mediatypes.DOCKER_SCHEMA1_SIGNED):
        raise _schema1()
    try:
        value = jsonio.loads(raw)
    except ValueError as error:
        raise errors.InvalidArgument(f"manifest is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise errors.InvalidArgument("manifest is not a JSON object")
    kind = _kind(value, named)
    if digest is None:
        digest = _digest.of_bytes(raw)
    annotations = value.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise errors.InvalidArgument(f"manifest {digest}: annotations are not an object")
    subject = value.get("subject")
    about: dict[str, Any] = {
        "annotations": {str(k): str(v) for k, v in annotations.items()},
        "artifact_type": str(value.get("artifactType") or ""),
        "subject": None if subject is None else _descriptor.from_json(subject, f"manifest {digest}: subject"),
    }
    if kind in mediatypes.INDEXES:
        return Index(raw, kind, digest, _descriptors(value, "manifests", digest), **about)
    config = _descriptor.from_json(value.get("config"), f"manifest {digest}: config")
    return Manifest(raw, kind, digest, config, _descriptors(value, "layers", digest), **about)


def _kind(value: dict[str, Any], named: str) -> str:
    """The media type of a parsed manifest, once all its signs agree."""
    version = value.get("schemaVersion")
    own = value.get("mediaType") or ""
    if version == 1 or value.get("fsLayers") is not None:
        raise _schema1()
    if version not in (None, 2):
        raise errors.InvalidArgument(f"manifest has schemaVersion {version!r}; only 2 is known")
    if not isinstance(own, str):
        raise errors.InvalidArgument(f"manifest's mediaType {own!r} is not a text")
    if own and named and own != named:
        raise errors.InvalidArgument(f"manifest calls itself {own} but was announced as {named}")
    is_index = value.get("manifests") is not None
    is_manifest = value.get("layers") is not None or value.get("config") is not None
    if is_index and is_manifest:
        raise errors.InvalidArgument("manifest is ambiguous: it lists both manifests and layers")
    kind = own or named
    if not kind:
        kind = _guess(value, is_index, is_manifest)
    if kind in (mediatypes.INDEXES if is_manifest else mediatypes.MANIFESTS if is_index else ()):
        raise errors.InvalidArgument(f"manifest is called {kind} but has the members of the other kind")
    if kind not in mediatypes.INDEXES and kind not in mediatypes.MANIFESTS:
        raise errors.InvalidArgument(f"media type {kind!r} is not that of an image manifest or index")
    return kind


def _guess(value: dict[str, Any], is_index: bool, is_manifest: bool) -> str:
    if is_index:
        return mediatypes.INDEX
    if not is_manifest:
        raise errors.InvalidArgument("manifest has no mediaType, no manifests and no layers")
    config = value.get("config")
    docker = isinstance(config, dict) and config.get("mediaType") == mediatypes.DOCKER_CONFIG
    return mediatypes.DOCKER_MANIFEST if docker else mediatypes.MANIFEST


def _schema1() -> errors.InvalidArgument:
    return errors.InvalidArgument(
        "Docker image manifest version 2, schema 1 is not supported: it was deprecated in 2017 and cannot be verified",
        advice="push the image again with a current Docker, or convert it with skopeo",
    )


def _descriptors(value: dict[str, Any], member: str, digest: Digest) -> tuple[Descriptor, ...]:
    items = value.get(member)
    if items is None:
        return ()
    if not isinstance(items, list):
        raise errors.InvalidArgument(f"manifest {digest}: {member} is not a list")
    return tuple(_descriptor.from_json(item, f"manifest {digest}: {member}[{n}]") for n, item in enumerate(items))


def manifest_bytes(
    config: Descriptor,
    layers: Iterable[Descriptor],
    *,
    annotations: dict[str, str] | None = None,
    artifact_type: str = "",
    subject: Descriptor | None = None,
    docker: bool = False,
) -> bytes:
    """A new manifest; equal arguments give equal bytes.

    docker: write Docker's schema 2, which has no annotations, artifact type or subject (InvalidArgument if given).
    The descriptors' media types are the caller's business.
    """
    out = _head(mediatypes.DOCKER_MANIFEST if docker else mediatypes.MANIFEST, artifact_type)
    out["config"] = _descriptor.to_json(config)
    out["layers"] = [_descriptor.to_json(layer) for layer in layers]
    return _finish(out, annotations, subject, docker)


def index_bytes(
    manifests: Iterable[Descriptor],
    *,
    annotations: dict[str, str] | None = None,
    artifact_type: str = "",
    subject: Descriptor | None = None,
    docker: bool = False,
) -> bytes:
    """A new index (docker: manifest list); as `manifest_bytes`."""
    out = _head(mediatypes.DOCKER_LIST if docker else mediatypes.INDEX, artifact_type)
    out["manifests"] = [_descriptor.to_json(manifest) for manifest in manifests]
    return _finish(out, annotations, subject, docker)


def _head(media_type: str, artifact_type: str) -> dict[str, Any]:
    out: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type}
    if artifact_type:
        out["artifactType"] = artifact_type
    return out


def _finish(out: dict[str, Any], annotations: dict[str, str] | None, subject: Descriptor | None, docker: bool) -> bytes:
    if docker and (annotations or subject is not None or "artifactType" in out):
        raise errors.InvalidArgument("Docker's schema 2 has no annotations, artifact type or subject")
    if subject is not None:
        out["subject"] = _descriptor.to_json(subject)
    if annotations:
        out["annotations"] = dict(sorted(annotations.items()))
    return jsonio.dump_bytes(out)
