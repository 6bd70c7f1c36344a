"""Arithmetic of addresses and subnets, and who gets which. Pure; on the path of `run`: no `ipaddress` (6 ms).

Addresses are text at the borders and integers inside; IPv6 is what has a ":".
"""

from __future__ import annotations

import _socket

from ...base import errors
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator


class Subnet(Record):
    """A range of addresses: its first one as a number, its prefix length, whether it is IPv6."""

    first: int
    prefix: int
    v6: bool

    @property
    def size(self) -> int:
        return int(1 << ((128 if self.v6 else 32) - self.prefix))

    @property
    def last(self) -> int:
        return self.first + self.size - 1

    def __str__(self) -> str:
        return f"{to_text(self.first, self.v6)}/{self.prefix}"


def to_number(address: str) -> int:
    """InvalidArgument when the text is no IPv4 or IPv6 address."""
    try:
        family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
        return int.from_bytes(_socket.inet_pton(family, address), "big")
    except (OSError, UnicodeError, ValueError):
        raise errors.InvalidArgument(f"invalid IP address {address!r}") from None


def to_text(number: int, v6: bool) -> str:
    family, length = (_socket.AF_INET6, 16) if v6 else (_socket.AF_INET, 4)
    return _socket.inet_ntop(family, number.to_bytes(length, "big"))


def normal(address: str) -> str:
    """The address as the kernel writes it. InvalidArgument when it is none."""
    return to_text(to_number(address), ":" in address)


def parse(text: str) -> Subnet:
    """A subnet in CIDR notation; bits after the prefix are dropped. InvalidArgument when it is none."""
    address, slash, length = text.partition("/")
    number = to_number(address)
    v6 = ":" in address
    bits = 128 if v6 else 32
    if not slash or not (length.isascii() and length.isdigit()) or int(length) > bits:
        raise errors.InvalidArgument(f"invalid subnet {text!r}", advice="write it as 10.1.0.0/16 or fd00:1::/64")
    prefix = int(length)
    host = bits - prefix
    return Subnet(number >> host << host, prefix, v6)


def contains(subnet: Subnet, address: str) -> bool:
    return (":" in address) == subnet.v6 and subnet.first <= to_number(address) <= subnet.last


def overlap(a: Subnet, b: Subnet) -> bool:
    return a.v6 == b.v6 and a.first <= b.last and b.first <= a.last


_POOLS = (("10.92.0.0/14", 20), ("10.200.0.0/13", 20), ("172.28.0.0/14", 20))
"""Where subnets are taken from: (pool, prefix length of one). Chosen apart from what others use unasked: 10.88 and
10.89 (podman, CNI), 172.17 to 172.27 and 192.168 (Docker), 10.42, 10.43, 10.96, 10.244 (Kubernetes)."""


def candidates() -> Iterator[Subnet]:
    """The subnets a network may be given, in order."""
    for pool, prefix in _POOLS:
        whole = parse(pool)
        for number in range(1 << (prefix - whole.prefix)):
            yield Subnet(whole.first + (number << (32 - prefix)), prefix, False)


def choose(avoid: Iterable[Subnet]) -> Subnet:
    """The first candidate that overlaps nothing of `avoid`. ResourceExhausted when there is none."""
    taken = list(avoid)
    for subnet in candidates():
        if not any(overlap(subnet, other) for other in taken):
            return subnet
    raise errors.ResourceExhausted(
        "no free subnet for a network", advice="remove networks that are not used, or name one with --subnet"
    )


def unique_local(seed: bytes) -> Subnet:
    """An IPv6 /64 of RFC 4193: its global and subnet ids are the first 56 bits of a hash of `seed`."""
    import _sha256  # type: ignore[import-not-found,unused-ignore]

    digest = _sha256.sha256(seed).digest()
    return Subnet(int.from_bytes(b"\xfd" + digest[:7] + bytes(8), "big"), 64, True)


def first_host(subnet: Subnet) -> str:
    """The address that a gateway gets unless another is asked for."""
    return to_text(subnet.first + 1, subnet.v6)


def allocate(subnet: Subnet, within: Subnet, taken: Collection[str], last: int, wanted: str = "") -> tuple[str, int]:
    """(address, new last): the next free IPv4 address after `last`, so that a released one is not used again at once.

    taken: addresses in use, the gateway among them. last: what the previous call returned (an offset in `subnet`).
    wanted: this very address. FailedPrecondition when it is taken, InvalidArgument when it lies outside,
    ResourceExhausted when all are in use.
    """
    if wanted:
        address = normal(wanted)
        number = to_number(address)
        if not contains(subnet, address) or number in (subnet.first, subnet.last):
            raise errors.InvalidArgument(f"address {address} is no host address of {subnet}")
        if address in taken:
            raise errors.FailedPrecondition(f"address {address} is already in use", advice="choose another address")
        return address, last
    low = max(within.first, subnet.first + 1)
    high = min(within.last, subnet.last - 1)
    count = high - low + 1
    start = subnet.first + last + 1
    if not low <= start <= high:
        start = low
    for step in range(max(count, 0)):
        number = low + (start - low + step) % count
        address = to_text(number, False)
        if address not in taken:
            return address, number - subnet.first
    raise errors.ResourceExhausted(
        f"no free address in {within}", advice="remove containers, or make a network with a larger subnet"
    )


def mac_of(address: str) -> str:
    """A locally administered MAC address made of an IPv4 address: unique where the address is."""
    return "02:4f:" + ":".join(f"{byte:02x}" for byte in to_number(address).to_bytes(4, "big"))


def check_mac(mac: str) -> str:
    """A MAC address in lower case. InvalidArgument when it is none, or a multicast one."""
    parts = mac.lower().replace("-", ":").split(":")
    good = len(parts) == 6 and all(len(part) == 2 and all(c in "0123456789abcdef" for c in part) for part in parts)
    if not good or int(parts[0], 16) & 1 or not any(int(part, 16) for part in parts):
        raise errors.InvalidArgument(f"invalid MAC address {mac!r}", advice="write it as 02:42:ac:11:00:02")
    return ":".join(parts)


def beside(subnet6: Subnet, address: str) -> str:
    """The IPv6 address that goes with an IPv4 address: the subnet's prefix and the IPv4 address as its last 32 bits."""
    return to_text(subnet6.first | to_number(address), True)
