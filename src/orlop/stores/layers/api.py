"""Layer data: what a layer's tar holds, unpacked once per host and keyed by its diff ID. The interface.

Shared by images and namespaces. A layer is *built alone*, without its parents, so all layers of an image build at
once. Hence two things only a stack can settle, which the builder records and the snapshotter settles:
    implied directories   parents that the tar never lists. On disk they exist with placeholder attributes; in a stack
                          they take those of the layer below (root:root 0755 where no layer has them).
    foreign hard links    a link whose target is not in this layer: resolved against the layers below when the stack is
                          made (both names become one copied-up file), or refused, naming both.

A tree is in overlayfs's own form: a whiteout is a character device 0:0, an opaque directory has the xattr
`trusted.overlay.opaque` = "y".
"""

from __future__ import annotations

from ...base.cancel import NEVER, Cancel
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol, Self

    from ...base.oci.digest import Digest
else:
    Protocol = object


class Layer(Record):
    """One layer's data.

    form: "tree" (a directory in overlayfs form) or, later, "erofs".
    path: the absolute path of the tree.
    size, inodes: bytes of file data and number of entries.
    tar_size: bytes of the uncompressed tar.
    implied: implied directories, as relative paths, parents first.
    foreign_links: (name, target) pairs of hard links whose target is not in the layer.
    """

    diff_id: Digest
    form: str
    path: str
    size: int
    inodes: int
    tar_size: int
    created_ns: int
    implied: tuple[str, ...] = ()
    foreign_links: tuple[tuple[str, str], ...] = ()


class Builder(Protocol):
    """A layer being built, in a private directory nobody else sees, under the layer's flock."""

    path: str

    def commit(
        self,
        diff_id: Digest,
        *,
        size: int,
        inodes: int,
        tar_size: int,
        implied: tuple[str, ...] = (),
        foreign_links: tuple[tuple[str, str], ...] = (),
    ) -> Layer:
        """Make durable (syncfs), name, and record. DataLoss when diff_id is not the one the builder was opened for."""

    def abort(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None:
        """Aborts unless committed."""


class LayerStore(Protocol):
    def get(self, diff_id: Digest) -> Layer:
        """NotFound when it is not built."""

    def build(self, diff_id: Digest, cancel: Cancel = NEVER) -> Builder:
        """Open a builder. Waits while another process builds this layer; AlreadyExists when it is built by then."""

    def list(self) -> Iterator[Layer]: ...

    def remove(self, diff_id: Digest) -> None:
        """FailedPrecondition while a snapshot uses it."""
