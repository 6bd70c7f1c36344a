"""What a container's /etc/hosts and /etc/resolv.conf say, by Docker's rules. See hosts(5), resolv.conf(5).

Pure but for reading the host's resolv.conf. Sources: Docker's documentation of --dns, --dns-search, --dns-opt,
--add-host and of the embedded resolver.
"""

from __future__ import annotations

from ...base import errors, fsio
from . import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOST_GATEWAY = "host-gateway"
FALLBACK = ("8.8.8.8", "8.8.4.4")
"""What Docker gives a container when every resolver of the host listens on the host's loopback."""
_RESOLV = "/etc/resolv.conf"
_SYSTEMD = "/run/systemd/resolve/resolv.conf"
_NAME_BYTES = 253
_HOSTS = (
    ("127.0.0.1", ("localhost",)),
    ("::1", ("localhost", "ip6-localhost", "ip6-loopback")),
    ("fe00::", ("ip6-localnet",)),
    ("ff00::", ("ip6-mcastprefix",)),
    ("ff02::1", ("ip6-allnodes",)),
    ("ff02::2", ("ip6-allrouters",)),
)


class ResolvConf:
    """The parts of a resolv.conf."""

    __slots__ = ("nameservers", "options", "search")

    def __init__(self, nameservers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> None:
        self.nameservers = list(nameservers)
        self.search = list(search)
        self.options = list(options)

    def __str__(self) -> str:
        lines = [f"nameserver {address}" for address in self.nameservers]
        if self.search:
            lines.append(f"search {' '.join(self.search)}")
        if self.options:
            lines.append(f"options {' '.join(self.options)}")
        return "".join(f"{line}\n" for line in lines)


def parse_resolv_conf(text: str) -> ResolvConf:
    """The parts of a resolv.conf; what is malformed is passed over, as resolvers do."""
    found = ResolvConf((), (), ())
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0][0] in "#;":
            continue
        if words[0] == "nameserver":
            address = words[1].partition("%")[0]
            try:
                addresses.to_number(address)
            except errors.InvalidArgument:
                continue
            found.nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            found.search = words[1:] if words[0] == "search" else words[1:2]
        elif words[0] == "options":
            found.options += words[1:]
    return found


def host_resolv_conf(paths: Sequence[str] = (_RESOLV, _SYSTEMD)) -> ResolvConf:
    """The host's resolvers, those on its loopback replaced: a container cannot reach them.

    paths: resolv.conf, and where systemd-resolved keeps the one with the real servers. When no server is left, the
    fallback servers are used, as Docker does.
    """
    first = _read(paths[0])
    reachable = [each for each in first.nameservers if not is_loopback(each)]
    for path in paths[1:]:
        if first.nameservers and not reachable:
            reachable = [each for each in _read(path).nameservers if not is_loopback(each)]
    # A link-local server's zone names a link of the host, which the container does not have.
    usable = [each for each in reachable if "%" not in each]
    return ResolvConf(usable or FALLBACK, first.search, first.options)


def host_resolvers() -> list[str]:
    """The servers the host itself asks, those on its loopback among them; without zones."""
    return [each for each in _read(_RESOLV).nameservers if "%" not in each]


def _read(path: str) -> ResolvConf:
    try:
        return parse_resolv_conf(fsio.read_file(path, 1 << 20).decode("utf-8", "replace"))
    except (OSError, errors.ResourceExhausted):
        return ResolvConf((), (), ())


def is_loopback(address: str) -> bool:
    """Whether an address is one of the machine's own loopback addresses (127.0.0.0/8, ::1)."""
    plain = address.partition("%")[0]
    if ":" in plain:
        return addresses.normal(plain) in ("::1",) or addresses.normal(plain).startswith("::ffff:127.")
    return plain.startswith("127.")


def resolv_conf(
    host: ResolvConf,
    *,
    embedded: str = "",
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
) -> str:
    """The content of a container's resolv.conf. What is given by flags replaces what the host says, each by itself.

    embedded: address of the network's own resolver, which asks `dns` (or the host's servers) in turn.
    search: "." for no search domain at all. InvalidArgument for a server that is no address.
    """
    for server in dns:
        addresses.to_number(server.partition("%")[0])
    for word in (*search, *options):
        if not word or any(c.isspace() or ord(c) < 32 for c in word):
            raise errors.InvalidArgument(f"invalid resolver setting {word!r}")
    domains = [] if list(search) == ["."] else (list(search) or host.search)
    settings = list(options) or list(host.options)
    if embedded:
        if not any(option.startswith("ndots:") for option in settings):
            settings.append("ndots:0")
        return str(ResolvConf([embedded], domains, settings))
    return str(ResolvConf(dns or host.nameservers, domains, settings))


def parse_add_host(text: str) -> tuple[str, str]:
    """`NAME:ADDRESS` or `NAME=ADDRESS` of --add-host: (name, address), the address maybe "host-gateway".

    An IPv6 address may stand in brackets. UsageError for anything else.
    """
    equals, colon = text.find("="), text.find(":")
    cut = equals if equals > 0 else colon
    name, address = (text[:cut], text[cut + 1 :]) if cut > 0 else ("", "")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if not _is_name(name) or not address:
        raise errors.UsageError(f"bad format for add-host: {text!r}", advice="write it as NAME:ADDRESS")
    if address != HOST_GATEWAY:
        try:
            address = addresses.normal(address)
        except errors.InvalidArgument:
            raise errors.UsageError(f"invalid IP address in add-host: {text!r}") from None
    return name, address


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _NAME_BYTES and all(c.isascii() and (c.isalnum() or c in "-._") for c in name)


def hosts(
    hostname: str,
    own: Iterable[str] = (),
    *,
    domainname: str = "",
    added: Iterable[tuple[str, str]] = (),
    gateways: Sequence[str] = (),
) -> str:
    """The content of a container's /etc/hosts.

    own: its addresses. added: what `parse_add_host` gave. gateways: what "host-gateway" stands for (IPv4, maybe IPv6).
    InvalidArgument when "host-gateway" is asked for and there is no gateway.
    """
    lines = [f"{address}\t{' '.join(known)}" for address, known in _HOSTS]
    for name, address in added:
        if address == HOST_GATEWAY:
            if not gateways:
                raise errors.InvalidArgument(
                    f"add-host {name}:{HOST_GATEWAY}: the container has no network with a gateway"
                )
            lines += [f"{gateway}\t{name}" for gateway in gateways]
        else:
            lines.append(f"{address}\t{name}")
    words = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    if hostname:
        lines += [f"{address}\t{words}" for address in own if address]
    return "".join(f"{line}\n" for line in lines)
