"""Rows of leases and of what they hold. Touches no file."""

from __future__ import annotations

from ...base import errors
from . import labels as _labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .database import Transaction

    LeaseRow = tuple[str, int, dict[str, str]]
    """id, created_ns, labels: the fields of stores/leases/api.Lease, in its order."""


def insert(tx: Transaction, namespace: str, id: str, labels: Mapping[str, str]) -> LeaseRow:
    """AlreadyExists when the id is taken."""
    if tx.row("SELECT 1 FROM leases WHERE namespace = ? AND id = ?", (namespace, id)):
        raise errors.AlreadyExists(f"lease {id!r} exists")
    tx.execute(
        "INSERT INTO leases (namespace, id, labels, created_ns) VALUES (?, ?, ?, ?)",
        (namespace, id, _labels.dump(labels), tx.now_ns),
    )
    return id, tx.now_ns, {key: value for key, value in labels.items() if value}


def check(tx: Transaction, namespace: str, id: str) -> None:
    """NotFound when there is no such lease."""
    if not tx.row("SELECT 1 FROM leases WHERE namespace = ? AND id = ?", (namespace, id)):
        raise errors.NotFound(f"no lease {id!r} in namespace {namespace!r}")


def listed(tx: Transaction, namespace: str) -> list[LeaseRow]:
    """All of a namespace, oldest first."""
    rows = tx.rows(
        "SELECT id, created_ns, labels FROM leases WHERE namespace = ? ORDER BY created_ns, id", (namespace,)
    )
    return [(row[0], row[1], _labels.load(row[2])) for row in rows]


def delete(tx: Transaction, namespace: str, id: str) -> None:
    """Drop a lease and its hold on everything. NotFound when there is none."""
    if not tx.execute("DELETE FROM leases WHERE namespace = ? AND id = ?", (namespace, id)):
        raise errors.NotFound(f"no lease {id!r} in namespace {namespace!r}")


def add_resource(tx: Transaction, namespace: str, lease: str, kind: str, id: str) -> None:
    """Hold a resource, which need not exist yet; one that is held already is fine. NotFound when the lease is gone."""
    check(tx, namespace, lease)
    tx.execute(
        "INSERT INTO lease_resources (namespace, lease, type, id) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (namespace, lease, kind, id),
    )


def delete_resource(tx: Transaction, namespace: str, lease: str, kind: str, id: str) -> None:
    """NotFound when the lease does not hold it."""
    check(tx, namespace, lease)
    if not tx.execute(
        "DELETE FROM lease_resources WHERE namespace = ? AND lease = ? AND type = ? AND id = ?",
        (namespace, lease, kind, id),
    ):
        raise errors.NotFound(f"lease {lease!r} does not hold {kind} {id}")


def resources(tx: Transaction, namespace: str, lease: str) -> list[tuple[str, str]]:
    """(type, id) of all it holds, in order. NotFound when the lease is gone."""
    check(tx, namespace, lease)
    return tx.rows(
        "SELECT type, id FROM lease_resources WHERE namespace = ? AND lease = ? ORDER BY type, id", (namespace, lease)
    )
