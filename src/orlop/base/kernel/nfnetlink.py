"""Netfilter by netlink, as little as saves starting a program: is a table there, forget connections of an address.

Sources: <linux/netfilter/nf_tables.h>, <linux/netfilter/nfnetlink_conntrack.h>. Rules themselves are written by `nft`.
May import only `netlink`.
"""

from __future__ import annotations

import _socket
import errno
from struct import pack

from .netlink import NETLINK_NETFILTER, NLM_F_DUMP, Message, Netlink, attributes, text

_NFNL_SUBSYS_CTNETLINK = 1
_NFNL_SUBSYS_NFTABLES = 10
_NFT_MSG_GETTABLE = 1
_NFTA_TABLE_NAME = 1
_NFPROTO_INET = 1

_IPCTNL_MSG_CT_GET, _IPCTNL_MSG_CT_DELETE = 1, 2
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY = 1, 2
_CTA_TUPLE_IP = 1
_IP_SRC = {_socket.AF_INET: 1, _socket.AF_INET6: 3}
_IP_DST = {_socket.AF_INET: 2, _socket.AF_INET6: 4}


def has_table(name: str) -> bool:
    """Whether the nftables table `inet NAME` exists. Unsupported netfilter raises OSError."""
    body = pack(">BBH", _NFPROTO_INET, 0, 0) + text(_NFTA_TABLE_NAME, name)
    with Netlink(NETLINK_NETFILTER) as kernel:
        try:
            kernel.ask(Message(_NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_GETTABLE, 0, body, f"look for nft table {name}"))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
    return True


def forget_connections(address: str) -> int:
    """Delete the connections that connection tracking knows from or to an address; how many there were.

    A datagram flow that was sent on to a container would otherwise go to the dead address until it is idle. Where the
    kernel has no connection tracking there are none.
    """
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    packed = _socket.inet_pton(family, address)
    header = pack(">BBH", family, 0, 0)
    with Netlink(NETLINK_NETFILTER) as kernel:
        try:
            answers = kernel.ask(
                Message(_NFNL_SUBSYS_CTNETLINK << 8 | _IPCTNL_MSG_CT_GET, NLM_F_DUMP, header, "list connections")
            )
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
                return 0
            raise
        deletions = []
        for _, data in answers:
            got = attributes(data, 4)
            if packed not in _ends(got.get(_CTA_TUPLE_ORIG, b""), family) + _ends(
                got.get(_CTA_TUPLE_REPLY, b""), family
            ):
                continue
            body = header + _attribute(_CTA_TUPLE_ORIG, got[_CTA_TUPLE_ORIG])
            kind = _NFNL_SUBSYS_CTNETLINK << 8 | _IPCTNL_MSG_CT_DELETE
            deletions.append(Message(kind, 0, body, f"forget a connection of {address}", (errno.ENOENT,)))
        for start in range(0, len(deletions), 64):
            kernel.run(*deletions[start : start + 64])
        return len(deletions)


def _ends(tuple_: bytes, family: int) -> tuple[bytes, ...]:
    ip = attributes(attributes(tuple_).get(_CTA_TUPLE_IP, b""))
    return tuple(ip[key] for key in (_IP_SRC[family], _IP_DST[family]) if key in ip)


def _attribute(kind: int, value: bytes) -> bytes:
    from .netlink import NLA_F_NESTED, attribute

    return attribute(kind | NLA_F_NESTED, value)
