"""The bridge driver: a bridge for a network, a veth pair for a container, by rtnetlink alone.

Knows links and addresses; who gets which is decided elsewhere. Everything can be done again: what is there is kept.
"""

from __future__ import annotations

import errno
import os

from ...base import errors
from ...base.kernel import netns, netsysctl, rtnetlink
from . import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...base.kernel.netlink import Netlink
    from ...base.kernel.rtnetlink import Link
    from ...stores.networks.api import Endpoint, Network

_USUAL_MTU = 1500
_LEAST_MTU, _MOST_MTU = 68, 65535
_FIRST_INDEX = 100
"""Interfaces get the numbers 100, 101, … inside, which no link that a new namespace has by itself bears."""
LINK_PREFIX = "olv"
_LINK_LOCAL = "fe80::1"
"""A bridge's own, as Docker's: it is the only router of its link."""
PREFIXES = ("orlop", LINK_PREFIX)
"""What links of ours are called."""


def mtu(kernel: Netlink, network: Network) -> int:
    """Bytes: what the network's options say, else that of the host's default route where it is below the usual 1500.

    InvalidArgument for an option that is no size.
    """
    wanted = network.options.get("mtu") or network.options.get("com.docker.network.driver.mtu", "")
    if wanted:
        if not (wanted.isascii() and wanted.isdigit() and _LEAST_MTU <= int(wanted) <= _MOST_MTU):
            raise errors.InvalidArgument(f"network {network.name}: invalid mtu {wanted!r}")
        return int(wanted)
    links = {link.index: link.mtu for link in rtnetlink.list_links(kernel)}
    outward = [links.get(route.link, 0) for route in rtnetlink.list_routes(kernel) if not route.prefix and route.link]
    return min([_USUAL_MTU, *(size for size in outward if size >= 576)])


def ensure(kernel: Netlink, name: str, network: Network) -> Link:
    """The network's bridge, up and with its addresses; made or completed where something is missing. Raises OSError."""
    link = rtnetlink.get_link(kernel, name)
    if link is None:
        # An address of its own keeps the bridge's from changing with every port that comes and goes.
        kernel.run(rtnetlink.add_bridge(name, mac=addresses.mac_of(network.gateway), mtu=mtu(kernel, network)))
        link = rtnetlink.get_link(kernel, name)
        if link is None:
            raise OSError(errno.ENODEV, f"bridge {name} went away")
    if link.kind != "bridge":
        raise errors.FailedPrecondition(f"network {network.name}: link {name} exists and is no bridge")
    messages = []
    if not link.up:
        # A link-local address that the kernel makes is tentative for 2 s, in which the bridge forwards nothing.
        messages = [rtnetlink.change_link(link.index, no_link_local=True)] if network.gateway6 else []
        messages.append(rtnetlink.change_link(link.index, up=True))
    if network.gateway6:
        messages.append(rtnetlink.add_address(link.index, _LINK_LOCAL, 64, exists_ok=True))
    for subnet, gateway in ((network.subnet, network.gateway), (network.subnet6, network.gateway6)):
        if gateway:
            prefix = addresses.parse(subnet).prefix
            messages.append(rtnetlink.add_address(link.index, gateway, prefix, exists_ok=True))
    kernel.run(*messages)
    return link


def remove(kernel: Netlink, name: str) -> None:
    """Delete the bridge; one that is gone is fine. Raises OSError."""
    kernel.run(rtnetlink.delete_link(name, missing_ok=True))


def forward(v6: bool) -> list[str]:
    """Have the kernel forward packets, which routing to containers needs. Says what was changed.

    A host that takes its own IPv6 routes from router advertisements would stop to when it forwards: its links are told
    to go on (accept_ra 2). Raises FailedPrecondition when it cannot be switched on.
    """
    changed = []
    try:
        if netsysctl.get("ipv4/ip_forward") == "0":
            netsysctl.put("ipv4/ip_forward", "1")
            changed.append("net.ipv4.ip_forward = 1")
        if v6 and netsysctl.get("ipv6/conf/all/forwarding") == "0":
            for link in netsysctl.ipv6_links():
                if (
                    link != "lo"
                    and not link.startswith(PREFIXES)
                    and netsysctl.get(f"ipv6/conf/{link}/accept_ra") == "1"
                ):
                    netsysctl.put(f"ipv6/conf/{link}/accept_ra", "2")
                    changed.append(f"net.ipv6.conf.{link}.accept_ra = 2")
            netsysctl.put("ipv6/conf/all/forwarding", "1")
            changed.append("net.ipv6.conf.all.forwarding = 1")
    except OSError as error:
        raise errors.FailedPrecondition(
            f"cannot switch forwarding on: {error}", advice="set net.ipv4.ip_forward=1 on the host"
        ) from error
    return changed


def plug(
    host: Netlink, inside: netns.Namespace, endpoint: Endpoint, network: Network, bridge: Link, *, default_route: bool
) -> None:
    """Join a container's namespace to the bridge: veth pair, addresses, routes; loopback up. Raises OSError.

    The pair is made from inside, where the interface's number can be chosen: everything there is then said in one go.
    """
    number = _FIRST_INDEX + int(endpoint.interface.removeprefix("eth") or 0)
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        messages = [
            rtnetlink.change_link(1, up=True),
            rtnetlink.add_veth(
                endpoint.interface,
                endpoint.link,
                index=number,
                mac=endpoint.mac,
                mtu=bridge.mtu,
                peer_netns_fd=here,
                up=True,
            ),
        ]
        for subnet, gateway, address in (
            (network.subnet, network.gateway, endpoint.address),
            (network.subnet6, network.gateway6, endpoint.address6),
        ):
            if address:
                messages.append(rtnetlink.add_address(number, address, addresses.parse(subnet).prefix))
                if gateway and default_route and not network.internal:
                    messages.append(rtnetlink.add_route(number, gateway))
        inside.kernel.run(*messages)
    finally:
        os.close(here)
    join(host, endpoint.link, bridge)


def join(host: Netlink, link: str, bridge: Link) -> None:
    """Make the host's end a port of the bridge, up, without an address of its own. Raises OSError."""
    host.run(
        rtnetlink.change_link(link, no_link_local=True),
        rtnetlink.change_link(link, up=True, master=bridge.index),
    )


def unplug(host: Netlink, link: str) -> None:
    """Delete the pair at once (25 ms); one that is gone is fine. Raises OSError."""
    host.run(rtnetlink.delete_link(link, missing_ok=True))


def strays(host: Netlink, bridges: Sequence[str], known: Sequence[str]) -> list[str]:
    """Ports of these bridges that have a name as ours and belong to no endpoint."""
    links = rtnetlink.list_links(host)
    masters = {link.index for link in links if link.name in bridges}
    return [
        link.name
        for link in links
        if link.master in masters and link.name.startswith(LINK_PREFIX) and link.name not in known
    ]


def new_link_name() -> str:
    """A name for the host's end that no link had before: a dying one of the same container may still be there."""
    return LINK_PREFIX + os.urandom(6).hex()
