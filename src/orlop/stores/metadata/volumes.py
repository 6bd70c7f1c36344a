"""Rows of volumes and of the containers that use them. Touches no file."""

from __future__ import annotations

from ...base import errors, jsonio
from . import labels as _labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .database import Transaction

    VolumeRow = tuple[str, str, dict[str, str], dict[str, str], bool, int]
    """name, driver, options, labels, anonymous, created_ns: the fields of stores/volumes/api.Volume, in its order."""

_COLUMNS = "name, driver, options, labels, anonymous, created_ns"


def _row(v: tuple[str, str, str, str, int, int]) -> VolumeRow:
    options = {} if v[2] == "{}" else jsonio.loads(v[2])
    return v[0], v[1], options, _labels.load(v[3]), bool(v[4]), v[5]


def find(tx: Transaction, namespace: str, name: str) -> VolumeRow | None:
    """None when there is none."""
    values = tx.row(f"SELECT {_COLUMNS} FROM volumes WHERE namespace = ? AND name = ?", (namespace, name))
    return None if values is None else _row(values)


def get(tx: Transaction, namespace: str, name: str) -> VolumeRow:
    """NotFound when there is none."""
    found = find(tx, namespace, name)
    if found is None:
        raise errors.NotFound(f"no such volume: {name}")
    return found


def listed(tx: Transaction, namespace: str) -> list[VolumeRow]:
    """All of a namespace, in order of name."""
    return [
        _row(values)
        for values in tx.rows(f"SELECT {_COLUMNS} FROM volumes WHERE namespace = ? ORDER BY name", (namespace,))
    ]


def insert(
    tx: Transaction,
    namespace: str,
    name: str,
    driver: str,
    options: Mapping[str, str],
    labels: Mapping[str, str],
    anonymous: bool,
) -> VolumeRow:
    """AlreadyExists when the name is taken."""
    if tx.row("SELECT 1 FROM volumes WHERE namespace = ? AND name = ?", (namespace, name)):
        raise errors.AlreadyExists(f"volume {name!r} exists")
    tx.execute(
        f"INSERT INTO volumes (namespace, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            namespace, name, driver, jsonio.dumps(dict(options), sort_keys=True, ascii_only=True),
            jsonio.dumps(_checked(labels), sort_keys=True, ascii_only=True), int(anonymous), tx.now_ns,
        ),
    )  # fmt: skip
    return get(tx, namespace, name)


def _checked(labels: Mapping[str, str]) -> dict[str, str]:
    """As they are: unlike containerd's labels, a volume's may have an empty value."""
    _labels.check(labels)
    return dict(labels)


def delete(tx: Transaction, namespace: str, name: str) -> None:
    """NotFound when there is none, FailedPrecondition while a container uses it."""
    used = users(tx, namespace, name)
    if used:
        raise errors.FailedPrecondition(
            f"remove {name}: volume is in use - [{', '.join(used)}]", advice="remove those containers first"
        )
    if not tx.execute("DELETE FROM volumes WHERE namespace = ? AND name = ?", (namespace, name)):
        raise errors.NotFound(f"no such volume: {name}")


def use(tx: Transaction, namespace: str, name: str, container: str) -> None:
    """Note that a container uses it: the volume stays as long as the container's row does. Twice is fine.

    NotFound when there is no such container.
    """
    if not tx.row("SELECT 1 FROM containers WHERE namespace = ? AND id = ?", (namespace, container)):
        raise errors.NotFound(f"no such container: {container}")
    tx.execute(
        "INSERT INTO volume_uses (namespace, container, volume) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (namespace, container, name),
    )


def users(tx: Transaction, namespace: str, name: str) -> list[str]:
    """Ids of the containers that use it, in order."""
    return [
        row[0]
        for row in tx.rows(
            "SELECT container FROM volume_uses WHERE namespace = ? AND volume = ? ORDER BY container", (namespace, name)
        )
    ]


def used_by(tx: Transaction, namespace: str, container: str) -> list[VolumeRow]:
    """The volumes a container uses, in order of name."""
    names = tx.rows(
        "SELECT volume FROM volume_uses WHERE namespace = ? AND container = ? ORDER BY volume", (namespace, container)
    )
    return [get(tx, namespace, row[0]) for row in names]


def used(tx: Transaction, namespace: str) -> set[str]:
    """Names of all that some container uses."""
    return {row[0] for row in tx.rows("SELECT DISTINCT volume FROM volume_uses WHERE namespace = ?", (namespace,))}
