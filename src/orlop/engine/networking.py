"""A container's networks: what it asked for, joined when it starts, left when it has ended.

What is asked stands in the record's extension `orlop.network`; addresses and links are the network room's. Loaded only
for containers that have a network of their own.
"""

from __future__ import annotations

from ..base import errors, fsio
from ..base.record import Record
from ..stores.networks.api import PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..base.cancel import Cancel
    from ..base.oci.config import RunConfig
    from ..services.network.networks import Attached
    from ..services.runtime.options import RunOptions
    from ..stores.containers.api import Container
    from ..stores.networks.api import Endpoint
    from .wiring import Wiring

EXTENSION = "orlop.network"


class NetworkOptions(Record):
    """What a container asks of its network, beside the name of it. Texts are Docker's (services/network parses them).

    publish: `-p`. publish_all: `-P`. expose: `--expose`. ip, mac: static ones. aliases: further names on a user-defined
    network. dns, dns_search, dns_options: for resolv.conf. add_hosts: `NAME:ADDRESS`.
    """

    publish: tuple[str, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    ip: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    add_hosts: tuple[str, ...] = ()


def settle(
    wiring: Wiring, id: str, asked: RunOptions, wanted: NetworkOptions, image: RunConfig
) -> tuple[RunOptions, dict[str, Any]]:
    """At creation: check what is asked; (options with the namespace's path, the extension to keep).

    UsageError for what cannot be understood, NotFound for an unknown network.
    """
    from ..services.network import names, ports
    from .creation import is_network

    for text in wanted.add_hosts:
        names.parse_add_host(text)
    names.resolv_conf(
        names.ResolvConf((), (), ()), dns=wanted.dns, search=wanted.dns_search, options=wanted.dns_options
    )
    if not is_network(asked.network):
        given = [name for name in ("publish", "publish_all", "ip", "mac", "aliases") if getattr(wanted, name)]
        if given:
            raise errors.UsageError(
                f"conflicting options: --{given[0].replace('_', '-')} needs a network, not --network {asked.network}"
            )
        return asked, _kept(wanted, "", [], [])
    networks = wiring.networks
    network = networks.resolve(asked.network)
    published = [mapping for text in wanted.publish for mapping in ports.parse_publish(text)]
    exposed = [each for text in (*image.exposed_ports, *wanted.expose) for each in ports.parse_expose(text)]
    if wanted.publish_all:
        published += ports.publish_all(exposed, published)
    kept = _kept(wanted, network.name, published, exposed)
    return asked.replace(network_namespace=networks.netns_path(id)), kept


def _kept(
    wanted: NetworkOptions, network: str, published: Sequence[PortMapping], exposed: Sequence[tuple[int, str]]
) -> dict[str, Any]:
    """The record's extension; nothing when there is neither a network nor anything else to do."""
    rest = {
        field: list(value) if isinstance(value, tuple) else value
        for field, value in wanted.as_dict().items()
        if value and field not in ("publish", "publish_all", "expose")
    }
    if not network and not rest:
        return {}
    return {
        "network": network,
        "ports": [mapping.as_dict() for mapping in published],
        "exposed": [f"{port}/{protocol}" for port, protocol in exposed],
        **rest,
    }


def join(wiring: Wiring, record: Container, hostname: str, directory: str, cancel: Cancel) -> None:
    """At start: the container's namespace, links, address and ports; its hosts and resolv.conf say so."""
    from ..services.network import names

    kept = record.extensions[EXTENSION]
    attached = _attach(wiring, record, kept, cancel) if kept["network"] else None
    own = [attached.address, attached.address6] if attached else ["127.0.1.1"]
    hosts = names.hosts(
        hostname,
        own,
        added=[names.parse_add_host(text) for text in kept.get("add_hosts", ())],
        gateways=[each for each in (attached.gateway, attached.gateway6) if each] if attached else [],
    )
    resolv = names.resolv_conf(
        names.host_resolv_conf(),
        embedded=attached.nameserver if attached else "",
        dns=kept.get("dns", ()),
        search=kept.get("dns_search", ()),
        options=kept.get("dns_options", ()),
    )
    # Written in place: the files may be bound into a container that is being started again.
    for name, text in (("hosts", hosts), ("resolv.conf", resolv)):
        _rewrite(f"{directory}/{name}", text.encode())


def _attach(wiring: Wiring, record: Container, kept: dict[str, Any], cancel: Cancel) -> Attached:
    return wiring.networks.attach(
        kept["network"],
        record.id,
        name=record.name,
        ports=[PortMapping(**each) for each in kept["ports"]],
        ip=kept.get("ip", ""),
        mac=kept.get("mac", ""),
        aliases=[record.id[:12], *kept.get("aliases", ())],
        servers=kept.get("dns", ()),
        cancel=cancel,
    )


def _rewrite(path: str, data: bytes) -> None:
    import os

    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fsio.write_all(fd, data)
    finally:
        os.close(fd)


def leave(wiring: Wiring, record: Container, *, forget: bool) -> None:
    """When its processes have ended: take its links and ports away. forget: its address too."""
    if record.extensions.get(EXTENSION, {}).get("network"):
        wiring.networks.detach(record.id, keep_address=not forget)


def endpoints(wiring: Wiring, record: Container) -> Sequence[Endpoint]:
    """Where it is attached now, or was."""
    if EXTENSION not in record.extensions:
        return ()
    return wiring.networks.endpoints(container_id=record.id)


def settings(wiring: Wiring, record: Container) -> dict[str, Any]:
    """Docker's NetworkSettings."""
    from ..services.network import addresses

    networks: dict[str, Any] = {}
    ports: dict[str, Any] = dict.fromkeys(record.extensions[EXTENSION].get("exposed", ()))
    found = endpoints(wiring, record)
    for endpoint in found:
        network = wiring.networks.resolve(endpoint.network)
        networks[network.name] = {
            "NetworkID": network.id,
            "Gateway": network.gateway,
            "IPAddress": endpoint.address,
            "IPPrefixLen": addresses.parse(network.subnet).prefix if network.subnet else 0,
            "IPv6Gateway": network.gateway6,
            "GlobalIPv6Address": endpoint.address6,
            "MacAddress": endpoint.mac,
            "Aliases": list(endpoint.aliases),
        }
        for mapping in endpoint.ports:
            name = f"{mapping.container_port}/{mapping.protocol}"
            bound = {"HostIp": mapping.host_ip or "127.0.0.1", "HostPort": str(mapping.host_port)}
            ports[name] = [*(ports.get(name) or ()), bound]
    first: dict[str, Any] = next(iter(networks.values()), {})
    return {
        "Ports": ports,
        "Networks": networks,
        "SandboxKey": found[0].netns if found else "",
        "IPAddress": first.get("IPAddress", ""),
        "Gateway": first.get("Gateway", ""),
        "MacAddress": first.get("MacAddress", ""),
    }


def ports_text(endpoints: Sequence[Endpoint]) -> str:
    """The PORTS column of `ps`: "127.0.0.1:8080->80/tcp, …"."""
    from ..services.network import ports

    return ", ".join(ports.format_port(mapping) for endpoint in endpoints for mapping in endpoint.ports)


def reconcile(wiring: Wiring) -> None:
    """Remove what belongs to containers that are no more, in any namespace; give back what unused networks hold."""
    from ..stores.metadata import containers, namespaces

    living: set[str] = set()
    with wiring.database.read() as tx:
        for namespace in namespaces.listed(tx):
            living.update(row[0] for row in containers.listed(tx, namespace))
    wiring.networks.reconcile(living)
    wiring.networks.retire()
