"""URLs as the client uses them: an origin and a request target. Pure; may not open anything."""

from __future__ import annotations

from ....base import errors
from ....base.record import Record

DEFAULT_PORT = {"http": 80, "https": 443}
_SAFE = "%/:?#[]@!$&'()*+,;=~-._|"


class Url(Record):
    """scheme: "http" or "https". host: lower case, without brackets. target: path and query, as in the request line."""

    scheme: str
    host: str
    port: int
    target: str = "/"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What must be equal for a secret to be sent along (RFC 6454)."""
        return (self.scheme, self.host, self.port)

    @property
    def netloc(self) -> str:
        """As in a Host field: without the scheme's default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.target}"

    @property
    def shown(self) -> str:
        """Without the query, which may hold a signature: for messages and traces."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    def with_query(self, *pairs: tuple[str, str]) -> Url:
        """The same with pairs appended to the query."""
        if not pairs:
            return self
        from urllib.parse import urlencode

        glue = "&" if "?" in self.target else "?"
        return self.replace(target=f"{self.target}{glue}{urlencode(pairs, safe=':/')}")


def parse(text: str) -> Url:
    """An absolute http or https URL; user name, password and fragment are dropped. InvalidArgument for others."""
    from urllib.parse import quote, urlsplit

    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise errors.InvalidArgument(f"invalid URL {text!r}: {error}") from error
    if parts.scheme not in DEFAULT_PORT or not host:
        raise errors.InvalidArgument(f"invalid URL {text!r}: it is not an http or https address")
    if any(c <= " " or c in '<>"\\^`{}|\x7f' for c in host):
        raise errors.InvalidArgument(f"invalid URL {text!r}: {host!r} is not a host")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(parts.scheme, host, port or DEFAULT_PORT[parts.scheme], quote(target, safe=_SAFE))


def join(base: Url, location: str) -> Url:
    """Where a Location or Link field points, seen from `base`. InvalidArgument for schemes but http and https."""
    from urllib.parse import quote, urljoin

    try:  # http.client decodes fields as Latin-1; what was meant is UTF-8
        location = quote(location.strip().encode("latin-1"), safe=_SAFE)
    except UnicodeEncodeError:
        pass
    return parse(urljoin(str(base), location))


def split_host(text: str) -> tuple[str, int | None]:
    """(host without brackets, port or None) of "host", "host:port", "[::1]:port"."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
    else:
        host, _, port = text.partition(":")
    return host.lower(), int(port) if port.isdigit() else None


def is_loopback(host: str) -> bool:
    """Whether a host (without port) is this machine: localhost, 127.0.0.0/8, ::1."""
    host = host.lower().rstrip(".")
    if host == "localhost":
        return True
    import _socket

    try:
        return _socket.inet_pton(_socket.AF_INET, host)[0] == 127
    except (OSError, ValueError):
        pass
    try:
        packed = _socket.inet_pton(_socket.AF_INET6, host)
    except (OSError, ValueError):
        return False
    return packed == b"\0" * 15 + b"\1" or packed[:13] == b"\0" * 10 + b"\xff\xff\x7f"
