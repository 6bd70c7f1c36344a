"""Rows of images: names → descriptors. Touches no file."""

from __future__ import annotations

from ...base import errors, jsonio
from ...base.oci import descriptor as descriptors
from . import labels as _labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ...base.oci.descriptor import Descriptor
    from .database import Transaction

    ImageRow = tuple[str, Descriptor, int, int, dict[str, str]]
    """name, target, created_ns, updated_ns, labels: the fields of stores/images/api.Image, in its order."""

_COLUMNS = "name, target, created_ns, updated_ns, labels"


def _row(v: Any) -> ImageRow:
    target = descriptors.from_json(jsonio.loads(v[1]), f"target of image {v[0]}")
    return v[0], target, v[2], v[3], _labels.load(v[4])


def find(tx: Transaction, namespace: str, name: str) -> ImageRow | None:
    """An image, or None."""
    values = tx.row(f"SELECT {_COLUMNS} FROM images WHERE namespace = ? AND name = ?", (namespace, name))
    return None if values is None else _row(values)


def get(tx: Transaction, namespace: str, name: str) -> ImageRow:
    """NotFound when there is none."""
    row = find(tx, namespace, name)
    if row is None:
        raise errors.NotFound(f"no image {name!r}")
    return row


def listed(tx: Transaction, namespace: str) -> list[ImageRow]:
    """All of a namespace, in order of name."""
    return [_row(v) for v in tx.rows(f"SELECT {_COLUMNS} FROM images WHERE namespace = ? ORDER BY name", (namespace,))]


def insert(
    tx: Transaction, namespace: str, name: str, target: Descriptor, labels: Mapping[str, str] | None = None
) -> ImageRow:
    """AlreadyExists when the name is taken."""
    if not name:
        raise errors.InvalidArgument("an image's name is empty")
    if tx.row("SELECT 1 FROM images WHERE namespace = ? AND name = ?", (namespace, name)):
        raise errors.AlreadyExists(f"image {name!r} exists")
    tx.execute(
        f"INSERT INTO images (namespace, digest, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (namespace, target.digest, name, _dump(target), tx.now_ns, tx.now_ns, _labels.dump(labels)),
    )
    return get(tx, namespace, name)


def replace(tx: Transaction, namespace: str, name: str, target: Descriptor, labels: Mapping[str, str]) -> ImageRow:
    """Change target and labels. NotFound when there is none."""
    tx.execute(
        "UPDATE images SET digest = ?, target = ?, labels = ?, updated_ns = ? WHERE namespace = ? AND name = ?",
        (target.digest, _dump(target), _labels.dump(labels), tx.now_ns, namespace, name),
    )
    return get(tx, namespace, name)


def delete(tx: Transaction, namespace: str, name: str) -> None:
    """NotFound when there is none."""
    if not tx.execute("DELETE FROM images WHERE namespace = ? AND name = ?", (namespace, name)):
        raise errors.NotFound(f"no image {name!r}")


def _dump(target: Descriptor) -> str:
    return jsonio.dumps(descriptors.to_json(target), ascii_only=True)
