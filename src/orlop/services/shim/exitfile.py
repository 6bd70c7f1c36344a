"""The small files by which a task is known without asking its monitor: init.json and exit.json (docs/architecture.md).

Each stands in the bundle, which a reboot clears, and in the container's record directory, which it does not. May
import only the interpreter's cheap modules: `ps` comes through here.
"""

from __future__ import annotations

import os

from ...base import fsio, jsonio
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOCK = "monitor.lock"
ADDRESS = "address"
"""Written by a monitor when it serves, removed when it has left nothing behind."""
INIT = "init.json"
EXIT = "exit.json"

UNKNOWN_STATUS = 255
"""The exit status of a process whose end nobody saw."""


class Init(Record):
    """The container's first process. start_ticks: field 22 of /proc/PID/stat; started_ns: 0 until it is started.

    restarts: how often the restart policy has started it again.
    """

    pid: int
    start_ticks: int
    started_ns: int = 0
    restarts: int = 0


class Exited(Record):
    """How it ended. exit_status: 0–255; exited_ns: 0 when not known; oom: whether its cgroup killed for memory.

    restarting: whether its monitor, as long as that lives, is about to start it again, for the restarts-th time.
    """

    exit_status: int
    exited_ns: int
    pid: int = 0
    oom: bool = False
    restarting: bool = False
    restarts: int = 0


def read_init(directory: str) -> Init | None:
    """init.json of a bundle or record, or None when it is missing or not one."""
    said = _read(f"{directory}/{INIT}")
    try:
        started_ns, restarts = int(said.get("started_ns", 0)), int(said.get("restarts", 0))
        return Init(int(said["pid"]), int(said["start_ticks"]), started_ns, restarts)
    except (KeyError, TypeError, ValueError):
        return None


def write_init(directory: str, init: Init) -> None:
    """Write init.json. It need not survive a power cut: no process does."""
    fsio.write_atomic(f"{directory}/{INIT}", jsonio.dump_bytes(init.as_dict()), durable=False)


def read_exit(directory: str) -> Exited | None:
    """exit.json of a bundle or record, or None when it is missing or not one."""
    said = _read(f"{directory}/{EXIT}")
    try:
        return Exited(
            int(said["exit_status"]),
            int(said["exited_ns"]),
            int(said.get("pid", 0)),
            bool(said.get("oom", False)),
            bool(said.get("restarting", False)),
            int(said.get("restarts", 0)),
        )
    except (KeyError, TypeError, ValueError):
        return None


def end_of(init: Init | None, directory: str) -> Exited | None:
    """exit.json as read_exit tells it, unless it is of the process before `init`, which was started since."""
    ended = read_exit(directory)
    if ended is not None and ended.restarting and init is not None and init.started_ns and init.pid != ended.pid:
        return None  # the monitor removes it a moment after init.json is written; it may have been killed between
    return ended


def write_exit(directory: str, exited: Exited, *, durable: bool) -> None:
    """Write exit.json. Raises OSError."""
    fsio.write_atomic(f"{directory}/{EXIT}", jsonio.dump_bytes(exited.as_dict()), durable=durable)


def unlink_quietly(path: str) -> None:
    """Remove a file's name; whether it could be is nobody's concern."""
    try:
        os.unlink(path)
    except OSError:
        pass


def _read(path: str) -> dict[str, Any]:
    try:
        said = jsonio.loads(fsio.read_file(path, 1 << 16))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
