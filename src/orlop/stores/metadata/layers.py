"""Rows of layer data (`layers`): shared by all namespaces."""

from __future__ import annotations

from ...base import jsonio
from ...base.oci.digest import Digest
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .database import Tx

_COLUMNS = "diff_id, form, path, size, inodes, tar_size, created_ns, implied, foreign_links"


class LayerRow(Record):
    """path is relative to the root."""

    diff_id: Digest
    form: str
    path: str
    size: int
    inodes: int
    tar_size: int
    created_ns: int
    implied: tuple[str, ...] = ()
    foreign_links: tuple[tuple[str, str], ...] = ()


def _row(values: tuple[Any, ...]) -> LayerRow:
    diff_id, form, path, size, inodes, tar_size, created_ns, implied, links = values
    return LayerRow(
        Digest(diff_id),
        form,
        path,
        size,
        inodes,
        tar_size,
        created_ns,
        tuple(jsonio.loads(implied)) if implied != "[]" else (),
        tuple((name, target) for name, target in jsonio.loads(links)) if links != "[]" else (),
    )


def insert(tx: Tx, layer: LayerRow) -> None:
    """Add a row (an existing one of the same diff ID stays as it is)."""
    tx.execute(
        f"INSERT OR IGNORE INTO layers ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)",
        (
            str(layer.diff_id),
            layer.form,
            layer.path,
            layer.size,
            layer.inodes,
            layer.tar_size,
            layer.created_ns,
            jsonio.dumps(list(layer.implied)),
            jsonio.dumps([list(pair) for pair in layer.foreign_links]),
        ),
    )


def get(tx: Tx, diff_id: str) -> LayerRow | None:
    values = tx.execute(f"SELECT {_COLUMNS} FROM layers WHERE diff_id=?", (str(diff_id),)).fetchone()
    return _row(values) if values else None


def list_all(tx: Tx) -> Sequence[LayerRow]:
    return [_row(values) for values in tx.execute(f"SELECT {_COLUMNS} FROM layers ORDER BY diff_id")]


def delete(tx: Tx, diff_id: str) -> bool:
    """Delete a row; whether there was one. The foreign key refuses while a snapshot uses it."""
    return tx.execute("DELETE FROM layers WHERE diff_id=?", (str(diff_id),)).rowcount > 0


def users_of(tx: Tx, diff_id: str) -> int:
    """How many snapshots, in all namespaces, were stacked with it."""
    return int(tx.execute("SELECT count(*) FROM snapshots WHERE diff_id=?", (str(diff_id),)).fetchone()[0])
