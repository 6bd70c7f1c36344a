"""Rows of layer data (the directories under layers/), shared by all namespaces. Touches no file."""

from __future__ import annotations

from ...base import errors, jsonio
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .database import Transaction


class LayerRow(Record):
    """path: relative to the root. implied, foreign_links: as in stores/layers/api.py."""

    diff_id: str
    form: str
    path: str
    size: int
    inodes: int
    tar_size: int
    created_ns: int
    implied: tuple[str, ...] = ()
    foreign_links: tuple[tuple[str, str], ...] = ()


_COLUMNS = "diff_id, form, path, size, inodes, tar_size, created_ns, implied, foreign_links"


def _row(values: tuple[str, str, str, int, int, int, int, str, str]) -> LayerRow:
    implied, links = values[7], values[8]
    return LayerRow(
        *values[:7],
        () if implied == "[]" else tuple(jsonio.loads(implied)),
        () if links == "[]" else tuple((name, target) for name, target in jsonio.loads(links)),
    )


def insert(tx: Transaction, row: LayerRow) -> None:
    """AlreadyExists when the layer has a row."""
    if tx.row("SELECT 1 FROM layers WHERE diff_id = ?", (row.diff_id,)) is not None:
        raise errors.AlreadyExists(f"layer {row.diff_id} is built already")
    tx.execute(
        f"INSERT INTO layers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.diff_id, row.form, row.path, row.size, row.inodes, row.tar_size, row.created_ns,
            jsonio.dumps(list(row.implied), ascii_only=True),
            jsonio.dumps([list(pair) for pair in row.foreign_links], ascii_only=True),
        ),
    )  # fmt: skip


def get(tx: Transaction, diff_id: str) -> LayerRow:
    """NotFound when it is not built."""
    values = tx.row(f"SELECT {_COLUMNS} FROM layers WHERE diff_id = ?", (diff_id,))
    if values is None:
        raise errors.NotFound(f"no layer data for diff ID {diff_id}")
    return _row(values)


def listed(tx: Transaction) -> list[LayerRow]:
    """All, in order of diff ID."""
    return [_row(values) for values in tx.rows(f"SELECT {_COLUMNS} FROM layers ORDER BY diff_id")]


def users_of(tx: Transaction, diff_id: str) -> int:
    """How many snapshots, of all namespaces and snapshotters, stand on the layer."""
    return int(tx.row("SELECT count(*) FROM snapshots WHERE diff_id = ?", (diff_id,))[0])


def delete(tx: Transaction, diff_id: str) -> None:
    """NotFound when there is no row, FailedPrecondition while a snapshot uses it."""
    users = users_of(tx, diff_id)
    if users:
        raise errors.FailedPrecondition(f"layer {diff_id} is used by {users} snapshot{'s' if users > 1 else ''}")
    if not tx.execute("DELETE FROM layers WHERE diff_id = ?", (diff_id,)):
        raise errors.NotFound(f"no layer data for diff ID {diff_id}")
