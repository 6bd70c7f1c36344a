"""Limits of a container: memory, CPU, processes, block I/O, checked and put into `linux.resources`.

Pure. A limit somebody asked for and this machine cannot apply is refused; a default that cannot be applied is warned
about. Sources: runtime-spec config-linux.md; docker run(1) and its checks; cgroups(7). On the hot path.
"""

from __future__ import annotations

from ...base import errors
from .options import DEFAULT_PIDS_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .environment import HostFacts
    from .options import RunOptions

MIN_MEMORY_BYTES = 6 << 20
"""Docker's: a container cannot start in less."""

_PERIOD_US = 100_000


def to_spec(options: RunOptions, host: HostFacts) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`linux.resources` without its devices, and warnings.

    Raises UsageError for values that make no sense, FailedPrecondition for a controller this machine lacks.
    """
    made: dict[str, Any] = {}
    warnings: list[str] = []
    memory = _memory(options, host, warnings)
    if memory:
        _need(host, "memory", "--memory")
        made["memory"] = memory
    cpu = _cpu(options, host)
    if cpu:
        made["cpu"] = cpu
    if (
        options.blkio_weight
        or options.blkio_weight_device
        or options.device_read_bps
        or options.device_read_iops
        or options.device_write_bps
        or options.device_write_iops
    ):
        from . import blkio

        block, notes = blkio.to_spec(options, host)
        warnings += notes
        if block:
            made["blockIO"] = block
    limit = DEFAULT_PIDS_LIMIT if options.pids_limit is None else options.pids_limit
    if limit < -1:
        raise errors.UsageError(f"invalid --pids-limit {limit}", advice="give a number, or -1 for no limit")
    if "pids" in host.controllers:
        made["pids"] = {"limit": limit if limit > 0 else -1}
    elif options.pids_limit is None:
        warnings.append("no limit on the number of processes: the pids cgroup controller is missing")
    elif limit > 0:
        _need(host, "pids", "--pids-limit")
    return made, tuple(warnings)


def _need(host: HostFacts, controller: str, flag: str) -> None:
    if controller not in host.controllers:
        raise errors.FailedPrecondition(
            f"{flag} cannot be applied: the {controller} cgroup controller is missing here",
            advice="start without the flag, or enable the controller",
        )


def _memory(options: RunOptions, host: HostFacts, warnings: list[str]) -> dict[str, Any]:
    limit, swap, soft = options.memory, options.memory_swap, options.memory_reservation
    if limit < 0 or soft < 0 or swap < -1:
        raise errors.UsageError("memory sizes cannot be negative")
    if 0 < limit < MIN_MEMORY_BYTES:
        raise errors.UsageError(f"invalid --memory {limit}: the minimum is {MIN_MEMORY_BYTES >> 20}m")
    if swap > 0 and not limit:
        raise errors.UsageError("--memory-swap needs --memory as well")
    if 0 < swap < limit:
        raise errors.UsageError("--memory-swap is the sum of memory and swap: it cannot be less than --memory")
    if soft and limit and soft > limit:
        raise errors.UsageError("--memory-reservation cannot be more than --memory")
    made: dict[str, Any] = {}
    if limit:
        made["limit"] = limit
        if host.swap_accounting:
            made["swap"] = swap or 2 * limit
        elif swap > 0:
            raise errors.FailedPrecondition(
                "--memory-swap cannot be applied: this kernel does not account swap", advice="boot with swapaccount=1"
            )
    if soft:
        made["reservation"] = soft
    if options.memory_swappiness is not None:
        if not 0 <= options.memory_swappiness <= 100:
            raise errors.UsageError(f"invalid --memory-swappiness {options.memory_swappiness}: the range is 0 to 100")
        if host.cgroup_mode == "v2":
            warnings.append("--memory-swappiness has no effect with cgroup v2")
        else:
            made["swappiness"] = options.memory_swappiness
    if options.oom_kill_disable:
        if host.cgroup_mode == "v2":
            warnings.append("--oom-kill-disable has no effect with cgroup v2")
        else:
            if not limit:
                warnings.append("--oom-kill-disable without --memory: this container can stop the whole machine")
            made["disableOOMKiller"] = True
    return made


def _cpu(options: RunOptions, host: HostFacts) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if options.cpus:
        if options.cpu_quota or options.cpu_period:
            raise errors.UsageError("conflicting options: --cpus and --cpu-period or --cpu-quota")
        if not 0.01 <= options.cpus <= host.cpus:
            raise errors.UsageError(
                f"invalid --cpus {options.cpus:g}: the range is 0.01 to {host.cpus} on this machine"
            )
        made["quota"] = max(1000, round(options.cpus * _PERIOD_US))
        made["period"] = _PERIOD_US
    if options.cpu_period:
        if not 1000 <= options.cpu_period <= 1_000_000:
            raise errors.UsageError(f"invalid --cpu-period {options.cpu_period}: the range is 1000 to 1000000")
        made["period"] = options.cpu_period
    if options.cpu_quota:
        if 0 < options.cpu_quota < 1000 or options.cpu_quota < -1:
            raise errors.UsageError(f"invalid --cpu-quota {options.cpu_quota}: the minimum is 1000")
        made["quota"] = options.cpu_quota
    if options.cpu_shares:
        if not 2 <= options.cpu_shares <= 262144:
            raise errors.UsageError(f"invalid --cpu-shares {options.cpu_shares}: the range is 2 to 262144")
        made["shares"] = options.cpu_shares
    if options.cpu_rt_period or options.cpu_rt_runtime:
        _realtime(options, host, made)
    if made:
        _need(host, "cpu", "--cpus" if options.cpus else "--cpu-shares" if options.cpu_shares else "--cpu-quota")
    for member, flag, text in (
        ("cpus", "cpuset-cpus", options.cpuset_cpus),
        ("mems", "cpuset-mems", options.cpuset_mems),
    ):
        if text:
            _check_set(flag, text)
            _need(host, "cpuset", f"--{flag}")
            made[member] = text
    return made


def _realtime(options: RunOptions, host: HostFacts, made: dict[str, Any]) -> None:
    """Real-time scheduling is limited by cgroup v1 alone, in kernels built with RT_GROUP_SCHED."""
    period, runtime = options.cpu_rt_period, options.cpu_rt_runtime
    for flag, value in (("cpu-rt-period", period), ("cpu-rt-runtime", runtime)):
        if value < 0 or value > 1_000_000:
            raise errors.UsageError(f"invalid --{flag} {value}: the range is 0 to 1000000 microseconds")
    if period and runtime > period:
        raise errors.UsageError(f"invalid --cpu-rt-runtime {runtime}: it is more than --cpu-rt-period {period}")
    if host.cgroup_mode == "v2" or not host.has_cgroup_file("cpu", "cpu.rt_runtime_us"):
        raise errors.FailedPrecondition(
            "--cpu-rt-runtime and --cpu-rt-period cannot be applied: this machine's cgroups do not schedule real time",
            advice="they need cgroup v1 and a kernel with CONFIG_RT_GROUP_SCHED",
        )
    if period:
        made["realtimePeriod"] = period
    if runtime:
        made["realtimeRuntime"] = runtime


def _check_set(flag: str, text: str) -> None:
    """A list of numbers and ranges, "0-2,7" (cpuset(7))."""
    for part in text.split(","):
        low, dash, high = part.partition("-")
        numbers = (low, high) if dash else (low,)
        if not all(n.isdecimal() and n.isascii() and len(n) < 6 for n in numbers) or (dash and int(low) > int(high)):
            raise errors.UsageError(f"invalid --{flag} {text!r}", advice="give a list such as 0-2,7")
