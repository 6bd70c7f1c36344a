"""What one root's networks hold of the machine: bridges, the table of rules, helper processes; brought up, taken down.

Works from the store's rows, at any time and again. The caller holds the root's lock.
"""

from __future__ import annotations

from ...base import errors, faults
from ...base.kernel import netns, rtnetlink
from . import addresses, bridge, firewall, machine
from .control import Helper
from .definition import AUTO_LABEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...base.cancel import Cancel
    from ...base.kernel.netlink import Netlink
    from ...base.kernel.rtnetlink import Link
    from ...stores.networks.api import Endpoint, Network, NetworkStore


class Up:
    """A network that is up: its row, its claim on the machine, its bridge."""

    __slots__ = ("claim", "link", "network")

    def __init__(self, network: Network, claim: machine.Claim, link: Link) -> None:
        self.network = network
        self.claim = claim
        self.link = link


class Ground:
    """One root's part of the machine, in the calling thread's network namespace. See `networks.Networks`."""

    def __init__(
        self, store: NetworkStore, root_id: str, state_dir: str, machine_dir: str, helper_argv: Sequence[str]
    ) -> None:
        self.store = store
        self.root_id = root_id
        self.state = state_dir
        self.machine_dir = machine_dir
        self.notes: list[str] = []
        self._helper_argv = list(helper_argv)

    def helper(self, network_id: str) -> Helper:
        """The helper process of a network, whether it runs or not."""
        short = network_id[:12]
        return Helper(f"{self.state}/s/net-{short}.sock", self._helper_argv, f"{self.state}/net-{short}.log")

    def ensure(self, network: Network, kernel: Netlink, cancel: Cancel) -> Up:
        """The network with its bridge up, its rules there, the kernel forwarding. Quick when all is as it was."""
        claim = machine.find(self.machine_dir, self.root_id, network.id)
        link = rtnetlink.get_link(kernel, claim.bridge) if claim else None
        try:
            if claim is None or link is None or not link.up or claim.subnet != network.subnet:
                up = self._bring_up(network, kernel, cancel)
            else:
                up = Up(network, claim, link)
                if not firewall.present(self.root_id):
                    self.rebuild_table()
            if not network.internal:
                self.notes += bridge.forward(bool(network.subnet6))
        except OSError as error:
            raise errors.from_os(error, f"bring network {network.name} up") from error
        return up

    def _bring_up(self, network: Network, kernel: Netlink, cancel: Cancel) -> Up:
        fixed = AUTO_LABEL not in network.labels
        with machine.lock(self.machine_dir, cancel):
            claim = machine.claim(self.machine_dir, self.root_id, network, kernel, fixed=fixed)
            faults.point("network.up.claimed")
            if claim.subnet != network.subnet:
                network = self._with_subnet(network, claim.subnet)
                # A bridge of ours that is there has the addresses of before.
                bridge.remove(kernel, claim.bridge)
            bridge.ensure(kernel, claim.bridge, network)
            faults.point("network.up.bridged")
        link = rtnetlink.get_link(kernel, claim.bridge)
        if link is None:
            raise errors.Unavailable(f"network {network.name}: somebody removed its bridge {claim.bridge}")
        self.rebuild_table()
        self.notes += firewall.obstacles(self.root_id, [claim.bridge])
        for endpoint in self.store.endpoints(network=network.id):
            if rtnetlink.get_link(kernel, endpoint.link) is not None:  # the bridge was taken away under its ports
                bridge.join(kernel, endpoint.link, link)
        return Up(network, claim, link)

    def _with_subnet(self, network: Network, subnet: str) -> Network:
        if network.subnet and self.store.endpoints(network=network.id):
            raise errors.FailedPrecondition(
                f"network {network.name}: its subnet {network.subnet} has come into use by this machine",
                advice="free it, or remove the network's containers",
            )
        network = network.replace(subnet=subnet, gateway=addresses.first_host(addresses.parse(subnet)))
        self.store.update(network)
        return network

    def take_down(self, network_id: str, kernel: Netlink, cancel: Cancel) -> None:
        """Give back what a network without endpoints holds; one that holds nothing is fine."""
        with machine.lock(self.machine_dir, cancel):
            claim = machine.find(self.machine_dir, self.root_id, network_id)
            if claim is not None:
                bridge.remove(kernel, claim.bridge)
                faults.point("network.down.unbridged")
                machine.drop(self.machine_dir, claim.bridge)
        self.helper(network_id).forget()
        if firewall.present(self.root_id):
            if self.zones():
                self.rebuild_table()
            else:
                firewall.remove(self.root_id)

    def claims(self) -> Sequence[machine.Claim]:
        """This root's claims in this network namespace."""
        here = netns.own_id()
        return [each for each in machine.claims(self.machine_dir) if (each.root, each.netns) == (self.root_id, here)]

    def zones(self) -> Sequence[firewall.Zone]:
        """The networks that are up, as the table sees them."""
        internal = {network.id for network in self.store.list() if network.internal}
        return [
            firewall.Zone(each.bridge, each.subnet, each.subnet6, each.network in internal) for each in self.claims()
        ]

    def rebuild_table(self, *, without: Endpoint | None = None) -> None:
        """Make the rules anew from the rows, one endpoint maybe left out."""
        gone = (without.container, without.network) if without else None
        endpoints = [each for each in self.store.endpoints() if (each.container, each.network) != gone]
        firewall.rebuild(self.root_id, self.zones(), endpoints)
