"""Rows of snapshots. A row's number names its directory and is never used again."""

from __future__ import annotations

from ...base.record import Record
from . import rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .database import Tx

_COLUMNS = (
    "s.number, s.snapshotter, s.namespace, s.key, s.kind, s.parent, p.key, s.diff_id, s.labels, "
    "s.created_ns, s.updated_ns, s.size, s.inodes"
)
_FROM = "FROM snapshots s LEFT JOIN snapshots p ON p.number = s.parent"


class SnapshotRow(Record):
    """parent: the parent's number; parent_key: its key; diff_id: the layer `stack` put on it; size: once committed."""

    number: int
    snapshotter: str
    namespace: str
    key: str
    kind: str
    parent: int | None
    parent_key: str
    diff_id: str | None
    labels: dict[str, str]
    created_ns: int
    updated_ns: int
    size: int | None
    inodes: int | None


def _row(values: tuple[Any, ...]) -> SnapshotRow:
    fields = list(values)
    fields[6] = fields[6] or ""
    fields[8] = rows.load_labels(fields[8])
    return SnapshotRow(*fields)


def insert(
    tx: Tx,
    snapshotter: str,
    namespace: str,
    key: str,
    kind: str,
    parent: int | None,
    diff_id: str | None,
    labels: Mapping[str, str] | None,
    now_ns: int,
) -> int:
    """Add a row; returns its number. The caller has checked that the key is free."""
    cursor = tx.execute(
        "INSERT INTO snapshots (snapshotter, namespace, key, kind, parent, diff_id, labels, created_ns, updated_ns) "
        "VALUES (?,?,?,?,?,?,?,?,?)",
        (
            snapshotter,
            namespace,
            key,
            kind,
            parent,
            str(diff_id) if diff_id else None,
            rows.dump_labels(labels),
            now_ns,
            now_ns,
        ),
    )
    return int(cursor.lastrowid or 0)


def get(tx: Tx, snapshotter: str, namespace: str, key: str) -> SnapshotRow | None:
    values = tx.execute(
        f"SELECT {_COLUMNS} {_FROM} WHERE s.snapshotter=? AND s.namespace=? AND s.key=?", (snapshotter, namespace, key)
    ).fetchone()
    return _row(values) if values else None


def by_number(tx: Tx, number: int) -> SnapshotRow | None:
    values = tx.execute(f"SELECT {_COLUMNS} {_FROM} WHERE s.number=?", (number,)).fetchone()
    return _row(values) if values else None


def chain(tx: Tx, number: int) -> Sequence[SnapshotRow]:
    """The snapshot, its parent, and so on down to the first."""
    found = []
    at: int | None = number
    while at is not None:
        row = by_number(tx, at)
        if row is None:
            break
        found.append(row)
        at = row.parent
    return found


def has_children(tx: Tx, number: int) -> bool:
    return tx.execute("SELECT 1 FROM snapshots WHERE parent=? LIMIT 1", (number,)).fetchone() is not None


def commit(
    tx: Tx, number: int, key: str, size: int, inodes: int, labels: Mapping[str, str] | None, now_ns: int
) -> None:
    """An active snapshot becomes committed under a new key. labels None keeps those there are."""
    tx.execute(
        "UPDATE snapshots SET key=?, kind='committed', size=?, inodes=?, updated_ns=? WHERE number=?",
        (key, size, inodes, now_ns, number),
    )
    if labels is not None:
        tx.execute("UPDATE snapshots SET labels=? WHERE number=?", (rows.dump_labels(labels), number))


def update_labels(tx: Tx, number: int, labels: Mapping[str, str], now_ns: int) -> None:
    tx.execute("UPDATE snapshots SET labels=?, updated_ns=? WHERE number=?", (rows.dump_labels(labels), now_ns, number))


def delete(tx: Tx, number: int) -> bool:
    """Delete a row; whether there was one. The foreign key refuses while it has children."""
    return tx.execute("DELETE FROM snapshots WHERE number=?", (number,)).rowcount > 0


def walk(tx: Tx, snapshotter: str, namespace: str) -> Sequence[SnapshotRow]:
    """All of a namespace, in order of key."""
    return [
        _row(values)
        for values in tx.execute(
            f"SELECT {_COLUMNS} {_FROM} WHERE s.snapshotter=? AND s.namespace=? ORDER BY s.key",
            (snapshotter, namespace),
        )
    ]


def list_all(tx: Tx) -> Sequence[SnapshotRow]:
    """All, of every snapshotter and namespace."""
    return [_row(values) for values in tx.execute(f"SELECT {_COLUMNS} {_FROM} ORDER BY s.number")]


def numbers(tx: Tx, snapshotter: str) -> set[int]:
    """The numbers in use, in all namespaces: whose directories must stay."""
    return {row[0] for row in tx.execute("SELECT number FROM snapshots WHERE snapshotter=?", (snapshotter,))}
