"""What a network is to be, from what a person asked for: checked, and filled in. Asks the kernel only for IPv6."""

from __future__ import annotations

import os

from ...base import errors
from ...base.kernel import netsysctl
from ...stores.networks.api import Network
from . import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_NAME = "bridge"
AUTO_LABEL = "orlop.dev/auto-subnet"
"""On a network whose subnet nobody chose: another may be chosen when this machine has come to use it."""
_RESERVED = ("none", "host", "container", "ns", "default", DEFAULT_NAME)
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_NAME_BYTES = 128
_LINK_NAME_BYTES = 15
BRIDGE_OPTION = "com.docker.network.bridge.name"


def blank(name: str, root_id: str, *, ipv6: bool) -> Network:
    """A network without an IPv4 subnet yet (one is chosen when it is brought up), with a unique local IPv6 subnet."""
    id = os.urandom(32).hex()
    subnet6 = gateway6 = ""
    if ipv6 and netsysctl.has_ipv6():
        whole = addresses.unique_local(f"{root_id} {id}".encode())
        subnet6, gateway6 = str(whole), addresses.first_host(whole)
    return Network(id, name, subnet6=subnet6, gateway6=gateway6, labels={AUTO_LABEL: "1"})


def define(
    name: str,
    root_id: str,
    *,
    driver: str,
    subnet: str,
    gateway: str,
    ip_range: str,
    subnet6: str,
    gateway6: str,
    ipv6: bool,
    internal: bool,
    options: Mapping[str, str],
    labels: Mapping[str, str],
) -> Network:
    """A user-defined network. InvalidArgument says which part of it cannot be."""
    if not name or len(name) > _NAME_BYTES or not _NAME.issuperset(name) or name[0] in ".-_" or name in _RESERVED:
        raise errors.InvalidArgument(
            f"invalid network name {name!r}", advice=f"letters, digits, '_.-'; not {', '.join(_RESERVED)}"
        )
    if driver != "bridge":
        raise errors.InvalidArgument(f"network {name}: unknown driver {driver!r}", advice="use bridge")
    link = options.get(BRIDGE_OPTION, "")
    if link and (len(link) > _LINK_NAME_BYTES or not _NAME.issuperset(link) or link in (".", "..")):
        raise errors.InvalidArgument(f"network {name}: invalid bridge name {link!r}")
    network = blank(name, root_id, ipv6=ipv6 or bool(subnet6))
    given = {key: value for key, value in labels.items() if key != AUTO_LABEL}
    network = network.replace(internal=internal, options=dict(options), labels={**network.labels, **given})
    if subnet:
        whole = _v4(subnet, "subnet")
        part = _v4(ip_range, "range") if ip_range else whole
        if part.first < whole.first or part.last > whole.last:
            raise errors.InvalidArgument(f"network {name}: range {ip_range} is no part of {whole}")
        network = network.replace(
            subnet=str(whole), gateway=_gateway(whole, gateway), ip_range=str(part) if ip_range else "", labels=given
        )
    elif gateway or ip_range:
        raise errors.InvalidArgument(f"network {name}: a gateway or range needs a subnet")
    if subnet6:
        whole6 = addresses.parse(subnet6)
        if not whole6.v6 or whole6.prefix > 96:
            raise errors.InvalidArgument(f"network {name}: {subnet6} is no IPv6 subnet of /96 or larger")
        network = network.replace(subnet6=str(whole6), gateway6=_gateway(whole6, gateway6))
    return network


def _v4(text: str, what: str) -> addresses.Subnet:
    subnet = addresses.parse(text)
    if subnet.v6 or not 8 <= subnet.prefix <= (30 if what == "subnet" else 32):
        raise errors.InvalidArgument(f"{what} {text} is no IPv4 {what} of a size that can be used")
    return subnet


def _gateway(subnet: addresses.Subnet, wanted: str) -> str:
    if not wanted:
        return addresses.first_host(subnet)
    address = addresses.normal(wanted)
    if not addresses.contains(subnet, address) or addresses.to_number(address) in (subnet.first, subnet.last):
        raise errors.InvalidArgument(f"gateway {address} is no host address of {subnet}")
    return address
