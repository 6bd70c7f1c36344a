"""Real-time CPU time for a container's cgroup (`--cpu-rt-runtime`): its parents must have it to give (cgroup v1).

The kernel lets a cgroup have only what its parent has, and a new parent has nothing. Before the OCI runtime makes the
container's cgroup, each of our cgroups above it is given what all its children have, and the new one's on top.
Source: the kernel's scheduler/sched-rt-group.rst. Loaded only when the flag is given.
"""

from __future__ import annotations

import os

from ...base import errors, fsio
from ...base.kernel import cgroups

DEFAULT_PERIOD_US = 1_000_000


def allot(path: str, runtime_us: int, period_us: int = 0) -> None:
    """Let the cgroup `path` (`environment.cgroup_path`), which does not exist yet, have this much.

    Raises FailedPrecondition when the machine has not that much to give, or no such cgroups.
    """
    hierarchy = cgroups.detect().v1.get("cpu")
    if hierarchy is None:
        raise _cannot("this machine's cgroups do not schedule real time")
    share = runtime_us / (period_us or DEFAULT_PERIOD_US)
    names = path.strip("/").split("/")
    with _lock():
        directory = hierarchy.mount_point
        for number, name in enumerate(names[:-1]):
            directory = f"{directory}/{name}"
            try:
                os.makedirs(directory, 0o755, exist_ok=True)
                _raise_to(directory, share, skip=names[-1] if number == len(names) - 2 else "")
            except OSError as error:
                raise _cannot(f"{directory}: {error.strerror}") from error


def _lock() -> fsio.Lock:
    """One for the machine: roots share the cgroups above theirs."""
    fsio.make_dirs("/run/orlop", 0o700)
    return fsio.lock("/run/orlop/realtime.lock")


def _raise_to(directory: str, share: float, skip: str) -> None:
    """Give a cgroup what its children have (but for `skip`) and `share` of the CPU on top. Never takes away."""
    with os.scandir(directory) as entries:
        children = [entry.path for entry in entries if entry.is_dir() and entry.name != skip]
    needed = share + sum(_share(child) for child in children)
    if needed <= _share(directory):
        return
    period = _read(f"{directory}/cpu.rt_period_us") or DEFAULT_PERIOD_US
    with open(f"{directory}/cpu.rt_runtime_us", "w") as file:
        file.write(str(-(-int(needed * period * 1000) // 1000) + 1))


def _share(directory: str) -> float:
    try:
        runtime = _read(f"{directory}/cpu.rt_runtime_us")
        period = _read(f"{directory}/cpu.rt_period_us")
    except FileNotFoundError:
        return 0.0
    return max(runtime, 0) / period if period else 0.0


def _read(path: str) -> int:
    with open(path) as file:
        return int(file.read())


def _cannot(why: str) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(f"--cpu-rt-runtime cannot be applied: {why}")
