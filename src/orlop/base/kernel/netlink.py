"""Netlink: messages, attributes, acknowledgements, dumps; what rtnetlink and nfnetlink are spoken through.

Sources: netlink(7), <linux/netlink.h>. A socket belongs to the network namespace of the thread that made it and keeps
speaking to that one. Works on `_socket` and `struct`; on the path of `run`. May import only the interpreter's cheap
modules, `errors` and `_sys`.
"""

from __future__ import annotations

import _socket
import os
from struct import pack, pack_into, unpack_from

from . import _sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

NLMSG_ERROR = 0x2
NLMSG_DONE = 0x3
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLMSGERR_ATTR_MSG = 1

NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
_RECEIVE_BYTES = 1 << 17
_DUMP_TRIES = 8


class Message:
    """One request: its type, flags beyond REQUEST and ACK, the fixed header and attributes; what is attempted."""

    __slots__ = ("body", "doing", "flags", "missing_ok", "type")

    def __init__(self, type: int, flags: int, body: bytes, doing: str, missing_ok: Sequence[int] = ()) -> None:
        self.type = type
        self.flags = flags
        self.body = body
        self.doing = doing
        self.missing_ok = tuple(missing_ok)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute: length, type, value, padding."""
    length = 4 + len(value)
    return pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a string and its final NUL."""
    return attribute(kind, os.fsencode(value) + b"\0")


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, pack("=I", value))


def nested(kind: int, *values: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(values))


def attributes(data: bytes | memoryview, offset: int = 0) -> dict[int, bytes]:
    """Type → value of the attributes from offset on; the last of one type wins. Stops at what is malformed."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = unpack_from("=HH", data, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & _NLA_TYPE_MASK] = bytes(data[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return found


class Netlink:
    """A netlink socket in the calling thread's network namespace. Not for several threads at once.

    Raises OSError when the family is not there.
    """

    __slots__ = ("_seq", "_sock")

    def __init__(self, family: int) -> None:
        _sys.require_linux()
        self._sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, family)
        try:
            self._sock.bind((0, 0))
            for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
                try:
                    self._sock.setsockopt(_SOL_NETLINK, option, 1)
                except OSError:
                    pass  # an older kernel: errors come without their sentence
        except BaseException:
            self._sock.close()
            raise
        self._seq = 0

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def run(self, *messages: Message) -> None:
        """Send requests in one go, in order; wait for the answer to each.

        The kernel goes on after one that fails. Raises the OSError of the first that failed, saying what was attempted
        and, where the kernel tells, why; errors that a message calls harmless (`missing_ok`) are passed over.
        """
        self.run_framed(messages, b"", b"")

    def run_framed(self, messages: Sequence[Message], before: bytes, after: bytes) -> None:
        """`run`, with raw messages that are not answered around it (the begin and end of a netfilter batch)."""
        if not messages:
            return
        first = self._seq + 1
        parts = [before] if before else []
        for message in messages:
            parts.append(self._encode(message, NLM_F_ACK))
        if after:
            parts.append(after)
        self._sock.send(b"".join(parts))
        waiting = {first + number: message for number, message in enumerate(messages)}
        failed: OSError | None = None
        while waiting:
            for kind, flags, seq, data in self._receive():
                if kind != NLMSG_ERROR:
                    continue
                answered = waiting.pop(seq, None)
                if answered is None:
                    continue
                error = _error(flags, data, answered)
                if error is not None and failed is None:
                    failed = error
        if failed is not None:
            raise failed

    def ask(self, message: Message) -> list[tuple[int, bytes]]:
        """Send one request that is answered with data: (type, payload) of each message. Raises OSError."""
        for _ in range(_DUMP_TRIES):
            answers, whole = self._ask_once(message)
            if whole:
                break  # the table did not change while it was read
        return answers

    def _ask_once(self, message: Message) -> tuple[list[tuple[int, bytes]], bool]:
        self._sock.send(self._encode(message, 0))
        seq = self._seq
        dump = message.flags & NLM_F_DUMP == NLM_F_DUMP
        found: list[tuple[int, bytes]] = []
        whole = True
        while True:
            for kind, flags, answered, data in self._receive():
                if answered != seq:
                    continue
                whole = whole and not flags & NLM_F_DUMP_INTR
                if kind == NLMSG_ERROR:
                    error = _error(flags, data, message)
                    if error is not None:
                        raise error
                    return found, whole
                if kind == NLMSG_DONE:
                    return found, whole
                found.append((kind, bytes(data)))
                if not dump and not flags & NLM_F_MULTI:
                    return found, whole

    def _encode(self, message: Message, flags: int) -> bytes:
        self._seq = self._seq + 1 & 0x7FFFFFFF or 1
        return frame(message.type, message.flags | flags | NLM_F_REQUEST, self._seq, message.body)

    def _receive(self) -> Iterator[tuple[int, int, int, memoryview]]:
        data = memoryview(self._sock.recv(_RECEIVE_BYTES))
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, seq, _ = unpack_from("=IHHII", data, offset)
            if length < 16 or offset + length > len(data):
                break
            yield kind, flags, seq, data[offset + 16 : offset + length]
            offset += (length + 3) & ~3


def frame(kind: int, flags: int, seq: int, body: bytes) -> bytes:
    """A message as it goes over the socket."""
    data = bytearray(16 + len(body) + (-len(body) % 4))
    pack_into("=IHHII", data, 0, 16 + len(body), kind, flags, seq, 0)
    data[16 : 16 + len(body)] = body
    return bytes(data)


def _error(flags: int, data: memoryview, message: Message) -> OSError | None:
    number = -unpack_from("=i", data, 0)[0]
    if number == 0 or number in message.missing_ok:
        return None
    why = ""
    if flags & NLM_F_ACK_TLVS:
        # The request's header follows the number, and the whole request too when it was not capped.
        request = 16 if flags & NLM_F_CAPPED else unpack_from("=I", data, 4)[0]
        said = attributes(data, 4 + (request + 3 & ~3)).get(NLMSGERR_ATTR_MSG)
        why = said.rstrip(b"\0").decode("utf-8", "replace") if said else ""
    sentence = os.strerror(number) + (f" ({why})" if why else "")
    return OSError(number, f"{message.doing}: {sentence}")
