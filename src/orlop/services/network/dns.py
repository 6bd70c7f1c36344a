"""The resolver of a user-defined network: answers for the containers on it, asks other servers for all the rest.

Sources: RFC 1035 (messages), RFC 2308 (no data), RFC 6761 ("localhost" is nobody's business but the client's).
Answers A and AAAA for names it knows, an empty answer for their other types, PTR for their addresses; everything else
is forwarded as it is, over UDP or TCP as it came, to one server after another. One thread, on the helper's loop.
"""

from __future__ import annotations

import _socket
import os
from functools import partial
from struct import pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .loop import Loop

TTL_S = 5
"""How long an answer may be kept: containers come and go."""
TIMEOUT_S = 3.0
PENDING = 512
"""How many questions wait for other servers at once."""
TCP_CLIENTS = 64
TCP_IDLE_S = 15.0
_PORT = 53
_MESSAGE_BYTES = 65535
_BATCH = 64
_TYPE_A, _TYPE_PTR, _TYPE_AAAA, _TYPE_ANY, _CLASS_IN = 1, 12, 28, 255, 1
_NOERROR, _FORMERR, _SERVFAIL = 0, 1, 2
_QR, _AA, _RD, _RA = 0x8000, 0x0400, 0x0100, 0x0080


class Question:
    """The one question of a query: its name in lower case without the last dot, type, class, and where it ends."""

    __slots__ = ("end", "kind", "name", "of")

    def __init__(self, name: str, kind: int, of: int, end: int) -> None:
        self.name = name
        self.kind = kind
        self.of = of
        self.end = end


def parse_question(message: bytes) -> Question:
    """The question of a query. ValueError for what is no query with one question."""
    if len(message) < 12:
        raise ValueError("shorter than a header")
    _, flags, questions = unpack_from("!HHH", message)
    if flags & _QR or questions != 1:
        raise ValueError("no query with one question")
    labels, offset, total = [], 12, 0
    while True:
        if offset >= len(message):
            raise ValueError("the name is cut off")
        length = message[offset]
        offset += 1
        if length == 0:
            break
        if length > 63 or offset + length > len(message):
            raise ValueError("a label is malformed")
        labels.append(message[offset : offset + length].decode("ascii", "backslashreplace"))
        offset += length
        total += length + 1
        if total > 254:
            raise ValueError("the name is too long")
    if offset + 4 > len(message):
        raise ValueError("the question is cut off")
    kind, of = unpack_from("!HH", message, offset)
    return Question(".".join(labels).lower(), kind, of, offset + 4)


def reply(query: bytes, question: Question | None, answers: Sequence[tuple[int, bytes]] = (), code: int = 0) -> bytes:
    """A reply of ours. answers: (type, data) of records that belong to the question's name."""
    ident, flags = unpack_from("!HH", query)
    flags = _QR | flags & (0x7800 | _RD) | _RA | (_AA if code == _NOERROR else 0) | code
    asked = query[12 : question.end] if question else b""
    records = b"".join(pack("!HHHIH", 0xC00C, kind, _CLASS_IN, TTL_S, len(data)) + data for kind, data in answers)
    return pack("!HHHHHH", ident, flags, 1 if question else 0, len(answers), 0, 0) + asked + records


def encode_name(name: str) -> bytes:
    """A name as labels."""
    return b"".join(pack("B", len(label)) + label.encode() for label in name.split(".") if label) + b"\0"


class _Pending:
    """A question that waits for another server: who asked, over what, and which servers are left."""

    __slots__ = ("client", "ident", "left", "query", "since", "sock")

    def __init__(self, query: bytes, client: Any, left: list[str]) -> None:
        self.query = query
        self.ident = query[:2]
        self.client = client
        self.left = left
        self.sock: _socket.socket | None = None
        self.since = 0.0


class NameServer:
    """The resolver on a UDP socket and a listening TCP socket. servers: addresses to ask, in order."""

    def __init__(self, loop: Loop, udp: _socket.socket, tcp: _socket.socket, servers: Sequence[str]) -> None:
        self._loop = loop
        self._udp = udp
        self._tcp = tcp
        self._servers = list(servers)
        self._containers: dict[str, tuple[list[str], str, str]] = {}
        self._pending: dict[int, _Pending] = {}
        self._streams: dict[int, _Stream] = {}
        self._sweeping = False
        loop.watch(udp.fileno(), self._on_udp)
        loop.watch(tcp.fileno(), self._on_tcp)

    def know(self, container: str, names: Sequence[str], address: str, address6: str) -> None:
        """Answer for a container's names from now on."""
        self._containers[container] = ([name.lower() for name in names], address, address6)

    def forget(self, container: str) -> None:
        self._containers.pop(container, None)

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            if sock.fileno() >= 0:
                self._loop.unwatch(sock.fileno())
                sock.close()
        for pending in list(self._pending.values()):
            self._end(pending)
        for stream in list(self._streams.values()):
            stream.close()

    def answer(self, query: bytes) -> bytes | None:
        """The reply to a query that is ours to answer; None when it is another server's."""
        try:
            question = parse_question(query)
        except ValueError:
            return reply(query, None, code=_FORMERR) if len(query) >= 12 and not query[2] & 0x80 else b""
        if question.of != _CLASS_IN:
            return None
        if question.kind == _TYPE_PTR:
            name = self._name_of(question.name)
            return reply(query, question, [(_TYPE_PTR, encode_name(name))]) if name else None
        found: list[tuple[int, bytes]] = []
        known = False
        for names, address, address6 in self._containers.values():
            if question.name not in names:
                continue
            known = True
            if address and question.kind in (_TYPE_A, _TYPE_ANY):
                found.append((_TYPE_A, _socket.inet_pton(_socket.AF_INET, address)))
            if address6 and question.kind in (_TYPE_AAAA, _TYPE_ANY):
                found.append((_TYPE_AAAA, _socket.inet_pton(_socket.AF_INET6, address6)))
        if not known:
            return None
        if len(found) > 1:  # several containers of one alias: each comes first in its turn
            turn = query[1] % len(found)
            found = found[turn:] + found[:turn]
        return reply(query, question, found[:20])

    def _name_of(self, pointer: str) -> str:
        for names, address, address6 in self._containers.values():
            if names and pointer in (_pointer(address), _pointer(address6)):
                return names[0]
        return ""

    def _on_udp(self, events: int) -> None:
        for _ in range(_BATCH):
            try:
                query, client = self._udp.recvfrom(_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue
            answer = self.answer(query)
            if answer is None:
                self._forward(_Pending(query, client, list(self._servers)))
            elif answer:
                self._send(answer, client)

    def _send(self, message: bytes, client: Any) -> None:
        try:
            self._udp.sendto(message, client)
        except OSError:
            pass  # who asked has gone

    def _forward(self, pending: _Pending) -> None:
        """Ask the next server; say so when there is none left."""
        if pending.sock is not None:
            self._end(pending)
        while pending.left and len(self._pending) < PENDING:
            server = pending.left.pop(0)
            try:
                sock = _socket.socket(
                    _socket.AF_INET6 if ":" in server else _socket.AF_INET,
                    _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK,
                )
            except OSError:
                break
            try:
                # Another number and a port of its own: who cannot see the question cannot forge its answer.
                pending.ident = os.urandom(2)
                sock.connect((server, _PORT))
                sock.send(pending.ident + pending.query[2:])
            except OSError:
                sock.close()
                continue
            pending.sock, pending.since = sock, self._loop.now
            self._pending[sock.fileno()] = pending
            self._loop.watch(sock.fileno(), partial(self._on_answer, pending))
            self._sweep_later()
            return
        if len(pending.query) >= 12:
            try:
                question: Question | None = parse_question(pending.query)
            except ValueError:
                question = None
            self._send(reply(pending.query, question, code=_SERVFAIL), pending.client)

    def _on_answer(self, pending: _Pending, events: int) -> None:
        if pending.sock is None:
            return
        try:
            answer = pending.sock.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._forward(pending)  # nobody listens there
            return
        if len(answer) < 12 or answer[:2] != pending.ident or not answer[2] & 0x80:
            return
        self._end(pending)
        self._send(pending.query[:2] + answer[2:], pending.client)

    def _end(self, pending: _Pending) -> None:
        if pending.sock is not None:
            self._pending.pop(pending.sock.fileno(), None)
            self._loop.unwatch(pending.sock.fileno())
            pending.sock.close()
            pending.sock = None

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._loop.later(1.0, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        for pending in list(self._pending.values()):
            if self._loop.now - pending.since > TIMEOUT_S:
                self._forward(pending)
        for stream in list(self._streams.values()):
            if self._loop.now - stream.since > TCP_IDLE_S:
                stream.close()
        if self._pending or self._streams:
            self._sweep_later()

    def _on_tcp(self, events: int) -> None:
        try:
            fd, _ = self._tcp._accept()  # type: ignore[attr-defined]  # what socket.accept itself calls
        except OSError:
            return
        client = _socket.socket(fileno=fd)
        client.setblocking(False)
        if len(self._streams) >= TCP_CLIENTS:
            client.close()
            return
        stream = _Stream(self, self._loop, client)
        self._streams[fd] = stream
        self._sweep_later()

    def drop(self, fd: int) -> None:
        """A TCP client has gone."""
        self._streams.pop(fd, None)

    @property
    def servers(self) -> Sequence[str]:
        """The servers to ask, in order."""
        return self._servers


class _Stream:
    """A TCP client: its queries are answered in turn; what is another server's goes to it over TCP too."""

    def __init__(self, owner: NameServer, loop: Loop, client: _socket.socket) -> None:
        self._owner = owner
        self._loop = loop
        self._client = client
        self._fd = client.fileno()
        self._server: _socket.socket | None = None
        self._servers: list[str] = []
        self._in, self._out = bytearray(), bytearray()
        self._up, self._down = bytearray(), bytearray()
        self.since = loop.now
        loop.watch(self._fd, self._on_client, edges=True)

    def close(self) -> None:
        self._owner.drop(self._fd)
        self._close_server()
        if self._client.fileno() >= 0:
            self._loop.unwatch(self._fd)
            self._client.close()

    def _close_server(self) -> None:
        if self._server is not None:
            self._loop.unwatch(self._server.fileno())
            self._server.close()
            self._server = None

    def _on_client(self, events: int) -> None:
        self.since = self._loop.now
        try:
            ended = _read(self._client, self._in)
            self._serve()
            _write(self._client, self._out)
        except OSError:
            self.close()
            return
        if ended or len(self._in) > 4 * _MESSAGE_BYTES:
            self.close()

    def _serve(self) -> None:
        """Answer the queries that have come whole; one that is another server's stops the rest until it is answered."""
        while self._server is None:
            query = _take(self._in)
            if query is None:
                return
            answer = self._owner.answer(query)
            if answer is None:
                self._up = bytearray(pack("!H", len(query)) + query)
                self._servers = list(self._owner.servers)
                self._query = query
                self._ask()
            elif answer:
                self._out += pack("!H", len(answer)) + answer
            else:
                raise OSError("no query")

    def _ask(self) -> None:
        while self._servers:
            server = self._servers.pop(0)
            family = _socket.AF_INET6 if ":" in server else _socket.AF_INET
            sock = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
            number = sock.connect_ex((server, _PORT))
            if number not in (0, 115):  # EINPROGRESS
                sock.close()
                continue
            self._server, self._down = sock, bytearray()
            self._unsent = bytearray(self._up)
            self._loop.watch(sock.fileno(), self._on_server, edges=True)
            return
        failed = reply(self._query, parse_question(self._query), code=_SERVFAIL)
        self._out += pack("!H", len(failed)) + failed

    def _on_server(self, events: int) -> None:
        sock = self._server
        if sock is None:
            return
        try:
            if sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
                raise OSError("not connected")
            _write(sock, self._unsent)
            ended = _read(sock, self._down)
            answer = _take(self._down)
            if answer is None and ended:
                raise OSError("cut off")
        except OSError:
            self._close_server()
            self._ask()
            answer = b""
        if answer is None:
            return
        if answer:
            self._close_server()
            self._out += pack("!H", len(answer)) + answer
        self._on_client(events)


def _read(sock: _socket.socket, into: bytearray) -> bool:
    """Read what is there; True at the end. Raises OSError."""
    while len(into) <= 4 * _MESSAGE_BYTES:
        try:
            data = sock.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == 107:  # ENOTCONN: it is still being connected
                return False
            raise
        if not data:
            return True
        into += data
    return False


def _write(sock: _socket.socket, data: bytearray) -> None:
    """Write what can be written. Raises OSError."""
    while data:
        try:
            del data[: sock.send(data)]
        except BlockingIOError:
            return


def _take(data: bytearray) -> bytes | None:
    """The first whole message of a TCP stream, taken off it."""
    if len(data) < 2:
        return None
    length = unpack_from("!H", data)[0]
    if len(data) < 2 + length:
        return None
    message = bytes(data[2 : 2 + length])
    del data[: 2 + length]
    return message


def _pointer(address: str) -> str:
    """The name that a PTR query for an address asks for, "" for no address."""
    if not address:
        return ""
    if ":" in address:
        return ".".join(reversed(_socket.inet_pton(_socket.AF_INET6, address).hex())) + ".ip6.arpa"
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"
