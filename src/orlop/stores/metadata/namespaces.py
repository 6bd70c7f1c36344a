"""Rows of namespaces: their labels. Touches no file.

A namespace needs no row to be used; one that holds something is listed, with or without a row (as in containerd,
where the first object makes the namespace).
"""

from __future__ import annotations

from ...base import errors
from . import identifiers
from . import labels as _labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .database import Transaction

SHAREABLE = "containerd.io/namespace.shareable"
"""Label with the value "true": other namespaces may adopt this one's content even under the policy "isolated"."""

_HOLDERS = ("images", "containers", "content", "snapshots", "leases", "volumes")


def create(tx: Transaction, name: str, labels: Mapping[str, str] | None = None) -> None:
    """AlreadyExists when it has a row."""
    identifiers.check(name, "namespace")
    if tx.row("SELECT 1 FROM namespaces WHERE name = ?", (name,)):
        raise errors.AlreadyExists(f"namespace {name!r} exists")
    tx.execute(
        "INSERT INTO namespaces (name, labels, created_ns) VALUES (?, ?, ?)", (name, _labels.dump(labels), tx.now_ns)
    )


def labels(tx: Transaction, name: str) -> dict[str, str]:
    """A namespace's labels, {} when it is in use without a row. NotFound when it has no row and holds nothing."""
    row = tx.row("SELECT labels FROM namespaces WHERE name = ?", (name,))
    if row is not None:
        return _labels.load(row[0])
    if holds(tx, name):
        return {}
    raise errors.NotFound(f"no namespace {name!r}")


def update(tx: Transaction, name: str, new: Mapping[str, str], fields: Sequence[str] = ()) -> dict[str, str]:
    """Replace the labels, or those that `fields` names; returns them. NotFound as `labels`."""
    changed = _labels.changed(labels(tx, name), new, fields)
    tx.execute(
        "INSERT INTO namespaces (name, labels, created_ns) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET labels = excluded.labels",
        (name, _labels.dump(changed), tx.now_ns),
    )
    return changed


def listed(tx: Transaction) -> list[str]:
    """All that have a row or hold something, in order."""
    union = " UNION ".join(f"SELECT DISTINCT namespace FROM {table}" for table in _HOLDERS)
    return [row[0] for row in tx.rows(f"SELECT name FROM namespaces UNION {union} ORDER BY 1")]


def holds(tx: Transaction, name: str) -> str:
    """What a namespace holds, as the name of the first table that has a row of it; "" when it is empty."""
    for table in _HOLDERS:
        if tx.row(f"SELECT 1 FROM {table} WHERE namespace = ? LIMIT 1", (name,)):
            return table
    return ""


def delete(tx: Transaction, name: str) -> None:
    """FailedPrecondition while it holds something, NotFound when there is none."""
    held = holds(tx, name)
    if held:
        raise errors.FailedPrecondition(f"namespace {name!r} is not empty: it has {held}")
    if not tx.execute("DELETE FROM namespaces WHERE name = ?", (name,)):
        raise errors.NotFound(f"no namespace {name!r}")
