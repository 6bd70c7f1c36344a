"""What transfer works with, handed in by the engine: services do not import one another (docs/architecture.md).

May import interfaces only for type checking.
"""

from __future__ import annotations

from ...base import errors
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from ...base.cancel import Cancel
    from ...base.oci.digest import Digest
    from ...stores.content.api import ContentStore
    from ...stores.images.api import ImageStore
    from ...stores.layers.api import LayerStore
    from ...stores.leases.api import Resource
    from ...stores.snapshots.api import Snapshotter

    class Applied(Protocol):
        """What an unpacked layer turned out to be (services/diff)."""

        @property
        def diff_id(self) -> Digest: ...
        @property
        def tar_size(self) -> int: ...
        @property
        def size(self) -> int: ...
        @property
        def inodes(self) -> int: ...
        @property
        def implied(self) -> tuple[str, ...]: ...
        @property
        def foreign_links(self) -> tuple[tuple[str, str], ...]: ...

    class Unpacker(Protocol):
        """Takes a layer's compressed bytes as they arrive and builds its tree (services/diff)."""

        def write(self, data: bytes, /) -> None: ...
        def finish(self) -> Applied: ...
        def abort(self) -> None: ...

    OpenUnpacker = Callable[[str, str, Cancel], Unpacker]

RESUMABLE = (errors.Unavailable, errors.Cancelled, errors.DeadlineExceeded)
"""Failures after which a second try may go on with what has arrived; after any other, nothing is kept."""


class Parts(Record):
    """The stores, bound to one namespace and to the lease that protects this transfer.

    hold: adds a resource to that lease. open_unpacker(compression, tree path, cancel) opens an Unpacker.
    registry: the registry client (services/registry), or None where no registry is involved.
    """

    content: ContentStore
    images: ImageStore
    layers: LayerStore
    snapshots: Snapshotter
    open_unpacker: OpenUnpacker
    hold: Callable[[Resource], None]
    registry: Any = None
