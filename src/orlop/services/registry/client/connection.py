"""One connection that speaks HTTP/1.1, and the answer that is read from it.

`http.client` is imported when the first connection is made. A connection is used by one thread at a time; `abort` may
be called by any.
"""

from __future__ import annotations

import os
import select

from .... import __version__
from ....base import errors
from . import failures

TYPE_CHECKING = False
if TYPE_CHECKING:
    import http.client
    import socket
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from ....base.cancel import Cancel
    from .tls import TlsConfig
    from .url import Url

    class Body(Protocol):
        """What a request carries. size: bytes. send: writes all of it to a connection (again, if called again)."""

        size: int

        def send(self, connection: Connection, cancel: Cancel) -> None: ...

    Key = tuple[str, str, int, TlsConfig, str]

USER_AGENT = f"orlop/{__version__}"
FILL = 256 << 10
"""A read of a body goes on until so many bytes are there, so that its user is not called for each packet."""
_DRAIN = 64 << 10
_ERROR_BODY = 64 << 10
_ERROR_PATIENCE_S = 5.0


class Connection:
    """One TCP or TLS connection that speaks HTTP/1.1."""

    def __init__(self, key: Key, sock: socket.socket, where: str, proxied: str) -> None:
        import http.client

        self.key = key
        self.sock = sock
        self.where = where
        self.proxied = proxied
        """The value of Proxy-Authorization (or " ") when requests name the whole URL, for a proxy to forward; or ""."""
        self.idle_since = 0.0
        self.used = False
        self.unfinished = False
        """Whether a request's body was not sent in full: the connection is of no use after its answer."""
        self._http = http.client.HTTPConnection(key[1] or where, key[2])
        self._http.auto_open = 0
        self._http.sock = sock

    @property
    def plain(self) -> bool:
        """Whether bytes go out as they are (sendfile works)."""
        return self.key[0] == "http"

    def abort(self) -> None:
        """End every wait on this connection, from any thread. The owner still closes it."""
        import socket

        try:
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # not SSLSocket's, which forgets the TLS state
        except OSError:
            pass

    def close(self) -> None:
        self._http.close()
        self.sock.close()

    def is_stale(self) -> bool:
        """Whether an idle connection was closed by the other side (or said something unasked)."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))

    def start(self, method: str, url: Url, headers: Sequence[tuple[str, str]], size: int | None) -> None:
        """Send a request's head."""
        target = url.target
        if self.proxied:
            target = str(url)
        self._http.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        self._http.putheader("Host", url.netloc)
        self._http.putheader("User-Agent", USER_AGENT)
        self._http.putheader("Accept-Encoding", "identity")
        if self.proxied.strip():
            self._http.putheader("Proxy-Authorization", self.proxied)
        for name, value in headers:
            self._http.putheader(name, value)
        if size is not None:
            self._http.putheader("Content-Length", str(size))
        self._http.endheaders()

    def send_all(self, data: bytes | memoryview) -> None:
        """Send bytes; the socket's time-out counts for each piece, not for the whole."""
        view = memoryview(data)
        while view:
            view = view[self.sock.send(view[:FILL]) :]

    def send_file(self, fd: int, offset: int, size: int, progress: Callable[[int], None]) -> None:
        """Send a part of a file without copying it through this process; stops when an answer comes early.

        progress: called with the bytes sent so far.
        """
        out = self.sock.fileno()
        timeout = self.sock.gettimeout()
        poll = select.poll()
        poll.register(out, select.POLLOUT | select.POLLIN)
        sent = 0
        while sent < size:
            events = poll.poll(None if timeout is None else timeout * 1000)
            if not events:
                raise TimeoutError("timed out")
            if events[0][1] & select.POLLIN:
                self.unfinished = True  # the server has decided already; the answer tells what
                return
            try:
                count = os.sendfile(out, fd, offset + sent, min(size - sent, 1 << 20))
            except BlockingIOError:
                continue
            if count == 0:
                raise errors.DataLoss(f"the file to send ends at byte {offset + sent}, {size - sent} are missing")
            sent += count
            progress(sent)

    def response(self) -> http.client.HTTPResponse:
        """Wait for the head of the answer."""
        return self._http.getresponse()


class Response:
    """The head of an answer, and its body to be read once. Close it: that gives the connection back to the pool."""

    def __init__(
        self,
        connection: Connection,
        raw: http.client.HTTPResponse,
        method: str,
        url: Url,
        stall_timeout: float,
        give_back: Callable[[Connection], None],
        cancel: Cancel,
    ) -> None:
        self.url = url
        self.method = method
        self.status = raw.status
        self.reason = raw.reason or ""
        self._give_back = give_back
        self._stall_timeout = stall_timeout
        self._cancel = cancel
        self._connection: Connection | None = connection
        self._raw = raw
        self._keep = not raw.will_close and not connection.unfinished
        self._chunked = bool(raw.chunked)
        self._left: int | None = raw.length
        self._failure: errors.OrlopError | None = None
        self._error_body: bytes | None = None
        if method == "HEAD" or self._left == 0 or raw.isclosed():
            self._finish()

    def header(self, name: str, default: str = "") -> str:
        value = self._raw.headers.get(name)
        return default if value is None else str(value)

    def header_all(self, name: str) -> list[str]:
        return [str(value) for value in self._raw.headers.get_all(name) or ()]

    @property
    def length(self) -> int | None:
        """The body's announced size in bytes (of a HEAD: the size it would have), or None."""
        text = self.header("Content-Length").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def readinto(self, view: memoryview, cancel: Cancel, stall_timeout: float = 0.0) -> int:
        """Read into view; 0 at the end of the body. stall_timeout: seconds, when not the transport's.

        What arrived before a failure is handed over first. Raises ShortBody when the connection is closed before the
        announced end, Dropped, Stalled, Cancelled, DeadlineExceeded.
        """
        if self._failure is not None:
            raise self._failure
        connection = self._connection
        if connection is None or not view:
            return 0
        count = 0
        wanted = min(len(view), FILL) if self._left is None else min(len(view), FILL, self._left)
        try:
            with cancel.closing(connection.abort):
                connection.sock.settimeout(patience(cancel, stall_timeout or self._stall_timeout))
                while count < wanted:
                    got = self._some(view[count:wanted])
                    if got == 0:
                        self._end()
                        break
                    count += got
                    if self._left is not None:
                        self._left -= got
                        if self._left == 0:
                            self._finish()
                            break
        except BaseException as error:
            self.discard()
            if not isinstance(error, errors.OrlopError):
                translated = translate(error, connection.where, self._stall_timeout, cancel)
                if translated is None:
                    raise
                translated.__cause__ = error
                error = translated
            if count == 0 or not isinstance(error, failures.Dropped):
                raise error from error.__cause__
            self._failure = error
        return count

    def _some(self, view: memoryview) -> int:
        if self._chunked:
            data = self._raw.read1(len(view))
            view[: len(data)] = data
            return len(data)
        # Not HTTPResponse.readinto: that fills the whole view, and forgets what it had when the connection breaks.
        return int(self._raw.fp.readinto1(view))

    def _end(self) -> None:
        if self._left:
            where = self._connection.where if self._connection is not None else self.url.netloc
            raise failures.ShortBody(f"{where} closed the connection {self._left} bytes before the end of the body")
        self._keep = self._keep and self._chunked
        self._finish()

    def read(self, limit: int, cancel: Cancel, what: str) -> bytes:
        """The whole body. ResourceExhausted when it is longer than limit bytes."""
        announced = self.length
        if announced is not None and announced > limit and self.method != "HEAD":
            self.discard()
            raise errors.ResourceExhausted(f"{what}: {announced} bytes; at most {limit} are read")
        buffer = bytearray(min(limit, announced if announced is not None else 65536) + 1)
        size = 0
        while True:
            if size == len(buffer):
                buffer.extend(bytes(min(len(buffer), limit + 1 - len(buffer))))
            view = memoryview(buffer)
            count = self.readinto(view[size:], cancel)
            view.release()
            size += count
            if size > limit:
                self.discard()
                raise errors.ResourceExhausted(f"{what}: more than {limit} bytes are not read")
            if count == 0:
                self.close()
                return bytes(buffer[:size])

    def error_body(self) -> bytes:
        """The beginning of the body, as far as it can be had: for a message. Never raises for the network's sake."""
        if self._error_body is None:
            buffer = memoryview(bytearray(_ERROR_BODY))
            size = 0
            try:
                while size < len(buffer):
                    count = self.readinto(buffer[size:], self._cancel, min(_ERROR_PATIENCE_S, self._stall_timeout))
                    if count == 0:
                        break
                    size += count
            except errors.OrlopError:
                pass
            self._error_body = bytes(buffer[:size])
        return self._error_body

    def close(self) -> None:
        """Give the connection back; a short rest of the body is read first, a long one costs the connection."""
        if self._connection is not None:
            if self._left is not None and self._left <= _DRAIN and self._keep:
                self.error_body()
            self.discard()

    def discard(self) -> None:
        """Give up the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._raw.close()
            connection.close()

    def _finish(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._raw.close()
        if self._keep:
            self._give_back(connection)
        else:
            connection.close()


def translate(error: BaseException, where: str, stall_timeout: float, cancel: Cancel) -> errors.OrlopError | None:
    """A failure of socket, ssl or http.client as ours (a cancellation is raised at once); None for others."""
    import http.client

    if isinstance(error, OSError):
        cancel.check()
        if isinstance(error, TimeoutError):
            return failures.Stalled(
                f"{where} sent nothing for {stall_timeout:g} s", advice="try again; what has arrived is kept"
            )
        reason = str(getattr(error, "reason", "") or "")
        if "ALERT" in reason:
            return failures.BadCertificate(
                f"{where} refused the TLS connection: {reason.lower().replace('_', ' ')}",
                advice="it may ask for a client certificate",
            )
        said = error.strerror or str(error)
        return failures.Dropped(f"{where} dropped the connection" + (f": {said}" if said else ""))
    if isinstance(error, http.client.IncompleteRead):
        cancel.check()
        return failures.Dropped(f"{where} dropped the connection in the middle of the body")
    if isinstance(error, http.client.InvalidURL):
        return errors.InvalidArgument(f"{where}: {error}")
    if isinstance(error, http.client.HTTPException):
        cancel.check()
        return errors.Unavailable(
            f"{where} does not answer in HTTP ({type(error).__name__})", advice="is this a registry?"
        )
    if isinstance(error, ValueError):  # a field or a target with characters that HTTP does not allow
        return errors.InvalidArgument(f"{where}: request not sent: {error}")
    return None


def patience(cancel: Cancel, seconds: float) -> float:
    """A socket time-out: never 0, which would mean "do not wait at all"."""
    cancel.check()
    return max(0.001, cancel.remaining(seconds) or 0.0)


def is_readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(200))
