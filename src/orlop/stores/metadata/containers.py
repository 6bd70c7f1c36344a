"""Rows of containers: what should run. Touches no file."""

from __future__ import annotations

from ...base import errors, jsonio
from . import labels as _labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .database import Transaction

COLUMNS = (
    "id", "name", "image", "image_digest", "runtime", "runtime_options", "spec", "snapshotter", "snapshot_key",
    "sandbox_id", "created_ns", "updated_ns", "labels", "extensions",
)  # fmt: skip
"""Also the fields of stores/containers/api.Container, in its order: a row is its arguments."""

_SELECT = f"SELECT {', '.join(COLUMNS)} FROM containers"


def _row(v: Any) -> tuple[Any, ...]:
    return (
        v[0], v[1] or "", *v[2:5], _object(v[5]), *v[6:12], _labels.load(v[12]), _object(v[13]),
    )  # fmt: skip


def _object(column: str) -> Any:
    return {} if column == "{}" else jsonio.loads(column)


def _columns(values: dict[str, Any]) -> list[Any]:
    """The values of the columns COLUMNS[1:] from a container's fields."""
    return [
        values["name"] or None, values["image"], values["image_digest"], values["runtime"],
        jsonio.dumps(values["runtime_options"], ascii_only=True), values["spec"], values["snapshotter"],
        values["snapshot_key"], values["sandbox_id"], values["created_ns"], values["updated_ns"],
        _labels.dump(values["labels"]), jsonio.dumps(values["extensions"], ascii_only=True),
    ]  # fmt: skip


def get(tx: Transaction, namespace: str, id: str) -> tuple[Any, ...]:
    """NotFound when there is none."""
    values = tx.row(f"{_SELECT} WHERE namespace = ? AND id = ?", (namespace, id))
    if values is None:
        raise errors.NotFound(f"no such container: {id}")
    return _row(values)


def resolve(tx: Transaction, namespace: str, text: str) -> tuple[Any, ...]:
    """By id, by name (with or without Docker's leading slash), by an unambiguous prefix of an id, in that order.

    NotFound when nothing fits, InvalidArgument when a prefix fits several.
    """
    values = tx.row(f"{_SELECT} WHERE namespace = ? AND id = ?", (namespace, text))
    if values is None:
        values = tx.row(f"{_SELECT} WHERE namespace = ? AND name = ?", (namespace, text.removeprefix("/")))
    if values is None and text:
        # "\U0010ffff" sorts after every character an identifier can hold.
        found = tx.rows(
            f"{_SELECT} WHERE namespace = ? AND id >= ? AND id < ? LIMIT 2", (namespace, text, f"{text}\U0010ffff")
        )
        if len(found) > 1:
            raise errors.InvalidArgument(
                f"multiple containers found with id prefix {text!r}", advice="give more digits of the id, or the name"
            )
        values = found[0] if found else None
    if values is None:
        raise errors.NotFound(f"no such container: {text}")
    return _row(values)


def listed(tx: Transaction, namespace: str) -> list[tuple[Any, ...]]:
    """All of a namespace, newest first."""
    return [
        _row(v) for v in tx.rows(f"{_SELECT} WHERE namespace = ? ORDER BY created_ns DESC, rowid DESC", (namespace,))
    ]


def insert(tx: Transaction, namespace: str, values: dict[str, Any]) -> None:
    """values: every field of the record. AlreadyExists when the id or the name is taken (the message tells by whom)."""
    if tx.row("SELECT 1 FROM containers WHERE namespace = ? AND id = ?", (namespace, values["id"])):
        raise errors.AlreadyExists(f"container {values['id']!r} exists")
    _check_name(tx, namespace, values["id"], values["name"])
    marks = ", ".join("?" * (len(COLUMNS) + 1))
    tx.execute(
        f"INSERT INTO containers (namespace, {', '.join(COLUMNS)}) VALUES ({marks})",
        [namespace, values["id"], *_columns(values)],
    )


def replace(tx: Transaction, namespace: str, values: dict[str, Any]) -> None:
    """Write all fields anew. NotFound when there is none, AlreadyExists when another has the name."""
    _check_name(tx, namespace, values["id"], values["name"])
    changes = ", ".join(f"{column} = ?" for column in COLUMNS[1:])
    if not tx.execute(
        f"UPDATE containers SET {changes} WHERE namespace = ? AND id = ?",
        [*_columns(values), namespace, values["id"]],
    ):
        raise errors.NotFound(f"no such container: {values['id']}")


def _check_name(tx: Transaction, namespace: str, id: str, name: str) -> None:
    if not name:
        return
    other = tx.row("SELECT id FROM containers WHERE namespace = ? AND name = ? AND id <> ?", (namespace, name, id))
    if other is not None:
        raise errors.AlreadyExists(
            f'the container name "/{name}" is already in use by container {other[0]}',
            advice="remove or rename that container, or choose another name",
        )


def delete(tx: Transaction, namespace: str, id: str) -> None:
    """NotFound when there is none."""
    if not tx.execute("DELETE FROM containers WHERE namespace = ? AND id = ?", (namespace, id)):
        raise errors.NotFound(f"no such container: {id}")
