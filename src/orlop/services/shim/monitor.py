"""The monitor: one small process a container, its shim. It runs the OCI runtime, keeps the output and the end, and
serves containerd's shim task API (version 2) on a socket that everyone who comes later finds.

It outlives whoever started it, takes the container's processes as its own children (it is a subreaper) and knows all
it knows from the bundle's monitor.json. One thread, one epoll loop, no waits: handlers answer when something happens.

The life of a task
    Create   mounts the root file system, `runtime create`; init.json
    Start    `runtime start`; for an exec `runtime exec --detach`
    (end)    output copied, exit.json, who waits is answered, `runtime delete` begins at once
    Delete   answers when that is done and the root file system is unmounted
    Shutdown the monitor goes
A task that has ended and that nobody asks about for IDLE_S is deleted, and the monitor goes: exit.json stays.

With a restart policy (restart.json in the bundle) the end is followed by `runtime delete`, a pause, `runtime create`
and `runtime start`: mounts, bundle and monitor stay. exit.json says "restarting" until the new process runs. Who waits
is told of the first end. A Kill with a signal that ends containers, and Delete, end that.

Recovery: a monitor started over the bundle of one that was killed adopts the process that init.json names. It sees
that process's end (not its status), and can kill and delete.
"""

from __future__ import annotations

import os
import sys
import time

from ...base import errors, fsio, jsonio
from ...base.kernel import cgroups, cgroupstats, mounts
from ...base.kernel import process as kernel_process
from ...base.ttrpc import task_v2, unixsock
from ...base.ttrpc.loop import Loop
from ...base.ttrpc.server import Method, Server
from ...base.ttrpc.wire import AnyMessage, Empty, Timestamp
from . import attach, exitfile, fifos
from .jsonlog import JsonLog
from .oci import Runtime
from .process import Process
from .reaper import Reaper
from .stdio import Stdio
from .terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...base.ttrpc.loop import Timer
    from ...base.ttrpc.server import Call
    from ...base.ttrpc.wire import Message
    from . import probing, restart
    from .exitfile import Exited

IDLE_S = 10.0
"""How long a monitor whose task has ended stays when nobody is connected (ORLOP_MONITOR_IDLE_S sets it)."""
UNUSED_S = 60.0
"""How long a monitor waits for its Create when nobody is connected."""
CLEANER_GRACE_S = 2.0
"""After the last owner has gone: how long it may take to call Delete before the cleaner is run in its place."""
MAX_ENDED_EXECS = 32
"""Ended processes of Exec that are kept for who may still ask for them."""
STATS_TYPE = "orlop.dev/stats"
"""Type of an Any that holds base.kernel.cgroupstats.Stats as JSON."""
VERSION = "1"


class Config:
    """monitor.json (docs/architecture.md)."""

    def __init__(self, said: dict[str, Any]) -> None:
        try:
            if said["version"] != 1:
                raise errors.FailedPrecondition(f"monitor.json has version {said['version']}, known is 1")
            log = said.get("log") or {}
            self.id = str(said["id"])
            self.runtime = [str(word) for word in said["runtime"]]
            self.runtime_name = str(said.get("runtime_name") or os.path.basename(self.runtime[0]))
            self.hide_unified = bool(said.get("hide_unified"))
            self.runtime_timeout = float(said.get("runtime_timeout") or 60.0)
            self.record = str(said.get("record") or "")
            self.open_stdin = bool(said.get("open_stdin"))
            self.health: dict[str, Any] = dict(said.get("health") or {})
            self.on_exit = [str(word) for word in said.get("on_exit") or ()]
            self.log_path = str(log.get("path") or "") if log.get("driver") == "json-file" else ""
            self.log_max_size = int(log.get("max_size") or 0)
            self.log_max_file = int(log.get("max_file") or 1)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise errors.InvalidArgument(f"monitor.json is not usable: {type(error).__name__}: {error}") from error

    @classmethod
    def read(cls, bundle: str) -> Config:
        path = f"{bundle}/monitor.json"
        try:
            said = jsonio.loads(fsio.read_file(path, 1 << 20))
        except OSError as error:
            raise errors.from_os(error, "cannot read the monitor's configuration") from error
        except ValueError as error:
            raise errors.InvalidArgument(f"{path}: {error}") from error
        if not isinstance(said, dict):
            raise errors.InvalidArgument(f"{path} is not an object")
        return cls(said)


class Monitor:
    """One container's monitor, in this process.

    bundle: absolute path; its monitor.lock is held by the caller. address, attach_address: paths of the sockets.
    layout: the machine's cgroups. on_gone: called when everything is closed, in place of anything else.
    """

    def __init__(
        self,
        bundle: str,
        address: str,
        attach_address: str,
        layout: cgroups.Layout,
        on_gone: Callable[[], object],
    ) -> None:
        self.bundle = bundle
        self.config = Config.read(bundle)
        self.loop = Loop()
        self.address = address
        self._addresses = (address, attach_address)
        self._layout = layout
        self._on_gone = on_gone
        self._reaper = Reaper(self.loop)
        self._runtime = Runtime(
            self.loop,
            self._reaper,
            self.config.runtime,
            self.config.runtime_name,
            bundle,
            hide_unified=self.config.hide_unified,
            timeout=self.config.runtime_timeout,
        )
        self._processes: dict[str, Process] = {}
        self._count = 0
        self._cgroup: cgroups.Cgroup | None = None
        self._started_ns = 0
        self._paused = False
        self._busy = ""
        self._record_pending: Exited | None = None
        self._removing: list[Callable[[errors.OrlopError | None], object]] | None = None
        self._removed = False
        self._deleted = False
        self._had_owner = False
        self._cleaner_run = False
        self._quiet_since = 0.0
        self._stopping = False
        """Whether its user has sent a signal that ends it: it is not restarted."""
        self._restarting: list[Callable[[], object]] | None = None
        """While it is to be restarted: what is called if it then is not."""
        self._restart_timer: Timer | None = None
        self._progress: restart.Progress | None = None
        self._checker: probing.Checker | None = None
        self._idle_s = float(os.environ.get("ORLOP_MONITOR_IDLE_S") or IDLE_S)
        self._server = Server(self.loop, {task_v2.SERVICE: self._methods()}, on_idle=self._look_around)
        for path in self._addresses:
            exitfile.unlink_quietly(path)
        self._server.listen(unixsock.listen(address))
        self._attach = attach.Listener(self.loop, unixsock.listen(attach_address), self._find, self._client_gone)
        self.loop.after(UNUSED_S, self._go_if_unused)
        fsio.write_atomic(f"{bundle}/{exitfile.ADDRESS}", f"unix://{address}".encode(), durable=False)

    def _methods(self) -> dict[str, Method]:
        return {
            "Create": Method(task_v2.CreateTaskRequest, self._create),
            "Start": Method(task_v2.StartRequest, self._start),
            "Delete": Method(task_v2.DeleteRequest, self._delete),
            "State": Method(task_v2.StateRequest, self._state),
            "Pids": Method(task_v2.PidsRequest, self._pids),
            "Pause": Method(task_v2.PauseRequest, self._pause),
            "Resume": Method(task_v2.ResumeRequest, self._resume),
            "Checkpoint": Method(task_v2.CheckpointTaskRequest, self._checkpoint),
            "Kill": Method(task_v2.KillRequest, self._kill),
            "Exec": Method(task_v2.ExecProcessRequest, self._exec),
            "ResizePty": Method(task_v2.ResizePtyRequest, self._resize_pty),
            "CloseIO": Method(task_v2.CloseIORequest, self._close_io),
            "Update": Method(task_v2.UpdateTaskRequest, self._update),
            "Wait": Method(task_v2.WaitRequest, self._wait),
            "Stats": Method(task_v2.StatsRequest, self._stats),
            "Connect": Method(task_v2.ConnectRequest, self._connect),
            "Shutdown": Method(task_v2.ShutdownRequest, self._shutdown),
        }

    # ------------------------------------------------------------------ create and start

    def _create(self, call: Call, request: task_v2.CreateTaskRequest) -> Message | None:
        self._check_id(request.id)
        if "" in self._processes or self._busy or self._deleted:
            raise errors.AlreadyExists(f"task {self.config.id} exists")
        if request.bundle and os.path.realpath(request.bundle) != os.path.realpath(self.bundle):
            raise errors.InvalidArgument(f"this monitor serves the bundle {self.bundle}, not {request.bundle}")
        if request.checkpoint:
            raise errors.Unimplemented("a task cannot be created from a checkpoint here")
        for name in (exitfile.INIT, exitfile.EXIT):
            for directory in filter(None, (self.bundle, self.config.record)):
                exitfile.unlink_quietly(f"{directory}/{name}")
        rootfs = f"{self.bundle}/rootfs"
        if request.rootfs:
            os.makedirs(rootfs, 0o700, exist_ok=True)
            try:
                mounts.mount_all(request.rootfs, rootfs)
            except OSError as error:
                raise errors.RuntimeFailed(f"cannot mount the root file system: {error.strerror or error}") from error
        self._busy = "created"

        def made(error: errors.OrlopError | None, process: Process) -> None:
            if error is not None:
                failed = error
                process.close()
                # What it made before it failed goes first: an answer means that nothing is left.
                self._remove_task(lambda _: self._create_failed(call, failed))
                return
            self._busy = ""
            self._processes[""] = process
            call.reply(task_v2.CreateTaskResponse(process.pid))

        try:
            self._make_init(request.terminal, (request.stdin, request.stdout, request.stderr), made)
        except BaseException:
            self._busy = ""
            mounts.unmount_all(rootfs)
            raise
        return None

    def _make_init(
        self,
        has_terminal: bool,
        paths: tuple[str, str, str],
        made: Callable[[errors.OrlopError | None, Process], object],
    ) -> None:
        """`runtime create`; made is told of the process, which waits to be started. paths: as the task API names them.

        Raises when its streams cannot be opened.
        """
        log = None
        if self.config.log_path:
            log = JsonLog(self.config.log_path, self.config.log_max_size, self.config.log_max_file, note=note)
        streams = self._streams(has_terminal, self.config.open_stdin or bool(paths[0]), log)
        process = Process(self.loop, self._reaper, "", streams, self._init_ended)
        process.paths = paths
        if log is not None:
            process.closers.append(log.close)
        try:
            process.closers += fifos.attach(self.loop, process.stdio, *process.paths)
        except BaseException:
            process.close()
            raise
        pid_file = f"{self.bundle}/init.pid"
        exitfile.unlink_quietly(pid_file)
        args = ["--bundle", self.bundle, "--pid-file", pid_file, self.config.id]

        def created(error: errors.OrlopError | None, _: bytes) -> None:
            pid = _read_pid(pid_file)
            if error is None and not pid:
                name = self.config.runtime_name
                error = errors.RuntimeFailed(f"{name} create succeeded without telling a process id")
            if error is not None:
                made(error, process)
                return
            process.run(pid)
            process.stdio.begin()
            try:
                self._cgroup = self._cgroup_of(pid)
                init = exitfile.Init(pid, kernel_process.start_ticks(pid))
            except ProcessLookupError:
                init = exitfile.Init(pid, 0)
            exitfile.write_init(self.bundle, init)
            made(None, process)

        self._run_with_streams("create", args, created, streams)

    def _streams(self, has_terminal: bool, wants_stdin: bool, log: JsonLog | None = None) -> Stdio:
        if not has_terminal:
            return Stdio(self.loop, wants_stdin, log)
        self._count += 1
        return Terminal(self.loop, wants_stdin, log, f"{self.address.removesuffix('.sock')}.{self._count}")

    def _run_with_streams(
        self, verb: str, args: list[str], done: Callable[[errors.OrlopError | None, bytes], object], streams: Stdio
    ) -> None:
        """A command of the runtime whose process gets these streams; the last of args is the container."""
        if not isinstance(streams, Terminal):
            self._runtime.run(verb, args, done, stdio=streams.open(), said=streams.leftovers)
            return

        def handed_over(error: errors.OrlopError | None, out: bytes) -> None:
            if not streams.received() and error is None:
                name = self.config.runtime_name
                error = errors.RuntimeFailed(f"{name} {verb} succeeded without handing the terminal over")
            done(error, out)

        self._runtime.run(verb, [*args[:-1], "--console-socket", streams.listen(), args[-1]], handed_over)

    def _create_failed(self, call: Call, error: errors.OrlopError) -> None:
        self._busy = ""
        self._removing = None
        self._removed = False
        call.fail(error)

    def _start(self, call: Call, request: task_v2.StartRequest) -> Message | None:
        self._check_id(request.id)
        process = self._find(request.exec_id)
        if process.status != task_v2.CREATED or process.exited is not None:
            raise errors.FailedPrecondition(f"process {request.exec_id or self.config.id} is started already")
        if self._busy:
            raise errors.FailedPrecondition(f"task {self.config.id} is being {self._busy}")
        if request.exec_id:
            self._start_exec(call, process)
        else:
            self._start_init(call, process)
        return None

    def _start_init(self, call: Call, process: Process) -> None:
        self._busy = "started"
        at_ns = time.time_ns()
        process.hold()  # a process that ends at once must not be reported before it is known as started

        def started(error: errors.OrlopError | None, _: bytes) -> None:
            self._busy = ""
            if error is None:
                self._mark_started(process, at_ns)
                call.reply(task_v2.StartResponse(process.pid))
            else:
                call.fail(error)
            process.release()

        self._runtime.run("start", [self.config.id], started)

    def _mark_started(self, process: Process, at_ns: int) -> None:
        if process.status == task_v2.CREATED:
            process.status = task_v2.RUNNING
        self._started_ns = at_ns
        ticks = exitfile.read_init(self.bundle)
        restarts = self._progress.restarts if self._progress is not None else 0
        init = exitfile.Init(process.pid, ticks.start_ticks if ticks is not None else 0, self._started_ns, restarts)
        for directory in filter(None, (self.bundle, self.config.record)):
            try:
                exitfile.write_init(directory, init)
            except OSError as error:
                note(f"cannot write {directory}/{exitfile.INIT}: {error.strerror}")
        if self.config.health:
            self._begin_checks()

    def _begin_checks(self) -> None:
        from . import probing

        try:
            self._checker = probing.Checker(
                self.loop,
                self._reaper,
                self.config.health,
                self.config.id,
                self.bundle,
                self.config.record or self.bundle,
                streams=lambda: self._streams(False, False),
                run=self._run_with_streams,
                is_paused=lambda: self._paused,
                note=note,
            )
        except (OSError, KeyError, TypeError) as error:  # a full disk must not keep it from running
            note(f"cannot check the health of {self.config.id}: {error}")
            return
        self._checker.begin(self._started_ns)

    # ------------------------------------------------------------------ exec

    def _exec(self, call: Call, request: task_v2.ExecProcessRequest) -> Message | None:
        self._check_id(request.id)
        init = self._find("")
        if not request.exec_id or request.exec_id in self._processes:
            raise errors.AlreadyExists(f"process {request.exec_id!r} exists")
        if init.status != task_v2.RUNNING:
            raise errors.FailedPrecondition(f"container {self.config.id} is not running")
        if request.spec is None or not request.spec.value:
            raise errors.InvalidArgument("an exec needs the process to start (an OCI process object as JSON)")
        stdio = self._streams(request.terminal, bool(request.stdin))
        if isinstance(stdio, Terminal):
            stdio.user = _user_of(request.spec.value)
        process = Process(self.loop, self._reaper, request.exec_id, stdio, self._exec_ended)
        process.paths = (request.stdin, request.stdout, request.stderr)
        self._count += 1
        spec = f"{self.bundle}/exec-{self._count}.json"
        fsio.write_atomic(spec, request.spec.value, durable=False)
        process.closers.append(lambda: exitfile.unlink_quietly(spec))
        process.spec = spec
        try:
            process.closers += fifos.attach(self.loop, stdio, *process.paths)
        except BaseException:
            process.close()
            raise
        self._processes[request.exec_id] = process
        return Empty()

    def _start_exec(self, call: Call, process: Process) -> None:
        if self._find("").status != task_v2.RUNNING:
            raise errors.FailedPrecondition(f"container {self.config.id} is not running")
        pid_file = f"{process.spec}.pid"
        process.status = task_v2.RUNNING
        tty = ["--tty"] if process.stdio.terminal else []
        args = ["--process", process.spec, "--detach", *tty, "--pid-file", pid_file, self.config.id]

        def started(error: errors.OrlopError | None, _: bytes) -> None:
            pid = _read_pid(pid_file)
            exitfile.unlink_quietly(pid_file)
            exitfile.unlink_quietly(process.spec)
            if error is None and not pid:
                error = errors.RuntimeFailed(f"{self.config.runtime_name} exec succeeded without telling a process id")
            if error is not None:
                init = self._processes.get("")
                if (init is None or init.exited is not None) and isinstance(error, errors.RuntimeFailed):
                    error = errors.FailedPrecondition(f"container {self.config.id} is not running")
                process.fail(error.exit_code, time.time_ns())
                call.fail(error)
                return
            process.stdio.begin()
            process.run(pid)
            call.reply(task_v2.StartResponse(pid))

        self._run_with_streams("exec", args, started, process.stdio)

    def _exec_ended(self, process: Process) -> None:
        """Forget the oldest of those that ended long ago: nobody deletes a process that was started and left alone."""
        over = [exec_id for exec_id, one in self._processes.items() if exec_id and one.exited is not None]
        for exec_id in over[:-MAX_ENDED_EXECS]:
            self._processes.pop(exec_id).close()

    # ------------------------------------------------------------------ the end

    def _init_ended(self, process: Process) -> None:
        """Called before anybody is told: write it down."""
        exited = process.exited
        if exited is None or process is not self._processes.get(""):
            return  # the latter: a restart that was given up
        self._paused = False
        if self._checker is not None:
            self._checker.stop()
            self._checker = None
        if not self._started_ns:
            return  # created and deleted: it never ran
        if self._cgroup is not None and cgroupstats.oom_kills(self._cgroup):
            exited = process.exited = exited.replace(oom=True)
        if not self._stopping and os.path.exists(f"{self.bundle}/restart.json"):
            exited = process.exited = self._consider_restart(exited)
        try:
            exitfile.write_exit(self.bundle, exited, durable=False)
        except OSError as error:
            note(f"cannot write {self.bundle}/{exitfile.EXIT}: {error.strerror}")
        # To the disk a moment later: an fsync must not stand between a process's end and those who wait for it.
        self._record_pending = exited
        self.loop.after(0, self._after_end)

    def _after_end(self) -> None:
        self._remove_task(lambda _: None if self._restarting is None else self._restart_later())
        self._write_record()
        self._look_around()

    # ------------------------------------------------------------------ restarting

    def _consider_restart(self, exited: Exited) -> Exited:
        """Its end, marked when the policy has it started again."""
        from . import restart

        before = self._progress or restart.Progress()
        ran_ns = exited.exited_ns - self._started_ns
        after = restart.decide(restart.read(self.bundle), before, exited.exit_status, ran_ns)
        if after is None:
            return exited.replace(restarts=before.restarts)
        self._progress = after
        self._restarting = []
        return exited.replace(restarting=True, restarts=after.restarts)

    def _restart_later(self) -> None:
        if self._stopping or self._progress is None:
            self._end_restart()
            return
        self._restart_timer = self.loop.after(self._progress.delay_s, self._restart)

    def _restart(self) -> None:
        from . import restart

        self._restart_timer = None
        old = self._find("")
        if restart.read(self.bundle).name == "no":  # `update` may have taken it away meanwhile
            self._end_restart()
            return
        self._busy = "restarted"
        self._removed = False
        old.close()  # the log is one file: it is closed before it is opened again
        old.closers.clear()
        try:
            self._make_init(old.stdio.terminal, old.paths, self._restart_made)
        except (errors.OrlopError, OSError) as error:
            note(f"cannot restart: {error}")
            self._end_restart()

    def _restart_made(self, error: errors.OrlopError | None, process: Process) -> None:
        if error is not None or self._stopping:
            self._restart_failed(error, process)
            return
        at_ns = time.time_ns()
        process.hold()

        def started(error: errors.OrlopError | None, _: bytes) -> None:
            if error is not None or self._stopping:
                self._restart_failed(error, process)
                return
            self._busy = ""
            self._restarting = None
            self._processes[""] = process
            self._mark_started(process, at_ns)
            for directory in filter(None, (self.bundle, self.config.record)):
                exitfile.unlink_quietly(f"{directory}/{exitfile.EXIT}")
            process.release()

        self._runtime.run("start", [self.config.id], started)

    def _restart_failed(self, error: errors.OrlopError | None, process: Process) -> None:
        if error is not None:
            note(f"cannot restart: {error.message}")
            old = self._find("")
            if old.exited is not None:
                old.exited = old.exited.replace(exit_status=error.exit_code, exited_ns=time.time_ns())
        process.close()
        self._remove_task(lambda _: self._end_restart())

    def _end_restart(self) -> None:
        """It stays ended."""
        waiting, self._restarting = self._restarting or [], None
        self._busy = ""
        self._removed = False  # the root file system is still mounted
        process = self._find("")
        if process.exited is not None:
            ended = process.exited = process.exited.replace(restarting=False)
            try:
                exitfile.write_exit(self.bundle, ended, durable=False)
            except OSError as error:
                note(f"cannot write {self.bundle}/{exitfile.EXIT}: {error.strerror}")
            self._record_pending = ended
        for call in waiting:
            call()
        self.loop.after(0, self._after_end)

    def _give_up_restart(self, then: Callable[[], object]) -> None:
        """Call then once it is certain that no restart is under way, nor will come."""
        self._stopping = True
        if self._restarting is None:
            then()
            return
        self._restarting.append(then)
        if self._restart_timer is not None:
            self._restart_timer.cancel()
            self._restart_timer = None
            self._end_restart()

    def _write_record(self) -> None:
        exited, self._record_pending = self._record_pending, None
        if exited is None or not self.config.record:
            return
        try:
            exitfile.write_exit(self.config.record, exited, durable=True)
        except OSError as error:
            note(f"cannot write {self.config.record}/{exitfile.EXIT}: {error.strerror}")

    def _remove_task(self, done: Callable[[errors.OrlopError | None], object]) -> None:
        """Take away what the OCI runtime keeps of the task: its state, cgroup and processes. Once, however often."""
        if self._removed:
            done(None)
            return
        if self._removing is not None:
            self._removing.append(done)
            return
        self._removing = [done]

        def removed(error: errors.OrlopError | None, _: bytes) -> None:
            left = self._remove_leftovers()
            waiting, self._removing = self._removing or [], None
            self._removed = left is None
            if left is not None and error is not None:
                note(f"{error.message}; {left.message}")
            for call in waiting:
                call(left)

        self._runtime.run("delete", ["--force", self.config.id], removed)

    def _remove_leftovers(self) -> errors.OrlopError | None:
        """What is still there although the runtime was told to delete it (it may have lost its own state)."""
        init = self._processes.get("")
        if init is not None and init.exited is None:
            try:
                init.kill(9)
            except errors.OrlopError:
                pass  # it has ended: that is what was wanted
        try:
            self._remove_cgroup()
            if self._restarting is None:
                mounts.unmount_all(f"{self.bundle}/rootfs")
        except (errors.OrlopError, OSError) as error:
            return errors.RuntimeFailed(f"cannot clean up after {self.config.id}: {error}")
        return None

    def _remove_cgroup(self) -> None:
        cgroup = self._cgroup or self._cgroup_of_spec()
        while cgroup is not None and any(os.path.isdir(path) for path in cgroup.directories()):
            try:
                cgroups.kill_all(cgroup)
                cgroups.remove(cgroup)
            except FileNotFoundError:
                continue  # somebody else removed a part of it at this moment

    def _cgroup_of(self, pid: int) -> cgroups.Cgroup:
        """The container's cgroups, without those it shares with this monitor: they are killed and removed."""
        theirs = cgroups.of_process(pid, self._layout)
        own = {f"{path}/" for path in cgroups.of_process("self", self._layout).directories()}

        def apart(path: str) -> bool:
            return bool(path) and not any(one.startswith(f"{path}/") for one in own)

        v1 = {name: path for name, path in theirs.v1.items() if apart(path)}
        return cgroups.Cgroup(v1, theirs.unified if apart(theirs.unified) else "")

    def _cgroup_of_spec(self) -> cgroups.Cgroup | None:
        try:
            spec = jsonio.loads(fsio.read_file(f"{self.bundle}/config.json"))
            path = spec["linux"]["cgroupsPath"]
            return cgroups.at(path, self._layout) if isinstance(path, str) and path.startswith("/") else None
        except (OSError, ValueError, KeyError, TypeError, errors.InvalidArgument):
            return None

    def _delete(self, call: Call, request: task_v2.DeleteRequest) -> Message | None:
        self._check_id(request.id)
        process = self._find(request.exec_id)
        if request.exec_id:
            if process.exited is None and process.status != task_v2.CREATED:
                raise errors.FailedPrecondition(f"process {request.exec_id} is running")
            del self._processes[request.exec_id]
            process.close()
            return self._delete_response(process)
        if self._restarting is not None:
            self._give_up_restart(lambda: self._delete_init(call))
        else:
            self._delete_init(call)
        return None

    def _delete_init(self, call: Call) -> None:
        process = self._find("")
        if process.exited is None and process.status != task_v2.CREATED:
            raise errors.FailedPrecondition(f"task {self.config.id} is running")
        if self._busy:
            raise errors.FailedPrecondition(f"task {self.config.id} is being {self._busy}")
        self._busy = "deleted"

        def gone(_: Exited) -> None:
            self._forget_task()
            call.reply(self._delete_response(process))

        def removed(error: errors.OrlopError | None) -> None:
            if error is not None:
                self._busy = ""
                call.fail(error)
                return
            self._write_record()
            process.wait(gone)  # at once, but for a task that was never started: it ends here

        self._remove_task(removed)

    def _forget_task(self) -> None:
        self._busy = ""
        self._deleted = True
        for process in list(self._processes.values()):
            process.close()
        self._processes.clear()

    def _delete_response(self, process: Process) -> task_v2.DeleteResponse:
        exited = process.exited
        if exited is None or not (process.exec_id or self._started_ns):
            return task_v2.DeleteResponse(process.pid)
        return task_v2.DeleteResponse(process.pid, exited.exit_status, Timestamp.from_ns(exited.exited_ns))

    # ------------------------------------------------------------------ asking and telling

    def _wait(self, call: Call, request: task_v2.WaitRequest) -> Message | None:
        self._check_id(request.id)

        def ended(exited: Exited) -> None:
            call.reply(task_v2.WaitResponse(exited.exit_status, Timestamp.from_ns(exited.exited_ns)))

        self._find(request.exec_id).wait(ended)
        return None

    def _state(self, call: Call, request: task_v2.StateRequest) -> Message | None:
        self._check_id(request.id)
        process = self._find(request.exec_id)
        status = process.status
        if self._paused and not request.exec_id and status == task_v2.RUNNING:
            status = task_v2.PAUSED
        exited = process.exited
        return task_v2.StateResponse(
            self.config.id,
            self.bundle,
            process.pid,
            status,
            *process.paths,
            terminal=process.stdio.terminal,
            exit_status=exited.exit_status if exited is not None else 0,
            exited_at=Timestamp.from_ns(exited.exited_ns) if exited is not None else None,
            exec_id=request.exec_id,
        )

    def _connect(self, call: Call, request: task_v2.ConnectRequest) -> Message | None:
        init = self._processes.get("")
        return task_v2.ConnectResponse(os.getpid(), init.pid if init is not None else 0, VERSION)

    def _pids(self, call: Call, request: task_v2.PidsRequest) -> Message | None:
        self._check_id(request.id)
        found = cgroups.pids(self._require_cgroup())
        execs = {process.pid: process.exec_id for process in self._processes.values() if process.exec_id}
        return task_v2.PidsResponse(
            tuple(
                task_v2.ProcessInfo(
                    pid,
                    AnyMessage(task_v2.PROCESS_DETAILS_TYPE, task_v2.ProcessDetails(execs[pid]).encode())
                    if pid in execs
                    else None,
                )
                for pid in found
            )
        )

    def _stats(self, call: Call, request: task_v2.StatsRequest) -> Message | None:
        self._check_id(request.id)
        stats = cgroupstats.read(self._require_cgroup())
        return task_v2.StatsResponse(AnyMessage(STATS_TYPE, jsonio.dump_bytes(stats.as_dict())))

    def _require_cgroup(self) -> cgroups.Cgroup:
        process = self._find("")
        if self._cgroup is None or process.exited is not None:
            raise errors.FailedPrecondition(f"container {self.config.id} is not running")
        return self._cgroup

    # ------------------------------------------------------------------ acting on it

    def _kill(self, call: Call, request: task_v2.KillRequest) -> Message | None:
        self._check_id(request.id)
        process = self._find(request.exec_id)
        if not request.exec_id and not self._stopping and os.path.exists(f"{self.bundle}/restart.json"):
            from . import restart

            if restart.ends_it(restart.read(self.bundle), request.signal):
                self._stopping = True
        if self._restarting is not None and self._stopping and not request.exec_id:
            self._give_up_restart(lambda: call.reply(Empty()))
            return None
        if request.all and not request.exec_id and process.exited is None and self._cgroup is not None:
            cgroups.kill_all(self._cgroup, request.signal)
            return Empty()
        process.kill(request.signal)
        if request.signal == 9 and self._paused:
            # A frozen process takes the signal when it thaws (on cgroup v1).
            self._command(call, "resume", [self.config.id], self._resumed)
            return None
        return Empty()

    def _pause(self, call: Call, request: task_v2.PauseRequest) -> Message | None:
        self._check_id(request.id)
        if self._find("").status != task_v2.RUNNING or self._paused:
            raise errors.FailedPrecondition(f"container {self.config.id} is not running")
        self._command(call, "pause", [self.config.id], self._has_paused)
        return None

    def _resume(self, call: Call, request: task_v2.ResumeRequest) -> Message | None:
        self._check_id(request.id)
        self._find("")
        if not self._paused:
            raise errors.FailedPrecondition(f"container {self.config.id} is not paused")
        self._command(call, "resume", [self.config.id], self._resumed)
        return None

    def _has_paused(self) -> None:
        self._paused = True

    def _resumed(self) -> None:
        self._paused = False

    def _update(self, call: Call, request: task_v2.UpdateTaskRequest) -> Message | None:
        self._check_id(request.id)
        self._find("")
        if request.resources is None or not request.resources.value:
            raise errors.InvalidArgument("an update needs resources (an OCI resources object as JSON)")
        self._count += 1
        path = f"{self.bundle}/resources-{self._count}.json"
        fsio.write_atomic(path, request.resources.value, durable=False)

        def updated(error: errors.OrlopError | None, _: bytes) -> None:
            exitfile.unlink_quietly(path)
            if error is not None:
                call.fail(error)
            else:
                call.reply(Empty())

        self._runtime.run("update", ["--resources", path, self.config.id], updated)
        return None

    def _command(self, call: Call, verb: str, args: list[str], then: Callable[[], object]) -> None:
        def done(error: errors.OrlopError | None, _: bytes) -> None:
            if error is not None:
                call.fail(error)
                return
            then()
            call.reply(Empty())

        self._runtime.run(verb, args, done)

    def _close_io(self, call: Call, request: task_v2.CloseIORequest) -> Message | None:
        self._check_id(request.id)
        process = self._find(request.exec_id)
        if request.stdin:
            process.stdio.end_input()
        return Empty()

    def _checkpoint(self, call: Call, request: task_v2.CheckpointTaskRequest) -> Message | None:
        raise errors.Unimplemented("this monitor does not checkpoint tasks")

    def _resize_pty(self, call: Call, request: task_v2.ResizePtyRequest) -> Message | None:
        self._check_id(request.id)
        self._find(request.exec_id).stdio.resize(request.width, request.height)
        return Empty()

    # ------------------------------------------------------------------ going

    def _shutdown(self, call: Call, request: task_v2.ShutdownRequest) -> Message | None:
        if self._processes and not request.now:
            raise errors.FailedPrecondition(f"task {self.config.id} is not deleted")
        if self._busy and not request.now:
            raise errors.FailedPrecondition(f"task {self.config.id} is being {self._busy}")
        self.loop.after(0, self._leave)  # after the answer: that the connection closes means that we are gone
        return Empty()

    def _client_gone(self) -> None:
        self._look_around()

    def _look_around(self) -> None:
        """Somebody came, went, or it ended: is it time to run the cleaner, or to go?"""
        if self._attach.owners:
            self._had_owner = True
            return
        init = self._processes.get("")
        over = self._deleted or (init is not None and init.exited is not None and self._restarting is None)
        if not over:
            return
        if self.config.on_exit and not self._cleaner_run and not self._deleted:
            if not self._had_owner:
                self._run_cleaner()
            else:
                self.loop.after(CLEANER_GRACE_S, self._run_cleaner)
        if not self._server.connections and not self._attach.clients:
            self._quiet_since = time.monotonic()
            self.loop.after(self._idle_s, self._go_if_quiet)

    def _run_cleaner(self) -> None:
        if self._cleaner_run or self._deleted or self._busy or self._attach.owners:
            return
        self._cleaner_run = True
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
            argv = self.config.on_exit
            os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True, setsigmask=())
        except OSError as error:
            note(f"cannot run the cleaner {self.config.on_exit[0]}: {error.strerror}")
        finally:
            os.close(null)

    def _go_if_unused(self) -> None:
        if self._processes or self._deleted:
            return
        if self._server.connections or self._busy:
            self.loop.after(UNUSED_S, self._go_if_unused)
        else:
            self._leave()

    def _go_if_quiet(self) -> None:
        if (
            self._server.connections
            or self._attach.clients
            or time.monotonic() - self._quiet_since < self._idle_s * 0.9
        ):
            return
        if self._busy:
            return

        def removed(error: errors.OrlopError | None) -> None:
            if error is None:
                self._forget_task()
                self._leave()

        self._remove_task(removed)

    def _leave(self) -> None:
        """Close everything; what is left in the bundle says what is left on the machine."""
        self._write_record()
        for process in self._processes.values():
            process.close()
        clean = not self._processes
        self._attach.close()
        for path in self._addresses:
            exitfile.unlink_quietly(path)
        if clean:
            exitfile.unlink_quietly(f"{self.bundle}/{exitfile.ADDRESS}")
        self._on_gone()
        self.loop.stop()

    # ------------------------------------------------------------------ helpers

    def recover(self) -> None:
        """Take over what a monitor that is no more has left in this bundle."""
        self._stopping = True  # who took over knows neither the streams nor the policy's progress
        self._kill_strays()
        self._remove_console_sockets()
        init = exitfile.read_init(self.bundle)
        process = Process(self.loop, self._reaper, "", Stdio(self.loop, False), self._init_ended)
        self._processes[""] = process
        ended = exitfile.end_of(init, self.bundle)
        if ended is None and init is not None and kernel_process.is_alive(init.pid, init.start_ticks):
            process.status = task_v2.RUNNING if init.started_ns else task_v2.CREATED
            if process.adopt(init.pid):
                self._started_ns = init.started_ns
                self._cgroup = self._cgroup_of(init.pid)
                self._paused = self._cgroup is not None and cgroups.is_frozen(self._cgroup)
                return
        process.status = task_v2.STOPPED
        if ended is None and init is not None and init.started_ns:
            ended = exitfile.Exited(exitfile.UNKNOWN_STATUS, 0, init.pid)
            exitfile.write_exit(self.bundle, ended, durable=False)
        if ended is not None:
            ended = ended.replace(restarting=False)
        self._record_pending = ended  # the dead one may not have come to it
        process.exited = ended or exitfile.Exited(exitfile.UNKNOWN_STATUS, 0)

    def _remove_console_sockets(self) -> None:
        """Those on which the dead monitor waited for a terminal."""
        directory, name = os.path.split(self.address.removesuffix("sock"))
        for found in os.listdir(directory):
            if found.startswith(name) and found.removeprefix(name).isdigit():
                exitfile.unlink_quietly(f"{directory}/{found}")

    def _kill_strays(self) -> None:
        """End commands of the OCI runtime that the dead monitor had started: they would go on making the container."""
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                words = os.fsdecode(fsio.read_file(f"/proc/{name}/cmdline", 1 << 20)).split("\0")
                if words[0] == self.config.runtime[0] and any(word.startswith(self.bundle) for word in words):
                    os.kill(int(name), 9)
            except (OSError, errors.ResourceExhausted):
                continue  # it has just ended

    def _find(self, exec_id: str) -> Process:
        process = self._processes.get(exec_id)
        if process is None:
            what = f"process {exec_id} of {self.config.id}" if exec_id else f"task {self.config.id}"
            raise errors.NotFound(f"no such {what}" if exec_id else f"{what} is not created")
        return process

    def _check_id(self, asked: str) -> None:
        if asked != self.config.id:
            raise errors.NotFound(f"no such task: {asked} (this monitor serves {self.config.id})")


def note(sentence: str) -> None:
    """A line of the monitor's log."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        print(f"{at} {sentence}", file=sys.stderr, flush=True)
    except OSError:
        pass  # even the log cannot be written: there is nobody left to tell


def _user_of(process: bytes) -> int:
    """The user ID of an OCI process object, 0 when it says none that is one."""
    try:
        user = jsonio.loads(process)["user"]["uid"]
        return user if isinstance(user, int) and 0 <= user < 1 << 32 else 0
    except (ValueError, KeyError, TypeError):
        return 0


def _read_pid(path: str) -> int:
    """The pid in a pid file, 0 when there is none."""
    try:
        return int(fsio.read_file(path, 64))
    except (OSError, ValueError, errors.ResourceExhausted):
        return 0
