"""Where a registry is reached: containerd's `hosts.toml`, Docker's directory of certificates, and the defaults.

Source: containerd docs/hosts.md; Docker's "Verify repository client with certificates". Reads files, opens no
connection.
"""

from __future__ import annotations

import os

from ....base import errors, fsio
from ....base.record import Record
from .. import protocol
from . import tls
from . import url as urls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .tls import TlsConfig
    from .url import Url

DEFAULT_DIRS = ("/etc/orlop/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d")
DOCKER_HUB = "docker.io"
DOCKER_HUB_HOST = "registry-1.docker.io"
DOCKER_HUB_KEY = "https://index.docker.io/v1/"
"""Under what Docker keeps the login to its hub."""
_HUB_HOSTS = frozenset({DOCKER_HUB, DOCKER_HUB_HOST, "index.docker.io"})
CAPABILITIES = frozenset({"pull", "resolve", "push"})
DIAL_TIMEOUT_S = 30.0
_LIMIT = 1 << 20


class Endpoint(Record):
    """One place that serves a registry.

    registry: the host in references ("docker.io"). host: the one to connect to, with its port if that is not the
    scheme's. root: the API's path. dial_timeout: seconds. fallback_http: plain HTTP may be tried when TLS fails.
    headers: fields for this host alone. proxy: an http proxy for it, or "" for the environment's.
    """

    registry: str
    scheme: str
    host: str
    root: str = protocol.ROOT
    capabilities: frozenset[str] = CAPABILITIES
    tls: TlsConfig = tls.SYSTEM
    headers: tuple[tuple[str, str], ...] = ()
    dial_timeout: float = DIAL_TIMEOUT_S
    fallback_http: bool = False
    proxy: str = ""

    @property
    def base(self) -> Url:
        host, port = urls.split_host(self.host)
        return urls.Url(self.scheme, host, port or urls.DEFAULT_PORT[self.scheme], self.root)

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.base.origin

    @property
    def netloc(self) -> str:
        return self.base.netloc

    @property
    def is_mirror(self) -> bool:
        """Whether this is another host than the registry's own: it is told whose content is meant (`?ns=`)."""
        return self.host != self.registry and not (self.registry == DOCKER_HUB and self.host == DOCKER_HUB_HOST)

    @property
    def auth_key(self) -> str:
        """Under what credentials for this host are kept."""
        return auth_key(self.host)

    def url(self, path: str) -> Url:
        """The address of something below the API's root."""
        base = self.base
        made = base.replace(target=self.root.rstrip("/") + path)
        return made.with_query(("ns", self.registry)) if self.is_mirror else made


def auth_key(host: str) -> str:
    """Docker's key for a registry's credentials."""
    return DOCKER_HUB_KEY if host in _HUB_HOSTS else host


class Hosts:
    """The configured places of each registry; thread-safe.

    dirs: directories like /etc/containerd/certs.d, the first that knows a host decides; `_default` counts when none
    does. plain_http, insecure: whether all, or these hosts ("host" or "host:port"), may be used with unverified TLS or
    without any.
    """

    def __init__(
        self, dirs: Sequence[str], *, plain_http: bool = False, insecure: frozenset[str] = frozenset()
    ) -> None:
        self._dirs = tuple(dirs)
        self._plain_http = plain_http
        self._insecure = insecure
        self._cache: dict[str, tuple[tuple[int, ...], tuple[Endpoint, ...]]] = {}

    def is_insecure(self, host: str, netloc: str) -> bool:
        """Whether a host may be used without verified TLS: loopback, or asked for."""
        return self._plain_http or urls.is_loopback(host) or netloc in self._insecure or host in self._insecure

    def endpoints(self, registry: str) -> tuple[Endpoint, ...]:
        """Mirrors in their order, the registry itself last. Raises InvalidArgument naming file and member."""
        directory = self._directory(registry)
        if directory is None:
            return (self._own(registry),)
        path = f"{directory}/hosts.toml"
        try:
            status = os.stat(path)
        except OSError:
            return (self._with_certificates(registry, directory),)
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        cached = self._cache.get(registry)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        found = self._read(registry, directory, path)
        self._cache[registry] = (stamp, found)
        return found

    def _directory(self, registry: str) -> str | None:
        host, colon, port = registry.rpartition(":")
        names = [f"{host}_{port}_"] if colon and port.isdigit() else []
        names.append(registry)
        for wanted in (names, ["_default"]):
            for base in self._dirs:
                for name in wanted:
                    if os.path.isdir(f"{base}/{name}"):
                        return f"{base}/{name}"
        return None

    def _own(self, registry: str, scheme: str = "", host: str = "", config: TlsConfig | None = None) -> Endpoint:
        """The registry itself, as far as nothing was configured."""
        host = host or registry
        if host == DOCKER_HUB:
            host = DOCKER_HUB_HOST
        name, _ = urls.split_host(host)
        insecure = self.is_insecure(name, host)
        explicit = config is not None
        if config is None:
            config = tls.UNVERIFIED if insecure else tls.SYSTEM
        return Endpoint(registry, scheme or "https", host, tls=config, fallback_http=insecure and not explicit)

    # ------------------------------------------------------------------ Docker's layout

    def _with_certificates(self, registry: str, directory: str) -> Endpoint:
        """*.crt: authorities. *.cert with the *.key of the same name: client certificates."""
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:
            raise errors.from_os(error, f"read the certificates of {registry}") from error
        authorities = tuple(f"{directory}/{name}" for name in names if name.endswith(".crt"))
        pairs = []
        for name in names:
            if name.endswith(".cert"):
                key = f"{name[:-5]}.key"
                if key not in names:
                    raise errors.InvalidArgument(
                        f"{directory}/{name} has no key", advice=f"put its key beside it as {key}"
                    )
                pairs.append((f"{directory}/{name}", f"{directory}/{key}"))
        if not authorities and not pairs:
            return self._own(registry)
        verify = bool(authorities) or not self.is_insecure(urls.split_host(registry)[0], registry)
        return self._own(registry, config=tls.TlsConfig(verify, authorities, tuple(pairs)))

    # ------------------------------------------------------------------ hosts.toml

    def _read(self, registry: str, directory: str, path: str) -> tuple[Endpoint, ...]:
        import tomllib

        try:
            value = tomllib.loads(fsio.read_file(path, _LIMIT).decode())
        except OSError as error:
            raise errors.from_os(error, f"read {path}") from error
        except ValueError as error:
            raise errors.InvalidArgument(f"{path} is not TOML: {error}") from error
        found: list[Endpoint] = []
        hosts = value.get("host", {})
        if not isinstance(hosts, dict):
            raise errors.InvalidArgument(f'{path}: host is not a table of hosts ([host."https://…"])')
        for address, members in hosts.items():
            where = f"{path}: host {address!r}"
            if not isinstance(members, dict):
                raise errors.InvalidArgument(f"{where} is not a table")
            found.append(self._endpoint(registry, str(address), members, directory, where))
        server = value.get("server", "")
        if not isinstance(server, str):
            raise errors.InvalidArgument(f"{path}: server is not a text")
        found.append(self._endpoint(registry, server, value, directory, path))
        return tuple(found)

    def _endpoint(self, registry: str, address: str, members: dict[str, Any], directory: str, where: str) -> Endpoint:
        endpoint = self._address(registry, address, bool(members.get("override_path", False)), where)
        read = _Members(members, directory, where)
        skip = read.flag("skip_verify")
        authorities, pairs = read.paths("ca"), read.pairs("client")
        if skip is not None or authorities or pairs:
            verify = not skip if skip is not None else bool(authorities) or endpoint.tls.verify
            endpoint = endpoint.replace(
                tls=tls.TlsConfig(verify, authorities, pairs),
                fallback_http=endpoint.fallback_http and not authorities and not pairs and skip is not False,
            )
        return endpoint.replace(
            capabilities=read.capabilities(),
            headers=read.headers(),
            dial_timeout=read.duration("dial_timeout", DIAL_TIMEOUT_S),
            proxy=read.text("proxy"),
        )

    def _address(self, registry: str, address: str, override_path: bool, where: str) -> Endpoint:
        if not address:
            return self._own(registry)
        given = address if "://" in address else f"https://{address}"
        try:
            url = urls.parse(given)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(f"{where}: {error.message}") from error
        endpoint = self._own(registry, url.scheme, url.netloc)
        # A scheme that was written is meant: no other one is tried.
        endpoint = endpoint.replace(fallback_http=endpoint.fallback_http and "://" not in address)
        path = url.path.rstrip("/")
        if not override_path and not path.endswith(protocol.ROOT):
            path += protocol.ROOT
        return endpoint.replace(root=path)


class _Members:
    """Typed access to a table's members; InvalidArgument names the place."""

    def __init__(self, members: dict[str, Any], directory: str, where: str) -> None:
        self._members = members
        self._directory = directory
        self._where = where

    def _bad(self, name: str, wanted: str) -> errors.InvalidArgument:
        return errors.InvalidArgument(f"{self._where}: {name} is not {wanted}")

    def _path(self, text: str) -> str:
        return os.path.join(self._directory, text)

    def text(self, name: str) -> str:
        value = self._members.get(name, "")
        if not isinstance(value, str):
            raise self._bad(name, "a text")
        return value

    def flag(self, name: str) -> bool | None:
        value = self._members.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._bad(name, "true or false")
        return value

    def capabilities(self) -> frozenset[str]:
        value = self._members.get("capabilities")
        if value is None or value == []:
            return CAPABILITIES
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._bad("capabilities", 'a list like ["pull", "resolve", "push"]')
        unknown = sorted(set(value) - CAPABILITIES - {"referrers"})
        if unknown:
            raise errors.InvalidArgument(f"{self._where}: unknown capability {unknown[0]!r}")
        return frozenset(value)

    def paths(self, name: str) -> tuple[str, ...]:
        value = self._members.get(name, [])
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self._bad(name, "a path or a list of paths")
        return tuple(self._path(item) for item in items)

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        value = self._members.get(name, [])
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list):
            raise self._bad(name, "a path, a list of paths, or a list of [certificate, key] pairs")
        found: list[tuple[str, str]] = []
        for item in items:
            pair = [item] if isinstance(item, str) else item
            if not isinstance(pair, list) or not 1 <= len(pair) <= 2 or not all(isinstance(p, str) for p in pair):
                raise self._bad(name, "a path, a list of paths, or a list of [certificate, key] pairs")
            key = pair[1] if len(pair) == 2 else ""
            found.append((self._path(pair[0]), self._path(key) if key else ""))
        return tuple(found)

    def headers(self) -> tuple[tuple[str, str], ...]:
        value = self._members.get("header", {})
        if not isinstance(value, dict):
            raise self._bad("header", "a table")
        found: list[tuple[str, str]] = []
        for name, given in value.items():
            for each in [given] if isinstance(given, str) else given if isinstance(given, list) else [None]:
                if not isinstance(each, str) or not each.isprintable() or not protocol.is_token(name):
                    raise self._bad(f"header.{name}", "a text or a list of texts")
                found.append((name, each))
        return tuple(found)

    def duration(self, name: str, default: float) -> float:
        value = self._members.get(name)
        if value is None or value == "":
            return default
        seconds = parse_duration(value) if isinstance(value, str) else None
        if seconds is None or seconds <= 0:
            raise self._bad(name, 'a duration like "5s"')
        return seconds


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float | None:
    """Seconds of a Go duration ("1m30s", "300ms"), or None."""
    total, rest = 0.0, text.strip()
    if not rest:
        return None
    while rest:
        number = _leading(rest, lambda c: c in "0123456789.")
        unit = _leading(rest[len(number) :], lambda c: c not in "0123456789.")
        try:
            total += float(number) * _UNITS[unit]
        except (ValueError, KeyError):
            return None
        rest = rest[len(number) + len(unit) :]
    return total


def _leading(text: str, belongs: Callable[[str], bool]) -> str:
    end = 0
    while end < len(text) and belongs(text[end]):
        end += 1
    return text[:end]
