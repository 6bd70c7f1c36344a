"""Single HTTP exchanges over pooled connections, through proxies and TLS.

Knows nothing of registries, authorization, redirects or retries (`session.py`). The pool is used by all threads.
"""

from __future__ import annotations

import threading
import time

from ....base import errors
from . import dial, failures, proxy, tls
from .connection import USER_AGENT, Connection, Response, is_readable, patience, translate

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from ....base.cancel import Cancel
    from .connection import Body, Key
    from .tls import TlsConfig
    from .url import Url

_IDLE_AT_MOST = 8
_IDLE_S = 50.0


class Transport:
    """Makes requests over pooled connections.

    stall_timeout: seconds without a byte after which a wait ends with Stalled. environ: for proxies.
    trace: called with one line for each request and answer; lines hold no secrets.
    """

    def __init__(
        self,
        *,
        stall_timeout: float,
        environ: Mapping[str, str],
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.stall_timeout = stall_timeout
        self._environ = environ
        self._trace = trace
        self._lock = threading.Lock()
        self._idle: dict[Key, list[Connection]] = {}
        self._contexts: dict[TlsConfig, ssl.SSLContext] = {}
        self._closed = False

    def trace(self, line: str) -> None:
        if self._trace is not None:
            self._trace(line)

    def exchange(
        self,
        method: str,
        url: Url,
        *,
        headers: Sequence[tuple[str, str]],
        body: Body | None = None,
        config: TlsConfig = tls.SYSTEM,
        explicit_proxy: str = "",
        dial_timeout: float = 30.0,
        response_timeout: float | None = None,
        cancel: Cancel,
    ) -> Response:
        """Send one request and read the head of its answer.

        headers: secrets among them are the caller's care. config: used for https. dial_timeout: seconds to connect.
        response_timeout: seconds until the answer begins, when it may take longer than stall_timeout.
        Raises Dropped and its kinds, BadCertificate, NameNotFound, Cancelled, DeadlineExceeded, InvalidArgument.
        """
        through = proxy.choose(url, self._environ, explicit_proxy)
        key = (url.scheme, url.host, url.port, config, repr(through) if through else "")
        size = body.size if body is not None else (0 if method in ("POST", "PUT", "PATCH") else None)
        while True:
            connection = self._take(key)
            began = time.monotonic()
            if connection is None:
                connection = self._connect(key, url, through, dial_timeout, cancel)
            try:
                response = self._converse(connection, method, url, headers, body, size, response_timeout, cancel)
            except failures.Dropped as error:
                # An idle connection may be closed just as we use it. Nothing is lost by asking again on a new one.
                if connection.used and body is None and not isinstance(error, failures.Stalled):
                    continue
                self.trace(f"{method} {url.shown} → {error}")
                raise
            self.trace(f"{method} {url.shown} → {response.status} ({(time.monotonic() - began) * 1000:.0f} ms)")
            return response

    def _converse(
        self,
        connection: Connection,
        method: str,
        url: Url,
        headers: Sequence[tuple[str, str]],
        body: Body | None,
        size: int | None,
        response_timeout: float | None,
        cancel: Cancel,
    ) -> Response:
        try:
            with cancel.closing(connection.abort):
                connection.sock.settimeout(patience(cancel, self.stall_timeout))
                try:
                    connection.start(method, url, headers, size)
                    if body is not None:
                        body.send(connection, cancel)
                except (BrokenPipeError, ConnectionResetError):
                    # The server may have answered (too large, not allowed) and closed without reading on.
                    if body is None or not is_readable(connection.sock):
                        raise
                    connection.unfinished = True
                connection.sock.settimeout(patience(cancel, max(self.stall_timeout, response_timeout or 0.0)))
                raw = connection.response()
        except BaseException as error:
            connection.close()
            if isinstance(error, errors.OrlopError):
                raise
            translated = translate(error, connection.where, self.stall_timeout, cancel)
            if translated is None:
                raise
            raise translated from error
        return Response(connection, raw, method, url, self.stall_timeout, self._give_back, cancel)

    # ------------------------------------------------------------------ connections

    def _connect(self, key: Key, url: Url, through: proxy.Proxy | None, timeout: float, cancel: Cancel) -> Connection:
        if self._closed:
            raise errors.FailedPrecondition("the registry client is closed")
        made = self._context(key[3]) if url.scheme == "https" else None
        sock = dial.dial(through.host if through else url.host, through.port if through else url.port, timeout, cancel)
        proxied = ""
        try:
            sock.settimeout(patience(cancel, timeout))
            if through and url.scheme == "https":
                self._tunnel(sock, url, through, cancel)
            elif through:
                proxied = through.authorization or " "
        except BaseException:
            sock.close()
            raise
        if made is not None:
            sock = tls.handshake(sock, made, url.host, url.netloc, cancel)
        return Connection(key, sock, url.netloc, proxied)

    def _tunnel(self, sock: socket.socket, url: Url, through: proxy.Proxy, cancel: Cancel) -> None:
        """Ask a proxy for a connection through it (RFC 9110, 9.3.6)."""
        host = f"[{url.host}]" if ":" in url.host else url.host
        lines = [f"CONNECT {host}:{url.port} HTTP/1.1", f"Host: {host}:{url.port}", f"User-Agent: {USER_AGENT}"]
        if through.authorization:
            lines.append(f"Proxy-Authorization: {through.authorization}")
        head = b""
        where = f"the proxy {through.host}:{through.port}"
        import socket

        try:
            with cancel.closing(lambda: sock.shutdown(socket.SHUT_RDWR)):
                sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
                while not head.endswith(b"\r\n\r\n"):
                    byte = sock.recv(1)  # no more than the head: the next byte is TLS
                    if not byte or len(head) > 16384:
                        raise ConnectionResetError("no answer")
                    head += byte
        except OSError as error:
            cancel.check()
            raise failures.NotConnected(f"{where} does not open a way to {url.netloc}: {error}") from error
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(None, 2)
        if len(words) < 2 or not words[1].startswith("2"):
            said = " ".join(words[1:])[:100] if len(words) > 1 else "nothing that is HTTP"
            raise errors.Unavailable(
                f"{where} does not open a way to {url.netloc}: it answered {said}",
                advice="check HTTPS_PROXY and NO_PROXY" + (" and the proxy's password" if "407" in said else ""),
            )

    def _context(self, config: TlsConfig) -> ssl.SSLContext:
        with self._lock:
            made = self._contexts.get(config)
            if made is None:
                made = self._contexts[config] = tls.context(config)
            return made

    # ------------------------------------------------------------------ pool

    def _take(self, key: Key) -> Connection | None:
        while True:
            with self._lock:
                idle = self._idle.get(key)
                if not idle:
                    return None
                connection = idle.pop()
            if time.monotonic() - connection.idle_since < _IDLE_S and not connection.is_stale():
                connection.used = True
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request to the same place."""
        connection.idle_since = time.monotonic()
        with self._lock:
            idle = self._idle.setdefault(connection.key, [])
            if not self._closed and len(idle) < _IDLE_AT_MOST:
                idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close all idle connections; those in use are closed when their answers are."""
        with self._lock:
            self._closed = True
            idle = [connection for connections in self._idle.values() for connection in connections]
            self._idle.clear()
        for connection in idle:
            connection.close()
