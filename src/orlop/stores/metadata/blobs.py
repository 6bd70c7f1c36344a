"""Rows of content: blobs (the files, shared) and what each namespace sees of them. Touches no file."""

from __future__ import annotations

from ...base import errors
from ...base.oci.digest import Digest
from ...base.record import Record
from . import labels as _labels
from .namespaces import SHAREABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .database import Transaction


class ContentRow(Record):
    """A blob as a namespace sees it; size in bytes."""

    digest: Digest
    size: int
    created_ns: int
    updated_ns: int
    labels: dict[str, str]


_SELECT = """
    SELECT c.digest, b.size, c.created_ns, c.updated_ns, c.labels FROM content c JOIN blobs b ON b.digest = c.digest
"""


def _row(v: tuple[str, int, int, int, str]) -> ContentRow:
    return ContentRow(Digest(v[0]), v[1], v[2], v[3], _labels.load(v[4]))


def find(tx: Transaction, namespace: str, digest: str) -> ContentRow | None:
    """A namespace's blob, or None."""
    values = tx.row(f"{_SELECT} WHERE c.namespace = ? AND c.digest = ?", (namespace, digest))
    return None if values is None else _row(values)


def get(tx: Transaction, namespace: str, digest: str) -> ContentRow:
    """NotFound when the namespace does not have it."""
    row = find(tx, namespace, digest)
    if row is None:
        raise errors.NotFound(f"no content {digest} in namespace {namespace!r}")
    return row


def walk(tx: Transaction, namespace: str) -> list[ContentRow]:
    """All of a namespace, in order of digest."""
    return [_row(v) for v in tx.rows(f"{_SELECT} WHERE c.namespace = ? ORDER BY c.digest", (namespace,))]


def insert(tx: Transaction, namespace: str, digest: str, size: int, labels: Mapping[str, str] | None = None) -> bool:
    """Record that the file is there and the namespace sees it. False, and nothing is changed, when it saw it already.

    DataLoss when the blob is on record with another size.
    """
    known = tx.row("SELECT size FROM blobs WHERE digest = ?", (digest,))
    if known is None:
        tx.execute("INSERT INTO blobs (digest, size, created_ns) VALUES (?, ?, ?)", (digest, size, tx.now_ns))
    elif known[0] != size:
        raise errors.DataLoss(f"content {digest} is on record with {known[0]} bytes, not {size}")
    elif tx.row("SELECT 1 FROM content WHERE namespace = ? AND digest = ?", (namespace, digest)):
        return False
    tx.execute(
        "INSERT INTO content (namespace, digest, labels, created_ns, updated_ns) VALUES (?, ?, ?, ?, ?)",
        (namespace, digest, _labels.dump(labels), tx.now_ns, tx.now_ns),
    )
    return True


def update_labels(tx: Transaction, namespace: str, digest: str, labels: Mapping[str, str]) -> ContentRow:
    """Replace the labels. NotFound when the namespace does not have the blob."""
    tx.execute(
        "UPDATE content SET labels = ?, updated_ns = ? WHERE namespace = ? AND digest = ?",
        (_labels.dump(labels), tx.now_ns, namespace, digest),
    )
    return get(tx, namespace, digest)


def delete(tx: Transaction, namespace: str, digest: str) -> bool:
    """Take a blob out of a namespace. True when no namespace has it any more: its file can go.

    NotFound when the namespace does not have it.
    """
    if not tx.execute("DELETE FROM content WHERE namespace = ? AND digest = ?", (namespace, digest)):
        raise errors.NotFound(f"no content {digest} in namespace {namespace!r}")
    return forget(tx, digest)


def forget(tx: Transaction, digest: str) -> bool:
    """Drop the record of a file that no namespace sees. False when one does, or there is no record."""
    return bool(
        tx.execute(
            "DELETE FROM blobs WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM content WHERE digest = ?)",
            (digest, digest),
        )
    )


def size_on_disk(tx: Transaction, digest: str) -> int | None:
    """Bytes of the file on record, whatever namespace sees it; None when there is no record."""
    row = tx.row("SELECT size FROM blobs WHERE digest = ?", (digest,))
    return None if row is None else int(row[0])


def on_record(tx: Transaction) -> dict[str, int]:
    """All blobs on record: digest → bytes."""
    return dict(tx.rows("SELECT digest, size FROM blobs"))


def is_shareable(tx: Transaction, digest: str) -> bool:
    """Whether a namespace that is labelled shareable has the blob (the policy "isolated")."""
    for (labels,) in tx.rows(
        "SELECT n.labels FROM content c JOIN namespaces n ON n.name = c.namespace WHERE c.digest = ?", (digest,)
    ):
        if _labels.load(labels).get(SHAREABLE) == "true":
            return True
    return False
