"""What is done to a container between its start and its end: pause, unpause, restart, rename, update, top, stats.

Beside `containers.py`, so that `run` does not load it.
"""

from __future__ import annotations

import os
import time

from ..base import errors, jsonio
from ..base.record import Record
from ..services.runtime import environment, resources
from ..services.runtime.options import RunOptions
from . import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from ..services.runtime.tasks import Task
    from .containers import Container
    from .wiring import Wiring


class Sample(Record):
    """A container's figures at one moment. Times in ns; memory and I/O in bytes; None where the kernel is silent."""

    at_ns: int
    cpu_ns: int | None
    memory: int | None
    memory_limit: int | None
    pids: int | None
    read_bytes: int | None
    write_bytes: int | None


class Process(Record):
    """One process of a container as `ps` on the host sees it; the fields are those of `top`'s columns."""

    uid: str
    pid: int
    ppid: int
    cpu: int
    stime: str
    tty: str
    time: str
    command: str


def _task(container: Container, *wanted: str) -> Task:
    from ..services.runtime import tasks

    state = container.state()
    shown = container.name or container.short_id
    if state.status not in wanted:
        if state.status == "paused":
            raise errors.FailedPrecondition(f"container {shown} is already paused")
        if state.status == "running":
            raise errors.FailedPrecondition(f"container {shown} is not paused")
        raise errors.FailedPrecondition(f"container {shown} is not running")
    if not state.monitor_alive:
        raise errors.FailedPrecondition(
            f"the monitor of container {shown} was lost", advice=f"orlop rm -f {shown}, or stop it and start it again"
        )
    return tasks.connect(container.bundle)


def pause(container: Container) -> None:
    """Freeze all its processes. FailedPrecondition when it does not run or is paused already."""
    with _task(container, "running") as task:
        task.pause()


def unpause(container: Container) -> None:
    """Let a paused container go on."""
    with _task(container, "paused") as task:
        task.resume()


def restart(container: Container, timeout: float | None = None, signal: int | None = None) -> None:
    """Stop it, if it runs, and start it."""
    if container.state().status == "paused":
        unpause(container)
    container.stop(timeout, signal)
    container.start()


def rename(wiring: Wiring, container: Container, name: str) -> None:
    """Give it another name. AlreadyExists when another has it, InvalidArgument for what is no name."""
    if not names.is_valid(name):
        raise errors.InvalidArgument(f"invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    if name == container.name:
        raise errors.InvalidArgument(f"container {name} has this name already")
    record = wiring.containers.get(container.id)
    container.record = wiring.containers.update(record.replace(name=name))


def update(wiring: Wiring, container: Container, asked: RunOptions) -> tuple[str, ...]:
    """Change limits, of a running container at once; returns warnings.

    asked: only its resource fields count, and only those that are set. The stored specification changes too, so that
    the next start has them.
    """
    made, warnings = resources.to_spec(asked, environment.facts())
    made.pop("devices", None)
    if asked.pids_limit is None:
        made.pop("pids", None)
    if not made and not asked.restart:
        raise errors.InvalidArgument("nothing to update: give a limit to change")
    record = wiring.containers.get(container.id)
    if asked.restart and record.extensions.get("orlop.config", {}).get("remove"):
        raise errors.InvalidArgument("restart policy cannot be updated: the container was made with --rm")
    spec: dict[str, Any] = jsonio.loads(record.spec)
    have = spec["linux"].setdefault("resources", {})
    for kind, values in made.items():
        have[kind] = {**have.get(kind, {}), **values} if isinstance(values, dict) else values
    if made and container.state().status in ("running", "paused"):
        with _task(container, "running", "paused") as task:
            task.update({kind: have[kind] for kind in made})
    config = dict(record.extensions.get("orlop.config", {}))
    for field in ("memory", "cpus", "pids_limit"):
        if getattr(asked, field):
            config[field] = getattr(asked, field)
    if asked.restart:
        _update_policy(container, config, asked.restart)
    seccomp = spec["linux"].pop("seccomp", None)
    if seccomp is not None:
        spec["linux"]["seccomp"] = seccomp  # last again, as it was written
    container.record = wiring.containers.update(
        record.replace(spec=jsonio.dump_bytes(spec), extensions={**record.extensions, "orlop.config": config})
    )
    return warnings


def _update_policy(container: Container, config: dict[str, Any], policy: dict[str, Any]) -> None:
    """Its next end is looked at with the new policy."""
    from ..services.shim import restart
    from . import boot

    config["restart"] = policy
    if container.state().status in ("running", "paused", "restarting"):
        restart.write(container.bundle, boot.policy(config))


def processes(container: Container) -> Sequence[Process]:
    """Its processes, as the host numbers them."""
    with _task(container, "running", "paused") as task:
        pids = task.pids()
    boot_s = _boot_time()
    ticks = os.sysconf("SC_CLK_TCK")
    found = (_process(pid, boot_s, ticks) for pid in sorted(pids))
    return [process for process in found if process is not None]


def _process(pid: int, boot_s: float, ticks: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            before, _, after = file.read().rpartition(b")")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None  # it has ended
    fields = after.split()
    command = b" ".join(words) or b"[" + before.partition(b"(")[2] + b"]"
    used_s = (int(fields[11]) + int(fields[12])) / ticks
    started_s = boot_s + int(fields[19]) / ticks
    age_s = max(time.time() - started_s, 1)
    device = int(fields[4])
    return Process(
        uid=_user_name(uid),
        pid=pid,
        ppid=int(fields[1]),
        cpu=int(100 * used_s / age_s),
        stime=time.strftime("%H:%M" if age_s < 86400 else "%b%d", time.localtime(started_s)),
        tty=f"pts/{os.minor(device)}" if os.major(device) in range(136, 144) else "?",
        time=f"{int(used_s) // 3600:02d}:{int(used_s) // 60 % 60:02d}:{int(used_s) % 60:02d}",
        command=command.decode("utf-8", "replace"),
    )


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _boot_time() -> float:
    with open("/proc/stat", "rb") as file:
        for line in file:
            if line.startswith(b"btime "):
                return float(line.split()[1])
    return 0.0


def sample(container: Container) -> Sample:
    """Its figures now. FailedPrecondition when it does not run."""
    with _task(container, "running", "paused") as task:
        told = task.stats()
    usage, cache = told.get("memory_usage"), told.get("memory_inactive_file") or 0
    return Sample(
        at_ns=time.time_ns(),
        cpu_ns=told.get("cpu_usage_ns"),
        memory=max(usage - cache, 0) if usage is not None else None,
        memory_limit=told.get("memory_limit"),
        pids=told.get("pids_current"),
        read_bytes=told.get("io_read_bytes"),
        write_bytes=told.get("io_write_bytes"),
    )


def samples(containers: Sequence[Container], every_s: float = 1.0) -> Iterator[dict[str, Sample]]:
    """Figures of several containers by id, again and again; those that have ended are left out."""
    while True:
        found = {}
        for container in containers:
            try:
                found[container.id] = sample(container)
            except (errors.FailedPrecondition, errors.NotFound, errors.Unavailable):
                continue
        yield found
        time.sleep(every_s)
