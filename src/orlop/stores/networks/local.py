"""The network store on this machine: rows of the metadata database. Touches no kernel and starts nothing."""

from __future__ import annotations

from ..metadata import networks as rows
from .api import Endpoint, Network, PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..metadata.database import Database


class LocalNetworkStore:
    """The networks of one root, seen from all its namespaces. Safe to use from any thread."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def resolve(self, text: str) -> Network:
        """By name, id or unambiguous prefix of an id. NotFound, InvalidArgument when several fit."""
        with self._db.read() as tx:
            return Network(*rows.resolve_network(tx, text))

    def list(self) -> Sequence[Network]:
        """Oldest first."""
        with self._db.read() as tx:
            return [Network(*row) for row in rows.list_networks(tx)]

    def create(self, network: Network) -> Network:
        """Add it; the time is the store's. AlreadyExists when the name is taken."""
        with self._db.write() as tx:
            made = network.replace(created_ns=tx.now_ns)
            rows.insert_network(tx, made.as_dict())
        return made

    def update(self, network: Network) -> None:
        """NotFound when there is none with that id."""
        with self._db.write() as tx:
            rows.replace_network(tx, network.as_dict())

    def delete(self, id: str) -> None:
        """NotFound; FailedPrecondition while it has endpoints (the message names them)."""
        with self._db.write() as tx:
            rows.delete_network(tx, id)

    def endpoints(self, *, network: str = "", container: str = "") -> Sequence[Endpoint]:
        """Oldest first; of one network (by id), of one container, or all."""
        with self._db.read() as tx:
            return [_endpoint(row) for row in rows.endpoints(tx, network=network, container=container)]

    def add_endpoint(self, network: str, make: Callable[[set[str], int], tuple[Endpoint, int]]) -> Endpoint:
        """Add what `make(taken addresses, last place)` returns, with the new last place, in one transaction.

        AlreadyExists when the container is on that network.
        """
        with self._db.write() as tx:
            made, last = make(rows.addresses(tx, network), rows.last(tx, network))
            made = made.replace(created_ns=tx.now_ns)
            rows.insert_endpoint(tx, _values(made))
            rows.set_last(tx, network, last)
        return made

    def update_endpoint(self, endpoint: Endpoint) -> None:
        """NotFound when there is none."""
        with self._db.write() as tx:
            rows.replace_endpoint(tx, _values(endpoint))

    def delete_endpoint(self, container: str, network: str) -> bool:
        """Whether there was one. Its address is free from then on."""
        with self._db.write() as tx:
            return rows.delete_endpoint(tx, container, network)


def _endpoint(row: tuple[Any, ...]) -> Endpoint:
    values = dict(zip(rows.ENDPOINT_COLUMNS, row))
    values["aliases"] = tuple(values["aliases"])
    values["ports"] = tuple(PortMapping(*port) for port in values["ports"])
    return Endpoint(**values)


def _values(endpoint: Endpoint) -> dict[str, Any]:
    values = endpoint.as_dict()
    values["ports"] = [list(port.as_dict().values()) for port in endpoint.ports]
    return values
