"""ttrpc's client for a process that lives in one loop: calls with callbacks, never a wait.

(`base.ttrpc.client` is for callers that may wait.) May import only the interpreter's cheap modules.
"""

from __future__ import annotations

from ...base import errors
from ...base.ttrpc import protocol, unixsock
from ...base.ttrpc.loop import GONE, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...base.ttrpc.loop import Loop, Timer
    from ...base.ttrpc.wire import Message

    Done = Callable[[errors.OrlopError | None, Any], object]

_READ_BYTES = 1 << 16


class Caller:
    """One connection to a ttrpc server.

    address: "unix:///path" or a path. on_gone: called once, from the loop, when the server has closed the connection.
    Raises Unavailable when nobody listens there.
    """

    def __init__(self, loop: Loop, address: str, on_gone: Callable[[], object]) -> None:
        self._loop = loop
        self._name = address
        self._on_gone = on_gone
        try:
            self._sock = unixsock.connect(protocol.parse_address(address))
        except OSError as error:
            raise errors.Unavailable(f"cannot connect to {address}: {error.strerror}") from error
        self._sock.setblocking(False)
        self._deframer = protocol.Deframer()
        self._out = bytearray()
        self._calls: dict[int, _Pending] = {}
        self._next = 1
        self.closed = False
        loop.watch(self._sock.fileno(), READ, self._ready)

    def call(
        self,
        service: str,
        method: str,
        request: Message,
        reply: type[Message],
        done: Done,
        timeout: float = 0.0,
    ) -> None:
        """One request; `done(error, reply)` is called from the loop, never from inside. timeout: seconds, 0 for none.

        The error is the server's own, Unavailable when the connection is lost, DeadlineExceeded after `timeout`.
        """
        if self.closed:
            gone = errors.Unavailable(f"the connection to {self._name} is lost")
            self._loop.after(0, lambda: done(gone, None))
            return
        stream = self._next
        self._next += 2
        pending = self._calls[stream] = _Pending(reply, done)
        if timeout:
            late = errors.DeadlineExceeded(f"{method} was not answered within {timeout:g} s")
            pending.timer = self._loop.after(timeout, lambda: self._finish(stream, late, None))
        envelope = protocol.Request(service, method, request.encode(), int(timeout * 1e9))
        self._out += protocol.encode_frame(stream, protocol.REQUEST, 0, envelope.encode())
        self._send()

    def close(self) -> None:
        """Close the connection; open calls are forgotten."""
        if not self.closed:
            self.closed = True
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            for pending in self._calls.values():
                pending.stop()
            self._calls.clear()

    def _lost(self) -> None:
        if self.closed:
            return
        calls, self._calls = self._calls, {}
        self.close()
        for pending in calls.values():
            pending.stop()
            self._loop.call(pending.done, errors.Unavailable(f"the connection to {self._name} is lost"), None)
        self._loop.call(self._on_gone)

    def _finish(self, stream: int, error: errors.OrlopError | None, reply: Message | None) -> None:
        pending = self._calls.pop(stream, None)
        if pending is not None:
            pending.stop()
            self._loop.call(pending.done, error, reply)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._send()
        if events & (READ | GONE) and not self.closed:
            self._receive()

    def _send(self) -> None:
        try:
            while self._out:
                del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._loop.after(0, self._lost)
            return
        self._loop.change(self._sock.fileno(), READ | (WRITE if self._out else 0))

    def _receive(self) -> None:
        try:
            chunk = self._sock.recv(_READ_BYTES)
            frames = self._deframer.feed(chunk)
        except BlockingIOError:
            return
        except (OSError, errors.InvalidArgument):
            chunk, frames = b"", []
        for frame in frames:
            if frame.type == protocol.RESPONSE:
                self._answer(frame)
        if not chunk:
            self._lost()

    def _answer(self, frame: protocol.Frame) -> None:
        pending = self._calls.get(frame.stream)
        if pending is None:
            return  # given up
        error: errors.OrlopError | None = None
        reply: Message | None = None
        try:
            if frame.data is None:
                raise errors.ResourceExhausted(f"{self._name} answered with more than a ttrpc message may hold")
            response = protocol.Response.decode(frame.data)
            if response.status is not None and response.status.code != protocol.OK:
                error = protocol.error_of(response.status)
            else:
                reply = pending.reply.decode(response.payload)
        except errors.OrlopError as malformed:
            error = malformed
        self._finish(frame.stream, error, reply)


class _Pending:
    """A call that is not answered yet."""

    __slots__ = ("done", "reply", "timer")

    def __init__(self, reply: type[Message], done: Done) -> None:
        self.reply = reply
        self.done = done
        self.timer: Timer | None = None

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
