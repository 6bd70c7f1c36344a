"""The nftables table of one root, `inet orlop_ROOTID`: masquerading, published ports, who may talk to whom.

One `nft -f -` a change, which nftables carries out whole or not at all. Networks and ports are elements of sets and
maps; a container without published ports needs no change. The table is made anew from the rows whenever it is not
there or does not fit: somebody else's `nft flush ruleset` costs nothing but that. See nft(8).

What the rules say
- From a bridge, nothing goes to or comes from 127.0.0.0/8 or ::1. The kernel drops it too: nothing sets route_localnet.
- Published ports with an address are forwarded by the kernel, for packets from outside and of the host itself. Packets
  from containers are left to the process that holds the port: no hairpin, no way between networks but the published.
- To a bridge may go: replies, published ports, its own network. Not other networks, and not neighbours of the host that
  have found a route to the subnet. From an internal network nothing goes out.
- The verdict "accept" here does not override a drop in the host's own tables; `obstacles` finds those and tells.
"""

from __future__ import annotations

import os

from ...base import errors
from ...base.kernel import nfnetlink
from ...base.record import Record
from . import ports as _ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...stores.networks.api import Endpoint, PortMapping

_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin")
_LEGACY_TABLES = "/proc/thread-self/net/ip_tables_names"


class Zone(Record):
    """A network as the table sees it."""

    bridge: str
    subnet: str = ""
    subnet6: str = ""
    internal: bool = False


_RULES = """
  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop
    iifname @bridges ip saddr 127.0.0.0/8 drop
    iifname @bridges ip6 daddr ::1 drop
    iifname @bridges ip6 saddr ::1 drop
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname != @bridges fib daddr type local jump published
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr != 127.0.0.0/8 fib daddr type local jump published
    ip6 daddr != ::1 fib daddr type local jump published
  }
  chain published {
    dnat ip to ip daddr . meta l4proto . th dport map @address4
    dnat ip to meta l4proto . th dport map @any4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @address6
    dnat ip6 to meta l4proto . th dport map @any6
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @subnets4 oifname != @bridges masquerade
    ip6 saddr @subnets6 oifname != @bridges masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    oifname @bridges ct state established,related accept
    iifname . oifname @same accept
    oifname @bridges iifname != @bridges oifname != @internal ct status dnat accept
    oifname @bridges drop
    iifname @internal drop
  }
"""


def table_name(root_id: str) -> str:
    return f"orlop_{root_id}"


def present(root_id: str) -> bool:
    """Whether the table is there. FailedPrecondition when this kernel has no nftables."""
    try:
        return nfnetlink.has_table(table_name(root_id))
    except OSError as error:
        raise errors.FailedPrecondition(
            f"this kernel does not offer nftables: {error}", advice="use --network none or host"
        ) from error


def rebuild(root_id: str, zones: Iterable[Zone], endpoints: Iterable[Endpoint]) -> None:
    """Make the table anew from all networks that are up and all endpoints, in one step."""
    apply(_table(table_name(root_id), list(zones), list(endpoints)))


def remove(root_id: str) -> None:
    """Take the table away; one that is not there is fine."""
    if present(root_id):
        name = table_name(root_id)
        apply(f"table inet {name}\ndelete table inet {name}\n")


def open_ports(root_id: str, endpoint: Endpoint) -> bool:
    """Forward an endpoint's published ports. False when the table does not fit: `rebuild` it."""
    lines = [
        f"add element inet {table_name(root_id)} {name} {{ {', '.join(each)} }}\n"
        for name, each in _elements([endpoint]).items()
    ]
    return _try("".join(lines)) if lines else True


def close_ports(root_id: str, endpoint: Endpoint) -> bool:
    """Stop forwarding them. False when the table does not fit (some were not there): `rebuild` it."""
    lines = [
        f"delete element inet {table_name(root_id)} {name} {{ {', '.join(key.split(' : ')[0] for key in each)} }}\n"
        for name, each in _elements([endpoint]).items()
    ]
    return _try("".join(lines)) if lines else True


def has_forwarded(endpoint: Endpoint) -> bool:
    """Whether the endpoint has elements in the table."""
    return bool(_elements([endpoint]))


def _elements(endpoints: Iterable[Endpoint]) -> dict[str, list[str]]:
    """Map name → elements for the published ports that the kernel forwards."""
    found: dict[str, list[str]] = {}
    for endpoint in endpoints:
        for mapping in endpoint.ports:
            if _ports.is_forwarded(mapping):
                name, element = _element(mapping, endpoint)
                if name:
                    found.setdefault(name, []).append(element)
    return found


def _element(mapping: PortMapping, endpoint: Endpoint) -> tuple[str, str]:
    v6 = ":" in mapping.host_ip
    target = endpoint.address6 if v6 else endpoint.address
    if not target:
        return "", ""  # an IPv6 port of a network without IPv6: the process that holds it carries the traffic
    key = f"{mapping.protocol} . {mapping.host_port}"
    value = f"{target} . {mapping.container_port}"
    if mapping.host_ip in ("0.0.0.0", "::"):
        return ("any6" if v6 else "any4"), f"{key} : {value}"
    return ("address6" if v6 else "address4"), f"{mapping.host_ip} . {key} : {value}"


def _table(name: str, zones: Sequence[Zone], endpoints: Sequence[Endpoint]) -> str:
    elements = _elements(endpoints)

    def block(kind: str, title: str, type: str, values: Sequence[str]) -> str:
        inside = f" elements = {{ {', '.join(values)} }};" if values else ""
        return f"  {kind} {title} {{ type {type};{inside} }}\n"

    bridges = [f'"{zone.bridge}"' for zone in zones]
    return "".join(
        [
            f"table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n",
            block("set", "bridges", "ifname", bridges),
            block("set", "same", "ifname . ifname", [f"{each} . {each}" for each in bridges]),
            block("set", "internal", "ifname", [f'"{zone.bridge}"' for zone in zones if zone.internal]),
            block("set", "subnets4", "ipv4_addr; flags interval", [zone.subnet for zone in zones if zone.subnet]),
            block("set", "subnets6", "ipv6_addr; flags interval", [zone.subnet6 for zone in zones if zone.subnet6]),
            *(
                block("map", f"{title}{version}", f"{key}inet_proto . inet_service : {value} . inet_service", values)
                for version, value in ((4, "ipv4_addr"), (6, "ipv6_addr"))
                for title, key in (("address", f"{value} . "), ("any", ""))
                for values in (elements.get(f"{title}{version}", []),)
            ),
            _RULES,
            "}\n",
        ]
    )


def _try(script: str) -> bool:
    try:
        apply(script)
    except errors.Internal:
        return False
    return True


def apply(script: str) -> None:
    """Run `nft -f -`. FailedPrecondition when there is no nft, Internal with its first complaint when it refuses."""
    status, _, complaint = run([_program("nft"), "-f", "-"], script)
    if status:
        first = complaint.strip().splitlines()
        raise errors.Internal(f"nft refused a change: {first[0] if first else f'exit status {status}'}")


def _program(name: str) -> str:
    for directory in (*os.environ.get("PATH", "").split(":"), *_DIRECTORIES):
        path = f"{directory}/{name}"
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    raise errors.FailedPrecondition(
        f"{name} is not installed: bridge networks need it",
        advice="install the package nftables, or use --network none or host",
    )


def run(argv: Sequence[str], text: str = "") -> tuple[int, str, str]:
    """Run a program to its end: (exit status, output, complaints). Through files in memory: no pipe can fill up."""
    fds = [os.memfd_create(f"orlop-{name}") for name in ("in", "out", "err")]
    try:
        data = text.encode()
        while data:
            data = data[os.write(fds[0], data) :]
        os.lseek(fds[0], 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds)]
        environment = {"PATH": ":".join(_DIRECTORIES), "LC_ALL": "C"}
        pid = os.posix_spawn(argv[0], list(argv), environment, file_actions=actions)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out, err = (os.pread(fd, 1 << 22, 0).decode("utf-8", "replace") for fd in fds[1:])
        return status, out, err
    finally:
        for fd in fds:
            os.close(fd)


def obstacles(root_id: str, bridges: Sequence[str]) -> list[str]:
    """Sentences about rules of the host that drop what is forwarded, which nothing of ours can override.

    Looks at the policies of the forward chains of nftables (iptables-nft's among them) and of legacy iptables.
    """
    found = []
    cure = " ".join(f"-i {bridge}" for bridge in bridges[:1]) or "-i BRIDGE"
    own = f"inet {table_name(root_id)} "
    try:
        _, listed, _ = run([_program("nft"), "list", "chains"])
        for table in _dropping(listed):
            if not f"{table} ".startswith(own):
                found.append(
                    f"the host's nftables table {table} drops forwarded packets unless a rule of its own accepts them; "
                    f"containers reach the outside only if it does (for iptables: iptables -I FORWARD {cure} -j ACCEPT,"
                    " and the same with -o)"
                )
        with open(_LEGACY_TABLES) as file:
            legacy = "filter" in file.read().split()
        if legacy:
            _, listed, _ = run([_program("iptables-legacy"), "-S", "FORWARD"])
            if "-P FORWARD DROP" in listed:
                found.append(
                    "legacy iptables has the policy DROP for FORWARD: containers reach the outside only if a rule "
                    f"accepts them (iptables-legacy -I FORWARD {cure} -j ACCEPT, and the same with -o)"
                )
    except (OSError, errors.FailedPrecondition):
        pass  # what is not installed has no rules that could be read
    return found


def _dropping(listed: str) -> list[str]:
    """The tables, of what `nft list chains` says, with a forward chain whose policy is drop."""
    found, table = [], ""
    for line in listed.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif "hook forward" in line and "policy drop" in line and table.split(" ")[0] in ("ip", "inet", "ip6"):
            found.append(table)
    return found
