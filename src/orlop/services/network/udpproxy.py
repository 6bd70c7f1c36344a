"""Carries datagrams of a published UDP port: one connected socket to the container for every client, with a timeout.

Replies leave from the address the client wrote to (IP_PKTINFO), also when the port is bound to all addresses.
"""

from __future__ import annotations

import _socket
import errno
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .loop import Loop

IDLE_S = 90.0
"""How long a client's socket is kept after its last datagram."""
CLIENTS = 1024
"""How many clients a port has at once; the one that was idle longest makes room."""
_DATAGRAM_BYTES = 65536
_BATCH = 64
_SWEEP_S = 10.0
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50


class _Client:
    """A client: its address, the packet info its replies carry, the socket to the container, when it was last heard."""

    __slots__ = ("address", "ancillary", "heard", "sock")

    def __init__(self, address: Any, ancillary: list[tuple[int, int, bytes]], sock: _socket.socket) -> None:
        self.address = address
        self.ancillary = ancillary
        self.sock = sock
        self.heard = 0.0


class UdpPort:
    """A published UDP port: its bound socket, and where its datagrams go."""

    def __init__(self, loop: Loop, sock: _socket.socket, address: str, port: int) -> None:
        self._loop = loop
        self._sock = sock
        self._target = (address, port)
        self._clients: dict[Any, _Client] = {}  # in order of use: the first was idle longest
        self._sweeping = False
        if sock.family == _socket.AF_INET:
            sock.setsockopt(_socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            sock.setsockopt(_socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        loop.watch(sock.fileno(), self._from_clients)

    def _from_clients(self, events: int) -> None:
        for _ in range(_BATCH):
            try:
                data, ancillary, _, address = self._sock.recvmsg(_DATAGRAM_BYTES, 128)
            except BlockingIOError:
                return
            except OSError:
                continue  # an answer of ours could not be delivered (ICMP): the next datagram is fine
            client = self._client(address, ancillary)
            if client is None:
                continue
            try:
                client.sock.send(data)
            except OSError:
                pass  # lost, as datagrams are: nobody listens there, or the queue is full

    def _client(self, address: Any, ancillary: list[tuple[int, int, bytes]]) -> _Client | None:
        client = self._clients.pop(address, None)
        if client is None:
            while len(self._clients) >= CLIENTS:
                self._drop(next(iter(self._clients)))
            family = _socket.AF_INET6 if ":" in self._target[0] else _socket.AF_INET
            try:
                sock = _socket.socket(family, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
            except OSError:
                return None
            try:
                sock.connect(self._target)
            except OSError:
                sock.close()
                return None
            client = _Client(address, _reply_info(ancillary), sock)
            self._loop.watch(sock.fileno(), partial(self._from_container, client))
            if not self._sweeping:
                self._sweeping = True
                self._loop.later(_SWEEP_S, self._sweep)
        client.heard = self._loop.now
        self._clients[address] = client
        return client

    def _from_container(self, client: _Client, events: int) -> None:
        for _ in range(_BATCH):
            try:
                data = client.sock.recv(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ECONNREFUSED:
                    continue  # nobody listened when the last datagram came
                return
            client.heard = self._loop.now
            try:
                self._sock.sendmsg([data], client.ancillary, 0, client.address)
            except OSError:
                pass

    def _sweep(self) -> None:
        for address, client in list(self._clients.items()):
            if self._loop.now - client.heard > IDLE_S:
                self._drop(address)
        self._sweeping = bool(self._clients) and self._sock.fileno() >= 0
        if self._sweeping:
            self._loop.later(_SWEEP_S, self._sweep)

    def _drop(self, address: Any) -> None:
        client = self._clients.pop(address)
        self._loop.unwatch(client.sock.fileno())
        client.sock.close()

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()
        for address in list(self._clients):
            self._drop(address)


def _reply_info(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Packet info that makes a reply leave from where the request was sent to."""
    for level, kind, data in ancillary:
        if (level, kind) == (_socket.IPPROTO_IP, _IP_PKTINFO) and len(data) >= 12:
            # struct in_pktinfo: link, local address, destination. The local address is what a reply comes from.
            return [(level, kind, bytes(4) + data[4:8] + bytes(4))]
        if (level, kind) == (_socket.IPPROTO_IPV6, _IPV6_PKTINFO) and len(data) >= 20:
            return [(level, kind, data[:16] + bytes(4))]
    return []
