"""What tests of networks share: a machine of their own (a network namespace), roots on it, small peers to talk to.

A test that asks for `machine()` runs with its process's main thread in a new network namespace: bridges, rules and
sysctls are its own, and somebody's `nft flush ruleset` hurts nobody. All of it goes with the namespace.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from orlop.base import selfexec
from orlop.base.kernel import namespaces, netns, netsysctl, rtnetlink
from orlop.services.network.networks import Networks
from orlop.stores.metadata.database import Database
from orlop.stores.networks.local import LocalNetworkStore

T = TypeVar("T")
OUTSIDE, HOST = "203.0.113.9", "203.0.113.1"
OUTSIDE6, HOST6 = "2001:db8::9", "2001:db8::1"
WAIT_S = 10.0


class Machine:
    """A host with a neighbour: `outside` is another namespace, joined to it by a link with the addresses above."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kernel = rtnetlink.open_route()
        self.outside = netns.create(str(directory / "outside"))
        self._roots: list[Root] = []
        # A new namespace has the IPv4 settings of the machine's first one, which somebody may have changed.
        for setting in ("ipv4/ip_forward", "ipv4/conf/all/route_localnet", "ipv6/conf/all/forwarding"):
            netsysctl.put(setting, "0")
        kernel = self.kernel
        kernel.run(rtnetlink.change_link(1, up=True))
        kernel.run(rtnetlink.add_veth("uplink0", "there0", peer_netns_fd=self.outside.fd, up=True))
        link = rtnetlink.get_link(kernel, "uplink0")
        there = rtnetlink.get_link(self.outside.kernel, "there0")
        assert link is not None
        assert there is not None
        kernel.run(rtnetlink.add_address(link.index, HOST, 24), rtnetlink.add_address(link.index, HOST6, 64))
        self.outside.kernel.run(
            rtnetlink.change_link(1, up=True),
            rtnetlink.change_link(there.index, up=True),
            rtnetlink.add_address(there.index, OUTSIDE, 24),
            rtnetlink.add_address(there.index, OUTSIDE6, 64),
        )

    def root(self, name: str = "one", **options: object) -> Root:
        made = Root(self.directory, name, **options)
        self._roots.append(made)
        return made

    def links(self) -> list[str]:
        return [link.name for link in rtnetlink.list_links(self.kernel)]

    def close(self) -> None:
        for root in self._roots:
            root.clear()
        self.outside.close()
        netns.remove(self.outside.path)
        self.kernel.close()


class Root:
    """An engine's root: its database and its networks."""

    def __init__(self, directory: Path, name: str, **options: object) -> None:
        self.name = name
        self.state = str(directory / f"state-{name}")
        self.machine_dir = str(directory / "machine")
        path = directory / f"root-{name}"
        path.mkdir(exist_ok=True)
        self.root_id = f"{abs(hash(str(path))) & 0xFFFFFFFFFFFF:012x}"
        self.database = Database(str(path / "metadata.db"))
        self.options = options
        self.networks = self.open()

    def open(self) -> Networks:
        """The networks, as another process of the engine would see them."""
        return Networks(
            LocalNetworkStore(self.database),
            root_id=self.root_id,
            state_dir=self.state,
            machine_dir=self.machine_dir,
            helper_argv=selfexec.python_argv("orlop.services.network.helper:main"),
            **self.options,  # type: ignore[arg-type]
        )

    def clear(self) -> None:
        self.networks.reconcile(())
        self.networks.prune()
        self.networks.retire()
        self.database.close()

    def left(self) -> list[str]:
        """What is on the machine for this root: namespaces, rules, links of containers, helpers, rows."""
        found = [f"endpoint {each.container}" for each in self.networks.endpoints()]
        directory = f"{self.state}/netns"
        found += [f"netns {name}" for name in (os.listdir(directory) if os.path.isdir(directory) else [])]
        sockets = f"{self.state}/s"
        found += [f"helper {name}" for name in (os.listdir(sockets) if os.path.isdir(sockets) else [])]
        for name in ("address4", "any4", "address6", "any6"):
            listed = nft("list", "map", "inet", f"orlop_{self.root_id}", name, check=False)
            if "elements" in listed:
                found.append(f"element of {name}")
        return found


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    """A machine of one's own, for the process's main thread and the threads it starts."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    namespaces.unshare(namespaces.CLONE_NEWNET)
    try:
        made = Machine(directory)
        try:
            yield made
        finally:
            made.close()
    finally:
        namespaces.setns(home, namespaces.CLONE_NEWNET)
        os.close(home)


def inside(path: str, work: Callable[[], T]) -> T:
    """Do something in a container's network namespace."""
    with netns.open(path) as namespace:
        return namespace.call(work)


def nft(*words: str, check: bool = True) -> str:
    done = subprocess.run(["nft", *words], capture_output=True, text=True, timeout=30, check=check)
    return done.stdout


class Server:
    """An echo server that says who has asked: answers `DATA from ADDRESS`. One thread; made where it is to listen."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._sock.getsockname()[1])

    def _serve(self) -> None:
        while True:
            try:
                if self._sock.type == socket.SOCK_DGRAM:
                    data, peer = self._sock.recvfrom(65536)
                    if peer is None:
                        return
                    self._sock.sendto(data + f" from {peer[0]}".encode(), peer)
                    continue
                client, peer = self._sock.accept()
            except OSError:
                return
            with client:
                client.settimeout(WAIT_S)
                data = bytearray()
                while part := client.recv(65536):
                    data += part
                client.sendall(bytes(data) + f" from {peer[0]}".encode())

    def close(self) -> None:
        # A blocked accept or recvfrom ends when the socket is shut down, not when it is closed.
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()
        self._thread.join(0.2)


def listen(host: str, port: int = 0, kind: str = "tcp") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, port))
    if kind == "tcp":
        sock.listen(64)
    return sock


@contextmanager
def serving(path: str, port: int, kind: str = "tcp", host: str = "") -> Iterator[Server]:
    """A server in a namespace, on all its addresses unless `host` names one ("::" for IPv6)."""
    server = Server(inside(path, lambda: listen(host or "0.0.0.0", port, kind)))
    try:
        yield server
    finally:
        server.close()


@contextmanager
def serving_here(host: str, port: int = 0, kind: str = "tcp") -> Iterator[Server]:
    server = Server(listen(host, port, kind))
    try:
        yield server
    finally:
        server.close()


def ask(host: str, port: int, data: bytes = b"hello", kind: str = "tcp", timeout: float = WAIT_S) -> str:
    """What the server there answers. OSError when it cannot be reached."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect((host, port))
        sock.sendall(data)
        if kind == "udp":
            return sock.recv(65536).decode()
        sock.shutdown(socket.SHUT_WR)
        answer = bytearray()
        while part := sock.recv(65536):
            answer += part
        return answer.decode()
