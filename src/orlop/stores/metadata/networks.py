"""Rows of networks and of containers' endpoints on them. Touches no file and no kernel."""

from __future__ import annotations

from ...base import errors, jsonio
from . import labels as _labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .database import Transaction

NETWORK_COLUMNS = (
    "id", "name", "driver", "subnet", "gateway", "ip_range", "subnet6", "gateway6", "internal", "options", "labels",
    "created_ns",
)  # fmt: skip
"""Also the fields of stores/networks/api.Network, in its order."""
ENDPOINT_COLUMNS = (
    "container", "network", "name", "aliases", "netns", "interface", "link", "address", "address6", "mac", "ports",
    "created_ns",
)  # fmt: skip
"""Also the fields of stores/networks/api.Endpoint, in its order."""

_NETWORKS = f"SELECT {', '.join(NETWORK_COLUMNS)} FROM networks"
_ENDPOINTS = f"SELECT {', '.join(ENDPOINT_COLUMNS)} FROM endpoints"


def _network(v: Any) -> tuple[Any, ...]:
    return (*v[:8], bool(v[8]), jsonio.loads(v[9]), _labels.load(v[10]), v[11])


def _endpoint(v: Any) -> tuple[Any, ...]:
    return (*v[:3], jsonio.loads(v[3]), *v[4:10], jsonio.loads(v[10]), v[11])


def insert_network(tx: Transaction, values: dict[str, Any]) -> None:
    """values: every field. AlreadyExists when the name is taken."""
    if tx.row("SELECT 1 FROM networks WHERE name = ?", (values["name"],)):
        raise errors.AlreadyExists(
            f"network {values['name']!r} exists", advice="choose another name, or remove that network"
        )
    columns = _network_columns(values)
    tx.execute(f"INSERT INTO networks ({', '.join(NETWORK_COLUMNS)}) VALUES ({', '.join('?' * len(columns))})", columns)


def replace_network(tx: Transaction, values: dict[str, Any]) -> None:
    """Write all fields anew. NotFound when there is none."""
    changes = ", ".join(f"{column} = ?" for column in NETWORK_COLUMNS[1:])
    columns = _network_columns(values)
    if not tx.execute(f"UPDATE networks SET {changes} WHERE id = ?", [*columns[1:], columns[0]]):
        raise errors.NotFound(f"no such network: {values['name']}")


def _network_columns(values: dict[str, Any]) -> list[Any]:
    return [
        *(values[column] for column in NETWORK_COLUMNS[:8]), int(values["internal"]),
        jsonio.dumps(values["options"], ascii_only=True), _labels.dump(values["labels"]), values["created_ns"],
    ]  # fmt: skip


def resolve_network(tx: Transaction, text: str) -> tuple[Any, ...]:
    """By name, by id, by an unambiguous prefix of an id, in that order. NotFound; InvalidArgument when several fit."""
    found = tx.rows(f"{_NETWORKS} WHERE name = ?", (text,)) or tx.rows(f"{_NETWORKS} WHERE id = ?", (text,))
    if not found and text:
        # "\U0010ffff" sorts after every character an identifier can hold.
        found = tx.rows(f"{_NETWORKS} WHERE id >= ? AND id < ? LIMIT 2", (text, f"{text}\U0010ffff"))
        if len(found) > 1:
            raise errors.InvalidArgument(
                f"multiple networks found with id prefix {text!r}", advice="give more digits of the id, or the name"
            )
    if not found:
        raise errors.NotFound(f"no such network: {text}", advice="orlop network ls shows those there are")
    return _network(found[0])


def list_networks(tx: Transaction) -> list[tuple[Any, ...]]:
    """All, oldest first."""
    return [_network(v) for v in tx.rows(f"{_NETWORKS} ORDER BY created_ns, id")]


def delete_network(tx: Transaction, id: str) -> None:
    """NotFound when there is none, FailedPrecondition while containers are on it."""
    users = tx.rows("SELECT container, name FROM endpoints WHERE network = ? LIMIT 4", (id,))
    if users:
        names = ", ".join(name or container[:12] for container, name in users)
        raise errors.FailedPrecondition(
            f"network {id[:12]} has active endpoints: {names}", advice="remove those containers first"
        )
    if not tx.execute("DELETE FROM networks WHERE id = ?", (id,)):
        raise errors.NotFound(f"no such network: {id}")


def last(tx: Transaction, network: str) -> int:
    """Where in the network the last address was given."""
    row = tx.row("SELECT last FROM networks WHERE id = ?", (network,))
    return int(row[0]) if row else 0


def set_last(tx: Transaction, network: str, value: int) -> None:
    tx.execute("UPDATE networks SET last = ? WHERE id = ?", (value, network))


def insert_endpoint(tx: Transaction, values: dict[str, Any]) -> None:
    """AlreadyExists when the container is on that network already."""
    if tx.row("SELECT 1 FROM endpoints WHERE container = ? AND network = ?", (values["container"], values["network"])):
        raise errors.AlreadyExists(
            f"container {values['container'][:12]} is on network {values['network'][:12]} already"
        )
    columns = _endpoint_columns(values)
    tx.execute(
        f"INSERT INTO endpoints ({', '.join(ENDPOINT_COLUMNS)}) VALUES ({', '.join('?' * len(columns))})", columns
    )


def replace_endpoint(tx: Transaction, values: dict[str, Any]) -> None:
    """Write all fields of an endpoint anew. NotFound when there is none."""
    columns = _endpoint_columns(values)
    changes = ", ".join(f"{column} = ?" for column in ENDPOINT_COLUMNS[2:])
    if not tx.execute(
        f"UPDATE endpoints SET {changes} WHERE container = ? AND network = ?", [*columns[2:], *columns[:2]]
    ):
        raise errors.NotFound(f"container {values['container'][:12]} is not on network {values['network'][:12]}")


def _endpoint_columns(values: dict[str, Any]) -> list[Any]:
    return [
        *(values[column] for column in ENDPOINT_COLUMNS[:3]), jsonio.dumps(list(values["aliases"]), ascii_only=True),
        *(values[column] for column in ENDPOINT_COLUMNS[4:10]), jsonio.dumps(values["ports"], ascii_only=True),
        values["created_ns"],
    ]  # fmt: skip


def endpoints(tx: Transaction, *, network: str = "", container: str = "") -> list[tuple[Any, ...]]:
    """Those of a network, of a container, or all; oldest first."""
    where, parameters = "", []
    for column, value in (("network", network), ("container", container)):
        if value:
            where += f"{' AND' if where else ' WHERE'} {column} = ?"
            parameters.append(value)
    rows = tx.rows(f"{_ENDPOINTS}{where} ORDER BY created_ns, container, interface", parameters)
    return [_endpoint(v) for v in rows]


def addresses(tx: Transaction, network: str) -> set[str]:
    """The IPv4 addresses that are taken on a network."""
    return {row[0] for row in tx.rows("SELECT address FROM endpoints WHERE network = ?", (network,))}


def delete_endpoint(tx: Transaction, container: str, network: str) -> bool:
    """Whether there was one."""
    return bool(tx.execute("DELETE FROM endpoints WHERE container = ? AND network = ?", (container, network)))
