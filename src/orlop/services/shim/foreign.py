"""A monitor whose OCI runtime is a foreign shim, such as Debian's containerd-shim-runc-v2.

The monitor stays what it is for everyone else: logs, attach, exit.json, state, cleaning. In place of an OCI runtime's
commands there are calls to the shim, which this monitor starts and ends; in place of its own children there are the
shim's, whose ends `Wait` tells. Source: containerd docs/runtime-v2.md. May import only the interpreter's cheap modules.

The shim has a bundle of its own, BUNDLE/shim/ID: it writes an `address` there, and finds its bundle by its name when it
cleans up. The process's streams are this monitor's pipes, by their names in /proc.
"""

from __future__ import annotations

import os
import stat
import time

from ...base import errors, fsio, jsonio
from ...base.ttrpc import task_v2, unixsock
from ...base.ttrpc.loop import READ
from ...base.ttrpc.server import Method, Server
from ...base.ttrpc.wire import AnyMessage, Empty, Message
from . import exitfile, monitor, oci, stdio
from .reaper import Exit
from .rpc import Caller
from .stdio import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ...base.kernel import cgroups
    from ...base.ttrpc.loop import Loop, Timer
    from .jsonlog import JsonLog
    from .reaper import Reaper

    Done = Callable[[errors.OrlopError | None, bytes], object]

PREFIX = "containerd-shim-"
"""How the file names of shims begin."""
_SERVICES = {2: task_v2.SERVICE, 3: "containerd.task.v3.Task"}
_GOING_S = 5.0
"""How long a shim that was told to go may take for it."""
_SIGKILL = 9
_MAX_ANSWER_BYTES = 64 << 10


def is_shim(path: str) -> bool:
    """Whether a runtime's program is a shim rather than an OCI runtime."""
    return os.path.basename(path).startswith(PREFIX)


class ForeignMonitor(monitor.Monitor):
    """As Monitor; monitor.json's "runtime" is the path of the shim."""

    def __init__(
        self,
        bundle: str,
        address: str,
        attach_address: str,
        layout: cgroups.Layout,
        on_gone: Callable[[], object],
    ) -> None:
        super().__init__(bundle, address, attach_address, layout, on_gone)
        self._events = f"{address.removesuffix('.sock')}.events"
        exitfile.unlink_quietly(self._events)
        forward = Method(task_v2.ForwardRequest, lambda *_: Empty())
        self._event_server = Server(self.loop, {task_v2.EVENTS_SERVICE: {"Forward": forward}})
        self._event_server.listen(unixsock.listen(self._events))
        runtime = ForeignShim(self.loop, self._reaper, self.config, bundle, self._events)
        self._shim = runtime
        self._runtime = runtime
        self._reaper = _Ends(runtime, self._reaper)  # type: ignore[assignment]  # all of it that a process uses

    def _streams(self, has_terminal: bool, wants_stdin: bool, log: JsonLog | None = None) -> Stdio:
        return (_Terminal if has_terminal else _Streams)(self.loop, wants_stdin, log)

    def _run_with_streams(self, verb: str, args: list[str], done: Done, streams: Stdio) -> None:
        self._shim.run(verb, args, done, stdio=streams.open(), streams=streams)

    def recover(self) -> None:
        lives = self._shim.reconnect()
        super().recover()
        process = self._processes[""]
        if lives and process.exited is None and process.pid:
            # Better than seeing it vanish: the shim is its parent, and will tell how it ended.
            process.close()
            process.run(process.pid)

    def _leave(self) -> None:
        self._shim.close()
        self._event_server.close()
        exitfile.unlink_quietly(self._events)
        super()._leave()


class _Streams(Stdio):
    """Streams of a process under a shim, which keeps a writer of the input too: it is told of the input's end."""

    def __init__(self, loop: Loop, wants_stdin: bool, log: JsonLog | None) -> None:
        super().__init__(loop, wants_stdin, log)
        self._shim: ForeignShim | None = None
        self._exec_id = ""
        self._input_over = False

    def bind(self, shim: ForeignShim, exec_id: str) -> None:
        """The process is there."""
        self._shim, self._exec_id = shim, exec_id
        if self._input_over:
            shim.close_input(exec_id)

    def _close_stdin(self) -> None:
        was_open = self._stdin >= 0
        super()._close_stdin()
        if was_open:
            self._input_over = True
            if self._shim is not None:
                self._shim.close_input(self._exec_id)


class _Terminal(_Streams):
    """A terminal, which the shim holds: what comes from it is standard output; its input has no end."""

    terminal = True
    _errors_come_on = stdio.STDOUT

    def __init__(self, loop: Loop, wants_stdin: bool, log: JsonLog | None) -> None:
        super().__init__(loop, wants_stdin, log)
        self._size: tuple[int, int] | None = None

    def bind(self, shim: ForeignShim, exec_id: str) -> None:
        super().bind(shim, exec_id)
        if self._size is not None:
            shim.resize(exec_id, *self._size)

    def resize(self, columns: int, rows: int) -> None:
        self._size = (columns, rows)
        if self._shim is not None:
            self._shim.resize(self._exec_id, columns, rows)

    def end_input(self) -> None:
        """^D is the user's to type."""


class _Ends:
    """What a Process asks of a Reaper, answered by the shim."""

    def __init__(self, shim: ForeignShim, reaper: Reaper) -> None:
        self._shim = shim
        self._reaper = reaper

    def expect(self, pid: int, call: Callable[[Exit], object]) -> None:
        self._shim.expect(pid, call)

    def forget(self, pid: int) -> None:
        self._shim.forget(pid)

    def hold(self) -> None:
        self._reaper.hold()

    def release(self) -> None:
        self._reaper.release()


class ForeignShim(oci.Runtime):
    """A shim in the role of an OCI runtime: `run` takes the commands that a monitor gives.

    directory: the monitor's bundle. events: path of the socket on which we take the shim's events.
    """

    def __init__(self, loop: Loop, reaper: Reaper, config: monitor.Config, directory: str, events: str) -> None:
        super().__init__(loop, reaper, config.runtime, config.runtime_name, directory, timeout=config.runtime_timeout)
        self._id = config.id
        self._path = config.runtime[0]
        self._monitor_bundle = directory
        self._bundle = f"{directory}/shim/{config.id}"
        self._events = events
        self._service = task_v2.SERVICE
        self._caller: Caller | None = None
        self._log = -1
        self._pids: dict[int, str] = {}
        self._expected: dict[int, Callable[[Exit], object]] = {}
        self._execs = 0
        self._leaving: Callable[[], object] | None = None

    # -- the commands of an OCI runtime

    def run(
        self,
        verb: str,
        args: Sequence[str],
        done: Done,
        *,
        stdio: tuple[int, int, int] | None = None,
        said: Callable[[], bytes] | None = None,
        streams: Stdio | None = None,
    ) -> None:
        """As Runtime.run. streams: with stdio, what it belongs to."""
        if verb == "create":
            self._create(_option(args, "--pid-file"), stdio or (-1, -1, -1), streams, done)
        elif verb == "exec":
            self._exec(args, stdio or (-1, -1, -1), streams, done)
        elif verb == "delete":
            self._delete(done)
        elif verb == "start":
            self._ask("Start", task_v2.StartRequest(self._id), task_v2.StartResponse, _answering(done))
        elif verb == "pause":
            self._ask("Pause", task_v2.PauseRequest(self._id), Empty, _answering(done))
        elif verb == "resume":
            self._ask("Resume", task_v2.ResumeRequest(self._id), Empty, _answering(done))
        elif verb == "update":
            resources = AnyMessage(task_v2.RESOURCES_TYPE, fsio.read_file(_option(args, "--resources")))
            self._ask("Update", task_v2.UpdateTaskRequest(self._id, resources), Empty, _answering(done))
        else:
            unknown = errors.Unimplemented(f"{self.name} has no command {verb}")
            self._loop.after(0, lambda: done(unknown, b""))

    def _create(self, pid_file: str, stdio: tuple[int, int, int], streams: Stdio | None, done: Done) -> None:
        terminal = streams is not None and streams.terminal

        def started(error: errors.OrlopError | None) -> None:
            if error is not None:
                done(error, b"")
                return
            paths = _paths(stdio, terminal)
            request = task_v2.CreateTaskRequest(self._id, self._bundle, (), terminal, *paths, options=self._options())
            self._ask("Create", request, task_v2.CreateTaskResponse, created)

        def created(error: errors.OrlopError | None, reply: task_v2.CreateTaskResponse) -> None:
            if error is None:
                self._came(reply.pid, "", pid_file, streams)
            done(error, b"")

        self._start_shim(started)

    def _exec(self, args: Sequence[str], stdio: tuple[int, int, int], streams: Stdio | None, done: Done) -> None:
        self._execs += 1
        exec_id = f"orlop-{os.getpid()}-{self._execs}"
        terminal = streams is not None and streams.terminal
        spec = AnyMessage(task_v2.PROCESS_TYPE, fsio.read_file(_option(args, "--process")))
        request = task_v2.ExecProcessRequest(self._id, exec_id, terminal, *_paths(stdio, terminal), spec=spec)

        def added(error: errors.OrlopError | None, _: Message) -> None:
            if error is not None:
                done(error, b"")
            else:
                self._ask("Start", task_v2.StartRequest(self._id, exec_id), task_v2.StartResponse, started)

        def started(error: errors.OrlopError | None, reply: task_v2.StartResponse) -> None:
            if error is None:
                self._came(reply.pid, exec_id, _option(args, "--pid-file"), streams)
            else:
                self._forget_exec(exec_id)
            done(error, b"")

        self._ask("Exec", request, Empty, added)

    def _came(self, pid: int, exec_id: str, pid_file: str, streams: Stdio | None) -> None:
        """A process is there."""
        self._pids[pid] = exec_id
        fsio.write_atomic(pid_file, b"%d" % pid, durable=False)
        if isinstance(streams, _Streams):
            streams.bind(self, exec_id)

    def close_input(self, exec_id: str) -> None:
        """All of a process's input is in its pipe."""
        if self._caller is not None and not self._caller.closed:
            self._ask("CloseIO", task_v2.CloseIORequest(self._id, exec_id, True), Empty, lambda *_: None)

    def resize(self, exec_id: str, columns: int, rows: int) -> None:
        """Set the size of a process's terminal."""
        request = task_v2.ResizePtyRequest(self._id, exec_id, columns, rows)
        self._ask("ResizePty", request, Empty, lambda *_: None)

    def _forget_exec(self, exec_id: str) -> None:
        request = task_v2.DeleteRequest(self._id, exec_id)
        self._ask("Delete", request, task_v2.DeleteResponse, lambda *_: None)

    def _delete(self, done: Done) -> None:
        """Kill, wait, delete, shut down; or, of a shim that does not live, its own `delete` command."""
        if self._caller is None:
            self._delete_by_command(done)
            return
        if self._caller.closed:
            self._delete_by_command(done)
            return
        failed: list[errors.OrlopError] = []

        def killed(_: errors.OrlopError | None, __: Message) -> None:
            self._ask("Wait", task_v2.WaitRequest(self._id), task_v2.WaitResponse, waited)

        def waited(_: errors.OrlopError | None, __: Message) -> None:
            self._ask("Delete", task_v2.DeleteRequest(self._id), task_v2.DeleteResponse, deleted)

        def deleted(error: errors.OrlopError | None, _: Message) -> None:
            if error is not None and not isinstance(error, errors.NotFound):
                failed.append(error)
            self._leaving = gone
            timer.append(self._loop.after(_GOING_S, gone))
            self._ask("Shutdown", task_v2.ShutdownRequest(self._id, True), Empty, lambda *_: None)

        timer: list[Timer] = []

        def gone() -> None:
            if self._leaving is None:
                return
            self._leaving = None
            for one in timer:
                one.cancel()
            if self._caller is None or self._caller.closed:
                self.close()
                fsio.remove_tree(f"{self._monitor_bundle}/shim")
                done(failed[0] if failed else None, b"")
            else:
                self._delete_by_command(done)

        self._ask("Kill", task_v2.KillRequest(self._id, "", _SIGKILL), Empty, killed)

    def _delete_by_command(self, done: Done) -> None:
        self.close()
        if not os.path.isdir(self._bundle):
            self._loop.after(0, lambda: done(None, b""))
            return

        def ended(error: errors.OrlopError | None, _: bytes) -> None:
            if error is None:
                # A shim that was killed could not take its socket away, and its command does not.
                exitfile.unlink_quietly(self._saved_address().removeprefix("unix://"))
                fsio.remove_tree(f"{self._monitor_bundle}/shim")
            done(error, b"")

        self._command(["-bundle", self._bundle, "delete"], ended)

    # -- ends

    def expect(self, pid: int, call: Callable[[Exit], object]) -> None:
        """Call back when the process has ended."""
        exec_id = self._pids.get(pid, "")
        self._expected[pid] = call

        def ended(error: errors.OrlopError | None, reply: task_v2.WaitResponse) -> None:
            if error is None:
                at = reply.exited_at.ns if reply.exited_at is not None else 0
                self._ended(pid, Exit(reply.exit_status, at or time.time_ns()))
                if exec_id:
                    self._forget_exec(exec_id)
            elif not isinstance(error, errors.Unavailable):  # else `_gone` tells
                monitor.note(f"{self.name}: {error.message}")
                self._ended(pid, Exit(exitfile.UNKNOWN_STATUS, time.time_ns()))

        self._ask("Wait", task_v2.WaitRequest(self._id, exec_id), task_v2.WaitResponse, ended, timeout=0)

    def forget(self, pid: int) -> None:
        self._expected.pop(pid, None)
        self._pids.pop(pid, None)

    def _ended(self, pid: int, how: Exit) -> None:
        self._pids.pop(pid, None)
        call = self._expected.pop(pid, None)
        if call is not None:
            call(how)

    def _gone(self) -> None:
        """The shim has closed the connection: it was told to, or it has died, and its container ends with it."""
        if self._leaving is not None:
            self._leaving()
            return
        monitor.note(f"{self.name} has gone: its processes are ended")

        def cleaned(error: errors.OrlopError | None, _: bytes) -> None:
            if error is not None:
                monitor.note(error.message)
            how = Exit(128 + _SIGKILL, time.time_ns())
            for pid in list(self._expected):
                self._ended(pid, how)

        self._command(["-bundle", self._bundle, "delete"], cleaned)

    # -- the shim itself

    def reconnect(self) -> bool:
        """Find the shim that a monitor which is no more had started. Returns whether it lives."""
        try:
            self._open_log()
            self._caller = Caller(self._loop, self._saved_address(), self._gone)
        except (OSError, errors.OrlopError) as error:
            monitor.note(f"{self.name} does not live any more: {error}")
            return False
        return True

    def _saved_address(self) -> str:
        """What the shim wrote down as its address, "" when it did not come to it."""
        try:
            return fsio.read_file(f"{self._bundle}/address", 4096).decode("utf-8", "surrogateescape").strip()
        except OSError:
            return ""

    def close(self) -> None:
        """Let go of the shim."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None
        if self._log >= 0:
            self._loop.forget(self._log)
            os.close(self._log)
            self._log = -1

    def _start_shim(self, done: Callable[[errors.OrlopError | None], object]) -> None:
        try:
            self._make_bundle()
            self._open_log()
        except (OSError, ValueError, KeyError, TypeError) as error:
            failed = errors.RuntimeFailed(f"cannot make a bundle for {self.name}: {error}")
            self._loop.after(0, lambda: done(failed))
            return

        def started(error: errors.OrlopError | None, out: bytes) -> None:
            if error is None:
                try:
                    self._caller = Caller(self._loop, self._address_in(out), self._gone)
                except errors.OrlopError as refused:
                    error = refused
            done(error)

        self._command(["-publish-binary", "/bin/true", "start"], started)

    def _make_bundle(self) -> None:
        fsio.remove_tree(self._bundle)
        fsio.make_dirs(f"{self._bundle}/rootfs")
        spec = jsonio.loads(fsio.read_file(f"{self._monitor_bundle}/config.json"))
        root = spec["root"]["path"]
        spec["root"]["path"] = os.path.join(self._monitor_bundle, root)
        fsio.write_atomic(f"{self._bundle}/config.json", jsonio.dump_bytes(spec), durable=False)
        os.mkfifo(f"{self._bundle}/log", 0o600)

    def _open_log(self) -> None:
        """A shim dies when nobody reads its log; both ends, so that neither open waits."""
        self._log = os.open(f"{self._bundle}/log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.watch(self._log, READ, lambda _: self._copy_log())

    def _copy_log(self) -> None:
        try:
            os.write(2, os.read(self._log, _MAX_ANSWER_BYTES))
        except OSError:
            pass  # nothing there, or nobody to tell

    def _address_in(self, out: bytes) -> str:
        """The address that `start` printed: alone, or (since version 3) in an object. Raises RuntimeFailed."""
        text = out.decode("utf-8", "replace").strip()
        if not text.startswith("{"):
            return text
        try:
            said = jsonio.loads(text.encode())
            version, how, address = int(said["version"]), str(said.get("protocol") or "ttrpc"), str(said["address"])
        except (ValueError, KeyError, TypeError) as error:
            raise errors.RuntimeFailed(f"{self.name} start: cannot understand its answer {text[:200]!r}") from error
        if how != "ttrpc" or version not in _SERVICES:
            raise errors.RuntimeFailed(f"{self.name} speaks {how} version {version}; known are ttrpc versions 2 and 3")
        self._service = _SERVICES[version]
        return address

    def _options(self) -> AnyMessage | None:
        """runc's shim keeps its runtime's state where we say; other shims have options of other kinds."""
        if not os.path.basename(self._path).startswith(f"{PREFIX}runc-"):
            return None
        state = self._monitor_bundle.rsplit("/", 3)[0]
        return AnyMessage(task_v2.RUNC_OPTIONS_TYPE, task_v2.RuncOptions(root=f"{state}/shim-runc").encode())

    def _ask(
        self,
        method: str,
        request: Message,
        reply: type[Message],
        done: Callable[[errors.OrlopError | None, Any], object],
        timeout: float | None = None,
    ) -> None:
        def answered(error: errors.OrlopError | None, message: Any) -> None:
            if error is not None:
                error = self._translated(method, error)
            done(error, message)

        if self._caller is None:
            gone = errors.Unavailable(f"{self.name} does not live")
            self._loop.after(0, lambda: done(gone, None))
            return
        self._caller.call(
            self._service, method, request, reply, answered, self._timeout if timeout is None else timeout
        )

    def _translated(self, method: str, error: errors.OrlopError) -> errors.OrlopError:
        """A shim hands on what its OCI runtime said, under no particular code."""
        if isinstance(error, (errors.NotFound, errors.FailedPrecondition, errors.Unavailable, errors.AlreadyExists)):
            return error
        return oci.failure(f"{self.name} {method.lower()}", 1, b"", error.message.encode("utf-8", "replace"))

    def _command(self, words: Sequence[str], done: Done) -> None:
        """Run the shim's own command line in its bundle; then call done(error, standard output)."""
        namespace = os.path.basename(os.path.dirname(self._monitor_bundle))
        argv = [self._path, "-namespace", namespace, "-id", self._id, "-address", self._events, *words]
        env = {**os.environ, "TTRPC_ADDRESS": self._events, "GRPC_ADDRESS": "", "MAX_SHIM_VERSION": "2"}
        out, err = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("out", "err"))
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.chdir(self._bundle)
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((null, out, err))]
            pid = os.posix_spawn(
                argv[0], argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=(13, 17)
            )
        except OSError as error:
            failed = errors.RuntimeFailed(f"cannot run {self._path}: {error.strerror}")
            os.close(out)
            os.close(err)
            self._loop.after(0, lambda: done(failed, b""))
            return
        finally:
            os.fchdir(here)
            os.close(here)
            os.close(null)
        late = self._loop.after(self._timeout, lambda: os.kill(pid, _SIGKILL))

        def ended(how: Exit) -> None:
            late.cancel()
            self._reaper.release()
            said, complaint = os.pread(out, _MAX_ANSWER_BYTES, 0), os.pread(err, _MAX_ANSWER_BYTES, 0)
            os.close(out)
            os.close(err)
            error = None
            if how.status:
                error = oci.failure(f"{self.name} {words[-1]}", how.status, b"", complaint or said)
            done(error, said)

        self._reaper.hold()
        self._reaper.expect(pid, ended)


def _option(args: Sequence[str], name: str) -> str:
    return args[args.index(name) + 1]


def _answering(done: Done) -> Callable[[errors.OrlopError | None, Message], object]:
    return lambda error, _: done(error, b"")


def _paths(stdio: tuple[int, int, int], terminal: bool) -> tuple[str, str, str]:
    """Names by which the shim opens our pipes. A terminal has no standard error; /dev/null is no stream."""
    pid = os.getpid()
    names = [f"/proc/{pid}/fd/{fd}" if stat.S_ISFIFO(os.fstat(fd).st_mode) else "" for fd in stdio]
    return names[0], names[1], "" if terminal else names[2]
