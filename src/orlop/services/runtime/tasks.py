"""Tasks: the client of monitors. Everything the engine does to a running container goes through here.

A task is found by its bundle (STATE/tasks/NAMESPACE/ID, docs/architecture.md): `connect` finds the monitor that
serves it, `create` has one spawned, `recover` has one take over what a dead one left, `clear` takes everything away
whatever there is. The monitor speaks containerd's shim task API (`base.ttrpc.task_v2`) and, on a second socket beside
it, the attach protocol (frames as in Docker's attach stream). May import only the interpreter's cheap modules: `run`
and `exec` come through here.
"""

from __future__ import annotations

import _socket
import os
import select

from ...base import errors, fsio, jsonio
from ...base.cancel import NEVER, Cancel
from ...base.record import Record
from ...base.ttrpc import task_v2, unixsock
from ...base.ttrpc.client import Client
from ...base.ttrpc.wire import AnyMessage, Empty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Protocol, TypeVar

    from ...base.ttrpc.wire import Message

    Reply = TypeVar("Reply", bound=Message)

    class Mount(Protocol):
        """One mount (the snapshots' Mount record is one)."""

        @property
        def type(self) -> str: ...
        @property
        def source(self) -> str: ...
        @property
        def target(self) -> str: ...
        @property
        def options(self) -> Sequence[str]: ...

    class Spawned(Protocol):
        @property
        def address(self) -> str: ...

    class Spawner(Protocol):
        """Starts monitors (services.shim.spawner.Spawner)."""

        def spawn(self, bundle: str, *, recover: bool = False, cancel: Cancel = NEVER) -> Spawned: ...


_READ_BYTES = 1 << 18
_HEADER_BYTES = 8
_EXIT_STREAM = 255
_STREAMS = {1: "stdout", 2: "stderr"}
_KILL = 9
_CLEAR_S = 30.0
"""How long clearing away may wait for a killed process to be gone."""

STATUS = {
    task_v2.CREATED: "created",
    task_v2.RUNNING: "running",
    task_v2.STOPPED: "exited",
    task_v2.PAUSED: "paused",
    task_v2.PAUSING: "paused",
}


class Exit(Record):
    """How a process ended. status: 0–255, 128 + n for signal n; at_ns: since the epoch, 0 when not known."""

    status: int
    at_ns: int = 0


class State(Record):
    """A process as its monitor sees it. status: "created", "running", "paused" or "exited"."""

    status: str
    pid: int
    exit: Exit | None = None


def create(
    spawner: Spawner, bundle: str, mounts: Sequence[Mount] = (), *, terminal: bool = False, cancel: Cancel = NEVER
) -> Task:
    """Have a monitor spawned over a prepared bundle, and the container created: its process waits to be started.

    mounts: what the monitor mounts on bundle/rootfs. terminal: as the bundle's config.json says. Raises
    CommandNotFound, CommandNotExecutable, RuntimeFailed; then nothing is left of it but the bundle.
    """
    task = Task(bundle, spawner.spawn(bundle, cancel=cancel).address)
    try:
        task.create(mounts, terminal=terminal, cancel=cancel)
    except BaseException:
        try:
            if cancel.cancelled:
                # Nobody knows how far it came: the monitor is told to undo it, and given a moment for that.
                task.remove(kill=True, cancel=Cancel(_CLEAR_S))
            else:
                task.shutdown(now=True)
        except errors.OrlopError:
            pass  # what was raised says more; `clear` finds the rest
        finally:
            task.close()
        raise
    return task


def connect(bundle: str) -> Task:
    """The task of this bundle. Raises NotFound when no monitor was ever there, Unavailable when it is gone."""
    try:
        address = fsio.read_file(f"{bundle}/address", 4096).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise errors.NotFound(f"no monitor serves {bundle}") from error
    return Task(bundle, address)


def recover(spawner: Spawner, bundle: str, *, cancel: Cancel = NEVER) -> Task:
    """A new monitor over the bundle of one that was killed: it can kill, wait and delete; output is lost."""
    return Task(bundle, spawner.spawn(bundle, recover=True, cancel=cancel).address)


def clear(bundle: str, spawner: Spawner, *, kill: bool = False, cancel: Cancel = NEVER) -> None:
    """Take a task away, whatever is left of it: processes, the OCI runtime's state, cgroup, mounts, monitor, bundle.

    kill: a running one too; else FailedPrecondition. A missing bundle is fine, and so is one that was never started.
    """
    if not os.path.lexists(bundle):
        return
    bound = Cancel(cancel.remaining(_CLEAR_S))
    for _ in range(3):
        try:
            task = _monitored(bundle, spawner, bound)
        except (errors.AlreadyExists, errors.Unavailable):
            cancel.check()
            continue  # one came or went between two looks
        if task is None:
            break
        with task:
            try:
                task.remove(kill=kill, cancel=bound)
                break
            except errors.Unavailable:
                continue  # it went while we asked: look at what it left
    fsio.remove_tree(bundle)


def _monitored(bundle: str, spawner: Spawner, cancel: Cancel) -> Task | None:
    """A task with a living monitor, or None when nothing is left that needs one."""
    if fsio.is_locked(f"{bundle}/monitor.lock"):
        try:
            return connect(bundle)
        except errors.NotFound:
            raise errors.Unavailable(f"the monitor of {bundle} does not serve yet, or no more") from None
    # A monitor that goes in good order takes its address with it: who left one left more.
    if os.path.lexists(f"{bundle}/address"):
        return recover(spawner, bundle, cancel=cancel)
    return None


class Task:
    """One container's task, by its monitor. Connects when it is first used; threads may share it.

    exec_id: "" for the container's own process, else one of `exec`. Every verb raises NotFound when there is no such
    process, and Unavailable when the monitor has gone (then the disk knows: services.shim.state).
    """

    def __init__(self, bundle: str, address: str) -> None:
        self.bundle = bundle
        self.id = os.path.basename(bundle.rstrip("/"))
        self.address = address
        self._client: Client | None = None

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the task goes on."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def create(
        self,
        mounts: Sequence[Mount] = (),
        *,
        terminal: bool = False,
        stdin: str = "",
        stdout: str = "",
        stderr: str = "",
        cancel: Cancel = NEVER,
    ) -> int:
        """Mount and create; returns the pid. stdin, stdout, stderr: FIFOs, for who wants those in place of attach."""
        rootfs = tuple(task_v2.Mount(m.type, m.source, m.target, tuple(m.options)) for m in mounts)
        request = task_v2.CreateTaskRequest(self.id, self.bundle, rootfs, terminal, stdin, stdout, stderr)
        return self._call("Create", request, task_v2.CreateTaskResponse, cancel).pid

    def start(self, exec_id: str = "", *, cancel: Cancel = NEVER) -> int:
        """Start it; returns the pid. Raises CommandNotFound, CommandNotExecutable, RuntimeFailed."""
        return self._call("Start", task_v2.StartRequest(self.id, exec_id), task_v2.StartResponse, cancel).pid

    def exec(self, exec_id: str, process: Mapping[str, Any], *, stdin: bool = False, cancel: Cancel = NEVER) -> None:
        """Add a process (an OCI process object) to the running container; attach to it, then start it.

        stdin: whether it reads what attached clients send, else /dev/null (or nothing, from a terminal); whether it
        has a terminal is in the process object. FailedPrecondition when the container does
        not run, AlreadyExists when exec_id is taken.
        """
        spec = AnyMessage(task_v2.PROCESS_TYPE, jsonio.dump_bytes(process))
        source = task_v2.ATTACHED if stdin else ""
        terminal = bool(process.get("terminal"))
        request = task_v2.ExecProcessRequest(self.id, exec_id, terminal, stdin=source, spec=spec)
        self._call("Exec", request, Empty, cancel)

    def attach(
        self,
        exec_id: str = "",
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        owner: bool = False,
        size: tuple[int, int] | None = None,
    ) -> Attachment:
        """The stream of a process's output from now on; before `start` that is all of it.

        size: (columns, rows) its terminal gets, if it has one.
        owner: the process runs in our foreground: when we go its input ends, and the cleaner of a container made with
        --rm waits for us.
        """
        path = self.address.removeprefix("unix://").removesuffix(".sock") + ".attach"
        try:
            sock = unixsock.connect(path)
        except OSError as error:
            raise errors.Unavailable(f"cannot attach to {self.id}: {error.strerror}") from error
        request: dict[str, object] = {
            "exec_id": exec_id,
            "stdin": stdin,
            "stdout": stdout,
            "stderr": stderr,
            "owner": owner,
        }
        if size is not None:
            request["columns"], request["rows"] = size
        attachment = Attachment(sock, self.id)
        try:
            attachment.open(request)
        except BaseException:
            attachment.close()
            raise
        return attachment

    def wait(self, *, exec_id: str = "", cancel: Cancel = NEVER) -> int:
        """Wait for its end; returns the exit status."""
        return self.wait_exit(exec_id, cancel=cancel).status

    def wait_exit(self, exec_id: str = "", *, cancel: Cancel = NEVER) -> Exit:
        """Wait for its end; what it printed is in the log, and with attached clients, by then."""
        reply = self._call("Wait", task_v2.WaitRequest(self.id, exec_id), task_v2.WaitResponse, cancel)
        return Exit(reply.exit_status, reply.exited_at.ns if reply.exited_at is not None else 0)

    def kill(self, signal: int = _KILL, *, exec_id: str = "", all: bool = False, cancel: Cancel = NEVER) -> None:
        """Send a signal; all: to every process of the container. NotFound when it has ended."""
        self._call("Kill", task_v2.KillRequest(self.id, exec_id, signal, all), Empty, cancel)

    def pause(self, *, cancel: Cancel = NEVER) -> None:
        """Freeze all processes of the container."""
        self._call("Pause", task_v2.PauseRequest(self.id), Empty, cancel)

    def resume(self, *, cancel: Cancel = NEVER) -> None:
        """Let the processes of a paused container go on."""
        self._call("Resume", task_v2.ResumeRequest(self.id), Empty, cancel)

    def update(self, resources: Mapping[str, Any], *, cancel: Cancel = NEVER) -> None:
        """Change limits. resources: an OCI linux.resources object."""
        spec = AnyMessage(task_v2.RESOURCES_TYPE, jsonio.dump_bytes(resources))
        self._call("Update", task_v2.UpdateTaskRequest(self.id, spec), Empty, cancel)

    def resize(self, columns: int, rows: int, exec_id: str = "", *, cancel: Cancel = NEVER) -> None:
        """Set the size of a process's terminal, also before it starts. FailedPrecondition when it has none."""
        self._call("ResizePty", task_v2.ResizePtyRequest(self.id, exec_id, columns, rows), Empty, cancel)

    def close_stdin(self, exec_id: str = "", *, cancel: Cancel = NEVER) -> None:
        """End the process's input. A terminal's never ends: its user types ^D."""
        self._call("CloseIO", task_v2.CloseIORequest(self.id, exec_id, True), Empty, cancel)

    def state(self, exec_id: str = "", *, cancel: Cancel = NEVER) -> State:
        """What the monitor says of a process. (`ps` reads the disk and the kernel instead: services.shim.state.)"""
        reply = self._call("State", task_v2.StateRequest(self.id, exec_id), task_v2.StateResponse, cancel)
        ended = None
        if reply.status == task_v2.STOPPED:
            ended = Exit(reply.exit_status, reply.exited_at.ns if reply.exited_at is not None else 0)
        return State(STATUS.get(reply.status, "unknown"), reply.pid, ended)

    def pids(self, *, cancel: Cancel = NEVER) -> list[int]:
        """All processes of the container, as this machine numbers them."""
        reply = self._call("Pids", task_v2.PidsRequest(self.id), task_v2.PidsResponse, cancel)
        return [info.pid for info in reply.processes]

    def stats(self, *, cancel: Cancel = NEVER) -> dict[str, Any]:
        """The figures of base.kernel.cgroupstats.Stats by name."""
        reply = self._call("Stats", task_v2.StatsRequest(self.id), task_v2.StatsResponse, cancel)
        figures = jsonio.loads(reply.stats.value) if reply.stats is not None else {}
        return figures if isinstance(figures, dict) else {}

    def delete(self, *, exec_id: str = "", cancel: Cancel = NEVER) -> Exit | None:
        """Take an ended process away (the container's own: with its cgroup and mounts); how it ended, if it ran."""
        reply = self._call("Delete", task_v2.DeleteRequest(self.id, exec_id), task_v2.DeleteResponse, cancel)
        return Exit(reply.exit_status, reply.exited_at.ns) if reply.exited_at is not None else None

    def shutdown(self, *, now: bool = False, cancel: Cancel = NEVER) -> None:
        """Let the monitor go, after `delete`; returns when it has gone. now: whatever state the task is in."""
        self._call("Shutdown", task_v2.ShutdownRequest(self.id, now), Empty, cancel)
        self._connected().wait_closed(cancel)

    def remove(self, *, kill: bool = False, cancel: Cancel = NEVER) -> None:
        """Delete the task and let its monitor go. kill: when it runs, kill it first."""
        try:
            if kill:
                self._kill_and_wait(cancel)
            self.delete(cancel=cancel)
        except errors.NotFound:
            pass  # never created, or deleted already
        self.shutdown(cancel=cancel)

    def _kill_and_wait(self, cancel: Cancel) -> None:
        if self.state(cancel=cancel).status not in ("running", "paused"):
            return
        try:
            self.kill(_KILL, cancel=cancel)
        except errors.NotFound:
            pass  # it ends at this moment
        self.wait_exit(cancel=cancel)

    def _connected(self) -> Client:
        if self._client is None:
            self._client = Client.connect(self.address)
            self._client.name = f"the monitor of {self.id}"
        return self._client

    def _call(self, method: str, request: Message, reply: type[Reply], cancel: Cancel) -> Reply:
        return self._connected().call(task_v2.SERVICE, method, request, reply, cancel=cancel)


class Attachment:
    """A client of a process's streams. Close it, or use it as a context manager.

    Either iterate `frames`, or wait on `fileno` with poll and take what has come by `read_ready`.
    """

    def __init__(self, sock: _socket.socket, name: str) -> None:
        self.exit: Exit | None = None
        """How the process ended, once all its output has been taken; None as long, and when the monitor was lost."""
        self._sock = sock
        self._name = name
        self._buffer = bytearray()
        self._frames: list[tuple[str, bytes]] = []
        self._ended = False
        # What `send` had to take in to get its own bytes out is announced by a descriptor of its own.
        self._held = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._epoll.register(self._held, select.EPOLLIN)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def open(self, request: Mapping[str, object]) -> None:
        """Send the request, read the answer. Raises what the monitor refuses it with."""
        try:
            self._sock.sendall(jsonio.dump_bytes(request) + b"\n")
            while b"\n" not in self._buffer:
                chunk = self._sock.recv(_READ_BYTES)
                if not chunk:
                    raise errors.Unavailable(f"the monitor of {self._name} closed the connection")
                self._buffer += chunk
        except OSError as error:
            raise errors.Unavailable(f"cannot attach to {self._name}: {error.strerror}") from error
        self._sock.setblocking(False)
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        said = jsonio.loads(line)
        if said.get("error"):
            kind = getattr(errors, str(said.get("kind")), errors.Internal)
            known = isinstance(kind, type) and issubclass(kind, errors.OrlopError)
            raise (kind if known else errors.Internal)(str(said["error"]), advice=str(said.get("advice", "")))
        if rest:
            self._parse()
            self._announce()

    def fileno(self) -> int:
        """A descriptor that is readable when `read_ready` has something."""
        return self._epoll.fileno()

    def read_ready(self) -> list[tuple[str, bytes]] | None:
        """What has come, without waiting: ("stdout" or "stderr", bytes) in order. None after the end."""
        if not self._frames and self._ended:
            return None
        self._receive()
        frames, self._frames = self._frames, []
        try:
            os.eventfd_read(self._held)
        except BlockingIOError:
            pass
        if self._ended:
            if not frames:
                return None
            self._announce()  # whoever polls must come once more, to learn of the end
        return frames

    def frames(self, cancel: Cancel = NEVER) -> Iterator[tuple[str, bytes]]:
        """All that comes until the process has ended. Raises what `cancel` says."""
        with cancel.closing(self._announce):
            while True:
                self._epoll.poll(cancel.remaining())
                cancel.check()
                ready = self.read_ready()
                if ready is None:
                    return
                yield from ready

    def send(self, data: bytes) -> None:
        """Send input. Waits while the process does not read it; output that comes meanwhile is kept for later.

        Raises BrokenPipeError or ConnectionError when nobody takes it any more.
        """
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._sock, select.POLLOUT | (0 if self._ended else select.POLLIN))
                for _, events in poll.poll():
                    if events & select.POLLIN:
                        self._receive()
                        self._announce()

    def close_stdin(self) -> None:
        """End of input; output still comes."""
        try:
            self._sock.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """Detach. The process goes on."""
        if self._held >= 0:
            self._epoll.close()
            self._sock.close()
            os.close(self._held)
            self._held = -1
            self._ended = True

    def _announce(self) -> None:
        os.eventfd_write(self._held, 1)

    def _receive(self) -> None:
        while not self._ended:
            try:
                chunk = self._sock.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                chunk = b""  # the monitor is lost: there is no more to come
            if not chunk:
                self._ended = True
            self._buffer += chunk
            self._parse()
            if len(chunk) < _READ_BYTES // 2:
                return

    def _parse(self) -> None:
        buffer = self._buffer
        at = 0
        while len(buffer) - at >= _HEADER_BYTES:
            end = at + _HEADER_BYTES + int.from_bytes(buffer[at + 4 : at + 8], "big")
            if len(buffer) < end:
                break
            data = bytes(buffer[at + _HEADER_BYTES : end])
            if buffer[at] == _EXIT_STREAM:
                said = jsonio.loads(data)
                self.exit = Exit(int(said["exit_status"]), int(said["exited_ns"]))
                self._ended = True
            elif buffer[at] in _STREAMS:
                self._frames.append((_STREAMS[buffer[at]], data))
            at = end
        del buffer[:at]
