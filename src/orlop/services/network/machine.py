"""What belongs to the machine and not to one root: names of bridges and subnets, given out under one lock (DESIGN §4).

A file for each bridge in /run/orlop-net, named as the bridge, says whose it is and which subnets it has. The file is
written before the bridge is made; one without a bridge, of the same network namespace, is what a crash or a removed
root left, and is taken over. Nothing here outlives a reboot, as no bridge does.
"""

from __future__ import annotations

import os

from ...base import errors, fsio, jsonio
from ...base.kernel import netns, rtnetlink
from ...base.record import Record
from . import addresses, names
from .definition import BRIDGE_OPTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ...base.cancel import Cancel
    from ...base.kernel.netlink import Netlink
    from ...stores.networks.api import Network

PREFIX = "orlop"
_LOCK = "lock"
_MOST = 10_000


class Claim(Record):
    """A bridge's name and subnets ("" for none), and whose they are; netns: the network namespace they are in."""

    bridge: str
    root: str
    network: str
    netns: str
    subnet: str = ""
    subnet6: str = ""


def lock(directory: str, cancel: Cancel) -> fsio.Lock:
    """The machine-wide lock, held while claims are read and made."""
    fsio.make_dirs(directory, 0o700)
    return fsio.lock(f"{directory}/{_LOCK}", cancel=cancel)


def claims(directory: str) -> Sequence[Claim]:
    """All claims that can be read, by bridge."""
    found = []
    try:
        files = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    for name in files:
        if name == _LOCK or name.startswith("."):
            continue
        try:
            said = jsonio.loads(fsio.read_file(f"{directory}/{name}", 65536))
            claim = Claim(name, *(str(said[key]) for key in ("root", "network", "netns", "subnet", "subnet6")))
        except (FileNotFoundError, ValueError, KeyError, TypeError, errors.ResourceExhausted):
            continue
        found.append(claim)
    return found


def find(directory: str, root: str, network: str) -> Claim | None:
    """The claim of a root's network in this network namespace."""
    here = netns.own_id()
    for claim in claims(directory):
        if (claim.root, claim.network, claim.netns) == (root, network, here):
            return claim
    return None


def claim(directory: str, root: str, network: Network, kernel: Netlink, *, fixed: bool) -> Claim:
    """Claim a bridge's name and subnets for a network; the caller holds `lock`.

    fixed: a person has chosen the subnet: FailedPrecondition when it overlaps the host's routes or another network.
    Otherwise the network's last subnet is kept if it is still free, or another is chosen (ResourceExhausted).
    """
    here = netns.own_id()
    links = {link.name: link for link in rtnetlink.list_links(kernel)}
    others, own = [], None
    for each in claims(directory):
        if (each.root, each.network, each.netns) == (root, network.id, here):
            own = each
        elif each.netns != here or each.bridge in links:
            others.append(each)
        else:
            drop(directory, each.bridge)
    name = own.bridge if own else _name(network, {each.bridge for each in others} | links.keys())
    avoid = [addresses.parse(text) for each in others for text in (each.subnet, each.subnet6) if text]
    bridge = links.get(name)
    avoid += _routed(kernel, bridge.index if bridge else -1)
    subnet = _subnet(network, avoid, fixed) if network.subnet or not fixed else ""
    subnet6 = ""
    if network.subnet6:
        subnet6 = str(addresses.parse(network.subnet6))
        clash = next((other for other in avoid if addresses.overlap(other, addresses.parse(subnet6))), None)
        if clash is not None:
            raise _taken(network.name, subnet6, clash)
    made = Claim(name, root, network.id, here, subnet, subnet6)
    if made != own:
        values = made.as_dict()
        fsio.write_atomic(f"{directory}/{values.pop('bridge')}", jsonio.dump_bytes(values), durable=False)
    return made


def drop(directory: str, bridge: str) -> None:
    """Give a claim up; one that is gone is fine."""
    try:
        os.unlink(f"{directory}/{bridge}")
    except FileNotFoundError:
        pass


def _name(network: Network, taken: Collection[str]) -> str:
    wanted = network.options.get(BRIDGE_OPTION, "")
    if wanted:
        if wanted in taken:
            raise errors.FailedPrecondition(
                f"network {network.name}: link {wanted} exists", advice="choose another name for the bridge"
            )
        return wanted
    for number in range(_MOST):
        name = f"{PREFIX}{number}"
        if name not in taken:
            return name
    raise errors.ResourceExhausted(f"no free name for a bridge: {PREFIX}0 to {PREFIX}{_MOST - 1} are taken")


def _subnet(network: Network, avoid: Sequence[addresses.Subnet], fixed: bool) -> str:
    if network.subnet:
        wanted = addresses.parse(network.subnet)
        clash = next((other for other in avoid if addresses.overlap(other, wanted)), None)
        if clash is None:
            return str(wanted)
        if fixed:
            raise _taken(network.name, str(wanted), clash)
    return str(addresses.choose(avoid))


def _taken(name: str, subnet: str, clash: addresses.Subnet) -> errors.OrlopError:
    return errors.FailedPrecondition(
        f"network {name}: subnet {subnet} overlaps {clash}, which this machine uses",
        advice="choose another subnet (orlop network create --subnet …)",
    )


def _routed(kernel: Netlink, but_link: int) -> list[addresses.Subnet]:
    """What the host routes elsewhere, and where its resolvers are: no subnet of ours may hide them."""
    found = []
    for route in rtnetlink.list_routes(kernel):
        if route.prefix == 0 or route.link == but_link:
            continue
        v6 = len(route.destination) == 16
        if v6 and route.destination[0] in (0xFE, 0xFF):
            continue  # link-local and multicast
        found.append(addresses.Subnet(int.from_bytes(route.destination, "big"), route.prefix, v6))
    for server in names.host_resolvers():
        number, v6 = addresses.to_number(server), ":" in server
        found.append(addresses.Subnet(number, 128 if v6 else 32, v6))
    return found
