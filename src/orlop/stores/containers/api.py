"""The container store: what should run, not whether it runs (that is a task, derived from the kernel). The interface.

Source: containerd core/containers.
"""

from __future__ import annotations

from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol
else:
    Protocol = object


class Container(Record):
    """A container's record.

    id: 64 hex digits when Orlop makes it; any containerd identifier otherwise.
    name: Docker's name for it, unique within the namespace ("" when there is none); kept as a label
        `orlop.dev/name` as well, so that other tools see it.
    image: the image's name; image_digest: its manifest digest when the container was made.
    spec: the OCI runtime specification, as JSON bytes, stored as given.
    extensions: front doors' own data, key → JSON-able value.
    """

    id: str
    name: str = ""
    image: str = ""
    image_digest: str = ""
    runtime: str = ""
    runtime_options: dict[str, Any] = {}
    spec: bytes = b""
    snapshotter: str = ""
    snapshot_key: str = ""
    sandbox_id: str = ""
    created_ns: int = 0
    updated_ns: int = 0
    labels: dict[str, str] = {}
    extensions: dict[str, Any] = {}


class ContainerStore(Protocol):
    def get(self, id: str) -> Container:
        """By exact id. NotFound otherwise."""

    def resolve(self, text: str) -> Container:
        """By id, by name, or by an unambiguous prefix of an id, in that order, as Docker does.

        NotFound ("no such container: …"), InvalidArgument when a prefix fits several.
        """

    def list(self, *filters: str) -> Sequence[Container]:
        """Newest first."""

    def create(self, container: Container) -> Container:
        """AlreadyExists when the id or the name is taken (the message tells which container has it)."""

    def update(self, container: Container, fields: Sequence[str] = ()) -> Container: ...

    def delete(self, id: str) -> None: ...
