"""ttrpc's server, inside an epoll loop of one thread: a handler answers at once or whenever it likes.

    def wait(call, request):            # a unary method whose answer comes later
        waiters.append(call)            # … and then call.reply(WaitResponse(…)) or call.fail(error)

    server = Server(loop, {"containerd.task.v2.Task": {"Wait": Method(WaitRequest, wait)}})
    server.listen(unixsock.listen(path)); loop.run()

Bad frames cost the sender its call or its connection, never the server: frames over 4 MiB are dropped unread, a
connection may have a bounded number of calls open, and one that does not take its answers is not read from. May import
only the interpreter's cheap modules.
"""

from __future__ import annotations

import time

from .. import errors
from ..record import Record
from . import protocol, unixsock
from .loop import GONE, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Mapping
    from typing import Any

    from .loop import Loop, Timer
    from .wire import Message

_READ_BYTES = 1 << 16
MAX_CALLS = 1024
"""Calls a connection may have open at once."""
MAX_BACKLOG_BYTES = 8 << 20
"""Answers that may wait for a client before it is no longer read from."""


class Method(Record):
    """A method: its request's type and its handler.

    handler(call, request) returns the reply, or None when the call is answered later. With client_streams the request
    is None and messages come to `call.on_message`; with server_streams the handler sends with `call.send`, `call.end`.
    """

    request: type[Message]
    handler: Callable[[Call, Any], Message | None]
    client_streams: bool = False
    server_streams: bool = False


class Call:
    """One call in progress, as its handler sees it.

    on_message: called with each message of a client's stream, and None at its end; set it in the handler.
    on_cancel: called when nobody waits for the answer any more (client gone, deadline passed); may be set.
    metadata: key in lower case → values. deadline: monotonic seconds, or None.
    """

    __slots__ = ("_conn", "_id", "_method", "_timer", "deadline", "done", "metadata", "on_cancel", "on_message")

    def __init__(self, conn: _Connection, stream: int, method: Method, request: protocol.Request) -> None:
        self._conn = conn
        self._id = stream
        self._method = method
        self._timer: Timer | None = None
        self.done = False
        self.metadata = protocol.metadata_from_wire(request.metadata)
        self.deadline: float | None = None
        self.on_message: Callable[[Message | None], object] | None = None
        self.on_cancel: Callable[[], object] | None = None
        if request.timeout_nano > 0:
            seconds = request.timeout_nano / 1e9
            self.deadline = time.monotonic() + seconds
            self._timer = conn.server.loop.after(seconds, self._expire)

    @property
    def backlog(self) -> int:
        """Bytes that wait for this client; a handler that streams much should pause while it is large."""
        return len(self._conn.out)

    def reply(self, message: Message) -> None:
        """Answer and finish. Without effect when the call is over (the client may have gone)."""
        self._respond(protocol.Response(protocol.Status(), message.encode()))

    def fail(self, error: BaseException) -> None:
        """Finish with an error."""
        self._respond(protocol.Response(protocol.status_of(error)))

    def send(self, message: Message) -> None:
        """Send one message of a server's stream. Raises ResourceExhausted when it is over 4 MiB."""
        if not self.done:
            self._conn.send(protocol.encode_frame(self._id, protocol.DATA, 0, message.encode()))

    def end(self) -> None:
        """End a server's stream in good order."""
        if self._finish():
            flags = protocol.REMOTE_CLOSED | protocol.NO_DATA
            self._conn.send(protocol.encode_frame(self._id, protocol.DATA, flags, b""))

    def cancelled(self) -> None:
        """The client has gone: nobody can be answered."""
        if self._finish() and self.on_cancel is not None:
            self.on_cancel()

    def _respond(self, response: protocol.Response) -> None:
        if not self._finish():
            return
        try:
            frame = protocol.encode_frame(self._id, protocol.RESPONSE, 0, response.encode())
        except errors.ResourceExhausted as error:
            refusal = protocol.Response(protocol.status_of(error))
            frame = protocol.encode_frame(self._id, protocol.RESPONSE, 0, refusal.encode())
        self._conn.send(frame)

    def _expire(self) -> None:
        self.fail(errors.DeadlineExceeded("deadline exceeded"))
        if self.on_cancel is not None:
            self.on_cancel()

    def _finish(self) -> bool:
        if self.done:
            return False
        self.done = True
        if self._timer is not None:
            self._timer.cancel()
        self._conn.finished(self._id)
        return True


class Server:
    """Serves services (name → method name → Method) on any number of listeners and connections of one loop.

    on_idle: called whenever the last connection has gone.
    """

    def __init__(
        self,
        loop: Loop,
        services: Mapping[str, Mapping[str, Method]],
        on_idle: Callable[[], object] | None = None,
    ) -> None:
        self.loop = loop
        self.services = services
        self.on_idle = on_idle
        self.connections: set[_Connection] = set()
        self._listeners: list[_socket.socket] = []
        self._drained: Callable[[], object] | None = None

    def listen(self, listener: _socket.socket) -> None:
        """Accept connections on a listening socket; the server owns it from now on."""
        listener.setblocking(False)
        self._listeners.append(listener)
        self.loop.watch(listener.fileno(), READ, lambda _: self._accept(listener))

    def serve(self, sock: _socket.socket) -> None:
        """Serve one connected socket; the server owns it from now on."""
        sock.setblocking(False)
        self.connections.add(_Connection(self, sock))

    def shutdown(self, then: Callable[[], object], grace: float = 1.0) -> None:
        """Take no more connections or calls, let the open calls finish, then close everything and call `then`.

        grace: seconds after which calls that are still open fail with Unavailable.
        """
        self._drained = then
        self._close_listeners()
        self.loop.after(grace, self._give_up)
        for conn in list(self.connections):
            conn.close_if_idle()
        self.check_drained()

    def close(self) -> None:
        """Close everything at once."""
        self._close_listeners()
        for conn in list(self.connections):
            conn.close()

    @property
    def draining(self) -> bool:
        return self._drained is not None

    def check_drained(self) -> None:
        """Tell who waits for it that the last connection has gone."""
        if self.connections:
            return
        if self._drained is not None:
            then, self._drained = self._drained, None
            then()
        elif self.on_idle is not None:
            self.on_idle()

    def _give_up(self) -> None:
        if self._drained is None:
            return
        for conn in list(self.connections):
            conn.fail_calls(errors.Unavailable("the server is shutting down"))
            conn.close()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            self.loop.forget(listener.fileno())
            listener.close()
        self._listeners.clear()

    def _accept(self, listener: _socket.socket) -> None:
        try:
            self.serve(unixsock.accept(listener))
        except BlockingIOError:
            pass  # it went away again
        except OSError:
            # Out of descriptors or memory: leave the rest in the backlog for a moment in place of spinning on it.
            self.loop.forget(listener.fileno())
            self.loop.after(0.1, lambda: self._accept_again(listener))

    def _accept_again(self, listener: _socket.socket) -> None:
        if listener in self._listeners:
            self.loop.watch(listener.fileno(), READ, lambda _: self._accept(listener))


class _Connection:
    """One client: its frames in, its answers out."""

    def __init__(self, server: Server, sock: _socket.socket) -> None:
        self.server = server
        self.out = bytearray()
        self._sock = sock
        self._fd = sock.fileno()
        self._deframer = protocol.Deframer()
        self._frames: list[protocol.Frame] = []
        self._taking = False
        self._calls: dict[int, Call] = {}
        self._last_id = 0
        self._events = READ
        self._closed = False
        server.loop.watch(self._fd, READ, self._ready)

    def send(self, frame: bytes) -> None:
        """Queue a frame and send what the socket takes now."""
        if self._closed:
            return
        self.out += frame
        self._flush()

    def finished(self, stream: int) -> None:
        """A call is over (its answer may still be queued)."""
        self._calls.pop(stream, None)
        if self.server.draining:
            self.server.loop.after(0, self.close_if_idle)

    def fail_calls(self, error: errors.OrlopError) -> None:
        for call in list(self._calls.values()):
            call.fail(error)

    def close_if_idle(self) -> None:
        if not self._calls and not self.out:
            self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.server.loop.forget(self._fd)
        self._sock.close()
        self.server.connections.discard(self)
        for call in list(self._calls.values()):
            call.cancelled()
        self.server.check_drained()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & (READ | GONE) and not self._closed:
            self._read()

    def _flush(self) -> None:
        try:
            while self.out:
                sent = self._sock.send(self.out)
                del self.out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.out.clear()
            # The client has gone; not closed here, where a handler is in the middle of its work.
            self.server.loop.after(0, self.close)
            return
        if self._frames and not self._taking and len(self.out) < MAX_BACKLOG_BYTES:
            self._taking = True
            self.server.loop.after(0, self._take_frames)
        self._watch()
        if self.server.draining:
            self.server.loop.after(0, self.close_if_idle)

    def _watch(self) -> None:
        full = self._frames or len(self.out) >= MAX_BACKLOG_BYTES
        wanted = (WRITE if self.out else 0) | (0 if full else READ)
        if wanted != self._events and not self._closed:
            self._events = wanted
            self.server.loop.change(self._fd, wanted)

    def _read(self) -> None:
        try:
            chunk = self._sock.recv(_READ_BYTES)
            frames = self._deframer.feed(chunk)
        except BlockingIOError:
            return
        except (OSError, errors.InvalidArgument):
            self.close()
            return
        if not chunk:
            self.close()
            return
        self._frames += frames
        self._take_frames()

    def _take_frames(self) -> None:
        """Serve what has come, as long as the client takes its answers; `_flush` calls again when it does."""
        self._taking = True
        while self._frames and not self._closed and len(self.out) < MAX_BACKLOG_BYTES:
            frame = self._frames.pop(0)
            try:
                self._take(frame)
            except Exception as error:  # noqa: BLE001 - whatever a handler does wrong is that call's answer
                self._refuse(frame.stream, error)
        self._taking = False
        self._watch()

    def _take(self, frame: protocol.Frame) -> None:
        if frame.data is None:
            limit = protocol.MAX_DATA_BYTES
            raise errors.ResourceExhausted(f"a ttrpc message is over the limit of {limit} bytes")
        if frame.stream % 2 == 0:
            raise errors.InvalidArgument("a client's stream id must be odd")
        if frame.type == protocol.REQUEST:
            self._start(frame.stream, frame.flags, frame.data)
        elif frame.type == protocol.DATA:
            self._data(frame.stream, frame.flags, frame.data)
        # Other types are of a later protocol: ignored, as the reference server does.

    def _start(self, stream: int, flags: int, data: bytes) -> None:
        if stream <= self._last_id:
            raise errors.InvalidArgument("a stream id cannot be used again and must rise")
        self._last_id = stream
        if len(self._calls) >= MAX_CALLS:
            raise errors.ResourceExhausted(f"more than {MAX_CALLS} calls at once on one connection")
        if self.server.draining:
            raise errors.Unavailable("the server is shutting down")
        envelope = protocol.Request.decode(data)
        service = self.server.services.get(envelope.service)
        if service is None:
            raise errors.Unimplemented(f"service {envelope.service} is not served here")
        method = service.get(envelope.method)
        if method is None:
            raise errors.Unimplemented(f"{envelope.service} has no method {envelope.method}")
        request = None if method.client_streams else method.request.decode(envelope.payload)
        call = Call(self, stream, method, envelope)
        self._calls[stream] = call
        reply = method.handler(call, request)
        if reply is not None:
            call.reply(reply)
        elif method.client_streams and call.on_message is not None:
            if envelope.payload:
                call.on_message(method.request.decode(envelope.payload))
            if not flags & protocol.REMOTE_OPEN:
                call.on_message(None)

    def _data(self, stream: int, flags: int, data: bytes) -> None:
        call = self._calls.get(stream)
        if call is None:
            if stream > self._last_id:
                raise errors.InvalidArgument("data on a stream that was never opened")
            return  # it crossed with our answer
        if not call._method.client_streams or call.on_message is None:
            raise errors.InvalidArgument("data on a stream whose request was complete")
        if not flags & protocol.NO_DATA and (data or not flags & protocol.REMOTE_CLOSED):
            call.on_message(call._method.request.decode(data))
        if flags & protocol.REMOTE_CLOSED and not call.done:
            on_message, call.on_message = call.on_message, None
            if on_message is not None:
                on_message(None)

    def _refuse(self, stream: int, error: Exception) -> None:
        call = self._calls.get(stream)
        if call is not None:
            call.fail(error)
        else:
            response = protocol.Response(protocol.status_of(error))
            self.send(protocol.encode_frame(stream, protocol.RESPONSE, 0, response.encode()))
