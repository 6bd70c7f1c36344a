"""Leases: a hold on resources that nothing refers to yet, so that GC leaves work under way alone. The interface.

A lease may carry the label `containerd.io/gc.expire` (RFC 3339): past that time GC drops it.
Source: containerd core/leases, docs/garbage-collection.md.
"""

from __future__ import annotations

from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol
else:
    Protocol = object


class Lease(Record):
    id: str
    created_ns: int = 0
    labels: dict[str, str] = {}


class Resource(Record):
    """type: "content", "snapshots/<snapshotter>", "ingests", "images", "layers"; id: digest, key, ref, …"""

    type: str
    id: str


class LeaseStore(Protocol):
    def create(self, id: str = "", labels: Mapping[str, str] | None = None, expire_s: float | None = None) -> Lease:
        """id "" makes a random one. expire_s: seconds from now until GC may drop it (as gc.expire label)."""

    def delete(self, id: str) -> None: ...

    def list(self, *filters: str) -> Sequence[Lease]: ...

    def add_resource(self, id: str, resource: Resource) -> None: ...

    def delete_resource(self, id: str, resource: Resource) -> None: ...

    def list_resources(self, id: str) -> Sequence[Resource]: ...
