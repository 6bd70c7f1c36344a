"""Links, addresses and routes, by rtnetlink: bridges, veth pairs, dummies. See rtnetlink(7), <linux/if_link.h>.

Functions that change something make a `Message`; `Netlink.run` sends as many as one likes at once:

    with open_route() as kernel:
        kernel.run(add_bridge("orlop0", mtu=1500), set_up("orlop0"))

Errors are OSErrors that say what was attempted. On the path of `run`. May import only `netlink`.
"""

from __future__ import annotations

import _socket
import errno
from struct import pack, unpack_from

from ..record import Record
from .netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    Netlink,
    attribute,
    attributes,
    nested,
    text,
    u32,
)  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER = 1, 3, 4, 10
IFLA_LINKINFO, IFLA_AF_SPEC, IFLA_NET_NS_FD = 18, 26, 28
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE = 8, 1
VETH_INFO_PEER = 1
IFLA_BR_MCAST_SNOOPING = 23
IFF_UP = 0x1

IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE = 1, 4, 5, 6, 15
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RTN_UNICAST = 254, 4, 0, 253, 1
RTM_F_CLONED = 0x200

NAME_BYTES = 15
"""How long a link's name may be (IFNAMSIZ without its NUL)."""


class Link(Record):
    """A link: master is the index of the bridge it is a port of (0: none), kind "" for a physical one."""

    index: int
    name: str
    up: bool
    mtu: int
    mac: str
    master: int
    kind: str


class Route(Record):
    """A route: destination as (packed address, prefix length), the link's index (0: none), the table."""

    family: int
    destination: bytes
    prefix: int
    link: int
    gateway: bytes
    table: int
    kind: int


def open_route() -> Netlink:
    """A socket for this module's messages, in the calling thread's network namespace. Raises OSError."""
    return Netlink(NETLINK_ROUTE)


def _ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return pack("=BxHiII", _socket.AF_UNSPEC, 0, index, flags, change)


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))


def _packed(address: str) -> tuple[int, bytes]:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    return family, _socket.inet_pton(family, address)


_NO_LINK_LOCAL = nested(
    IFLA_AF_SPEC, nested(_socket.AF_INET6, attribute(IFLA_INET6_ADDR_GEN_MODE, pack("=B", _GEN_MODE_NONE)))
)


def add_bridge(name: str, *, mac: str = "", mtu: int = 0) -> Message:
    """A bridge, down. mac keeps its address from changing with its ports; mtu in bytes."""
    body = _ifinfo() + text(IFLA_IFNAME, name)
    if mac:
        body += attribute(IFLA_ADDRESS, _mac(mac))
    if mtu:
        body += u32(IFLA_MTU, mtu)
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"))
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"make bridge {name}")


def add_dummy(name: str) -> Message:
    """A dummy link, down."""
    body = _ifinfo() + text(IFLA_IFNAME, name) + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "dummy"))
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"make dummy link {name}")


def add_veth(
    name: str, peer: str, *, index: int = 0, mac: str = "", mtu: int = 0, peer_netns_fd: int = -1, up: bool = False
) -> Message:
    """A pair of links: `name` here, `peer` here or in the network namespace of a descriptor.

    index: what the kernel is to number `name` (0: it chooses). The peer makes no IPv6 link-local address of its own.
    """
    flags = IFF_UP if up else 0
    extra = u32(IFLA_MTU, mtu) if mtu else b""
    body = _ifinfo(index, flags, flags) + text(IFLA_IFNAME, name) + extra
    if mac:
        body += attribute(IFLA_ADDRESS, _mac(mac))
    other = _ifinfo() + text(IFLA_IFNAME, peer) + extra
    if peer_netns_fd >= 0:
        other += u32(IFLA_NET_NS_FD, peer_netns_fd)
    data = nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, other))
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), data)
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"make veth pair {name}, {peer}")


def change_link(
    link: str | int,
    *,
    up: bool | None = None,
    master: int | None = None,
    name: str = "",
    mac: str = "",
    mtu: int = 0,
    netns_fd: int = -1,
    no_link_local: bool = False,
) -> Message:
    """Change what is given of a link, which is named by its name or its index.

    master: index of the bridge it becomes a port of, 0 for none. netns_fd: moves it there.
    """
    flags = 0 if not up else IFF_UP
    index = link if isinstance(link, int) else 0
    body = _ifinfo(index, flags, 0 if up is None else IFF_UP)
    if not index:
        body += text(IFLA_IFNAME, str(link))
    elif name:
        body += text(IFLA_IFNAME, name)
    if mac:
        body += attribute(IFLA_ADDRESS, _mac(mac))
    if mtu:
        body += u32(IFLA_MTU, mtu)
    if master is not None:
        body += u32(IFLA_MASTER, master)
    if netns_fd >= 0:
        body += u32(IFLA_NET_NS_FD, netns_fd)
    if no_link_local:
        body += _NO_LINK_LOCAL
    return Message(RTM_NEWLINK, 0, body, f"change link {link}")


def delete_link(link: str | int, *, missing_ok: bool = False) -> Message:
    """Delete a link by name or index (with its veth peer). missing_ok: one that is gone is fine."""
    index = link if isinstance(link, int) else 0
    body = _ifinfo(index) + (b"" if index else text(IFLA_IFNAME, str(link)))
    return Message(RTM_DELLINK, 0, body, f"delete link {link}", (errno.ENODEV,) if missing_ok else ())


def get_link(kernel: Netlink, name: str) -> Link | None:
    """The link of that name, or None."""
    try:
        answers = kernel.ask(Message(RTM_GETLINK, 0, _ifinfo() + text(IFLA_IFNAME, name), f"look for link {name}"))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return _link(answers[0][1]) if answers else None


def list_links(kernel: Netlink, *, master: int = 0) -> Sequence[Link]:
    """All links; master: only the ports of this bridge (its index)."""
    body = _ifinfo() + (u32(IFLA_MASTER, master) if master else b"")
    found = [_link(data) for kind, data in kernel.ask(Message(RTM_GETLINK, NLM_F_DUMP, body, "list links"))]
    return [link for link in found if not master or link.master == master]


def _link(data: bytes) -> Link:
    _, _, index, flags, _ = unpack_from("=BxHiII", data)
    got = attributes(data, 16)
    info = attributes(got.get(IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=_string(got.get(IFLA_IFNAME, b"")),
        up=bool(flags & IFF_UP),
        mtu=_number(got.get(IFLA_MTU)),
        mac=":".join(f"{byte:02x}" for byte in got.get(IFLA_ADDRESS, b"")),
        master=_number(got.get(IFLA_MASTER)),
        kind=_string(info.get(IFLA_INFO_KIND, b"")),
    )


def _string(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _number(value: bytes | None) -> int:
    return int(unpack_from("=I", value)[0]) if value and len(value) >= 4 else 0


def add_address(index: int, address: str, prefix: int, *, exists_ok: bool = False) -> Message:
    """Give a link an address. An IPv6 one is used at once: no duplicate address detection (RFC 4862) is done."""
    return _address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, address, prefix, errno.EEXIST if exists_ok else 0)


def delete_address(index: int, address: str, prefix: int, *, missing_ok: bool = False) -> Message:
    return _address(RTM_DELADDR, 0, index, address, prefix, errno.EADDRNOTAVAIL if missing_ok else 0)


def _address(kind: int, flags: int, index: int, address: str, prefix: int, harmless: int) -> Message:
    family, packed = _packed(address)
    nodad = IFA_F_NODAD if family == _socket.AF_INET6 and kind == RTM_NEWADDR else 0
    body = pack("=BBBBi", family, prefix, nodad, RT_SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    verb = "add" if kind == RTM_NEWADDR else "delete"
    return Message(kind, flags, body, f"{verb} address {address}/{prefix} of link {index}", (harmless,))


def list_addresses(kernel: Netlink) -> Sequence[tuple[int, str, int]]:
    """(link's index, address, prefix length) of every address."""
    body = pack("=BBBBi", _socket.AF_UNSPEC, 0, 0, 0, 0)
    found = []
    for _, data in kernel.ask(Message(RTM_GETADDR, NLM_F_DUMP, body, "list addresses")):
        family, prefix, _, _, index = unpack_from("=BBBBi", data)
        got = attributes(data, 8)
        packed = got.get(IFA_LOCAL) or got.get(IFA_ADDRESS)
        if packed and family in (_socket.AF_INET, _socket.AF_INET6):
            found.append((index, _socket.inet_ntop(family, packed), prefix))
    return found


def add_route(index: int, gateway: str, destination: str = "", prefix: int = 0, *, replace: bool = False) -> Message:
    """A route through a gateway (or, with gateway "", straight over the link); destination "" is the default."""
    family, packed = _packed(gateway or destination)
    scope = RT_SCOPE_UNIVERSE if gateway else RT_SCOPE_LINK
    body = pack(
        "=BBBBBBBBI", family, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, 0
    )  # fmt: skip
    if destination:
        body += attribute(RTA_DST, _packed(destination)[1])
    if gateway:
        body += attribute(RTA_GATEWAY, packed)
    body += u32(RTA_OIF, index)
    flags = NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)
    what = f"{destination}/{prefix}" if destination else "default"
    return Message(RTM_NEWROUTE, flags, body, f"add route {what} via {gateway or 'link'} on link {index}")


def list_routes(kernel: Netlink) -> Sequence[Route]:
    """The routes of every table, IPv4 and IPv6, but those the kernel caches."""
    found = []
    for family in (_socket.AF_INET, _socket.AF_INET6):
        body = pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
        try:
            answers = kernel.ask(Message(RTM_GETROUTE, NLM_F_DUMP, body, "list routes"))
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
                continue  # a kernel without IPv6
            raise
        for _, data in answers:
            of, prefix, _, _, table, _, _, kind, flags = unpack_from("=BBBBBBBBI", data)
            if of != family or flags & RTM_F_CLONED:
                continue
            got = attributes(data, 12)
            found.append(
                Route(
                    family=of,
                    destination=got.get(RTA_DST, bytes(4 if of == _socket.AF_INET else 16)),
                    prefix=prefix,
                    link=_number(got.get(RTA_OIF)),
                    gateway=got.get(RTA_GATEWAY, b""),
                    table=_number(got.get(RTA_TABLE)) or table,
                    kind=kind,
                )
            )
    return found
