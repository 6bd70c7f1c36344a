"""Attaching to a process's standard streams over a unix socket.

The client sends one line of JSON: {"exec_id": "", "stdin": false, "stdout": true, "stderr": true, "owner": false}; with
"columns" and "rows" the process's terminal, if it has one, gets that size. The answer is one line: {} or {"error": …,
"kind": …, "advice": …}. From then on the server sends Docker's frames (stream number, three zero bytes, length in four
bytes big-endian, data), and last a frame of stream EXIT_STREAM that holds {"exit_status", "exited_ns"}: all output was
before it. What the client sends is input; its half-close ends the input (not a terminal's, which has no end). An
"owner" is the command in whose foreground the process runs: when it goes, the process's input ends, and a container
made with --rm is cleaned up once no owner is left. May import only the interpreter's cheap modules.
"""

from __future__ import annotations

import _socket

from ...base import errors, jsonio
from ...base.ttrpc import unixsock
from ...base.ttrpc.loop import GONE, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.ttrpc.loop import Loop
    from .exitfile import Exited
    from .process import Process

EXIT_STREAM = 255
_MAX_REQUEST_BYTES = 4096
_REQUEST_TIMEOUT_S = 5.0


def frame(stream: int, data: bytes) -> bytes:
    """One frame of Docker's attach stream."""
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


class Listener:
    """Accepts clients and finds the process they ask for.

    find: exec id ("" for the container's own) → process; raises NotFound. on_change: called when a client has gone.
    """

    def __init__(
        self,
        loop: Loop,
        listener: _socket.socket,
        find: Callable[[str], Process],
        on_change: Callable[[], object],
    ) -> None:
        self.loop = loop
        self.find = find
        self.on_change = on_change
        self.clients: set[Client] = set()
        self._listener = listener
        listener.setblocking(False)
        loop.watch(listener.fileno(), READ, lambda _: self._accept())

    @property
    def owners(self) -> int:
        """Owners that are connected."""
        return sum(1 for client in self.clients if client.owner)

    def close(self) -> None:
        """Let every client go, with what its socket takes at once."""
        self.loop.forget(self._listener.fileno())
        self._listener.close()
        for client in list(self.clients):
            client.close()

    def _accept(self) -> None:
        try:
            self.clients.add(Client(self, unixsock.accept(self._listener)))
        except BlockingIOError:
            pass
        except OSError:  # out of descriptors: look again later, not at once
            fd = self._listener.fileno()
            self.loop.forget(fd)
            self.loop.after(0.1, lambda: self.loop.watch(fd, READ, lambda _: self._accept()))


class Client:
    """One attached client: an outlet of the process's streams, and a source of its input."""

    def __init__(self, listener: Listener, sock: _socket.socket) -> None:
        self.owner = False
        self._listener = listener
        self._loop = listener.loop
        self._sock = sock
        self._fd = sock.fileno()
        self._process: Process | None = None
        self._request = bytearray()
        self._timer = self._loop.after(_REQUEST_TIMEOUT_S, self.close)
        self._streams: tuple[int, ...] = ()
        self._input = False
        self._reads = True
        self._out = bytearray()
        self._finishing = False
        self._said_all = False
        self._events = READ
        self._closed = False
        self._loop.watch(self._fd, READ, self._ready)

    # -- as an outlet

    @property
    def backlog(self) -> int:
        return len(self._out)

    def put(self, stream: int, data: bytes) -> None:
        if stream in self._streams and not self._closed:
            was_empty = not self._out
            self._out += frame(stream, data)
            if was_empty:
                self._flush()

    def finish(self, exited: Exited | None) -> None:
        if exited is not None:
            said = {"exit_status": exited.exit_status, "exited_ns": exited.exited_ns}
            self._out += frame(EXIT_STREAM, jsonio.dump_bytes(said))
        self._finishing = True
        self._flush()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        self._loop.forget(self._fd)
        self._sock.close()
        self._listener.clients.discard(self)
        if self._process is not None:
            self._process.stdio.remove(self)
            if self._input and self.owner:
                self._process.stdio.end_input()
        self._listener.on_change()

    # -- the socket

    def _ready(self, events: int) -> None:
        if events & WRITE and not self._closed:
            self._flush()
        if self._closed:
            return
        if events & READ and self._reads:
            self._receive()
        elif events & GONE:
            self.close()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if self._process is None:
            self._take_request(data)
        elif data:
            self._take_input(data)
        else:
            self._end_of_input()

    def _take_request(self, data: bytes) -> None:
        self._request += data
        line, newline, rest = bytes(self._request).partition(b"\n")
        if not newline:
            if not data or len(self._request) > _MAX_REQUEST_BYTES:
                self.close()
            return
        self._timer.cancel()
        try:
            process = self._accepted(line)
        except errors.OrlopError as error:
            said = {"error": error.message, "kind": type(error).__name__, "advice": error.advice}
            self._out += jsonio.dump_bytes(said) + b"\n"
            self._finishing = True
            self._flush()
            return
        self._out += b"{}\n"
        self._process = process
        if process.exited is not None:
            self.finish(process.exited)
        else:
            process.stdio.add(self)
            self._flush()
        if rest and not self._closed:
            self._take_input(rest)

    def _accepted(self, line: bytes) -> Process:
        try:
            said = jsonio.loads(line)
        except ValueError as error:
            raise errors.InvalidArgument(f"an attach request must be a line of JSON: {error}") from None
        if not isinstance(said, dict):
            raise errors.InvalidArgument("an attach request must be a JSON object")
        if said.get("replay"):
            raise errors.Unimplemented("earlier output is not kept by the monitor", advice="read the container's log")
        process = self._listener.find(str(said.get("exec_id", "")))
        self.owner = bool(said.get("owner"))
        self._input = bool(said.get("stdin"))
        columns, rows = said.get("columns"), said.get("rows")
        if process.stdio.terminal and isinstance(columns, int) and isinstance(rows, int):
            process.stdio.resize(columns, rows)
        self._streams = tuple(n for n, name in ((1, "stdout"), (2, "stderr")) if said.get(name, True))
        return process

    def _take_input(self, data: bytes) -> None:
        if not self._input or self._process is None or self._finishing:
            return  # nobody asked for it
        if not self._process.stdio.feed(data):
            self._reads = False
            self._watch()
            self._process.stdio.on_room(self._room)

    def _room(self) -> None:
        if not self._closed:
            self._reads = True
            self._watch()

    def _end_of_input(self) -> None:
        if self._said_all:
            self.close()
            return
        if self._input and self._process is not None and not self._finishing:
            self._process.stdio.end_input()
        self._input = False
        # Half-closed: it sends no more but still listens. Reading again would say so for ever.
        self._reads = False
        self._watch()

    def _flush(self) -> None:
        if self._closed:
            return
        try:
            while self._out:
                del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if not self._out and self._finishing and not self._said_all:
            self._said_all = True
            if self._process is None:
                self.close()
                return
            # The client closes when it has read everything; until then an owner is still there.
            try:
                self._sock.shutdown(_socket.SHUT_WR)
            except OSError:
                self.close()
                return
        self._watch()
        if self._process is not None:
            self._process.stdio.taken()

    def _watch(self) -> None:
        wanted = (READ if self._reads else 0) | (WRITE if self._out else 0)
        if wanted != self._events and not self._closed:
            self._events = wanted
            self._loop.change(self._fd, wanted)
