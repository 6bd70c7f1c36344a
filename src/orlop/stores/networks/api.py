"""The network store: networks of a root and the endpoints of containers on them. The interface.

A *network* is what `orlop network create` makes: a name, a subnet, options. An *endpoint* is one container's place on
one network: its address (which nobody else gets while the row is there), its interface, its published ports. The rows
say what should be; bridges, veth pairs and rules are made from them, and made again when somebody took them away.
"""

from __future__ import annotations

from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol
else:
    Protocol = object


class PortMapping(Record):
    """One published port.

    container_port: 1 to 65535. protocol: "tcp" or "udp".
    host_ip: the address to listen at; "" means the loopback address 127.0.0.1.
    host_port: 0 lets the kernel choose. host_port_end: when above host_port, any free port of the range will do.
    """

    container_port: int
    host_port: int = 0
    host_ip: str = ""
    protocol: str = "tcp"
    host_port_end: int = 0


class Network(Record):
    """A network.

    id: 64 hex digits. driver: "bridge".
    subnet, subnet6: "10.92.0.0/20", "" for none; gateway, gateway6: the bridge's address in it.
    ip_range: the part of the subnet that dynamic addresses come from ("" for all of it).
    internal: no way out of it. options: "mtu" and others by name.
    """

    id: str
    name: str
    driver: str = "bridge"
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    subnet6: str = ""
    gateway6: str = ""
    internal: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    created_ns: int = 0


class Endpoint(Record):
    """A container's place on a network (`network`: its id).

    netns: path of the container's network namespace. interface: the link's name inside; link: its peer on the host.
    address, address6: without prefix length, "" for none. ports: as bound.
    """

    container: str
    network: str
    name: str = ""
    aliases: Sequence[str] = ()
    netns: str = ""
    interface: str = "eth0"
    link: str = ""
    address: str = ""
    address6: str = ""
    mac: str = ""
    ports: Sequence[PortMapping] = ()
    created_ns: int = 0


class NetworkStore(Protocol):
    def resolve(self, text: str) -> Network:
        """By name, id or unambiguous prefix of an id. NotFound, InvalidArgument when several fit."""

    def list(self) -> Sequence[Network]:
        """Oldest first."""

    def create(self, network: Network) -> Network:
        """AlreadyExists when the name is taken."""

    def update(self, network: Network) -> None:
        """NotFound when there is none with that id."""

    def delete(self, id: str) -> None:
        """NotFound; FailedPrecondition while it has endpoints (the message names them)."""

    def endpoints(self, *, network: str = "", container: str = "") -> Sequence[Endpoint]:
        """Oldest first; of one network (by id), of one container, or all."""

    def add_endpoint(self, network: str, make: Callable[[set[str], int], tuple[Endpoint, int]]) -> Endpoint:
        """Add what `make(taken addresses, last place)` returns, with the new last place, in one transaction.

        AlreadyExists when the container is on that network.
        """

    def update_endpoint(self, endpoint: Endpoint) -> None:
        """NotFound when there is none."""

    def delete_endpoint(self, container: str, network: str) -> bool:
        """Whether there was one. Its address is free from then on."""
