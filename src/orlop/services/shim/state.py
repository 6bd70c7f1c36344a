"""What a task is doing, read from the kernel and the disk: no monitor is asked, none need be alive.

The truth, in this order: exit.json in the bundle (it has ended); the process that init.json names, as /proc knows it;
exit.json in the record (it ended, and its bundle is gone). May import only the interpreter's cheap modules: `ps` comes
through here.
"""

from __future__ import annotations

import os

from ...base import fsio
from ...base.kernel import process
from ...base.record import Record
from . import exitfile


class TaskState(Record):
    """status: "created", "running", "paused", "restarting" or "exited".

    "restarting": it has ended, and its monitor, which lives, will start it again; exit_status tells how it ended.
    pid: its first process, 0 when there is none. exit_status: None while it has not ended; 255 when nobody saw the end
    (its monitor was killed, the machine went down). started_ns, exited_ns: since the epoch, 0 when not known.
    restarts: how often its restart policy has started it again.
    monitor_alive: whether somebody keeps its output and will know its end.
    """

    status: str
    pid: int = 0
    exit_status: int | None = None
    started_ns: int = 0
    exited_ns: int = 0
    monitor_alive: bool = False
    oom_killed: bool = False
    restarts: int = 0


def read(bundle: str, record_dir: str) -> TaskState:
    """The state of the task whose bundle and record these are; either may be missing.

    A container that was never started is "created".
    """
    # The monitor before the process: one that lives now has seen every end that is not written yet.
    alive = fsio.is_locked(f"{bundle}/{exitfile.LOCK}")
    init = exitfile.read_init(bundle)
    ended = exitfile.end_of(init, bundle)
    if ended is None and init is not None:
        if process.is_alive(init.pid, init.start_ticks):
            if not init.started_ns:
                status = "created"
            else:
                status = "paused" if _is_frozen(init.pid) else "running"
            return TaskState(status, init.pid, None, init.started_ns, 0, alive, restarts=init.restarts)
        ended = exitfile.end_of(init, bundle)  # it may have ended between the two looks
        if ended is None:
            if alive:  # its monitor is about to write how it ended
                return TaskState("running", init.pid, None, init.started_ns, 0, True, restarts=init.restarts)
            if not init.started_ns:
                return TaskState("created")  # it was taken away before it was ever started
            return TaskState("exited", 0, exitfile.UNKNOWN_STATUS, init.started_ns, restarts=init.restarts)
    if ended is None and alive:
        return TaskState("created", monitor_alive=True)
    last = init or exitfile.read_init(record_dir)
    ended = ended or exitfile.read_exit(record_dir)
    if ended is not None:
        started_ns = last.started_ns if last is not None else 0
        status = "restarting" if ended.restarting and alive else "exited"
        restarts = ended.restarts or (last.restarts if last is not None else 0)
        return TaskState(status, 0, ended.exit_status, started_ns, ended.exited_ns, alive, ended.oom, restarts)
    if last is not None and last.started_ns:
        return TaskState("exited", 0, exitfile.UNKNOWN_STATUS, last.started_ns, restarts=last.restarts)
    return TaskState("created")


def _is_frozen(pid: int) -> bool:
    """Whether the process's cgroup is frozen, in either version of cgroups; False where that cannot be read."""
    try:
        lines = fsio.read_file(f"/proc/{pid}/cgroup", 1 << 16).decode("utf-8", "surrogateescape").splitlines()
    except OSError:
        return False
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "freezer":
            if _read_text(f"/sys/fs/cgroup/freezer{path}/freezer.state").strip() in ("FROZEN", "FREEZING"):
                return True
        elif not controllers and "frozen 1" in _read_text(f"/sys/fs/cgroup{path}/cgroup.events"):
            return True
    return False


def _read_text(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 4096).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
