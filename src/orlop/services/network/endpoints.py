"""One endpoint: its row, its links, what the helper and the rules know of it; made and unmade, each step repeatable."""

from __future__ import annotations

import os

from ...base import errors, faults, fsio
from ...base.kernel import netns, nfnetlink
from ...stores.networks.api import Endpoint, PortMapping
from . import addresses, bridge, firewall, names, ports
from .definition import DEFAULT_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...base.kernel.netlink import Netlink
    from ...stores.networks.api import Network
    from .ground import Ground, Up

_DNS_PORT = 53


def namespace(path: str) -> netns.Namespace:
    """A container's namespace, made when it is missing."""
    try:
        return netns.open(path)
    except FileNotFoundError:
        fsio.make_dirs(os.path.dirname(path), 0o700)
        return netns.create(path)


def record(ground: Ground, network: Network, draft: Endpoint, *, ip: str) -> Endpoint:
    """Write the row of a new endpoint: `draft` with a free interface name, link name, addresses, and a MAC address.

    From here on the address is the container's. FailedPrecondition, InvalidArgument, ResourceExhausted by `allocate`.
    """
    whole = addresses.parse(network.subnet)
    within = addresses.parse(network.ip_range) if network.ip_range else whole
    used = {each.interface for each in ground.store.endpoints(container=draft.container)}
    interface = next(name for number in range(len(used) + 1) if (name := f"eth{number}") not in used)

    def make(taken: set[str], last: int) -> tuple[Endpoint, int]:
        address, place = addresses.allocate(whole, within, taken | {network.gateway}, last, ip)
        address6 = addresses.beside(addresses.parse(network.subnet6), address) if network.subnet6 else ""
        made = draft.replace(
            interface=interface,
            link=bridge.new_link_name(),
            address=address,
            address6=address6,
            mac=draft.mac or addresses.mac_of(address),
        )
        return made, place

    return ground.store.add_endpoint(network.id, make)


def renewed(network: Network, endpoint: Endpoint, *, ip: str, mac: str) -> Endpoint | None:
    """An endpoint that has a row, for links made anew; None when it has to have another address."""
    fits = network.subnet and addresses.contains(addresses.parse(network.subnet), endpoint.address)
    if not fits or (ip and addresses.normal(ip) != endpoint.address):
        return None
    return endpoint.replace(link=bridge.new_link_name(), mac=mac or endpoint.mac)


def connect(
    ground: Ground,
    up: Up,
    endpoint: Endpoint,
    kernel: Netlink,
    bound: Sequence[ports.Bound],
    *,
    default_route: bool,
    servers: Sequence[str],
) -> None:
    """Make what the row stands for: namespace, links, the helper's knowledge, the rules. Raises OSError too."""
    with namespace(endpoint.netns) as inside:
        faults.point("network.attach.netns")
        bridge.plug(kernel, inside, endpoint, up.network, up.link, default_route=default_route)
    faults.point("network.attach.linked")
    announce(ground, up, endpoint, bound, servers)
    faults.point("network.attach.announced")
    if firewall.has_forwarded(endpoint) and not firewall.open_ports(ground.root_id, endpoint):
        ground.rebuild_table()
    faults.point("network.attach.opened")


def announce(
    ground: Ground, up: Up, endpoint: Endpoint, bound: Sequence[ports.Bound], servers: Sequence[str] = ()
) -> None:
    """Tell the network's helper of a container: its ports, and on a user-defined network its names."""
    if not bound and not is_named(up.network):
        return
    helper = ground.helper(up.network.id)
    helper.add(endpoint, bound, names=known_names(endpoint) if is_named(up.network) else ())
    if is_named(up.network) and not helper.listed().get("dns"):
        serve_names(ground, up, servers)


def serve_names(ground: Ground, up: Up, servers: Sequence[str] = ()) -> None:
    """Have the network's helper answer for names at the bridge's address; a taken port 53 is noted, not fatal."""
    network = up.network
    wanted = [PortMapping(_DNS_PORT, _DNS_PORT, network.gateway, protocol) for protocol in ("udp", "tcp")]
    try:
        bound = ports.bind(wanted)
    except errors.FailedPrecondition as error:
        ground.notes.append(f"network {network.name} cannot answer for names: {error}")
        return
    try:
        ground.helper(network.id).serve_names(
            up.claim.bridge, servers or names.host_resolvers(), [each.sock for each in bound]
        )
    finally:
        ports.close(bound)


def disconnect(ground: Ground, endpoint: Endpoint, kernel: Netlink, *, links: bool = True) -> None:
    """Undo all of an endpoint but its row; every step is fine when there is nothing to undo.

    links: delete the veth pair now (25 ms). Otherwise it goes with the namespace, which costs the caller nothing.
    """
    try:
        forwarded = firewall.has_forwarded(endpoint) and firewall.present(ground.root_id)
        if forwarded and not firewall.close_ports(ground.root_id, endpoint):
            ground.rebuild_table(without=endpoint)
        ground.helper(endpoint.network).remove(endpoint.container)
        if any(port.protocol == "udp" and ports.is_forwarded(port) for port in endpoint.ports):
            for address in filter(None, (endpoint.address, endpoint.address6)):
                nfnetlink.forget_connections(address)
        if links:
            bridge.unplug(kernel, endpoint.link)
    except OSError as error:
        raise errors.from_os(error, f"detach container {endpoint.container[:12]}") from error


def is_named(network: Network) -> bool:
    """Whether containers on it find one another by name: on every network but the default one, as in Docker."""
    return network.name != DEFAULT_NAME


def known_names(endpoint: Endpoint) -> list[str]:
    """What a container is called on a user-defined network: its name, its short id, its aliases."""
    return list(dict.fromkeys(name for name in (endpoint.name, endpoint.container[:12], *endpoint.aliases) if name))


def holder_of(ground: Ground, mapping: PortMapping) -> str:
    """Which container of this root has a port, for the message that refuses it; "" for none."""
    for endpoint in ground.store.endpoints():
        if any(ports.collides(mapping, port) for port in endpoint.ports):
            name = f"{endpoint.name} " if endpoint.name else ""
            return f"container {name}({endpoint.container[:12]})"
    return ""
