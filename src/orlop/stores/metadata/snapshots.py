"""Rows of snapshots of every snapshotter. Touches no file.

A row's `number` names the snapshot's directory and is never used again; its key is what a namespace calls it.
"""

from __future__ import annotations

from ...base import errors
from ...base.record import Record
from . import labels as _labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .database import Transaction

KINDS = ("active", "view", "committed")


class SnapshotRow(Record):
    """parent: number of the parent, 0 for none; parent_key: its key. diff_id: the layer it puts on the parent, or "".

    size (bytes) and inodes: usage, None until committed.
    """

    number: int
    snapshotter: str
    namespace: str
    key: str
    kind: str
    parent: int
    parent_key: str
    diff_id: str
    labels: dict[str, str]
    created_ns: int
    updated_ns: int
    size: int | None = None
    inodes: int | None = None


_SELECT = """
    SELECT s.number, s.snapshotter, s.namespace, s.key, s.kind, s.parent, p.key, s.diff_id, s.labels,
           s.created_ns, s.updated_ns, s.size, s.inodes
    FROM snapshots s LEFT JOIN snapshots p ON p.number = s.parent
"""


def _row(v: tuple[int, str, str, str, str, int | None, str | None, str | None, str, int, int, int, int]) -> SnapshotRow:
    labels = _labels.load(v[8])
    return SnapshotRow(v[0], v[1], v[2], v[3], v[4], v[5] or 0, v[6] or "", v[7] or "", labels, *v[9:])


def insert(
    tx: Transaction,
    snapshotter: str,
    namespace: str,
    key: str,
    kind: str,
    parent: int = 0,
    diff_id: str = "",
    labels: Mapping[str, str] | None = None,
    *,
    size: int | None = None,
    inodes: int | None = None,
) -> int:
    """Add a snapshot and return its number.

    parent: number of a committed snapshot, 0 for none. diff_id: a layer that has a row, or "".
    AlreadyExists when the key is taken, NotFound when the parent or the layer is missing, InvalidArgument when the
    parent is not committed or is another snapshotter's or namespace's.
    """
    if not key:
        raise errors.InvalidArgument("a snapshot's key is empty")
    if tx.row(
        "SELECT 1 FROM snapshots WHERE snapshotter = ? AND namespace = ? AND key = ?", (snapshotter, namespace, key)
    ):
        raise errors.AlreadyExists(f"snapshot {key!r} exists")
    if parent:
        row = tx.row("SELECT kind, snapshotter, namespace, key FROM snapshots WHERE number = ?", (parent,))
        if row is None:
            raise errors.NotFound(f"snapshot {key!r}: its parent (number {parent}) is gone")
        if row[0] != "committed" or row[1:3] != (snapshotter, namespace):
            raise errors.InvalidArgument(f"snapshot {key!r}: its parent {row[3]!r} is not a committed snapshot")
    if diff_id and tx.row("SELECT 1 FROM layers WHERE diff_id = ?", (diff_id,)) is None:
        raise errors.NotFound(f"snapshot {key!r}: no layer data for diff ID {diff_id}")
    return tx.insert(
        "INSERT INTO snapshots (snapshotter, namespace, key, kind, parent, diff_id, labels, created_ns, updated_ns,"
        " size, inodes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            snapshotter, namespace, key, kind, parent or None, diff_id or None, _labels.dump(labels),
            tx.now_ns, tx.now_ns, size, inodes,
        ),
    )  # fmt: skip


def get(tx: Transaction, snapshotter: str, namespace: str, key: str) -> SnapshotRow:
    """NotFound when the namespace has no snapshot of that key."""
    values = tx.row(
        f"{_SELECT} WHERE s.snapshotter = ? AND s.namespace = ? AND s.key = ?", (snapshotter, namespace, key)
    )
    if values is None:
        raise errors.NotFound(f"no snapshot {key!r} ({snapshotter}, namespace {namespace})")
    return _row(values)


def by_number(tx: Transaction, number: int) -> SnapshotRow:
    """NotFound when there is none."""
    values = tx.row(f"{_SELECT} WHERE s.number = ?", (number,))
    if values is None:
        raise errors.NotFound(f"no snapshot with number {number}")
    return _row(values)


def chain(tx: Transaction, number: int) -> list[SnapshotRow]:
    """The snapshot and its ancestors, from it down to its root. NotFound when there is none."""
    values = tx.rows(
        f"""WITH RECURSIVE up(number, parent, depth) AS (
                SELECT number, parent, 0 FROM snapshots WHERE number = ?
                UNION ALL SELECT n.number, n.parent, up.depth + 1 FROM snapshots n JOIN up ON n.number = up.parent
            ) {_SELECT} JOIN up ON up.number = s.number ORDER BY up.depth""",
        (number,),
    )
    if not values:
        raise errors.NotFound(f"no snapshot with number {number}")
    return [_row(v) for v in values]


def has_children(tx: Transaction, number: int) -> bool:
    return tx.row("SELECT 1 FROM snapshots WHERE parent = ? LIMIT 1", (number,)) is not None


def commit(
    tx: Transaction, number: int, key: str, size: int, inodes: int, labels: Mapping[str, str] | None = None
) -> SnapshotRow:
    """Make an active snapshot a committed one under a new key. labels None: keep those there are.

    AlreadyExists when the key is taken, FailedPrecondition when the snapshot is not active, NotFound when it is gone.
    """
    row = by_number(tx, number)
    if row.kind != "active":
        raise errors.FailedPrecondition(f"snapshot {row.key!r} is {row.kind}, not active: it cannot be committed")
    if not key:
        raise errors.InvalidArgument("a snapshot's name is empty")
    if key != row.key and tx.row(
        "SELECT 1 FROM snapshots WHERE snapshotter = ? AND namespace = ? AND key = ?",
        (row.snapshotter, row.namespace, key),
    ):
        raise errors.AlreadyExists(f"snapshot {key!r} exists")
    tx.execute(
        "UPDATE snapshots SET key = ?, kind = 'committed', size = ?, inodes = ?, labels = ?, updated_ns = ?"
        " WHERE number = ?",
        (key, size, inodes, _labels.dump(row.labels if labels is None else labels), tx.now_ns, number),
    )
    return by_number(tx, number)


def update_labels(tx: Transaction, number: int, labels: Mapping[str, str]) -> SnapshotRow:
    """Replace the labels (see `labels.changed` for field masks). NotFound when it is gone."""
    tx.execute(
        "UPDATE snapshots SET labels = ?, updated_ns = ? WHERE number = ?", (_labels.dump(labels), tx.now_ns, number)
    )
    return by_number(tx, number)


def delete(tx: Transaction, number: int) -> None:
    """NotFound when there is none, FailedPrecondition while it has children (the message names one)."""
    child = tx.row("SELECT key FROM snapshots WHERE parent = ? LIMIT 1", (number,))
    if child is not None:
        raise errors.FailedPrecondition(f"snapshot {by_number(tx, number).key!r} is the parent of {child[0]!r}")
    if not tx.execute("DELETE FROM snapshots WHERE number = ?", (number,)):
        raise errors.NotFound(f"no snapshot with number {number}")


def walk(tx: Transaction, snapshotter: str, namespace: str) -> list[SnapshotRow]:
    """A namespace's snapshots, parents before children."""
    return [
        _row(v)
        for v in tx.rows(
            f"{_SELECT} WHERE s.snapshotter = ? AND s.namespace = ? ORDER BY s.number", (snapshotter, namespace)
        )
    ]


def numbers(tx: Transaction, snapshotter: str) -> set[int]:
    """Numbers of all snapshots of all namespaces: what `cleanup` must not touch."""
    return {v[0] for v in tx.rows("SELECT number FROM snapshots WHERE snapshotter = ?", (snapshotter,))}
