"""All rows garbage collection looks at, in one read; of labels only those it knows (`containerd.io/gc.…`)."""

from __future__ import annotations

from ...base.record import Record
from . import labels as _labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .database import Transaction

GC = "containerd.io/gc."


class Rows(Record):
    """Keys begin with the namespace; the last member of each value is the labels that begin with GC.

    images: (namespace, name) → (target digest, labels). containers: (namespace, id) → (snapshotter, key, labels).
    content: (namespace, digest) → (labels,). leases: (namespace, id) → (labels,).
    resources: (namespace, lease, type, id) of leases. snapshots: number → (snapshotter, namespace, key, parent's
    number or None, diff ID or None, size or None, labels). layers: diff ID → size. blobs: digest → size.
    """

    images: dict[tuple[str, str], tuple[str, dict[str, str]]]
    containers: dict[tuple[str, str], tuple[str, str, dict[str, str]]]
    content: dict[tuple[str, str], tuple[dict[str, str]]]
    leases: dict[tuple[str, str], tuple[dict[str, str]]]
    resources: list[tuple[str, str, str, str]]
    snapshots: dict[int, tuple[str, str, str, int | None, str | None, int | None, dict[str, str]]]
    layers: dict[str, int]
    blobs: dict[str, int]


def load(tx: Transaction) -> Rows:
    """Read them all: a few microseconds a row."""
    return Rows(
        images={
            (v[0], v[1]): (v[2], _known(v[3])) for v in tx.rows("SELECT namespace, name, digest, labels FROM images")
        },
        containers={
            (v[0], v[1]): (v[2], v[3], _known(v[4]))
            for v in tx.rows("SELECT namespace, id, snapshotter, snapshot_key, labels FROM containers")
        },
        content={(v[0], v[1]): (_known(v[2]),) for v in tx.rows("SELECT namespace, digest, labels FROM content")},
        leases={(v[0], v[1]): (_known(v[2]),) for v in tx.rows("SELECT namespace, id, labels FROM leases")},
        resources=tx.rows("SELECT namespace, lease, type, id FROM lease_resources"),
        snapshots={
            v[0]: (*v[1:7], _known(v[7]))
            for v in tx.rows("SELECT number, snapshotter, namespace, key, parent, diff_id, size, labels FROM snapshots")
        },
        layers=dict(tx.rows("SELECT diff_id, size FROM layers")),
        blobs=dict(tx.rows("SELECT digest, size FROM blobs")),
    )


def _known(column: str) -> dict[str, str]:
    if GC not in column:
        return {}
    return {key: value for key, value in _labels.load(column).items() if key.startswith(GC)}
