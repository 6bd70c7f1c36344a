"""Which proxy a connection goes through: HTTP_PROXY, HTTPS_PROXY, NO_PROXY as curl and Go programs read them."""

from __future__ import annotations

from ....base import errors
from ....base.record import Record
from . import url as urls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .url import Url


class Proxy(Record):
    """authorization: the value of Proxy-Authorization, or "" (a secret: never print it)."""

    host: str
    port: int
    authorization: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


def choose(url: Url, environ: Mapping[str, str], explicit: str = "") -> Proxy | None:
    """The proxy for a URL, or None to connect directly.

    explicit: a proxy configured for this host; it overrides the environment. Loopback hosts are never proxied
    otherwise. Lower-case names of variables are read too; for HTTP_PROXY the upper-case one is ignored in a CGI
    process, where a client could set it. Raises InvalidArgument for an address that is no http proxy.
    """
    if explicit:
        return parse(explicit)
    if urls.is_loopback(url.host):
        return None
    name = "https_proxy" if url.scheme == "https" else "http_proxy"
    address = environ.get(name) or ""
    if not address and not (name == "http_proxy" and environ.get("REQUEST_METHOD")):
        address = environ.get(name.upper()) or ""
    if not address or excluded(url, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    return parse(address)


def parse(address: str) -> Proxy:
    """A proxy's address: "http://user:password@host:port", or "host:port". InvalidArgument when it is not one."""
    from urllib.parse import unquote, urlsplit

    text = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise errors.InvalidArgument(f"invalid proxy address: {error}") from error
    if parts.scheme != "http" or not host:
        raise errors.InvalidArgument(
            f"cannot use the proxy {parts.scheme}://{host}: only http proxies are known",
            advice="set HTTPS_PROXY and HTTP_PROXY to http://HOST:PORT",
        )
    authorization = ""
    if parts.username is not None:
        import binascii

        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + binascii.b2a_base64(pair.encode(), newline=False).decode()
    return Proxy(host, port or 80, authorization)


def excluded(url: Url, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host: "*", a name (with its subdomains), ".suffix", an address, a network; a port may
    follow.
    """
    for entry in no_proxy.replace(" ", ",").split(","):
        entry = entry.strip().lower()
        if not entry:
            continue
        if entry == "*":
            return True
        if "/" in entry:
            if _in_network(url.host, entry):
                return True
            continue
        if entry.count(":") > 1 and not entry.startswith("["):
            host, port = entry, None
        else:
            host, port = urls.split_host(entry)
        if port is not None and port != url.port:
            continue
        host = host.removeprefix("*").removeprefix(".") if host.startswith(("*.", ".")) else host
        if url.host == host or url.host.endswith("." + host):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
