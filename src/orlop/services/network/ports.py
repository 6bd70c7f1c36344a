"""Published ports: Docker's grammar, the sockets that hold them, and who has a port that is taken.

Every published port is held by a bound socket of ours on the host, whoever carries its traffic: so no two of anything
can have it, and a taken one is refused at once. Publishing without an address binds 127.0.0.1 (DESIGN §5).
"""

from __future__ import annotations

import _socket
import errno
import os

from ...base import errors
from ...stores.networks.api import PortMapping
from . import addresses, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOOPBACK = "127.0.0.1"
PROTOCOLS = ("tcp", "udp")
_BACKLOG = 4096


def parse_publish(text: str) -> list[PortMapping]:
    """What one `-p` asks for: `[[ip:][hostPort]:]containerPort[/proto]`, ports maybe ranges, IPv6 in brackets.

    A range of container ports needs a range of host ports as long (or none: the kernel chooses each); a range of host
    ports for one container port means any free one of them. UsageError for anything else.
    """

    def bad(why: str) -> errors.UsageError:
        return errors.UsageError(
            f"invalid publish {text!r}: {why}", advice="write it as [[address:][host port]:]container port[/protocol]"
        )

    rest, slash, protocol = text.partition("/")
    protocol = _protocol(protocol, bad) if slash else "tcp"
    ip, host, container = "", "", rest
    if rest.startswith("["):
        ip, bracket, after = rest[1:].partition("]")
        if not bracket or not after.startswith(":") or ":" not in ip:
            raise bad("an IPv6 address is written [address]:port:port")
        host, colon, container = after[1:].rpartition(":")
        if not colon:
            raise bad("after an address come a host port, which may be empty, and a container port")
    elif ":" in rest:
        before, _, container = rest.rpartition(":")
        ip, colon, host = before.rpartition(":")
        if colon and not ip:
            raise bad("the address is empty")
        if ":" in ip:
            raise bad("an IPv6 address stands in brackets")
        if not colon and "." in host:
            raise bad("after an address come a host port, which may be empty, and a container port")
    if ip:
        try:
            ip = addresses.normal(ip)
        except errors.InvalidArgument:
            raise bad(f"{ip!r} is no address") from None
    low, high = _range(container, bad)
    if low == 0:
        raise bad("a container port is 1 to 65535")
    wanted = range(low, high + 1)
    if not host:
        return [PortMapping(port, 0, ip, protocol) for port in wanted]
    host_low, host_high = _range(host, bad)
    if host_high - host_low == high - low:
        return [
            PortMapping(port, 0 if host_low == 0 else host_low + number, ip, protocol)
            for number, port in enumerate(wanted)
        ]
    if low != high or host_low == 0:
        raise bad("the ranges of host and container ports have different lengths")
    return [PortMapping(low, host_low, ip, protocol, host_high)]


def parse_expose(text: str) -> list[tuple[int, str]]:
    """`PORT[-PORT][/proto]` of --expose and of images: (port, protocol) of each. UsageError for anything else."""

    def bad(why: str) -> errors.UsageError:
        return errors.UsageError(f"invalid expose {text!r}: {why}", advice="write it as PORT[-PORT][/protocol]")

    rest, slash, protocol = text.partition("/")
    protocol = _protocol(protocol, bad) if slash else "tcp"
    low, high = _range(rest, bad)
    if low == 0:
        raise bad("a port is 1 to 65535")
    return [(port, protocol) for port in range(low, high + 1)]


def publish_all(exposed: Iterable[tuple[int, str]], published: Iterable[PortMapping]) -> list[PortMapping]:
    """What `-P` adds: a host port of the kernel's choice for every exposed port that is not published already."""
    have = {(each.container_port, each.protocol) for each in published}
    return [
        PortMapping(port, 0, "", protocol) for port, protocol in dict.fromkeys(exposed) if (port, protocol) not in have
    ]


if TYPE_CHECKING:
    from collections.abc import Callable

    Bad = Callable[[str], errors.UsageError]


def _protocol(text: str, bad: Bad) -> str:
    lower = text.lower()
    if lower == "sctp":
        raise bad("SCTP is not supported; use tcp or udp")
    if lower not in PROTOCOLS:
        raise bad(f"unknown protocol {text!r}; use tcp or udp")
    return lower


def _range(text: str, bad: Bad) -> tuple[int, int]:
    first, dash, second = text.partition("-")
    values = []
    for part in (first, second) if dash else (first,):
        if not (part.isascii() and part.isdigit() and len(part) <= 5 and int(part) <= 65535):
            raise bad(f"{part!r} is no port" if part else "a port is missing")
        values.append(int(part))
    if values[-1] < values[0]:
        raise bad(f"the range {text} runs backwards")
    return values[0], values[-1]


def format_port(mapping: PortMapping) -> str:
    """A mapping as `orlop ps` and `orlop port` show it: 127.0.0.1:8080->80/tcp."""
    host = mapping.host_ip or LOOPBACK
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{mapping.host_port}->{mapping.container_port}/{mapping.protocol}"


def is_forwarded(mapping: PortMapping) -> bool:
    """Whether the kernel forwards it (its address is not the loopback's)."""
    return bool(mapping.host_ip) and not names.is_loopback(mapping.host_ip)


class Bound:
    """A published port as bound, and the socket that holds it (listening, for TCP)."""

    __slots__ = ("mapping", "sock")

    def __init__(self, mapping: PortMapping, sock: _socket.socket) -> None:
        self.mapping = mapping
        self.sock = sock


def bind(mappings: Sequence[PortMapping], holders: Callable[[PortMapping], str] | None = None) -> list[Bound]:
    """Bind every port, or none of them.

    holders: tells which container has a port ("container web (0123…)"), "" when none. FailedPrecondition when a port
    is taken (the message names who has it) or the address is not this machine's, PermissionDenied for a port that
    needs a privilege.
    """
    bound: list[Bound] = []
    try:
        for mapping in mappings:
            bound.append(_bind_one(mapping, holders))
    except BaseException:
        close(bound)
        raise
    return bound


def close(bound: Iterable[Bound]) -> None:
    for each in bound:
        each.sock.close()


def _bind_one(mapping: PortMapping, holders: Callable[[PortMapping], str] | None) -> Bound:
    host = mapping.host_ip or LOOPBACK
    last = max(mapping.host_port_end, mapping.host_port)
    for port in range(mapping.host_port, last + 1):
        try:
            sock = _listen(host, port, mapping.protocol)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port != last:
                continue
            raise _refused(error, mapping.replace(host_ip=host, host_port=port), holders) from error
        made = mapping.replace(host_ip=host, host_port=sock.getsockname()[1], host_port_end=0)
        return Bound(made, sock)
    raise errors.Internal(f"no port to bind in {mapping}")


def _listen(host: str, port: int, protocol: str) -> _socket.socket:
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    kind = _socket.SOCK_STREAM if protocol == "tcp" else _socket.SOCK_DGRAM
    sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        if family == _socket.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)  # connections of the last owner may linger
        sock.bind((host, port))
        if protocol == "tcp":
            sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _refused(error: OSError, mapping: PortMapping, holders: Callable[[PortMapping], str] | None) -> errors.OrlopError:
    host = f"[{mapping.host_ip}]" if ":" in mapping.host_ip else mapping.host_ip
    what = f"cannot publish {host}:{mapping.host_port}/{mapping.protocol}"
    if error.errno == errno.EADDRINUSE:
        owner = (holders(mapping) if holders else "") or owner_of(mapping)
        return errors.FailedPrecondition(
            f"{what}: port is already allocated" + (f" to {owner}" if owner else ""),
            advice="choose another host port, or stop who has it",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return errors.FailedPrecondition(
            f"{what}: this machine does not have that address", advice="use one of its own, or 0.0.0.0 for all"
        )
    return errors.from_os(error, what)


def collides(a: PortMapping, b: PortMapping) -> bool:
    """Whether two bound ports exclude each other."""
    if (a.host_port, a.protocol) != (b.host_port, b.protocol):
        return False
    one, two = a.host_ip or LOOPBACK, b.host_ip or LOOPBACK
    if (":" in one) != (":" in two):
        return False
    return one == two or "0.0.0.0" in (one, two) or "::" in (one, two)


def owner_of(mapping: PortMapping) -> str:
    """Which process has a port: "NAME (pid N)", or "" when it cannot be told (it is another user's)."""
    inodes = _inodes(mapping)
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                try:
                    if os.readlink(f"/proc/{pid}/fd/{fd}") in wanted:
                        with open(f"/proc/{pid}/comm") as file:
                            return f"{file.read().strip()} (pid {pid})"
                except FileNotFoundError:
                    continue
        except OSError:
            continue  # it has ended, or is not ours to look into
    return ""


_LISTEN = "0A"


def _inodes(mapping: PortMapping) -> set[str]:
    """The sockets of this network namespace that hold the port, by inode (proc_net_tcp.rst)."""
    found = set()
    for suffix in ("", "6"):
        try:
            with open(f"/proc/thread-self/net/{mapping.protocol}{suffix}") as file:
                lines = file.readlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            address, _, port = fields[1].rpartition(":")
            if int(port, 16) != mapping.host_port or (mapping.protocol == "tcp" and fields[3] != _LISTEN):
                continue
            if _same(_address(address), mapping.host_ip):
                found.add(fields[9])
    return found


def _address(text: str) -> str:
    words = [bytes.fromhex(text[i : i + 8]) for i in range(0, len(text), 8)]
    import sys

    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    packed = b"".join(words)
    return _socket.inet_ntop(_socket.AF_INET6 if len(packed) == 16 else _socket.AF_INET, packed)


def _same(theirs: str, ours: str) -> bool:
    if theirs in ("0.0.0.0", "::") or ours in ("0.0.0.0", "::"):
        return True
    return theirs.removeprefix("::ffff:") == ours
