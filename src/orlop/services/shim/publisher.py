"""Tells containerd what happens to a task: one event after the other, in order, without ever waiting.

Two ways, as containerd's docs/runtime-v2.md has them: ttrpc (`Events.Forward` at TTRPC_ADDRESS) or, where there is no
such address, the publish binary, which takes one event on its standard input. A containerd that is away is asked again
until it is back: what its clients missed is told late rather than not at all. May import only the interpreter's cheap
modules.
"""

from __future__ import annotations

import _socket
import os
import time

from ...base import errors
from ...base.ttrpc import protocol, task_v2
from ...base.ttrpc.loop import GONE, READ, WRITE
from ...base.ttrpc.wire import Timestamp
from . import task_events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.ttrpc.loop import Loop, Timer
    from ...base.ttrpc.wire import Message
    from .reaper import Exit, Reaper

MAX_QUEUED = 2048
"""Events that wait at most; more push the oldest out."""
RETRY_S = 1.0
"""How long to wait before containerd is asked again."""
ANSWER_S = 5.0
"""How long one event may take to be answered."""
MAX_RUNS = 5
"""How often the publish binary is run for one event."""
_READ_BYTES = 1 << 16


class Publisher:
    """The events of one task.

    namespace: containerd's. ttrpc_address: path of containerd's ttrpc socket ("unix://" is fine), or "". binary,
    address: the publish binary and the gRPC address that it is given; used when ttrpc_address is empty. With neither,
    events are dropped. note: told, in one sentence, what could not be published.
    """

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        namespace: str,
        ttrpc_address: str,
        binary: str,
        address: str,
        note: Callable[[str], object],
    ) -> None:
        self._loop = loop
        self._reaper = reaper
        self._namespace = namespace
        self._ttrpc = ttrpc_address.removeprefix("unix://")
        self._binary = binary
        self._address = address
        self._note = note
        self._queue: list[task_v2.Envelope] = []
        self._on_its_way = False
        self._runs = 0
        self._sock: _socket.socket | None = None
        self._deframer = protocol.Deframer()
        self._stream = -1
        self._out = b""
        self._timer: Timer | None = None
        self._flushed: Callable[[], object] | None = None

    @property
    def pending(self) -> int:
        """Events that are not published yet."""
        return len(self._queue)

    def publish(self, event: Message) -> None:
        """Publish one of task_events' messages, after those that wait. Raises nothing."""
        if not self._ttrpc and not self._binary:
            return
        topic = task_events.TOPICS[type(event)]
        at = Timestamp.from_ns(time.time_ns())
        self._queue.append(task_v2.Envelope(at, self._namespace, topic, task_events.pack(event)))
        if len(self._queue) > MAX_QUEUED:
            # The first one is being sent: its answer is about it.
            dropped = self._queue.pop(1 if self._on_its_way else 0)
            self._note(f"too many events wait for containerd: {dropped.topic} is dropped")
        self._next()

    def flush(self, then: Callable[[], object], seconds: float) -> None:
        """Call `then` once when nothing waits any more, or after `seconds`; from the loop, never from inside."""
        self._flushed = then
        self._loop.after(0 if not self._queue else seconds, self._has_flushed)

    def close(self) -> None:
        """Drop what waits."""
        self._queue.clear()
        self._disconnect()

    def _has_flushed(self) -> None:
        then, self._flushed = self._flushed, None
        if then is not None:
            then()

    def _next(self) -> None:
        if self._on_its_way or self._timer is not None:
            return
        if not self._queue:
            if self._flushed is not None:
                self._loop.after(0, self._has_flushed)
            return
        self._on_its_way = True
        if self._ttrpc:
            self._forward(self._queue[0])
        else:
            self._run(self._queue[0])

    def _done(self) -> None:
        """The first event is settled."""
        self._on_its_way = False
        self._runs = 0
        self._stop_timer()
        self._queue.pop(0)
        self._next()

    def _again(self) -> None:
        """Send the first event once more, in a while."""
        self._on_its_way = False
        self._stop_timer()
        self._timer = self._loop.after(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._timer = None
        self._next()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- ttrpc

    def _forward(self, envelope: task_v2.Envelope) -> None:
        if self._sock is None and not self._connect():
            self._again()
            return
        self._stream += 2
        payload = task_v2.ForwardRequest(envelope).encode()
        request = protocol.Request(task_v2.EVENTS_SERVICE, "Forward", payload, int(ANSWER_S * 1e9))
        self._out = protocol.encode_frame(self._stream, protocol.REQUEST, 0, request.encode())
        self._timer = self._loop.after(ANSWER_S, self._lost)
        self._send()

    def _connect(self) -> bool:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        try:
            sock.connect(self._ttrpc)  # at once or not at all: EAGAIN is a containerd that accepts nobody
        except (OSError, ValueError):
            sock.close()
            return False
        self._sock = sock
        self._deframer = protocol.Deframer()
        self._stream = -1
        self._loop.watch(sock.fileno(), READ, self._ready)
        return True

    def _disconnect(self) -> None:
        self._stop_timer()
        if self._sock is not None:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def _lost(self) -> None:
        """The connection has gone or does not answer."""
        self._disconnect()
        if self._on_its_way:
            self._again()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._send()
        if events & (READ | GONE) and self._sock is not None:
            self._receive()

    def _send(self) -> None:
        if self._sock is None:
            return
        try:
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError:
            self._lost()
            return
        self._loop.change(self._sock.fileno(), READ | (WRITE if self._out else 0))

    def _receive(self) -> None:
        if self._sock is None:
            return
        try:
            chunk = self._sock.recv(_READ_BYTES)
            frames = self._deframer.feed(chunk)
        except BlockingIOError:
            return
        except (OSError, errors.InvalidArgument):
            chunk, frames = b"", []
        for frame in frames:
            if frame.stream == self._stream and frame.type == protocol.RESPONSE and self._on_its_way:
                self._answered(frame)
        if not chunk:
            self._lost()

    def _answered(self, frame: protocol.Frame) -> None:
        try:
            status = protocol.Response.decode(frame.data or b"").status
        except errors.InvalidArgument as error:
            status = protocol.Status(protocol.UNKNOWN, error.message)
        if status is not None and status.code != protocol.OK:
            self._note(f"containerd does not take the event {self._queue[0].topic}: {status.message}")
        self._done()

    # -- the publish binary

    def _run(self, envelope: task_v2.Envelope) -> None:
        self._runs += 1
        argv = [self._binary, "--address", self._address, "publish"]
        argv += ["--topic", envelope.topic, "--namespace", self._namespace]
        stdin = os.memfd_create("event", os.MFD_CLOEXEC)
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(stdin, envelope.event.encode() if envelope.event is not None else b"")
            os.lseek(stdin, 0, os.SEEK_SET)
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((stdin, null, null))]
            pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True, setsigmask=())
        except OSError as error:
            self._note(f"cannot run {self._binary} for the event {envelope.topic}: {error.strerror}")
            self._loop.after(0, self._done)
            return
        finally:
            os.close(stdin)
            os.close(null)
        self._reaper.hold()
        self._reaper.expect(pid, self._ran)

    def _ran(self, how: Exit) -> None:
        self._reaper.release()
        if how.status == 0:
            self._done()
        elif self._runs < MAX_RUNS:
            self._again()
        else:
            self._note(f"{self._binary} does not publish {self._queue[0].topic}: it fails with status {how.status}")
            self._done()
