"""ttrpc's client: blocking calls and streams, many at once over one connection, from any threads.

There is no reader thread: whoever waits for an answer reads the connection, hands other calls their frames, and passes
the reading on when its own has come. A client with one caller therefore never switches threads. May import only the
interpreter's cheap modules: `run` comes through here.
"""

from __future__ import annotations

import _socket
import _thread
import os
import select

from .. import errors
from ..cancel import NEVER
from . import protocol, unixsock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Generic, TypeVar

    from ..cancel import Cancel
    from .wire import Message

    Reply = TypeVar("Reply", bound=Message)
    Metadata = Mapping[str, str | Iterable[str]]
else:
    Reply = None

    class Generic:
        """What typing's Generic is at run time, for those who cannot pay for typing."""

        def __class_getitem__(cls, _parameters):
            return cls


_READ_BYTES = 1 << 18
_WRITE_POLL_S = 0.1
_LOCK_POLL_S = 0.1


class _Pending:
    """What has come for one stream and is not taken yet."""

    __slots__ = ("frames", "wake")

    def __init__(self) -> None:
        self.frames: list[protocol.Frame] = []
        self.wake = _thread.allocate_lock()
        self.wake.acquire()

    def rouse(self) -> None:
        if self.wake.locked():
            try:
                self.wake.release()
            except RuntimeError:
                pass  # another thread was quicker: it is awake


class Client:
    """One connection to a ttrpc server. Close it, or use it as a context manager.

    sock: a connected stream socket; the client owns it from now on.
    name: what errors call the other side.

    Every call raises the error the server answered with (base/errors), Unavailable when the connection is lost,
    Cancelled or DeadlineExceeded as `cancel` says. A deadline travels with the request. ttrpc has no way to tell a
    server that a caller gave up: the late answer is dropped.
    """

    def __init__(self, sock: _socket.socket, name: str = "ttrpc server") -> None:
        sock.setblocking(False)
        self.name = name
        self._sock = sock
        self._deframer = protocol.Deframer()
        self._state = _thread.allocate_lock()
        self._sending = _thread.allocate_lock()
        self._reading = False
        self._pending: dict[int, _Pending] = {}
        self._next_id = 1
        self._failure: errors.OrlopError | None = None
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    @classmethod
    def connect(cls, address: str) -> Client:
        """Connect to "unix:///path" or a path. Raises Unavailable when nobody listens there."""
        path = protocol.parse_address(address)
        try:
            return cls(unixsock.connect(path), address)
        except (ConnectionError, FileNotFoundError) as error:
            raise errors.Unavailable(f"cannot connect to {address}: {error.strerror}") from error
        except OSError as error:
            raise errors.from_os(error, f"cannot connect to {address}") from error

    def call(
        self,
        service: str,
        method: str,
        request: Message,
        reply: type[Reply],
        *,
        metadata: Metadata | None = None,
        cancel: Cancel = NEVER,
    ) -> Reply:
        """One request, one answer of the type `reply`."""
        stream = self._open(service, method, request.encode(), 0, metadata, cancel)
        pending = self._pending[stream]
        try:
            frame = self._next_frame(pending, cancel)
        finally:
            self._pending.pop(stream, None)
        if frame.type != protocol.RESPONSE:
            raise errors.Internal(f"{self.name} answered {service}/{method} with a frame of type {frame.type}")
        return reply.decode(_payload_of(frame, self.name))

    def stream(
        self,
        service: str,
        method: str,
        reply: type[Reply],
        request: Message | None = None,
        *,
        metadata: Metadata | None = None,
        cancel: Cancel = NEVER,
    ) -> Stream[Reply]:
        """Open a stream. With `request` it is all the client says (server streaming); without, send messages on it."""
        if request is None:
            stream = self._open(service, method, b"", protocol.REMOTE_OPEN, metadata, cancel)
        else:
            stream = self._open(service, method, request.encode(), protocol.REMOTE_CLOSED, metadata, cancel)
        return Stream(self, stream, reply, cancel, request is None)

    def wait_closed(self, cancel: Cancel = NEVER) -> None:
        """Wait until the server has closed the connection. Raises only what `cancel` says."""
        pending = _Pending()
        with self._state:
            self._pending[0] = pending  # no stream has this id
        try:
            self._next_frame(pending, cancel)
        except errors.Unavailable:
            pass
        finally:
            self._pending.pop(0, None)

    def close(self) -> None:
        """Close the connection; calls that wait in other threads end with Unavailable."""
        self._fail(errors.Unavailable(f"the connection to {self.name} was closed here"))
        try:
            self._sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass
        with self._sending:
            self._sock.close()

    def __del__(self) -> None:
        os.close(self._alarm)  # not in close(): another thread may be waiting on it at that moment

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- sending

    def _open(
        self, service: str, method: str, payload: bytes, flags: int, metadata: Metadata | None, cancel: Cancel
    ) -> int:
        cancel.check()
        left = cancel.remaining()
        timeout_ns = 0 if left is None else max(1, int(left * 1e9))
        pairs = protocol.metadata_to_wire(metadata)
        envelope = protocol.Request(service, method, payload, timeout_ns, pairs).encode()
        self._acquire(self._sending, cancel)
        try:
            with self._state:
                stream = self._next_id
                frame = protocol.encode_frame(stream, protocol.REQUEST, flags, envelope)
                self._next_id += 2
                self._pending[stream] = _Pending()
            try:
                self._send_all(frame, cancel)
            except BaseException:
                self._pending.pop(stream, None)
                raise
        finally:
            self._sending.release()
        return stream

    def _send_frame(self, frame: bytes, cancel: Cancel) -> None:
        self._acquire(self._sending, cancel)
        try:
            self._send_all(frame, cancel)
        finally:
            self._sending.release()

    def _send_all(self, frame: bytes, cancel: Cancel) -> None:
        view = memoryview(frame)
        while view:
            if self._failure is not None:
                raise self._again(self._failure)
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                try:
                    self._wait_writable(cancel)
                except errors.OrlopError:
                    if len(view) < len(frame):  # half a frame is out: nothing after it could be understood
                        self._fail(errors.Unavailable(f"a call to {self.name} was given up inside a frame"))
                    raise
            except OSError as error:
                # The server may have said why before it closed: what is readable is read first.
                self._fail(errors.Unavailable(f"the connection to {self.name} is lost: {error.strerror}"))

    def _wait_writable(self, cancel: Cancel) -> None:
        """Wait until the socket takes more; meanwhile read, so that two full pipes cannot wait for each other."""
        with self._state:
            lead = not self._reading
            self._reading = self._reading or lead
        try:
            cancel.check()
            poll = select.poll()
            poll.register(self._sock, select.POLLOUT | (select.POLLIN if lead else 0))
            for _, ready in poll.poll((cancel.remaining(_WRITE_POLL_S) or 0) * 1000):
                if lead and ready & (select.POLLIN | select.POLLHUP):
                    self._receive()
        finally:
            if lead:
                self._hand_over()

    # -- receiving

    def _next_frame(self, pending: _Pending, cancel: Cancel) -> protocol.Frame:
        while True:
            with self._state:
                if pending.frames:
                    return pending.frames.pop(0)
                if self._failure is not None:
                    raise self._again(self._failure)
                lead = not self._reading
                self._reading = True
            if not lead:
                self._acquire(pending.wake, cancel)
                continue
            try:
                while not pending.frames and self._failure is None:
                    if self._wait_readable(cancel):
                        self._receive()
            finally:
                self._hand_over()

    def _hand_over(self) -> None:
        """Stop reading, and wake one who waits so that it reads on."""
        with self._state:
            self._reading = False
            others = list(self._pending.values())
        for other in others:
            if other.wake.locked() and not other.frames:
                other.rouse()

    def _receive(self) -> None:
        try:
            chunk = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(errors.Unavailable(f"the connection to {self.name} is lost: {error.strerror}"))
            return
        if not chunk:
            inside = " inside a frame" if self._deframer.partial else ""
            self._fail(errors.Unavailable(f"{self.name} closed the connection{inside}"))
            return
        try:
            frames = self._deframer.feed(chunk)
        except errors.InvalidArgument as error:
            self._fail(errors.Unavailable(f"{self.name}: {error.message}"))
            return
        for frame in frames:
            with self._state:
                pending = self._pending.get(frame.stream)
                if pending is not None:
                    pending.frames.append(frame)
            if pending is not None:
                pending.rouse()

    def _fail(self, error: errors.OrlopError) -> None:
        with self._state:
            if self._failure is None:
                self._failure = error
            waiting = list(self._pending.values())
        for pending in waiting:
            pending.rouse()

    @staticmethod
    def _again(error: errors.OrlopError) -> errors.OrlopError:
        """The same error as a new object: one that several threads raise would gather all their tracebacks."""
        return type(error)(error.message, advice=error.advice)

    # -- waiting

    def _wait_readable(self, cancel: Cancel) -> bool:
        """Wait for the socket; False when it was something else that woke us. Raises what `cancel` says."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._alarm, select.POLLIN)
        with cancel.closing(self._ring):
            left = cancel.remaining()
            ready = [fd for fd, _ in poll.poll(None if left is None else left * 1000 + 1)]
        if self._alarm in ready:
            os.eventfd_read(self._alarm)
        cancel.check()
        return bool(ready) and ready != [self._alarm]

    def _ring(self) -> None:
        os.eventfd_write(self._alarm, 1)

    def _acquire(self, lock: _thread.LockType, cancel: Cancel) -> None:
        """Take a lock, but no longer than `cancel` allows."""
        if lock.acquire(False):
            return
        while not lock.acquire(True, cancel.remaining(_LOCK_POLL_S) or 0.001):
            cancel.check()


def _payload_of(frame: protocol.Frame, name: str) -> bytes:
    """The payload of a response frame. Raises the error it carries."""
    if frame.data is None:
        raise errors.ResourceExhausted(f"{name} answered with more than {protocol.MAX_DATA_BYTES} bytes")
    response = protocol.Response.decode(frame.data)
    if response.status is not None and response.status.code != protocol.OK:
        raise protocol.error_of(response.status)
    return response.payload


class Stream(Generic[Reply]):
    """A stream of messages in one or both directions; made by `Client.stream`. One thread sends, one receives.

    Messages that come while nobody receives are held in memory only when another call reads the connection; else they
    wait in the socket, and the server with them.
    """

    def __init__(self, client: Client, stream: int, reply: type[Reply], cancel: Cancel, sends: bool) -> None:
        self._client = client
        self._id = stream
        self._reply = reply
        self._cancel = cancel
        self._open = sends
        self._pending = client._pending[stream]
        self._ended = False

    def send(self, message: Message) -> None:
        """Send one message. FailedPrecondition after `close_send`."""
        if not self._open:
            raise errors.FailedPrecondition("cannot send: this side of the stream is closed")
        frame = protocol.encode_frame(self._id, protocol.DATA, 0, message.encode())
        self._client._send_frame(frame, self._cancel)

    def close_send(self) -> None:
        """Say that nothing more will be sent. Twice is fine."""
        if self._open:
            self._open = False
            flags = protocol.REMOTE_CLOSED | protocol.NO_DATA
            self._client._send_frame(protocol.encode_frame(self._id, protocol.DATA, flags, b""), self._cancel)

    def receive(self) -> Reply | None:
        """The next message; None at the end. Raises the error the server ended the stream with."""
        while not self._ended:
            frame = self._next()
            if frame.type == protocol.RESPONSE:
                self._end()
                payload = _payload_of(frame, self._client.name)
                return self._reply.decode(payload) if payload else None
            if frame.flags & protocol.REMOTE_CLOSED:
                self._end()
            if frame.data is None:
                raise errors.ResourceExhausted(f"a message over {protocol.MAX_DATA_BYTES} bytes was dropped")
            if not frame.flags & protocol.NO_DATA:
                return self._reply.decode(frame.data)
        return None

    def result(self) -> Reply:
        """Close this side and wait for the one answer (client streaming)."""
        self.close_send()
        frame = self._next()
        self._end()
        if frame.type != protocol.RESPONSE:
            raise errors.Internal(f"{self._client.name} ended a stream with a frame of type {frame.type}")
        return self._reply.decode(_payload_of(frame, self._client.name))

    def close(self) -> None:
        """Give the stream up: what still comes is dropped."""
        self._end()

    def __enter__(self) -> Stream[Reply]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _next(self) -> protocol.Frame:
        try:
            return self._client._next_frame(self._pending, self._cancel)
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self._ended = True
        self._client._pending.pop(self._id, None)
