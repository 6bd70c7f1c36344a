"""What tests of the stores share: a root with a database, blobs by their bytes, and the check of a root's integrity."""

from __future__ import annotations

import hashlib
import os

from orlop.base.oci.descriptor import Descriptor
from orlop.base.oci.digest import Digest, of_bytes
from orlop.stores.containers.local import LocalContainerStore
from orlop.stores.content.local import LocalContentStore
from orlop.stores.events.local import LocalEventStore
from orlop.stores.images.local import LocalImageStore
from orlop.stores.leases.local import LocalLeaseStore
from orlop.stores.metadata.database import Database

MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"


class Root:
    """A root directory and its database."""

    def __init__(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        self.path = path
        self.db = Database(f"{path}/metadata.db")

    def content(self, namespace: str = "default", lease: str | None = None, **options: str) -> LocalContentStore:
        return LocalContentStore(self.db, self.path, namespace, lease, **options)

    def images(self, namespace: str = "default") -> LocalImageStore:
        return LocalImageStore(self.db, self.path, namespace)

    def containers(self, namespace: str = "default") -> LocalContainerStore:
        return LocalContainerStore(self.db, self.path, namespace)

    def leases(self, namespace: str = "default") -> LocalLeaseStore:
        return LocalLeaseStore(self.db, namespace)

    def events(self, namespace: str = "default") -> LocalEventStore:
        return LocalEventStore(self.db, self.path, namespace)

    def files(self) -> list[str]:
        """Digests of the files under content/blobs, in order."""
        top = f"{self.path}/content/blobs"
        if not os.path.isdir(top):
            return []
        return sorted(
            f"{algorithm}:{name}" for algorithm in os.listdir(top) for name in os.listdir(f"{top}/{algorithm}")
        )

    def ingests(self) -> list[str]:
        top = f"{self.path}/content/ingest"
        return sorted(os.listdir(top)) if os.path.isdir(top) else []

    def locks(self) -> list[str]:
        top = f"{self.path}/locks"
        return sorted(name for name in os.listdir(top) if name != "gc") if os.path.isdir(top) else []

    def check(self) -> None:
        """Every row has its file, every file under a blob's name has that digest, and the database is sound."""
        self.db.check()
        for name in self.files():
            algorithm, _, encoded = name.partition(":")
            with open(f"{self.path}/content/blobs/{algorithm}/{encoded}", "rb") as file:
                found = hashlib.new(algorithm, file.read()).hexdigest()
            if found != encoded:
                raise AssertionError(f"the file of {name} holds {found}")
        there = set(self.files())
        with self.db.read() as tx:
            rows = tx.rows("SELECT digest, size FROM blobs")
        for digest, size in rows:
            algorithm, _, encoded = digest.partition(":")
            if digest not in there or os.stat(f"{self.path}/content/blobs/{algorithm}/{encoded}").st_size != size:
                raise AssertionError(f"{digest} has a row, but not its file of {size} bytes")


def put(store: LocalContentStore, data: bytes, labels: dict[str, str] | None = None, ref: str = "") -> Digest:
    """Commit data; returns its digest."""
    digest = of_bytes(data)
    with store.writer(ref or f"put-{digest}", len(data), digest) as writer:
        if writer.status().offset < len(data):
            writer.truncate(0)
            writer.write(data)
        writer.commit(labels=labels)
    return digest


def target(digest: Digest, size: int = 1) -> Descriptor:
    return Descriptor(media_type=MEDIA_TYPE, digest=digest, size=size)
