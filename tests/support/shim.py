"""A place to run containers by monitors in tests: state directory, spawner, root file system; and what it leaves."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orlop.services.runtime import tasks
from orlop.services.shim import state
from orlop.services.shim.spawner import Spawner
from orlop.services.shim.state import TaskState
from orlop.stores.snapshots.api import Mount
from tests.support import bundle as bundles

PYTHON = (sys.executable, "-I", "-S", "-E")


class Place:
    """STATE in a temporary directory, for one OCI runtime."""

    def __init__(self, directory: Path, rootfs: Path, runtime: str) -> None:
        self.state_dir = directory
        self.rootfs = rootfs
        self.runtime = runtime
        self.spawner = Spawner(str(directory), PYTHON)
        self.bundles: list[Path] = []

    def bundle(self, args: Sequence[str], **options: Any) -> Path:
        made = bundles.make(self.state_dir, list(args), runtime=self.runtime, **options)
        self.bundles.append(made)
        return made

    @property
    def mounts(self) -> list[Mount]:
        return [Mount("bind", str(self.rootfs), options=("rbind", "ro"))]

    def create(self, *args: str, **options: Any) -> tasks.Task:
        """A created container that runs `args` in the shared root file system."""
        return tasks.create(self.spawner, str(self.bundle(args, **options)), self.mounts)

    def run(self, *args: str, **options: Any) -> tasks.Task:
        """A started container."""
        task = self.create(*args, **options)
        task.start()
        return task

    def record(self, task: tasks.Task) -> Path:
        return self.state_dir / "record" / task.id

    def state(self, task: tasks.Task) -> TaskState:
        return state.read(task.bundle, str(self.record(task)))

    def clear(self, task: tasks.Task) -> None:
        tasks.clear(task.bundle, self.spawner, kill=True)

    def close(self) -> None:
        """Clear every container away and end the spawner."""
        for made in self.bundles:
            tasks.clear(str(made), self.spawner, kill=True)
        self.spawner.stop()

    def check_clean(self) -> None:
        """After `close`: fail when something is left (processes are given a moment to be gone)."""
        end = time.monotonic() + 10
        while left := self.left_over():
            assert time.monotonic() < end, left
            time.sleep(0.01)

    def left_over(self) -> list[str]:
        """What is still there of this place: processes, mounts, cgroups, sockets, the OCI runtime's state."""
        left = processes_with(str(self.state_dir))
        left += [line for line in _read("/proc/self/mountinfo").splitlines() if str(self.state_dir) in line]
        for made in self.bundles:
            left += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/orlop-test-{made.name}")]
            left += [str(path) for path in Path("/sys/fs/cgroup").glob(f"orlop-test-{made.name}")]
        for directory in ("s", self.runtime, "tasks/default"):
            if (self.state_dir / directory).is_dir():
                left += [str(path) for path in (self.state_dir / directory).iterdir()]
        return left


def processes_with(text: str) -> list[str]:
    """Processes other than ours whose command line has `text` in it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        words = _read(f"/proc/{pid}/cmdline")
        if text in words and int(pid) != os.getpid():
            found.append(f"process {pid}: {words}")
    return found


def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Wait until condition() is true; fail, naming it, when that takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.005)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""
