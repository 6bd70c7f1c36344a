"""The verbs of containers: create, start, run, stop, kill, exec, wait, logs, remove.

On the path of `run`. Whatever two processes do to one container at once, a flock in the container's record directory
puts in order; what is running is read from the kernel and the monitor, never remembered.
"""

from __future__ import annotations

import os
import time

from ..base import errors, fsio
from ..base.cancel import NEVER, Cancel
from ..base.progress import SILENT, Sink
from ..services.shim import state as task_state
from ..stores.containers.api import Container as Record
from . import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ..base.oci.platform import Platform
    from ..services.runtime.options import RunOptions
    from ..services.runtime.tasks import Attachment, Task
    from ..services.shim.health import Health
    from ..services.shim.logread import Line
    from ..services.shim.state import TaskState
    from ..stores.networks.api import Endpoint
    from .engine import Engine
    from .images import Resolved
    from .networking import NetworkOptions
    from .wiring import Wiring

STOP_TIMEOUT_S = 10
ACTIVE = ("running", "paused", "restarting")
"""States of a container that is not at rest."""
_CONFIG = "orlop.config"
_LOG_DRIVERS = ("json-file", "none")


class LogOptions:
    """Where a container's output goes. max_size: bytes before the log is rotated (0: never); max_file: files kept."""

    __slots__ = ("driver", "max_file", "max_size")

    def __init__(self, driver: str = "json-file", max_size: int = 0, max_file: int = 1) -> None:
        if driver not in _LOG_DRIVERS:
            raise errors.InvalidArgument(f"unknown log driver {driver!r}", advice="use json-file or none")
        if max_size < 0 or max_file < 1:
            raise errors.InvalidArgument("max-size must not be negative and max-file must be at least 1")
        self.driver = driver
        self.max_size = max_size
        self.max_file = max_file


class Containers:
    """`engine.containers`."""

    def __init__(self, wiring: Wiring, engine: Engine | None = None) -> None:
        self._wiring = wiring
        self._engine = engine

    # ------------------------------------------------------------------ finding

    def get(self, text: str) -> Container:
        """A container by id, name, or an unambiguous prefix of an id. NotFound otherwise."""
        return Container(self._wiring, self._wiring.containers.resolve(text))

    def list(self, all: bool = False) -> Sequence[Container]:
        """Containers, newest first: those that run, or all."""
        found = [Container(self._wiring, record) for record in self._wiring.containers.list()]
        return found if all else [c for c in found if c.state().status in ACTIVE]

    # ------------------------------------------------------------------ making

    def create(
        self,
        image: str,
        args: Sequence[str] = (),
        *,
        name: str = "",
        options: RunOptions | None = None,
        network: NetworkOptions | None = None,
        log: LogOptions | None = None,
        remove: bool = False,
        interactive: bool = False,
        stop_timeout: int | None = None,
        platform: str | Platform | None = None,
        pull: str = "missing",
        labels: dict[str, str] | None = None,
        progress: Sink = SILENT,
        cancel: Cancel = NEVER,
        warn: Callable[[str], None] | None = None,
    ) -> Container:
        """Make a container of an image; it does not run yet.

        args: replaces the image's command. remove: it is removed when it exits. interactive: its standard input can
        be written to. stop_timeout: seconds that `stop` waits (None: the image's, or 10).
        pull: "missing", "always" or "never". warn: takes one line for each flag that could only be
        applied in part.
        """
        from ..services.runtime.options import RunOptions
        from . import creation

        if name and not names.is_valid(name):
            raise errors.InvalidArgument(f"invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
        resolved = self._image(image, platform, pull, progress, cancel)
        record = creation.create(
            self._wiring,
            resolved,
            args,
            options or RunOptions(),
            network,
            name=name,
            log=log or LogOptions(),
            remove=remove,
            interactive=interactive,
            stop_timeout=stop_timeout,
            labels=labels or {},
            cancel=cancel,
            warn=warn or _ignore,
        )
        return Container(self._wiring, record)

    def run(
        self,
        image: str,
        args: Sequence[str] = (),
        *,
        detach: bool = False,
        remove: bool = False,
        **options: Any,
    ) -> Container:
        """Make a container and start it; the arguments of `create`.

        Without detach, waits for it to end; its output is then in `output`, and with remove it is gone. When that is
        cut off (KeyboardInterrupt, a cancel), the container is killed; it is kept, unless remove was asked for. A
        container that cannot be started is kept likewise.
        """
        container = self.create(image, args, remove=remove, **options)
        try:
            if detach:
                container.start()
            else:
                container.run_to_end(options.get("cancel", NEVER))
        except BaseException:
            container.abandon()
            raise
        return container

    def _image(
        self, image: str, platform: str | Platform | None, pull: str, progress: Sink, cancel: Cancel
    ) -> Resolved:
        from .images import Images

        images = self._engine.images if self._engine is not None else Images(self._wiring)
        if pull == "always":
            images.pull(image, platform=platform, progress=progress, cancel=cancel)
        elif pull not in ("missing", "never"):
            raise errors.InvalidArgument(f"invalid pull option: {pull!r}", advice='use "always", "missing" or "never"')
        try:
            return images.resolve(image, platform)
        except errors.NotFound:
            if pull != "missing":
                raise
        images.pull(image, platform=platform, progress=progress, cancel=cancel)
        return images.resolve(image, platform)


class Container:
    """One container: its record, and what can be done to it. The record is as it was when this object was made."""

    def __init__(self, wiring: Wiring, record: Record) -> None:
        self._wiring = wiring
        self.record = record
        self.output = b""
        """What a foreground `run` printed, standard output and error as they came (empty otherwise)."""
        self.exit_code: int | None = None
        """The exit code of a foreground `run`."""

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def short_id(self) -> str:
        return self.record.id[:12]

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def bundle(self) -> str:
        return self._wiring.bundle(self.id)

    @property
    def record_dir(self) -> str:
        return self._wiring.record_dir(self.id)

    @property
    def log_path(self) -> str:
        return f"{self.record_dir}/{self.id}-json.log"

    def _config(self) -> dict[str, Any]:
        config = self.record.extensions.get(_CONFIG, {})
        return config if isinstance(config, dict) else {}

    @property
    def terminal(self) -> bool:
        """Whether its process has a terminal (`-t`)."""
        return bool(self._config().get("terminal"))

    def state(self) -> TaskState:
        """What the kernel and the disk say of it now."""
        return task_state.read(self.bundle, self.record_dir)

    @property
    def status(self) -> str:
        """created, running, paused, restarting or exited."""
        return self.state().status

    def _lock(self, cancel: Cancel = NEVER) -> fsio.Lock:
        try:
            return fsio.lock(f"{self.record_dir}/lock", cancel=None if cancel is NEVER else cancel)
        except FileNotFoundError:
            raise errors.NotFound(f"no such container: {self.id}") from None

    def _task(self) -> Task:
        from ..services.runtime import tasks

        return tasks.connect(self.bundle)

    # ------------------------------------------------------------------ running

    def start(
        self, *, attach: bool = False, size: tuple[int, int] | None = None, cancel: Cancel = NEVER
    ) -> Attachment | None:
        """Start it (again). With attach, returns the stream of its output, from its first byte.

        size: (columns, rows) of its terminal, if it has one. Starting a running container does nothing. Raises
        CommandNotFound, CommandNotExecutable, RuntimeFailed.
        """
        from . import starting

        with self._lock(cancel):
            status = self.state().status
            if status == "paused":
                raise errors.FailedPrecondition(
                    f"cannot start a paused container {self.name or self.short_id}", advice="unpause it instead"
                )
            if status == "running":
                if not attach:
                    return None
                return self._task().attach(stdin=bool(self._config().get("interactive")), size=size)
            if status == "restarting":
                if attach:
                    self._require_running()
                return None
            self._forget_stop()
            return starting.start(self._wiring, self, attach=attach, size=size, cancel=cancel)

    def run_to_end(self, cancel: Cancel = NEVER) -> int:
        """Start it, collect its output, wait for its end; remove it when it was made so. Returns the exit code."""
        collected: list[bytes] = []
        attachment = self.start(attach=True, cancel=cancel)
        if attachment is not None:
            with attachment:
                for _, data in attachment.frames(cancel):
                    collected.append(data)
        self.output = b"".join(collected)
        self.exit_code = self.ended(attachment, cancel)
        self.finish()
        return self.exit_code

    def ended(self, attachment: Attachment | None, cancel: Cancel = NEVER) -> int:
        """The exit code of the run whose output `attachment` had, also when a restart policy has begun another."""
        if attachment is not None and attachment.exit is not None:
            return attachment.exit.status
        return self.wait(cancel=cancel)

    def finish(self) -> None:
        """After a foreground run: clear the ended task away, and the container itself when it was made with remove."""
        if self._config().get("remove"):
            self.remove(force=True, volumes=True)
            return
        with self._lock():
            if self.state().status not in ACTIVE:
                self._delete_task()

    def abandon(self) -> None:
        """After a run that failed or was cut off: kill it, and remove it when it was made with remove. Raises nothing:
        there is an error to be told already.
        """
        try:
            if self._config().get("remove"):
                self.remove(force=True)
            else:
                self.kill(9)
        except (errors.OrlopError, OSError):
            pass  # it does not run, or somebody else has removed it

    def attach(self, *, stdin: bool = False, size: tuple[int, int] | None = None) -> Attachment:
        """The stream of a running container's output from now on. size: (columns, rows) its terminal gets."""
        self._require_running()
        return self._task().attach(stdin=stdin, size=size)

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of its terminal. FailedPrecondition when it has none, or does not run."""
        self._require_running()
        with self._task() as task:
            task.resize(columns, rows)

    def wait(self, *, cancel: Cancel = NEVER) -> int:
        """Wait until it has ended; returns its exit code (0 for one that has never run, as Docker does).

        An end after which its restart policy starts it again is one as well; of one that is about to be started
        again, the next end is waited for.
        """
        ends = -1
        while True:
            state = self.state()
            if state.status not in ACTIVE:
                return state.exit_status or 0
            if state.status == "restarting":
                if ends not in (-1, state.restarts):
                    return state.exit_status or 0  # it ran and ended between two looks
                ends = state.restarts
            elif state.monitor_alive:
                try:
                    return self._task().wait(cancel=cancel)
                except (errors.Unavailable, errors.NotFound):
                    cancel.check()  # it ended, or its monitor did, just now: look again
            time.sleep(cancel.remaining(0.02) or 0)

    def kill(self, signal: int = 9) -> None:
        """Send a signal to its first process. FailedPrecondition when it does not run.

        One that ends containers (SIGKILL, SIGTERM, SIGINT, SIGQUIT, its stop signal) ends its restarting, too.
        """
        state = self._require_running(restarting=True)
        if "restart" in self._config():
            self._remember_stop(signal)
        if state.monitor_alive:
            self._task().kill(signal)
            return
        from ..base.kernel import process

        # The descriptor first, then a second look: the number may have been given to another process meanwhile.
        fd = process.pidfd_open(state.pid)
        try:
            if self.state().pid == state.pid:
                process.pidfd_send_signal(fd, signal)
        finally:
            os.close(fd)

    def stop(self, timeout: float | None = None, signal: int | None = None, cancel: Cancel = NEVER) -> None:
        """Ask it to end, then kill it after timeout seconds (its own stop timeout, or 10; negative: wait for ever).

        Stopping one that does not run does nothing.
        """
        from ..base import signals

        config = self._config()
        if timeout is None:
            timeout = config.get("stop_timeout")
        if timeout is None:
            timeout = STOP_TIMEOUT_S
        if signal is None:
            signal = signals.parse(config.get("stop_signal") or "SIGTERM")
        try:
            self.kill(signal)
        except (errors.FailedPrecondition, errors.NotFound):
            return
        try:
            self.wait(cancel=Cancel(timeout) if timeout >= 0 else cancel)
        except errors.DeadlineExceeded:
            try:
                self.kill(9)
            except (errors.FailedPrecondition, errors.NotFound):
                return
            self.wait(cancel=cancel)

    def _require_running(self, restarting: bool = False) -> TaskState:
        state = self.state()
        if state.status == "restarting" and not restarting:
            raise errors.FailedPrecondition(
                f"container {self.name or self.short_id} is restarting", advice="wait until it is running"
            )
        if state.status not in ACTIVE:
            raise errors.FailedPrecondition(f"container {self.name or self.short_id} is not running")
        return state

    def _remember_stop(self, signal: int) -> None:
        """Note durably that its user ends it, so that no reboot starts it again."""
        from ..services.shim import restart
        from . import boot

        if restart.ends_it(boot.policy(self._config()), signal):
            fsio.write_atomic(f"{self.record_dir}/{restart.STOPPED}", b"")

    def _forget_stop(self) -> None:
        if "restart" in self._config():
            from ..services.shim import restart

            try:
                os.unlink(f"{self.record_dir}/{restart.STOPPED}")
            except FileNotFoundError:
                return
            fsio.fsync_dir(self.record_dir)

    def health(self) -> Health | None:
        """What its health checks say, None when it has none."""
        if "health" not in self._config():
            return None
        from ..services.shim import health

        if health.from_docker(self._config()["health"]) is None:
            return None
        return health.read(self.record_dir) or health.Health()

    def exec(
        self,
        args: Sequence[str],
        *,
        env: Sequence[str] = (),
        workdir: str = "",
        user: str = "",
        privileged: bool = False,
        interactive: bool = False,
        terminal: bool = False,
        size: tuple[int, int] | None = None,
        detach: bool = False,
    ) -> Exec:
        """Start another process in the running container. Raises CommandNotFound, CommandNotExecutable, …

        terminal: its standard streams are a terminal of (columns, rows) size; all its output is then "stdout".
        """
        from . import execing

        state = self._require_running()
        if state.status == "paused":
            raise errors.FailedPrecondition(f"container {self.name or self.short_id} is paused, unpause it first")
        return execing.start(
            self,
            args,
            env=env,
            workdir=workdir,
            user=user,
            privileged=privileged,
            interactive=interactive,
            terminal=terminal,
            size=size,
            detach=detach,
        )

    # ------------------------------------------------------------------ telling

    def logs(
        self,
        *,
        tail: int = -1,
        since_ns: int = 0,
        until_ns: int = 0,
        follow: bool = False,
        cancel: Cancel = NEVER,
    ) -> Iterator[Line]:
        """Its logged output, line by line; with follow until it ends. See `services.shim.logread.read`."""
        from ..services.shim import logread

        if self._config().get("log_driver") == "none":
            raise errors.FailedPrecondition(
                f"container {self.name or self.short_id} was made with the log driver none: nothing was kept"
            )

        def running() -> bool:
            return self.state().status in ACTIVE

        try:
            yield from logread.read(
                self.log_path,
                tail=tail,
                since_ns=since_ns,
                until_ns=until_ns,
                follow=running if follow else None,
                cancel=cancel,
            )
        except errors.NotFound:
            return  # it has never been started

    def inspect(self) -> dict[str, Any]:
        """What `orlop container inspect` prints: Docker's members."""
        from . import views

        directory = self.record_dir
        paths = {
            "ResolvConfPath": f"{directory}/resolv.conf",
            "HostnamePath": f"{directory}/hostname",
            "HostsPath": f"{directory}/hosts",
            "LogPath": self.log_path if self._config().get("log_driver") != "none" else "",
        }
        told = views.container(self.record, self.state(), paths, self.health())
        if "orlop.network" in self.record.extensions:
            from . import networking

            told["NetworkSettings"] = networking.settings(self._wiring, self.record)
        return told

    def endpoints(self) -> Sequence[Endpoint]:
        """Where it is attached to networks, or was when it ran last."""
        from . import networking

        return networking.endpoints(self._wiring, self.record)

    def sizes(self) -> tuple[int, int]:
        """(bytes it has written itself, bytes with its image's layers)."""
        snapshots = self._wiring.snapshotter(self.record.snapshotter)
        own = snapshots.usage(self.record.snapshot_key).size
        info = snapshots.stat(self.record.snapshot_key)
        total, key = own, info.parent
        while key:
            info = snapshots.stat(key)
            total += snapshots.usage(key).size
            key = info.parent
        layers = self._wiring.layers
        from ..base.oci import digest

        for diff_id in snapshots.stat(self.record.snapshot_key).layers:
            total += layers.get(digest.parse(diff_id)).size
        return own, total

    # ------------------------------------------------------------------ removing

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it and what it has written. A running one only with force (it is killed).

        volumes: its anonymous volumes too, where no other container uses them.
        Every step can be repeated: a removal that was cut off is finished by the next one.
        """
        fsio.make_dirs(self.record_dir)  # a creation that was cut off may have left only the record
        with self._lock() as lock:
            status = self.state().status
            if status in ACTIVE and not force:
                raise errors.FailedPrecondition(
                    f"cannot remove container {self.name or self.short_id}: it is {status}",
                    advice=f"stop it first (orlop stop {self.name or self.short_id}) or force (orlop rm -f)",
                )
            self._delete_task(kill=True, forget=True)
            if self.record.snapshot_key:
                try:
                    self._wiring.snapshotter(self.record.snapshotter).remove(self.record.snapshot_key)
                except errors.NotFound:
                    pass
            left: list[str] = []
            if "orlop.mounts" in self.record.extensions or not self.record.spec:  # without one: creation was cut off
                from . import mountpoints

                left = mountpoints.leave(self._wiring, self.record, volumes=volumes or not self.record.spec)
            try:
                self._wiring.containers.delete(self.id)
            except errors.NotFound:
                pass
            if left:
                mountpoints.drop(self._wiring, left)
            # The lock's file goes with the directory; who waits for it finds a new one and then no container.
            fsio.remove_tree(self.record_dir)
            lock.release()

    def _delete_task(self, *, kill: bool = False, forget: bool = False) -> None:
        """Clear the task away, alive or not: OCI runtime's state, cgroup, mounts, bundle, links and ports.

        forget: its network address too. The caller holds the lock.
        """
        if os.path.lexists(self.bundle):
            from ..services.runtime import tasks
            from . import starting

            tasks.clear(self.bundle, starting.spawner(self._wiring), kill=kill)
        if "orlop.staged" in self.record.extensions:
            from . import staging

            staging.unstage(self._wiring, self.record)
        if "orlop.network" in self.record.extensions:
            from . import networking

            networking.leave(self._wiring, self.record, forget=forget)


class Exec:
    """A process started by `Container.exec`."""

    def __init__(self, task: Task, exec_id: str, attachment: Attachment | None) -> None:
        self._task = task
        self.id = exec_id
        self.attachment = attachment

    def output(self, cancel: Cancel = NEVER) -> bytes:
        """All it prints, until it ends."""
        if self.attachment is None:
            return b""
        with self.attachment as attachment:
            return b"".join(data for _, data in attachment.frames(cancel))

    def wait(self, cancel: Cancel = NEVER) -> int:
        """Wait for its end; returns its exit code. Call it once: it clears the process away."""
        code = self._task.wait(exec_id=self.id, cancel=cancel)
        self._task.delete(exec_id=self.id)
        return code

    def kill(self, signal: int = 9) -> None:
        self._task.kill(signal, exec_id=self.id)

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of its terminal. FailedPrecondition when it has none."""
        self._task.resize(columns, rows, self.id)


def _ignore(_text: str) -> None:
    return
