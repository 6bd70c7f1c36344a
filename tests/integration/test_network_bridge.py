"""Bridge networks on the real kernel: who reaches whom, addresses, isolation, two roots, repair."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.kernel import netns, netsysctl, rtnetlink
from orlop.services.network.networks import Networks
from orlop.stores.networks.api import PortMapping
from tests.support import faults, networks
from tests.support.networks import HOST, HOST6, OUTSIDE, OUTSIDE6, Machine, ask, inside, serving, serving_here

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
SOON_S = 0.4
"""How long to wait for an answer that must not come."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with networks.machine(tmp_path) as made:
        yield made


@pytest.fixture
def net(machine: Machine) -> Networks:
    return machine.root().networks


def unreachable(path: str, host: str, port: int, kind: str = "tcp") -> bool:
    try:
        inside(path, lambda: ask(host, port, kind=kind, timeout=SOON_S))
    except OSError:
        return True
    return False


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + networks.WAIT_S
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come to hold")
        time.sleep(0.02)


def olv(machine: Machine) -> list[str]:
    return [name for name in machine.links() if name.startswith("olv")]


@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
def test_a_container_reaches_the_host_its_neighbour_and_the_outside(net: Networks, machine: Machine, v6: bool) -> None:
    one, two = net.attach("bridge", "one"), net.attach("bridge", "two")
    every, gateway = ("::", one.gateway6) if v6 else ("0.0.0.0", one.gateway)
    own, neighbour = (one.address6, two.address6) if v6 else (one.address, two.address)
    with serving_here(every, 8000):
        assert inside(one.netns, lambda: ask(gateway, 8000)) == f"hello from {own}"
    with serving(two.netns, 8000, host=every):
        assert inside(one.netns, lambda: ask(neighbour, 8000)) == f"hello from {own}"
        assert ask(neighbour, 8000) == f"hello from {gateway}"
    outside, masked = (OUTSIDE6, HOST6) if v6 else (OUTSIDE, HOST)
    with serving(machine.outside.path, 9000, host=every):
        assert inside(one.netns, lambda: ask(outside, 9000)) == f"hello from {masked}"
    with serving(machine.outside.path, 9000, "udp", host=every):
        assert inside(one.netns, lambda: ask(outside, 9000, kind="udp")) == f"hello from {masked}"


def test_what_was_switched_on_is_said(net: Networks) -> None:
    net.attach("bridge", "one")
    assert "net.ipv4.ip_forward = 1" in net.notes
    assert netsysctl.get("ipv4/ip_forward") == "1"


def test_an_interface_is_what_the_endpoint_says(net: Networks, machine: Machine) -> None:
    network = net.create("mine", subnet="10.77.0.0/24", options={"mtu": "1400"})
    one = net.attach(network, "one", ip="10.77.0.42", mac="02:42:AC:11:00:02")
    assert (one.address, one.prefix, one.gateway, one.mac) == ("10.77.0.42", 24, "10.77.0.1", "02:42:ac:11:00:02")
    with netns.open(one.netns) as namespace:
        eth0 = rtnetlink.get_link(namespace.kernel, "eth0")
        lo = rtnetlink.get_link(namespace.kernel, "lo")
        assert eth0 is not None
        assert lo is not None
        assert (eth0.mac, eth0.mtu, eth0.up, lo.up) == (one.mac, 1400, True, True)
        assert (eth0.index, "10.77.0.42", 24) in rtnetlink.list_addresses(namespace.kernel)
    with pytest.raises(errors.FailedPrecondition, match=r"10\.77\.0\.42 is already in use"):
        net.attach(network, "two", ip="10.77.0.42")
    with pytest.raises(errors.InvalidArgument):
        net.attach(network, "two", ip="10.78.0.2")
    assert not os.path.exists(net.netns_path("two"))


def test_networks_are_isolated_but_for_what_is_published(net: Networks, machine: Machine) -> None:
    other = net.create("other")
    one = net.attach("bridge", "one")
    two = net.attach(other, "two", ports=[PortMapping(80, 8080, HOST)])
    with serving(two.netns, 80):
        assert unreachable(one.netns, two.address, 80)
        assert inside(one.netns, lambda: ask(HOST, 8080)) == f"hello from {two.gateway}"


def test_a_neighbour_of_the_host_cannot_route_into_a_network(net: Networks, machine: Machine) -> None:
    one = net.attach("bridge", "one", ports=[PortMapping(80, 8080)])
    there = rtnetlink.get_link(machine.outside.kernel, "there0")
    assert there is not None
    machine.outside.kernel.run(
        rtnetlink.add_route(there.index, HOST, "10.92.0.0", 20), rtnetlink.add_route(there.index, HOST6, "fd00::", 8)
    )
    with serving(one.netns, 80), serving(one.netns, 80, host="::"):
        assert unreachable(machine.outside.path, one.address, 80)
        assert unreachable(machine.outside.path, one.address6, 80)
        assert unreachable(machine.outside.path, HOST, 8080)


def test_an_internal_network_has_no_way_out(net: Networks, machine: Machine) -> None:
    closed = net.create("closed", internal=True)
    one, two = net.attach(closed, "one"), net.attach(closed, "two")
    assert (one.gateway, one.gateway6) == ("", "")
    with netns.open(one.netns) as namespace:  # who has NET_ADMIN may add the route itself
        eth0 = rtnetlink.get_link(namespace.kernel, "eth0")
        assert eth0 is not None
        namespace.kernel.run(rtnetlink.add_route(eth0.index, closed.gateway))
    with serving(machine.outside.path, 9000), serving(two.netns, 80):
        assert unreachable(one.netns, OUTSIDE, 9000)
        assert inside(one.netns, lambda: ask(two.address, 80)) == f"hello from {one.address}"


def test_a_container_with_net_admin_cannot_reach_the_hosts_loopback(net: Networks, machine: Machine) -> None:
    victim = net.attach("bridge", "victim", ports=[PortMapping(80, 8080), PortMapping(80, 8080, "::1")])
    evil = net.attach("bridge", "evil")
    with netns.open(evil.netns) as namespace:
        eth0 = rtnetlink.get_link(namespace.kernel, "eth0")
        assert eth0 is not None
        namespace.call(lambda: netsysctl.put("ipv4/conf/all/route_localnet", "1"))
        namespace.kernel.run(
            rtnetlink.delete_address(1, "127.0.0.1", 8),
            rtnetlink.delete_address(1, "::1", 128),
            rtnetlink.add_route(eth0.index, evil.gateway, "127.0.0.1", 32),
            rtnetlink.add_route(eth0.index, evil.gateway6, "::1", 128),
        )
    with serving(victim.netns, 80), serving_here("127.0.0.1", 9000), serving_here("127.0.0.1", 9000, "udp"):
        assert ask("127.0.0.1", 8080) == f"hello from {victim.gateway}"
        assert ask("::1", 8080) == f"hello from {victim.gateway}"
        for host, port in (("127.0.0.1", 8080), ("127.0.0.1", 9000), ("::1", 8080), (evil.gateway, 8080)):
            assert unreachable(evil.netns, host, port)
        assert unreachable(evil.netns, "127.0.0.1", 9000, "udp")
        # Even where the host itself would let such packets in, the rules do not.
        netsysctl.put("ipv4/conf/all/route_localnet", "1")
        netsysctl.put(f"ipv4/conf/{evil.bridge}/route_localnet", "1")
        assert unreachable(evil.netns, "127.0.0.1", 9000)
        assert unreachable(evil.netns, "127.0.0.1", 8080)


def test_an_address_stays_with_its_container_and_a_released_one_rests(net: Networks, machine: Machine) -> None:
    one = net.attach("bridge", "one")
    net.detach("one", keep_address=True)
    two = net.attach("bridge", "two")
    again = net.attach("bridge", "one")
    assert again.address == one.address != two.address
    net.detach("two")
    three = net.attach("bridge", "three")
    assert three.address not in (one.address, two.address)


def test_attaching_again_gives_the_ports_asked_for_now(net: Networks, machine: Machine) -> None:
    first = net.attach("bridge", "one", ports=[PortMapping(80, 8080)])
    second = net.attach("bridge", "one", ports=[PortMapping(81, 8081)])
    assert second.address == first.address
    with serving(second.netns, 81):
        assert ask("127.0.0.1", 8081) == f"hello from {first.gateway}"
    with pytest.raises(OSError, match="refused"):
        ask("127.0.0.1", 8080)


def test_detaching_leaves_nothing_and_may_be_repeated(machine: Machine) -> None:
    root = machine.root()
    for ports in ([], [PortMapping(80, 8080, "0.0.0.0"), PortMapping(80, 8080, "::"), PortMapping(53, protocol="udp")]):
        root.networks.attach("bridge", "one", ports=ports)
        root.networks.detach("one")
        root.networks.detach("one")
        assert root.left() == []
        eventually(lambda: olv(machine) == [])
    root.networks.retire()
    assert [name for name in machine.links() if name.startswith("o")] == []
    assert networks.nft("list", "tables") == ""
    assert sorted(os.listdir(root.machine_dir)) == ["lock"]


def test_a_container_on_two_networks_has_two_interfaces(net: Networks, machine: Machine) -> None:
    other = net.create("other")
    first, second = net.attach("bridge", "one"), net.attach(other, "one")
    peer = net.attach(other, "peer")
    assert (first.interface, second.interface) == ("eth0", "eth1")
    assert first.netns == second.netns
    with serving(peer.netns, 80):
        assert inside(first.netns, lambda: ask(peer.address, 80)) == f"hello from {second.address}"
        net.disconnect(other, "one")
        assert unreachable(first.netns, peer.address, 80)
    assert [each.interface for each in net.endpoints(container_id="one")] == ["eth0"]
    with pytest.raises(errors.NotFound):
        net.disconnect(other, "one")


def test_two_roots_have_bridges_and_subnets_of_their_own(machine: Machine) -> None:
    one, two = machine.root("one"), machine.root("two")
    a, b = one.networks.attach("bridge", "same"), two.networks.attach("bridge", "same")
    assert a.bridge != b.bridge
    assert a.address != b.address
    with serving(machine.outside.path, 9000):
        for each in (a, b):
            assert inside(each.netns, lambda each=each: ask(OUTSIDE, 9000)) == f"hello from {HOST}"
    one.clear()
    assert two.networks.repair() == []
    with serving(machine.outside.path, 9000):
        assert inside(b.netns, lambda: ask(OUTSIDE, 9000)) == f"hello from {HOST}"


def test_processes_that_attach_at_once_get_different_addresses(machine: Machine, tmp_path: Path) -> None:
    root = machine.root()
    logs = [str(tmp_path / f"log{number}") for number in range(3)]
    networks_of = [root.open() for _ in logs]

    def work(number: int) -> None:
        for turn in range(4):
            networks_of[number].attach("bridge", f"c{number}-{turn}")

    root.database.close()
    children = [faults.start(lambda number=number: work(number), log) for number, log in enumerate(logs)]
    for child in children:
        assert os.waitpid(child, 0)[1] == 0, [Path(log).read_text() for log in logs if os.path.exists(log)]
    endpoints = root.networks.endpoints()
    assert len({each.address for each in endpoints}) == len(endpoints) == 12
    assert len([name for name in machine.links() if name.startswith("orlop")]) == 1


def test_subnets_avoid_the_hosts_routes_and_chosen_ones_are_checked(net: Networks, machine: Machine) -> None:
    machine.kernel.run(rtnetlink.add_bridge("d0"), rtnetlink.change_link("d0", up=True))
    dummy = rtnetlink.get_link(machine.kernel, "d0")
    assert dummy is not None
    machine.kernel.run(rtnetlink.add_address(dummy.index, "10.92.3.4", 16))
    one = net.attach("bridge", "one")
    assert not one.address.startswith("10.92.")
    with pytest.raises(errors.FailedPrecondition, match=r"overlaps 10\.92\.0\.0/16"):
        net.create("taken", subnet="10.92.128.0/24")
    with pytest.raises(errors.FailedPrecondition, match="overlaps"):
        net.create("taken", subnet=f"{one.address}/24")
    assert [each.name for each in net.list()] == ["bridge"]


def test_ipv6_subnets_may_be_chosen_and_are_checked(net: Networks, machine: Machine) -> None:
    net.create("six", subnet6="fd77:1::/64", gateway6="fd77:1::9")
    one = net.attach("six", "one")
    assert one.gateway6 == "fd77:1::9"
    assert one.address6.startswith("fd77:1::")
    with pytest.raises(errors.FailedPrecondition, match="overlaps"):
        net.create("again", subnet6="fd77:1::/80")
    four = net.create("four", ipv6=False)
    assert (net.attach(four, "two").address6, four.subnet6) == ("", "")


def test_what_a_removed_root_left_is_taken_over(machine: Machine) -> None:
    gone, here = machine.root("gone"), machine.root("here")
    left = gone.networks.attach("bridge", "one")
    gone.networks.detach("one")
    machine.kernel.run(rtnetlink.delete_link(left.bridge))  # its claim stays, as after a crash
    made = here.networks.attach("bridge", "one")
    assert (made.bridge, made.gateway) == (left.bridge, left.gateway)
    again = gone.networks.attach("bridge", "one")  # and if it was not removed after all, it gets another
    assert again.bridge != made.bridge
    assert again.gateway != made.gateway


@pytest.mark.parametrize(
    "options",
    [
        {"subnet": "10.0.0.0/31"}, {"subnet": "x"}, {"subnet": "fd00::/64"}, {"gateway": "10.0.0.1"},
        {"subnet": "10.0.0.0/24", "gateway": "10.0.1.1"}, {"subnet": "10.0.0.0/24", "ip_range": "10.0.1.0/25"},
        {"subnet6": "10.0.0.0/24"}, {"driver": "macvlan"}, {"options": {"mtu": "x"}},
        {"options": {"com.docker.network.bridge.name": "a-name-that-is-too-long"}},
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_is_refused_and_leaves_nothing(
    net: Networks, machine: Machine, options: dict[str, object]
) -> None:
    with pytest.raises(errors.InvalidArgument):
        net.create("bad", **options)  # type: ignore[arg-type]
    assert [each.name for each in net.list()] == ["bridge"]
    assert machine.links() == ["lo", "uplink0"]


def test_user_networks_are_listed_inspected_pruned_and_removed(net: Networks, machine: Machine) -> None:
    made = net.create("mine", options={"com.docker.network.bridge.name": "br-mine"}, labels={"k": "v"})
    with pytest.raises(errors.AlreadyExists):
        net.create("mine")
    for name in ("", "host", "bridge", "a b", "-x", "é"):
        with pytest.raises(errors.InvalidArgument):
            net.create(name)
    one = net.attach("mine", "one", name="web")
    network, bridge, endpoints = net.inspect(made.id[:10])
    assert (network.name, bridge, [each.name for each in endpoints]) == ("mine", "br-mine", ["web"])
    assert one.bridge == "br-mine"
    with pytest.raises(errors.FailedPrecondition, match="active endpoints: web"):
        net.remove("mine")
    net.detach("one")
    net.create("other")
    assert sorted(each.name for each in net.prune()) == ["mine", "other"]
    assert "br-mine" not in machine.links()
    with pytest.raises(errors.NotFound):
        net.remove("mine")
    with pytest.raises(errors.FailedPrecondition):
        net.remove("bridge")


def test_a_flushed_ruleset_is_found_and_repaired(net: Networks, machine: Machine) -> None:
    one = net.attach("bridge", "one", ports=[PortMapping(80, 8080, HOST)])
    networks.nft("flush", "ruleset")
    with serving(machine.outside.path, 9000), serving(one.netns, 80):
        assert unreachable(one.netns, OUTSIDE, 9000)
        assert net.repair() == []
        assert inside(one.netns, lambda: ask(OUTSIDE, 9000)) == f"hello from {HOST}"
        assert inside(machine.outside.path, lambda: ask(HOST, 8080)) == f"hello from {OUTSIDE}"
        networks.nft("flush", "ruleset")
        net.attach("bridge", "two")  # whoever comes next finds it too
        assert inside(machine.outside.path, lambda: ask(HOST, 8080)) == f"hello from {OUTSIDE}"


def test_a_deleted_bridge_and_link_are_repaired(net: Networks, machine: Machine) -> None:
    one, two = net.attach("bridge", "one"), net.attach("bridge", "two")
    machine.kernel.run(rtnetlink.delete_link(one.bridge), rtnetlink.delete_link(two.link))
    assert net.repair() == []
    with serving(two.netns, 80), serving(machine.outside.path, 9000):
        assert inside(one.netns, lambda: ask(two.address, 80)) == f"hello from {one.address}"
        assert inside(two.netns, lambda: ask(OUTSIDE, 9000)) == f"hello from {HOST}"


def test_rules_of_the_host_that_drop_are_told(net: Networks, machine: Machine) -> None:
    networks.nft("add table ip filter")
    networks.nft("add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    one = net.attach("bridge", "one")
    assert any("ip filter drops forwarded packets" in note for note in net.notes)
    with serving(machine.outside.path, 9000):
        assert unreachable(one.netns, OUTSIDE, 9000)  # the host's word stands
    legacy = "/usr/sbin/iptables-legacy"
    if not os.path.exists(legacy):
        pytest.skip("no iptables-legacy")
    networks.nft("delete table ip filter")
    subprocess.run([legacy, "-P", "FORWARD", "DROP"], check=True)
    assert any("legacy iptables has the policy DROP" in problem for problem in net.repair())


def test_a_missing_nft_is_told(net: Networks, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    from orlop.services.network import firewall

    monkeypatch.setattr(firewall, "_DIRECTORIES", ())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(errors.FailedPrecondition, match="nft is not installed"):
        net.attach("bridge", "one")
    monkeypatch.undo()
    net.reconcile(())
    assert net.endpoints() == []


def _scenario(net: Networks) -> Callable[[], None]:
    def work() -> None:
        net.attach("bridge", "one", ports=[PortMapping(80, 8080, "0.0.0.0"), PortMapping(81, 8081)])
        net.create("mine")
        net.attach("mine", "two", name="two")
        net.detach("one")
        net.detach("two")
        net.remove("mine")
        net.retire()

    return work


def test_whatever_step_a_caller_is_killed_at_reconcile_leaves_nothing(machine: Machine, tmp_path: Path) -> None:
    root = machine.root()
    _scenario(root.networks)()  # the default network's subnet is chosen once
    root.database.close()
    names = faults.points(_scenario(root.networks))
    assert {"network.attach.recorded", "network.attach.linked", "network.detach.removed", "network.up.claimed"} <= {
        *names
    }
    for index in range(len(names)):
        faults.killed_at(_scenario(root.networks), index)
        root.networks.reconcile(())
        for network in root.networks.prune():
            assert network.name == "mine"
        assert root.left() == [], names[index]
        eventually(lambda: olv(machine) == [])
        root.networks.retire()
        assert machine.links() == ["lo", "uplink0"], names[index]
        assert networks.nft("list", "tables") == "", names[index]
        root.database.close()


def test_reconcile_spares_the_living(machine: Machine) -> None:
    root = machine.root()
    one = root.networks.attach("bridge", "one", ports=[PortMapping(80, 8080, HOST)])
    root.networks.attach("bridge", "two", ports=[PortMapping(80, 8081, HOST)])
    assert root.networks.reconcile({"one"}) == ["two"]
    with serving(one.netns, 80):
        assert inside(machine.outside.path, lambda: ask(HOST, 8080)) == f"hello from {OUTSIDE}"
    with pytest.raises(OSError, match="refused"):
        ask(HOST, 8081)


def test_a_namespace_without_a_network_has_loopback_alone(net: Networks, machine: Machine) -> None:
    path = net.isolate("alone")
    with netns.open(path) as namespace:
        assert [(link.name, link.up) for link in rtnetlink.list_links(namespace.kernel) if link.up] == [("lo", True)]
    net.detach("alone")
    assert not os.path.exists(path)


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a\0"])
def test_an_id_that_is_no_file_name_is_refused(net: Networks, machine: Machine, bad: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        net.attach("bridge", bad)


def test_the_hosts_own_namespace_is_untouched() -> None:
    """The tests above ran in namespaces of their own."""
    assert not any(name.startswith(("olv", "uplink0")) for _, name in socket.if_nameindex())
