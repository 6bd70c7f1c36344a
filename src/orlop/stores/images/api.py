"""The image store: names → descriptors. The interface.

An image is a name ("docker.io/library/alpine:3.20") and the descriptor of its manifest or index. It is a root of
garbage collection: what its content refers to by labels lives while it lives. Source: containerd core/images.
"""

from __future__ import annotations

from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from ...base.oci.descriptor import Descriptor
else:
    Protocol = object


class Image(Record):
    name: str
    target: Descriptor
    created_ns: int = 0
    updated_ns: int = 0
    labels: dict[str, str] = {}


class ImageStore(Protocol):
    def get(self, name: str) -> Image: ...

    def list(self, *filters: str) -> Sequence[Image]:
        """In order of name; those that match any of the filters."""

    def create(self, image: Image) -> Image:
        """AlreadyExists when the name is taken. Times are the store's."""

    def update(self, image: Image, fields: Sequence[str] = ()) -> Image:
        """Change target and labels, or only the named fields ("target", "labels", "labels.KEY")."""

    def put(self, name: str, target: Descriptor, labels: Mapping[str, str] | None = None) -> Image:
        """Create or replace in one transaction (labels None: keep those there are)."""

    def delete(self, name: str) -> None:
        """NotFound when there is none. What it alone kept goes at the next collection."""
