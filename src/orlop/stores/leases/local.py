"""The lease store on this machine: rows of the metadata database. Touches no file."""

from __future__ import annotations

import os
import time

from ...base import errors, times
from ...base.oci import digest as digests
from ..metadata import identifiers
from ..metadata import leases as rows
from .api import Lease, Resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..metadata.database import Database

EXPIRE = "containerd.io/gc.expire"


class LocalLeaseStore:
    """The leases of one namespace. Safe to use from any thread."""

    def __init__(self, db: Database, namespace: str) -> None:
        self._db = db
        self._namespace = namespace

    def create(self, id: str = "", labels: Mapping[str, str] | None = None, expire_s: float | None = None) -> Lease:
        """Make a lease. id "" makes a random one. expire_s: seconds from now until GC may drop it (gc.expire label).

        AlreadyExists when the id is taken.
        """
        if id:
            identifiers.check(id, "lease id")
        now = time.time_ns()
        wanted = dict(labels or {})
        if expire_s is not None:
            wanted[EXPIRE] = times.rfc3339(now + int(expire_s * times.NS_PER_S))
        elif wanted.get(EXPIRE):
            times.parse_time(wanted[EXPIRE])
        with self._db.write() as tx:
            return Lease(*rows.insert(tx, self._namespace, id or f"{now}-{os.urandom(6).hex()}", wanted))

    def delete(self, id: str) -> None:
        """NotFound when there is none. What it alone held goes at the next collection."""
        with self._db.write() as tx:
            rows.delete(tx, self._namespace, id)

    def list(self, *filters: str) -> Sequence[Lease]:
        """Oldest first; those that match any of the filters. Fields: id, labels.KEY."""
        with self._db.read() as tx:
            found = [Lease(*row) for row in rows.listed(tx, self._namespace)]
        if not filters:
            return found
        from ..metadata import filters as language

        match = language.compile(*filters)
        return [lease for lease in found if match(language.fields({"id": lease.id}, lease.labels))]

    def add_resource(self, id: str, resource: Resource) -> None:
        """Hold a resource, which may come later. NotFound without the lease, InvalidArgument for an unknown type."""
        _check(resource)
        with self._db.write() as tx:
            rows.add_resource(tx, self._namespace, id, resource.type, resource.id)

    def delete_resource(self, id: str, resource: Resource) -> None:
        """NotFound when the lease does not hold it."""
        _check(resource)
        with self._db.write() as tx:
            rows.delete_resource(tx, self._namespace, id, resource.type, resource.id)

    def list_resources(self, id: str) -> Sequence[Resource]:
        """All it holds, in order of type and id. NotFound without the lease."""
        with self._db.read() as tx:
            return [Resource(*row) for row in rows.resources(tx, self._namespace, id)]


def _check(resource: Resource) -> None:
    kind, slash, snapshotter = resource.type.partition("/")
    if kind in ("content", "layers") and not slash:
        digests.parse(resource.id)
        return
    known = (kind in ("ingests", "images") and not slash) or (kind == "snapshots" and bool(snapshotter))
    if not known or not resource.id:
        raise errors.InvalidArgument(
            f"a lease cannot hold {resource.type!r} {resource.id!r}",
            advice='types are "content", "snapshots/<snapshotter>", "ingests", "images" and "layers"',
        )
