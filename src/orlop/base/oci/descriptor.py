"""Content descriptors (OCI image specification, descriptor.md): a typed pointer to a blob. Pure data."""

from __future__ import annotations

from .. import errors
from ..record import Record
from . import digest as _digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .digest import Digest
    from .platform import Platform


class Descriptor(Record):
    """size is in bytes. Unknown JSON members are not kept: forward the raw manifest, never a re-printed one."""

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    platform: Platform | None = None
    artifact_type: str = ""
    data: bytes | None = None


def from_json(value: Any, what: str = "descriptor") -> Descriptor:
    """A descriptor from its parsed JSON. Raises InvalidArgument naming `what` and the bad member."""
    if not isinstance(value, dict):
        raise errors.InvalidArgument(f"{what} is not a JSON object")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise errors.InvalidArgument(f"{what}: size {size!r} is not a count of bytes")
    media_type = value.get("mediaType")
    if not isinstance(media_type, str) or not media_type:
        raise errors.InvalidArgument(f"{what}: mediaType {media_type!r} is not a media type")
    text = value.get("digest")
    if not isinstance(text, str):
        raise errors.InvalidArgument(f"{what}: digest {text!r} is not a digest")
    platform = None
    if isinstance(value.get("platform"), dict):
        from . import platform as _platform

        platform = _platform.from_json(value["platform"])
    data = None
    if isinstance(value.get("data"), str):
        import binascii

        try:
            data = binascii.a2b_base64(value["data"], strict_mode=True)
        except binascii.Error as error:
            raise errors.InvalidArgument(f"{what}: data is not base64") from error
    annotations = value.get("annotations") or {}
    urls = value.get("urls") or ()
    if not isinstance(annotations, dict) or not isinstance(urls, (list, tuple)):
        raise errors.InvalidArgument(f"{what}: annotations or urls have the wrong shape")
    return Descriptor(
        media_type=media_type,
        digest=_digest.parse(text),
        size=size,
        urls=tuple(str(u) for u in urls),
        annotations={str(k): str(v) for k, v in annotations.items()},
        platform=platform,
        artifact_type=str(value.get("artifactType") or ""),
        data=data,
    )


def to_json(descriptor: Descriptor) -> dict[str, Any]:
    """The descriptor's JSON, members in the specification's order, empty ones left out."""
    out: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.urls:
        out["urls"] = list(descriptor.urls)
    if descriptor.annotations:
        out["annotations"] = dict(sorted(descriptor.annotations.items()))
    if descriptor.data is not None:
        import binascii

        out["data"] = binascii.b2a_base64(descriptor.data, newline=False).decode()
    if descriptor.artifact_type:
        out["artifactType"] = descriptor.artifact_type
    if descriptor.platform is not None:
        from . import platform as _platform

        out["platform"] = _platform.to_json(descriptor.platform)
    return out
