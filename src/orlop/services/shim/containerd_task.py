"""The monitor as containerd knows a shim: it publishes the task's events, takes runc's options, gives containerd's
metrics, and stays until it is told to go.

What differs from a monitor of Orlop's own is only here. May import only the interpreter's cheap modules.
"""

from __future__ import annotations

import os
import time

from ...base import fsio, jsonio
from ...base.ttrpc import task_v2
from ...base.ttrpc.server import Method
from ...base.ttrpc.wire import AnyMessage, Empty, Message, Timestamp
from . import exitfile, fifos, metrics, monitor, task_events
from .oci import Runtime
from .oomwatch import OomWatch
from .publisher import Publisher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ...base import errors
    from ...base.kernel import cgroups
    from ...base.ttrpc.loop import Loop
    from ...base.ttrpc.server import Call
    from .process import Process
    from .reaper import Reaper

FLUSH_S = 2.0
"""How long a shim that was told to go waits for containerd to take its last events."""
_SIGKILL = 9


def options_of(raw: AnyMessage | None) -> task_v2.RuncOptions:
    """The runtime options of a request; options of another kind, and what is unknown in them, are passed over.

    Raises InvalidArgument (wire.Malformed) for bytes that are no message.
    """
    if raw is None or raw.type_url.rpartition("/")[2] != task_v2.RUNC_OPTIONS_TYPE:
        return task_v2.RuncOptions()
    return task_v2.RuncOptions.decode(raw.value)


def configuration(
    namespace: str, task_id: str, options: task_v2.RuncOptions, find: Callable[[str], str], state: str, hybrid: bool
) -> dict[str, Any]:
    """monitor.json for a task of containerd's.

    find: the path of the runtime that the options name ("": the default). state: directory for the OCI runtimes' own
    state, unless the options give one. hybrid: whether crun must not see cgroup2 (docs/architecture.md).
    """
    path = find(options.binary_name)
    name = os.path.basename(path)
    root = options.root or f"{state}/{name}"
    argv = [path, "--root", f"{root}/{namespace}"]
    if options.systemd_cgroup:
        argv.append("--systemd-cgroup")
    return {
        "version": 1,
        "namespace": namespace,
        "id": task_id,
        "runtime": argv,
        "runtime_name": name,
        "hide_unified": hybrid and name.startswith("crun"),
        "log": {"driver": "none"},
        "record": "",
        "open_stdin": False,
        "on_exit": [],
    }


class ContainerdTask(monitor.Monitor):
    """One task under containerd.

    bundle, address, attach_address, layout, on_gone: as for Monitor. configure: makes monitor.json's object for
    options. publishing: what Publisher takes after the loop and the reaper, but for `note`.
    """

    def __init__(
        self,
        bundle: str,
        address: str,
        attach_address: str,
        layout: cgroups.Layout,
        on_gone: Callable[[], object],
        configure: Callable[[task_v2.RuncOptions], dict[str, Any]],
        publishing: tuple[str, str, str, str],
    ) -> None:
        super().__init__(bundle, address, attach_address, layout, on_gone)
        self._configure = configure
        self._publisher = Publisher(self.loop, self._reaper, *publishing, monitor.note)
        self._oom: OomWatch | None = None

    def _methods(self) -> dict[str, Method]:
        announce: dict[str, Callable[[Any, Any], Message]] = {
            "Create": self._created,
            "Start": _start_event,
            "Exec": lambda asked, _: task_events.TaskExecAdded(asked.id, asked.exec_id),
            "Pause": lambda asked, _: task_events.TaskPaused(asked.id),
            "Resume": lambda asked, _: task_events.TaskResumed(asked.id),
        }
        methods = super()._methods()
        for name, event in announce.items():
            methods[name] = Method(methods[name].request, self._announced(methods[name].handler, event))
        delete = methods["Delete"]
        of_exec, of_task = delete.handler, self._announced(delete.handler, _delete_event)
        methods["Delete"] = Method(
            delete.request, lambda call, asked: (of_exec if asked.exec_id else of_task)(call, asked)
        )
        return methods

    def _announced(
        self, handler: Callable[[Call, Any], Message | None], event: Callable[[Any, Any], Message]
    ) -> Callable[[Call, Any], Message | None]:
        """The handler, with the event published just before its answer goes out."""

        def handle(call: Call, asked: Any) -> Message | None:
            answering: Any = _Answering(call, lambda reply: self._publisher.publish(event(asked, reply)))
            reply = handler(answering, asked)
            if reply is not None:
                self._publisher.publish(event(asked, reply))
            return reply

        return handle

    def _create(self, call: Call, request: task_v2.CreateTaskRequest) -> Message | None:
        if request.options is not None and not self._processes and not self._busy:
            self._use(options_of(request.options))
        return super()._create(call, request)

    def _created(self, asked: task_v2.CreateTaskRequest, reply: task_v2.CreateTaskResponse) -> Message:
        """The event of a task that has just been created; its cgroup is there, too."""
        if self._cgroup is not None:
            self._oom = OomWatch(self.loop, self._cgroup, self._publish_oom)
        io = task_events.TaskIO(asked.stdin, asked.stdout, asked.stderr, asked.terminal)
        return task_events.TaskCreate(asked.id, asked.bundle, asked.rootfs, io, asked.checkpoint, reply.pid)

    def _publish_oom(self) -> None:
        self._publisher.publish(task_events.TaskOOM(self.config.id))

    def _use(self, options: task_v2.RuncOptions) -> None:
        """Take the runtime that the options ask for, and write down which, for who cleans up after us."""
        said = self._configure(options)
        fsio.write_atomic(f"{self.bundle}/monitor.json", jsonio.dump_bytes(said), durable=False)
        config = self.config = monitor.Config(said)
        flags = ["--no-pivot"] if options.no_pivot_root else []
        if options.no_new_keyring:
            flags.append("--no-new-keyring")
        self._runtime = _Runtime(self.loop, self._reaper, config, self.bundle, flags)

    def _init_ended(self, process: Process) -> None:
        super()._init_ended(process)
        exited = process.exited
        if exited is not None:
            if self._oom is not None:
                if self._oom.look():
                    self._publish_oom()
                self._oom.close()
            self._publish_exit(process, self.config.id)

    def _exec_ended(self, process: Process) -> None:
        if process.pid:  # one that could not be started has no end either
            self._publish_exit(process, process.exec_id)
        super()._exec_ended(process)

    def _publish_exit(self, process: Process, exit_id: str) -> None:
        exited = process.exited
        if exited is not None:
            at = Timestamp.from_ns(exited.exited_ns)
            event = task_v2.TaskExit(self.config.id, exit_id, process.pid, exited.exit_status, at)
            self._publisher.publish(event)

    def _close_io(self, call: Call, request: task_v2.CloseIORequest) -> Message | None:
        self._check_id(request.id)
        process = self._find(request.exec_id)
        if request.stdin and not fifos.end_input(process.closers):
            process.stdio.end_input()
        return Empty()

    def _stats(self, call: Call, request: task_v2.StatsRequest) -> Message | None:
        self._check_id(request.id)
        return task_v2.StatsResponse(metrics.read(self._require_cgroup()))

    def _look_around(self) -> None:
        """A task that has ended stays until containerd deletes it, however long that is away."""

    def _leave(self) -> None:
        self._publisher.flush(self._leave_now, FLUSH_S)

    def _leave_now(self) -> None:
        self._publisher.close()
        super()._leave()

    def clean(self, done: Callable[[task_v2.DeleteResponse], object]) -> None:
        """End and remove all that a shim which is no more has left, after `recover`; then call with how it ended.

        Raises nothing: what could not be removed is noted.
        """
        process = self._processes[""]
        ended = process.exited  # None: it lives, and we end it

        def removed(error: errors.OrlopError | None) -> None:
            if error is not None:
                monitor.note(error.message)
            status, at = 128 + _SIGKILL, time.time_ns()
            if ended is not None and ended.exited_ns:
                status, at = ended.exit_status, ended.exited_ns
            pid = process.pid or (ended.pid if ended is not None else 0)
            try:
                exitfile.write_exit(self.bundle, exitfile.Exited(status, at, pid), durable=False)  # for who asks again
            except OSError as failed:
                monitor.note(f"cannot write {self.bundle}/{exitfile.EXIT}: {failed.strerror}")
            done(task_v2.DeleteResponse(pid, status, Timestamp.from_ns(at)))

        self._remove_task(removed)


class _Answering:
    """A call whose answer is looked at before it goes out; all that a monitor's handlers do with a call."""

    __slots__ = ("_before", "_call")

    def __init__(self, call: Call, before: Callable[[Message], object]) -> None:
        self._call = call
        self._before = before

    def reply(self, message: Message) -> None:
        self._before(message)
        self._call.reply(message)

    def fail(self, error: BaseException) -> None:
        self._call.fail(error)


class _Runtime(Runtime):
    """A runtime whose `create` has flags of its own."""

    def __init__(
        self, loop: Loop, reaper: Reaper, config: monitor.Config, directory: str, create_flags: Sequence[str]
    ) -> None:
        super().__init__(
            loop,
            reaper,
            config.runtime,
            config.runtime_name,
            directory,
            hide_unified=config.hide_unified,
            timeout=config.runtime_timeout,
        )
        self._create_flags = tuple(create_flags)

    def run(
        self,
        verb: str,
        args: Sequence[str],
        done: Callable[[errors.OrlopError | None, bytes], object],
        *,
        stdio: tuple[int, int, int] | None = None,
        said: Callable[[], bytes] | None = None,
    ) -> None:
        if verb == "create":
            args = [*self._create_flags, *args]
        super().run(verb, args, done, stdio=stdio, said=said)


def _start_event(asked: task_v2.StartRequest, reply: task_v2.StartResponse) -> Message:
    if asked.exec_id:
        return task_events.TaskExecStarted(asked.id, asked.exec_id, reply.pid)
    return task_events.TaskStart(asked.id, reply.pid)


def _delete_event(asked: task_v2.DeleteRequest, reply: task_v2.DeleteResponse) -> Message:
    return task_events.TaskDelete(asked.id, reply.pid, reply.exit_status, reply.exited_at)
