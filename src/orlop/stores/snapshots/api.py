"""Snapshots: stacks of file system layers with, on top, a place to write. The interface every snapshotter implements.

The life of a snapshot
    prepare(key, parent)   an *active* snapshot: writable, its content the parent's until written to. `mounts(key)`
                           tells how to mount it; the snapshotter itself mounts nothing for the caller.
    view(key, parent)      the same, read-only.
    commit(name, key)      the active snapshot becomes *committed* under `name`: immutable, can be a parent. By
                           convention an image layer's name is its chain ID.
    stack(name, parent, diff_id)
                           a committed snapshot made of `parent` and one layer of the layer store, without mounting or
                           copying the layer: how a pull makes its chain (Orlop's own; foreign snapshotters lack it and
                           get prepare → apply → commit instead).
    remove(key)            a snapshot that has children cannot be removed.

key and name share one space within a namespace and a snapshotter. Labels travel; `containerd.io/gc.root` and
`containerd.io/snapshot.ref` mean what they mean in containerd. Source: containerd core/snapshots/snapshotter.go.
"""

from __future__ import annotations

from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Protocol

    from ...base.oci.digest import Digest
else:
    Protocol = object


class Mount(Record):
    """One mount, in the form of mount(8)'s columns (and containerd's types.Mount)."""

    type: str
    source: str
    target: str = ""
    options: tuple[str, ...] = ()


class Info(Record):
    """kind: "active", "view" or "committed". layers: diff IDs of the layer data it uses, bottom first."""

    kind: str
    name: str
    parent: str = ""
    created_ns: int = 0
    updated_ns: int = 0
    labels: dict[str, str] = {}
    layers: tuple[str, ...] = ()


class Usage(Record):
    """What the snapshot itself takes, parents and shared layers not counted: bytes on disk, inodes."""

    size: int
    inodes: int


class Snapshotter(Protocol):
    name: str

    def stat(self, key: str) -> Info: ...

    def update(self, key: str, labels: Mapping[str, str], fields: Sequence[str] = ()) -> Info: ...

    def usage(self, key: str) -> Usage: ...

    def mounts(self, key: str) -> list[Mount]:
        """How to mount an active snapshot or view. FailedPrecondition for a committed one."""

    def prepare(self, key: str, parent: str = "", labels: Mapping[str, str] | None = None) -> list[Mount]:
        """AlreadyExists when key is taken, NotFound for the parent, InvalidArgument when it is not committed."""

    def view(self, key: str, parent: str = "", labels: Mapping[str, str] | None = None) -> list[Mount]: ...

    def commit(self, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """The data is durable when this returns. AlreadyExists when name is taken."""

    def stack(self, name: str, parent: str, diff_id: Digest, labels: Mapping[str, str] | None = None) -> Info: ...

    def remove(self, key: str) -> None:
        """FailedPrecondition when it has children. Its files go in `cleanup` or here, never before the row."""

    def walk(self, *filters: str) -> Iterator[Info]: ...

    def cleanup(self) -> None:
        """Remove files that no row of any namespace names (left by a crash or a remove)."""

    def close(self) -> None: ...
