"""Garbage collection: what no root reaches goes, rows first and files after (DESIGN §3, "Crash safety").

Marking and the removal of rows are one immediate transaction over all namespaces. Then each file is unlinked under the
flock of its digest or ingest, after looking again whether a row has come back; snapshots' and layers' directories are
removed by their own rooms, through callables. A crash anywhere leaves files that no row names: the next collection
takes them, too. Liveness is a held flock, never a process id; only an ingest that nobody holds is judged by its age,
because it waits for its owner's next try.
"""

from __future__ import annotations

import time

from ..base import errors, faults, fsio
from ..base.cancel import NEVER, Cancel
from ..base.oci.digest import Digest
from ..base.record import Record
from .content import ingest
from .content.layout import Layout
from .content.local import unlink_unrecorded
from .events.publish import publish
from .metadata import blobs, images, layers, leases, references, snapshots
from .reachability import Graph

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .metadata.database import Database, Transaction
    from .reachability import Node, Step

INGEST_AGE_S = 24 * 3600.0
"""An ingest that nobody writes to and no lease holds is kept this long for its next try."""


class Garbage(Record):
    """One thing that went, or would go. type: as in leases, or "blobs" and "ingests" for files; size: bytes on disk.

    namespace is "" for what namespaces share. number: a snapshot's, else 0.
    """

    type: str
    namespace: str
    id: str
    size: int = 0
    number: int = 0

    def __str__(self) -> str:
        return f"{_KINDS.get(self.type) or self.type.replace('snapshots/', 'snapshot ')} {self.id}"


_KINDS = {
    "content": "content", "images": "image", "leases": "lease", "layers": "layer", "blobs": "blob",
    "ingests": "ingest", "containers": "container",
}  # fmt: skip


class Collected(Record):
    """A collection's outcome. failures: what could not be removed, as sentences; the next collection tries again."""

    garbage: tuple[Garbage, ...]
    failures: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of files that went, or would go."""
        return sum(one.size for one in self.garbage)

    @property
    def items(self) -> tuple[str, ...]:
        """Each thing as text, a blob and a namespace's sight of it as one."""
        content = {one.id for one in self.garbage if one.type == "content"}
        return tuple(str(one) for one in self.garbage if one.type != "blobs" or one.id not in content)

    @property
    def counts(self) -> dict[str, int]:
        """How many of each type."""
        found: dict[str, int] = {}
        for one in self.garbage:
            found[one.type] = found.get(one.type, 0) + 1
        return found


def collect(
    db: Database,
    root: str,
    *,
    remove_snapshot_files: Callable[[str, int], object],
    remove_layer_files: Callable[[str], object],
    dry_run: bool = False,
    ingest_age_s: float = INGEST_AGE_S,
    cancel: Cancel = NEVER,
) -> Collected:
    """Remove what nothing refers to, in all namespaces; with dry_run only tell it.

    remove_snapshot_files(snapshotter, number), remove_layer_files(diff_id): remove files whose row has gone. The second
    looks again for a row under the layer's flock, since a layer may be built anew meanwhile (numbers of snapshots are
    never used again). ingest_age_s: seconds since the last write to an ingest that nobody holds.
    """
    layout = Layout(root)
    if dry_run:
        with db.read() as tx:
            garbage, leased = _garbage(references.load(tx), tx.now_ns)
        recorded = {one.id for one in garbage if one.type == "blobs"}
        files = [*_orphans(db, layout, skip=recorded), *_old_ingests(layout, leased, ingest_age_s)]
        return Collected(garbage=(*garbage, *files))
    work = _Sweep(db, layout, cancel)
    with layout.lock_collector(cancel):
        with db.write() as tx:
            garbage, leased = _garbage(references.load(tx), tx.now_ns)
            _remove_rows(tx, root, garbage)
            faults.point("gc.rows.removed")
        faults.point("gc.rows.committed")
        for one in garbage:
            if one.type == "blobs":
                work.blob(one)
            elif one.number:
                work.call(one, remove_snapshot_files, one.type.partition("/")[2], one.number)
            elif one.type == "layers":
                work.call(one, remove_layer_files, one.id)
            else:
                work.done.append(one)
            faults.point("gc.file.removed")
        for one in _orphans(db, layout):
            work.blob(one)
        work.ingests(leased, ingest_age_s)
        for lock in layout.stale_locks():
            lock.release(unlink=True)
    return Collected(garbage=tuple(work.done), failures=tuple(work.failures))


def why(db: Database, namespace: str, what: str) -> Sequence[str]:
    """Why a thing is kept: lines from a root down to it.

    what: an image's name, a digest (or the first hex digits of one), the key of a snapshot, the id of a container or
    lease. NotFound when there is none or nothing keeps it, InvalidArgument when the digits fit several.
    """
    with db.read() as tx:
        graph = Graph(references.load(tx), tx.now_ns)
    kept = graph.marks()
    found = _matching(graph, namespace, what)
    if not found:
        raise errors.NotFound(f"nothing is called {what!r} in namespace {namespace!r}")
    lines: list[str] = []
    for node in found:
        if node in kept:
            lines += _path(kept, node)
    if not lines:
        raise errors.NotFound(
            f"nothing keeps {_name(found[0])}: the next collection removes it", advice="orlop gc --dry-run"
        )
    return lines


def _matching(graph: Graph, namespace: str, what: str) -> list[Node]:
    there = [node for node in graph.nodes() if node[1] in ("", namespace)]
    exact = [node for node in there if node[2] == what]
    if exact or len(what) < 4:
        return exact
    short = [node for node in there if node[2].startswith(what) or node[2].partition(":")[2].startswith(what)]
    if len({node[2] for node in short}) > 1:
        raise errors.InvalidArgument(f"{what!r} fits several things", advice="give more of it")
    return short


def _path(kept: dict[Node, Step], node: Node) -> list[str]:
    steps: list[str] = []
    at: Node | None = node
    while at is not None:
        holder, reason = kept[at]
        steps.append(f"{_name(at)} ({reason})")
        at = holder
    return ["  " * depth + step for depth, step in enumerate(reversed(steps))]


def _name(node: Node) -> str:
    return str(Garbage(*node))


def _garbage(rows: references.Rows, now_ns: int) -> tuple[list[Garbage], set[tuple[str, str]]]:
    """What is not marked, in the order in which it can go: referring before referred, children before parents."""
    graph = Graph(rows, now_ns)
    kept = graph.marks()
    images_, leases_, content, stacks, layers_ = [], [], [], [], []
    for node in graph.nodes():
        if node in kept:
            continue
        kind, namespace, id = node
        if kind == "images":
            images_.append(Garbage(kind, namespace, id))
        elif kind == "leases":
            leases_.append(Garbage(kind, namespace, id))
        elif kind == "content":
            content.append(Garbage(kind, namespace, id))
        elif kind == "layers":
            layers_.append(Garbage(kind, "", id, rows.layers[id]))
        else:
            number = graph.number(node)
            stacks.append(Garbage(kind, namespace, id, rows.snapshots[number][5] or 0, number))
    stacks.sort(key=lambda one: -one.number)  # a child was made after its parent
    seen = {digest for (kind, _, digest) in kept if kind == "content"}
    files = [Garbage("blobs", "", digest, size) for digest, size in rows.blobs.items() if digest not in seen]
    return [*images_, *leases_, *content, *files, *stacks, *layers_], graph.leased_ingests()


def _remove_rows(tx: Transaction, root: str, garbage: Sequence[Garbage]) -> None:
    for one in garbage:
        if one.type == "images":
            images.delete(tx, one.namespace, one.id)
            publish(tx, root, one.namespace, "/images/delete", {"name": one.id})
        elif one.type == "leases":
            leases.delete(tx, one.namespace, one.id)
        elif one.type == "content":
            blobs.delete(tx, one.namespace, one.id)
            publish(tx, root, one.namespace, "/content/delete", {"digest": one.id})
        elif one.type == "blobs":
            blobs.forget(tx, one.id)
        elif one.type == "layers":
            layers.delete(tx, one.id)
        else:
            snapshots.delete(tx, one.number)
            payload = {"key": one.id, "snapshotter": one.type.partition("/")[2]}
            publish(tx, root, one.namespace, "/snapshot/remove", payload)


class _Sweep:
    """The removal of files: goes on after a failure, and remembers what was done."""

    def __init__(self, db: Database, layout: Layout, cancel: Cancel) -> None:
        self._db = db
        self._layout = layout
        self._cancel = cancel
        self.done: list[Garbage] = []
        self.failures: list[str] = []

    def call(self, one: Garbage, remove: Callable[..., object], *args: object) -> None:
        self._cancel.check()
        try:
            remove(*args)
        except (OSError, errors.OrlopError) as error:
            self.failures.append(f"{one}: {error}")
        else:
            self.done.append(one)

    def blob(self, one: Garbage) -> None:
        self._cancel.check()
        try:
            size = unlink_unrecorded(self._db, self._layout, Digest(one.id))
        except errors.OrlopError as error:
            self.failures.append(f"{one}: {error}")
        else:
            if size:  # else somebody is bringing it back, or has
                self.done.append(one.replace(size=size))

    def ingests(self, leased: set[tuple[str, str]], age_s: float) -> None:
        for one in _old_ingests(self._layout, leased, age_s):
            directory = self._layout.ingest_by_key(one.id)
            try:
                lock = self._layout.lock_ingest(directory, wait=False)
            except errors.Unavailable:
                continue
            try:
                if _is_old(directory, age_s):  # nobody went on with it before the flock was taken
                    self.call(one, fsio.remove_tree, directory)
            finally:
                lock.release(unlink=True)


def _orphans(db: Database, layout: Layout, skip: set[str] | None = None) -> list[Garbage]:
    """Files of blobs that no row names (those in `skip` are known already)."""
    there = list(layout.blobs())  # before the rows: who commits has its row by then, or holds the flock
    with db.read() as tx:
        recorded = blobs.on_record(tx)
    return [
        Garbage("blobs", "", digest, layout.size(digest))
        for digest in there
        if digest not in recorded and digest not in (skip or ())
    ]


def _old_ingests(layout: Layout, leased: set[tuple[str, str]], age_s: float) -> list[Garbage]:
    found = []
    for directory in layout.ingests():
        namespace, ref = ingest.owner(directory)
        status = ingest.status(directory)
        if status is not None and (namespace, ref) not in leased and _is_old(directory, age_s):
            found.append(Garbage("ingests", namespace, directory.rpartition("/")[2], status.offset))
    return found


def _is_old(directory: str, age_s: float) -> bool:
    status = ingest.status(directory)
    return status is not None and time.time_ns() - status.updated_ns >= age_s * 1e9
