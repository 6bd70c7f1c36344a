"""Published ports and names on the real kernel: the helper process, the proxy, kernel forwarding, the resolver."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest

from orlop.base import errors
from orlop.services.network import dns, ports
from orlop.services.network.networks import Networks
from orlop.stores.networks.api import PortMapping
from tests.support import networks
from tests.support.networks import HOST, HOST6, OUTSIDE, OUTSIDE6, Machine, ask, inside, listen, serving

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with networks.machine(tmp_path) as made:
        yield made


@pytest.fixture
def net(machine: Machine) -> Networks:
    return machine.root().networks


def helper_pid(net: Networks) -> int:
    """The process that listens at the socket of a network's helper."""
    (name,) = (name for name in os.listdir(f"{net._state}/s") if name.startswith("net-"))
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f"/s/{name}" in Path(f"/proc/{pid}/cmdline").read_text():
                return int(pid)
        except OSError:
            continue
    raise AssertionError("no helper")


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("host_ip", "asked", "seen"),
    [("", ["127.0.0.1"], "gateway"), ("127.0.0.1", ["127.0.0.1"], "gateway"), ("::1", ["::1"], "gateway"),
     ("0.0.0.0", ["127.0.0.1", "127.0.0.7"], "gateway"), ("::", ["::1"], "gateway")],
)  # fmt: skip
def test_a_port_on_loopback_reaches_the_container(
    net: Networks, machine: Machine, kind: str, host_ip: str, asked: list[str], seen: str
) -> None:
    one = net.attach("bridge", "one", ports=[PortMapping(80, 0, host_ip, kind)])
    port = one.ports[0].host_port
    with serving(one.netns, 80, kind):
        for host in asked:
            for _ in range(2):
                assert ask(host, port, kind=kind) == f"hello from {getattr(one, seen)}"


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("host_ip", "address", "outside", "every"),
    [(HOST, HOST, OUTSIDE, "0.0.0.0"), ("0.0.0.0", HOST, OUTSIDE, "0.0.0.0"), (HOST6, HOST6, OUTSIDE6, "::"),
     ("::", HOST6, OUTSIDE6, "::")],
)  # fmt: skip
def test_a_port_on_an_address_is_forwarded_by_the_kernel_for_the_outside_and_the_host(
    net: Networks, machine: Machine, kind: str, host_ip: str, address: str, outside: str, every: str
) -> None:
    one = net.attach("bridge", "one", ports=[PortMapping(80, 8080, host_ip, kind)])
    two = net.attach("bridge", "two")
    with serving(one.netns, 80, kind, host=every):
        # The container sees who asks: nothing stands between.
        assert inside(machine.outside.path, lambda: ask(address, 8080, kind=kind)) == f"hello from {outside}"
        assert ask(address, 8080, kind=kind) == f"hello from {address}"
    with serving(one.netns, 80, kind):
        # Neighbours and the container itself go through the helper.
        for each in (one, two):
            got = inside(each.netns, lambda: ask(address, 8080, kind=kind))
            assert got == f"hello from {one.gateway}"


def test_a_port_on_an_address_is_not_on_loopback(net: Networks, machine: Machine) -> None:
    one = net.attach("bridge", "one", ports=[PortMapping(80, 8080, HOST)])
    with serving(one.netns, 80), pytest.raises(OSError, match="refused"):
        ask("127.0.0.1", 8080)


def test_ranges_reach_each_its_port(net: Networks, machine: Machine) -> None:
    one = net.attach("bridge", "one", ports=ports.parse_publish("9000-9250:9000-9250"))
    assert len(one.ports) == 251  # more than one packet of descriptors
    for port in (9000, 9199, 9200, 9250):
        with serving(one.netns, port):
            assert ask("127.0.0.1", port) == f"hello from {one.gateway}"


def test_a_port_that_a_container_has_is_refused_naming_it_and_nothing_is_left(machine: Machine) -> None:
    root = machine.root()
    root.networks.attach("bridge", "one", name="web", ports=[PortMapping(80, 8080)])
    for ip in ("", "0.0.0.0", "127.0.0.1"):
        with pytest.raises(errors.FailedPrecondition, match=r"port is already allocated to container web \(one\)"):
            root.networks.attach("bridge", "two", ports=[PortMapping(81, 8081), PortMapping(80, 8080, ip)])
    assert [each.container for each in root.networks.endpoints()] == ["one"]
    assert not os.path.exists(root.networks.netns_path("two"))
    root.networks.detach("one")
    root.networks.attach("bridge", "two", ports=[PortMapping(80, 8080)])


def test_a_port_of_another_root_is_refused_naming_its_process(machine: Machine) -> None:
    one, two = machine.root("one"), machine.root("two")
    one.networks.attach("bridge", "a", ports=[PortMapping(80, 8080, "0.0.0.0")])
    with pytest.raises(errors.FailedPrecondition, match=r"already allocated to orlop-net \(pid \d+\)"):
        two.networks.attach("bridge", "b", ports=[PortMapping(80, 8080, HOST)])


def test_megabytes_both_ways_arrive_whole_and_half_closes_are_passed_on(net: Networks, machine: Machine) -> None:
    one = net.attach("bridge", "one", ports=[PortMapping(80, 8080)])
    data = os.urandom(1 << 20).hex().encode() * 8
    with serving(one.netns, 80):
        assert ask("127.0.0.1", 8080, data, timeout=30) == f"{data.decode()} from {one.gateway}"


def test_many_clients_at_once_are_all_served(net: Networks, machine: Machine) -> None:
    one = net.attach("bridge", "one", ports=[PortMapping(80, 8080)])
    with serving(one.netns, 80):
        clients = []
        for number in range(150):
            sock = socket.create_connection(("127.0.0.1", 8080), timeout=20)
            sock.sendall(b"%d" % number)
            sock.shutdown(socket.SHUT_WR)
            clients.append(sock)
        for number, sock in enumerate(clients):
            with sock:
                assert sock.recv(100).decode() == f"{number} from {one.gateway}"


def test_a_reader_that_stalls_stops_neither_others_nor_memory(net: Networks, machine: Machine) -> None:
    one = net.attach("bridge", "one", ports=[PortMapping(80, 8080), PortMapping(81, 8081)])
    listener = inside(one.netns, lambda: listen("0.0.0.0", 81))
    with listener, socket.create_connection(("127.0.0.1", 8081), timeout=5) as writer:
        held, _ = listener.accept()
        writer.setblocking(False)
        sent, deadline = 0, time.monotonic() + 2
        while time.monotonic() < deadline:
            try:
                sent += writer.send(bytes(1 << 16))
            except BlockingIOError:
                if sent:
                    break
        assert sent < 256 << 20
        with serving(one.netns, 80):
            assert ask("127.0.0.1", 8080) == f"hello from {one.gateway}"
        held.close()


def test_a_port_nobody_listens_at_resets_the_client(net: Networks, machine: Machine) -> None:
    net.attach("bridge", "one", ports=[PortMapping(80, 8080)])
    with pytest.raises(ConnectionError):
        ask("127.0.0.1", 8080)


def test_a_reset_by_the_container_reaches_the_client(net: Networks, machine: Machine) -> None:
    one = net.attach("bridge", "one", ports=[PortMapping(80, 8080)])
    listener = inside(one.netns, lambda: listen("0.0.0.0", 80))
    with listener, socket.create_connection(("127.0.0.1", 8080), timeout=5) as client:
        held, _ = listener.accept()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        held.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_datagrams_of_several_clients_are_kept_apart(net: Networks, machine: Machine) -> None:
    one = net.attach("bridge", "one", ports=[PortMapping(80, 8080, "", "udp")])
    with serving(one.netns, 80, "udp"):
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(5)]
        for number, client in enumerate(clients):
            client.settimeout(5)
            client.sendto(b"%d" % number, ("127.0.0.1", 8080))
        for number, client in enumerate(clients):
            with client:
                assert client.recv(100).decode() == f"{number} from {one.gateway}"


def test_a_datagram_flow_follows_the_port_to_its_next_container(net: Networks, machine: Machine) -> None:
    def flow() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(5)
        sock.connect((HOST, 8080))
        return sock

    mapping = [PortMapping(80, 8080, "0.0.0.0", "udp")]
    with inside(machine.outside.path, flow) as client:
        for name in ("one", "two"):
            attached = net.attach("bridge", name, ports=mapping)
            with serving(attached.netns, 80, "udp"):
                client.send(b"x")
                assert client.recv(100).decode() == f"x from {OUTSIDE}"
            net.detach(name)


def test_the_helper_lives_while_there_are_containers_with_ports(machine: Machine) -> None:
    root = machine.root()
    net = root.networks
    net.attach("bridge", "zero")
    assert root.left() == ["endpoint zero", "netns zero"]  # no helper for those without
    net.attach("bridge", "one", ports=[PortMapping(80)])
    net.attach("bridge", "two", ports=[PortMapping(80)])
    pid = helper_pid(net)
    net.detach("one")
    assert helper_pid(net) == pid
    net.detach("two")
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")


def test_a_killed_helper_is_replaced_by_repair(net: Networks, machine: Machine) -> None:
    one = net.attach("bridge", "one", ports=[PortMapping(80, 8080), PortMapping(80, 8080, "::1", "udp")])
    os.kill(helper_pid(net), signal.SIGKILL)
    with serving(one.netns, 80), serving(one.netns, 80, "udp"):
        assert net.repair() == []
        assert ask("127.0.0.1", 8080) == f"hello from {one.gateway}"
        assert ask("::1", 8080, kind="udp") == f"hello from {one.gateway}"
        pid = helper_pid(net)
        assert net.repair() == []
        assert helper_pid(net) == pid
    os.kill(pid, signal.SIGKILL)
    net.detach("one")  # nor does its death hinder anybody


def test_a_helper_that_does_not_start_is_told_and_nothing_is_left(machine: Machine) -> None:
    root = machine.root()
    root.networks._ground._helper_argv[:] = ["/bin/false"]
    with pytest.raises(errors.Unavailable, match="did not start"):
        root.networks.attach("bridge", "one", ports=[PortMapping(80, 8080, HOST)])
    assert root.left() == []


def lookup(server: str, name: str, kind: int = 1, *, tcp: bool = False) -> bytes:
    query = pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + dns.encode_name(name) + pack("!HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.settimeout(8)
        sock.connect((server, 53))
        if not tcp:
            sock.send(query)
            return sock.recv(4096)
        sock.sendall(pack("!H", len(query)) + query)
        answer = b""
        while len(answer) < 2 or len(answer) < 2 + int.from_bytes(answer[:2], "big"):
            answer += sock.recv(4096)
        return answer[2:]


class Elsewhere:
    """A DNS server in another namespace that answers every question with 192.0.2.77."""

    def __init__(self, path: str) -> None:
        self._socks = inside(path, lambda: [listen("0.0.0.0", 53, kind) for kind in ("udp", "tcp")])
        for sock, serve in zip(self._socks, (self._udp, self._tcp), strict=True):
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    @staticmethod
    def _answer(query: bytes) -> bytes:
        question = dns.parse_question(query)
        return dns.reply(query, question, [(1, socket.inet_aton("192.0.2.77"))])

    def _udp(self, sock: socket.socket) -> None:
        while True:
            try:
                query, peer = sock.recvfrom(4096)
                if peer is None:
                    return
                sock.sendto(self._answer(query), peer)
            except OSError:
                return

    def _tcp(self, sock: socket.socket) -> None:
        while True:
            try:
                client, _ = sock.accept()
            except OSError:
                return
            with client:
                query = client.recv(4096)
                answer = self._answer(query[2:])
                client.sendall(pack("!H", len(answer)) + answer)

    def close(self) -> None:
        for sock in self._socks:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_containers_of_a_user_network_find_one_another_by_name(net: Networks, machine: Machine, tcp: bool) -> None:
    net.create("mine")
    one = net.attach("mine", "one", name="web", servers=[OUTSIDE])
    two = net.attach("mine", "two" * 6, name="db", aliases=["database"])
    assert one.nameserver == one.gateway == two.nameserver
    for name in ("db", "database", "DB", ("two" * 6)[:12]):
        answer = inside(one.netns, lambda name=name: lookup(one.nameserver, name, tcp=tcp))
        assert answer.endswith(socket.inet_aton(two.address))
    elsewhere = Elsewhere(machine.outside.path)
    try:
        answer = inside(one.netns, lambda: lookup(one.nameserver, "example.com", tcp=tcp))
        assert answer[:2] == b"\0\7"
        assert answer.endswith(socket.inet_aton("192.0.2.77"))
    finally:
        elsewhere.close()
    answer = inside(one.netns, lambda: lookup(one.nameserver, "example.com", tcp=tcp))
    assert answer[3] & 0xF == 2  # SERVFAIL: nobody is left to ask
    net.rename("two" * 6, "store")
    assert inside(one.netns, lambda: lookup(one.nameserver, "store")).endswith(socket.inet_aton(two.address))


def test_names_come_back_after_the_helper_was_killed(net: Networks, machine: Machine) -> None:
    net.create("mine")
    one = net.attach("mine", "one", name="web")
    os.kill(helper_pid(net), signal.SIGKILL)
    assert net.repair() == []
    assert inside(one.netns, lambda: lookup(one.nameserver, "web")).endswith(socket.inet_aton(one.address))
