"""Making the machine agree with the rows: what somebody took away comes back, what nobody owns goes.

The caller holds the root's lock.
"""

from __future__ import annotations

import os

from ...base import errors
from ...base.kernel import netns, rtnetlink
from . import bridge, endpoints, firewall, machine, ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ...base.cancel import Cancel
    from ...base.kernel.netlink import Netlink
    from ...stores.networks.api import Endpoint, Network
    from .ground import Ground, Up


def repair(ground: Ground, kernel: Netlink, cancel: Cancel) -> list[str]:
    """Make again what is missing of networks that are up or have endpoints; what could not be put right, in words."""
    problems: list[str] = []
    used = {endpoint.network for endpoint in ground.store.endpoints()}
    for network in ground.store.list():
        if network.id in used or machine.find(ground.machine_dir, ground.root_id, network.id):
            try:
                problems += _repair_network(ground, network, kernel, cancel)
            except (errors.OrlopError, OSError) as error:
                problems.append(f"network {network.name}: {error}")
    zones = ground.zones()
    if zones:
        ground.rebuild_table()
        problems += firewall.obstacles(ground.root_id, [zone.bridge for zone in zones])
    return problems


def _repair_network(ground: Ground, network: Network, kernel: Netlink, cancel: Cancel) -> list[str]:
    up = ground.ensure(network, kernel, cancel)
    bridge.ensure(kernel, up.claim.bridge, up.network)
    helper = ground.helper(network.id)
    held = helper.listed().get("containers", {})
    problems: list[str] = []
    for endpoint in ground.store.endpoints(network=network.id):
        if netns.exists(endpoint.netns):  # otherwise it does not run, and the next attach makes its links
            _repair_link(up, endpoint, kernel)
            problems += _repair_ports(ground, up, endpoint, held.get(endpoint.container))
    if endpoints.is_named(network) and helper.is_running() and not helper.listed().get("dns"):
        endpoints.serve_names(ground, up)
    return problems


def _repair_link(up: Up, endpoint: Endpoint, kernel: Netlink) -> None:
    port = rtnetlink.get_link(kernel, endpoint.link)
    if port is None:
        with netns.open(endpoint.netns) as inside:
            bridge.plug(kernel, inside, endpoint, up.network, up.link, default_route=endpoint.interface == "eth0")
    elif port.master != up.link.index or not port.up:
        bridge.join(kernel, endpoint.link, up.link)


def _repair_ports(ground: Ground, up: Up, endpoint: Endpoint, held: Sequence[Sequence[object]] | None) -> list[str]:
    """Bind again what the helper does not hold (it was killed).

    held: the ports it holds of this container, None when it does not know it.
    """
    have = {tuple(each[:3]) for each in held or ()}
    missing = [each for each in endpoint.ports if (each.protocol, each.host_ip, each.host_port) not in have]
    if not missing and (held is not None or not endpoints.is_named(up.network)):
        return []
    problems: list[str] = []
    bound: list[ports.Bound] = []
    for mapping in missing:
        try:
            bound += ports.bind([mapping])
        except errors.OrlopError as error:
            problems.append(f"container {endpoint.name or endpoint.container[:12]}: {error}")
    try:
        endpoints.announce(ground, up, endpoint, bound)
    finally:
        ports.close(bound)
    return problems


def sweep(ground: Ground, living: Collection[str], kernel: Netlink, cancel: Cancel) -> list[str]:
    """Remove namespaces, links, bridges and the helpers' knowledge of what has no row; the containers' ids."""
    rows = ground.store.endpoints()
    cleared = _sweep_namespaces(f"{ground.state}/netns", {each.container for each in rows} | set(living))
    claims = ground.claims()
    for stray in bridge.strays(kernel, [each.bridge for each in claims], [each.link for each in rows]):
        bridge.unplug(kernel, stray)
    networks = {network.id for network in ground.store.list()}
    for claim in claims:
        if claim.network not in networks:
            ground.take_down(claim.network, kernel, cancel)
    for network in networks:
        helper = ground.helper(network)
        own = {each.container for each in rows if each.network == network}
        for container in helper.listed().get("containers", {}).keys() - own:
            helper.remove(container)
    if ground.zones():
        ground.rebuild_table()
    elif firewall.present(ground.root_id):
        firewall.remove(ground.root_id)
    return cleared


def _sweep_namespaces(directory: str, known: Collection[str]) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    gone = [name for name in names if name not in known]
    for name in gone:
        netns.remove(f"{directory}/{name}")
    return gone


def retire(ground: Ground, kernel: Netlink, cancel: Cancel) -> None:
    """Give back what networks without endpoints hold of the machine."""
    used = {endpoint.network for endpoint in ground.store.endpoints()}
    for claim in ground.claims():
        if claim.network not in used:
            ground.take_down(claim.network, kernel, cancel)
    if not ground.zones() and firewall.present(ground.root_id):
        firewall.remove(ground.root_id)
