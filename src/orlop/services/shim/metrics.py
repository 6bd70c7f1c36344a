"""A cgroup's figures in containerd's own form, for `Stats`: io.containerd.cgroups.v1.Metrics or …v2.Metrics.

Source: containerd/cgroups cgroup1/stats/metrics.proto and cgroup2/stats/metrics.proto (field numbers are theirs);
what this machine does not tell is left out. Reads files only. May import only the interpreter's cheap modules.
"""

from __future__ import annotations

from ...base import fsio
from ...base.errors import OrlopError
from ...base.kernel import cgroupstats
from ...base.ttrpc.wire import AnyMessage, Message, message, repeated, string, uint64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...base.kernel.cgroups import Cgroup
    from ...base.kernel.cgroupstats import Stats

V1_TYPE = "io.containerd.cgroups.v1.Metrics"
V2_TYPE = "io.containerd.cgroups.v2.Metrics"

_V1_UNLIMITED = (1 << 63) - 4096
_V2_UNLIMITED = (1 << 64) - 1
_NS_PER_US = 1000


class PidsStat(Message):
    """Both versions'. limit: 0 for none."""

    current: int = 0
    limit: int = 0
    _wire = (uint64(1), uint64(2))


class CpuUsage(Message):
    """v1's CPUUsage; ns."""

    total: int = 0
    kernel: int = 0
    user: int = 0
    per_cpu: tuple[int, ...] = ()
    _wire = (uint64(1), uint64(2), uint64(3), repeated(uint64(4)))


class Throttle(Message):
    """v1's Throttle; ns."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0
    _wire = (uint64(1), uint64(2), uint64(3))


class CpuStat(Message):
    """v1's CPUStat."""

    usage: CpuUsage | None = None
    throttling: Throttle | None = None
    _wire = (message(1, CpuUsage), message(2, Throttle))


class MemoryEntry(Message):
    """v1's MemoryEntry; bytes."""

    limit: int = 0
    usage: int = 0
    max: int = 0
    _wire = (uint64(1), uint64(2), uint64(3))


class MemoryStat(Message):
    """The fields of v1's MemoryStat that are known here; bytes."""

    cache: int = 0
    rss: int = 0
    inactive_file: int = 0
    total_cache: int = 0
    total_rss: int = 0
    total_inactive_file: int = 0
    usage: MemoryEntry | None = None
    swap: MemoryEntry | None = None
    _wire = (
        uint64(1),
        uint64(2),
        uint64(13),
        uint64(18),
        uint64(19),
        uint64(31),
        message(33, MemoryEntry),
        message(34, MemoryEntry),
    )


class BlkIOEntry(Message):
    """v1's BlkIOEntry: one counter of one device."""

    op: str = ""
    major: int = 0
    minor: int = 0
    value: int = 0
    _wire = (string(1), uint64(3), uint64(4), uint64(5))


class BlkIOStat(Message):
    """The fields of v1's BlkIOStat that the throttling layer counts."""

    io_service_bytes_recursive: tuple[BlkIOEntry, ...] = ()
    io_serviced_recursive: tuple[BlkIOEntry, ...] = ()
    _wire = (repeated(message(1, BlkIOEntry)), repeated(message(2, BlkIOEntry)))


class MemoryOomControl(Message):
    """v1's MemoryOomControl."""

    oom_kill: int = 0
    _wire = (uint64(3),)


class Metrics(Message):
    """io.containerd.cgroups.v1.Metrics."""

    pids: PidsStat | None = None
    cpu: CpuStat | None = None
    memory: MemoryStat | None = None
    blkio: BlkIOStat | None = None
    memory_oom_control: MemoryOomControl | None = None
    _wire = (
        message(2, PidsStat),
        message(3, CpuStat),
        message(4, MemoryStat),
        message(5, BlkIOStat),
        message(9, MemoryOomControl),
    )


class CpuStat2(Message):
    """v2's CPUStat; µs."""

    usage_usec: int = 0
    user_usec: int = 0
    system_usec: int = 0
    nr_periods: int = 0
    nr_throttled: int = 0
    throttled_usec: int = 0
    _wire = (uint64(1), uint64(2), uint64(3), uint64(4), uint64(5), uint64(6))


class MemoryStat2(Message):
    """The fields of v2's MemoryStat that are known here; bytes."""

    anon: int = 0
    file: int = 0
    inactive_file: int = 0
    usage: int = 0
    usage_limit: int = 0
    swap_usage: int = 0
    max_usage: int = 0
    _wire = (uint64(1), uint64(2), uint64(13), uint64(32), uint64(33), uint64(34), uint64(36))


class MemoryEvents2(Message):
    """The field of v2's MemoryEvents that is known here."""

    oom_kill: int = 0
    _wire = (uint64(5),)


class IOEntry2(Message):
    """v2's IOEntry: one device."""

    major: int = 0
    minor: int = 0
    rbytes: int = 0
    wbytes: int = 0
    rios: int = 0
    wios: int = 0
    _wire = (uint64(1), uint64(2), uint64(3), uint64(4), uint64(5), uint64(6))


class IOStat2(Message):
    """v2's IOStat."""

    usage: tuple[IOEntry2, ...] = ()
    _wire = (repeated(message(1, IOEntry2)),)


class Metrics2(Message):
    """io.containerd.cgroups.v2.Metrics."""

    pids: PidsStat | None = None
    cpu: CpuStat2 | None = None
    memory: MemoryStat2 | None = None
    io: IOStat2 | None = None
    memory_events: MemoryEvents2 | None = None
    _wire = (
        message(1, PidsStat),
        message(2, CpuStat2),
        message(4, MemoryStat2),
        message(6, IOStat2),
        message(8, MemoryEvents2),
    )


def read(cgroup: Cgroup) -> AnyMessage:
    """The figures of a cgroup in the form of its version; a mixed machine's controllers are version 1's."""
    stats = cgroupstats.read(cgroup)
    if any(not name.startswith("name=") for name in cgroup.v1):
        return AnyMessage(V1_TYPE, _v1(cgroup, stats).encode())
    return AnyMessage(V2_TYPE, _v2(cgroup, stats).encode())


def _v1(cgroup: Cgroup, stats: Stats) -> Metrics:
    usage = CpuUsage(
        stats.cpu_usage_ns or 0,
        stats.cpu_system_ns or 0,
        stats.cpu_user_ns or 0,
        _numbers(_text(cgroup.v1.get("cpuacct", ""), "cpuacct.usage_percpu")),
    )
    throttling = Throttle(stats.cpu_periods or 0, stats.cpu_throttled_periods or 0, stats.cpu_throttled_ns or 0)
    memory = None
    if stats.memory_usage is not None:
        anon, file, inactive = stats.memory_anon or 0, stats.memory_file or 0, stats.memory_inactive_file or 0
        limit = _V1_UNLIMITED if stats.memory_limit is None else stats.memory_limit
        memory = MemoryStat(
            file,
            anon,
            inactive,
            file,
            anon,
            inactive,
            MemoryEntry(limit, stats.memory_usage, stats.memory_peak or 0),
            _entry(cgroup.v1["memory"], "memory.memsw"),
        )
    blkio = None
    directory = cgroup.v1.get("blkio", "")
    if directory:
        blkio = BlkIOStat(
            _blkio(_text(directory, "blkio.throttle.io_service_bytes_recursive")),
            _blkio(_text(directory, "blkio.throttle.io_serviced_recursive")),
        )
    oom = None if stats.oom_kills is None else MemoryOomControl(stats.oom_kills)
    return Metrics(_pids(stats), CpuStat(usage, throttling), memory, blkio, oom)


def _v2(cgroup: Cgroup, stats: Stats) -> Metrics2:
    cpu = CpuStat2(
        (stats.cpu_usage_ns or 0) // _NS_PER_US,
        (stats.cpu_user_ns or 0) // _NS_PER_US,
        (stats.cpu_system_ns or 0) // _NS_PER_US,
        stats.cpu_periods or 0,
        stats.cpu_throttled_periods or 0,
        (stats.cpu_throttled_ns or 0) // _NS_PER_US,
    )
    memory = None
    if stats.memory_usage is not None:
        memory = MemoryStat2(
            stats.memory_anon or 0,
            stats.memory_file or 0,
            stats.memory_inactive_file or 0,
            stats.memory_usage,
            _V2_UNLIMITED if stats.memory_limit is None else stats.memory_limit,
            stats.memory_swap or 0,
            stats.memory_peak or 0,
        )
    events = None if stats.oom_kills is None else MemoryEvents2(stats.oom_kills)
    return Metrics2(_pids(stats), cpu, memory, IOStat2(_io(_text(cgroup.unified, "io.stat"))), events)


def _pids(stats: Stats) -> PidsStat | None:
    return None if stats.pids_current is None else PidsStat(stats.pids_current, stats.pids_limit or 0)


def _entry(directory: str, name: str) -> MemoryEntry | None:
    """One of version 1's counters of memory, or None when this kernel does not count it."""
    found = [_numbers(_text(directory, f"{name}.{of}_in_bytes")) for of in ("limit", "usage", "max_usage")]
    return MemoryEntry(*(numbers[0] for numbers in found)) if all(found) else None


def _blkio(text: str) -> tuple[BlkIOEntry, ...]:
    """The lines "MAJOR:MINOR Operation N"."""
    entries = []
    for words in map(str.split, text.splitlines()):
        if len(words) == 3 and words[2].isdigit():
            major, _, minor = words[0].partition(":")
            if major.isdigit() and minor.isdigit():
                entries.append(BlkIOEntry(words[1], int(major), int(minor), int(words[2])))
    return tuple(entries)


def _io(text: str) -> tuple[IOEntry2, ...]:
    """The lines "MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N …"."""
    entries = []
    for words in map(str.split, text.splitlines()):
        device = words[0].partition(":") if words else ("", "", "")
        if not (device[0].isdigit() and device[2].isdigit()):
            continue
        counters = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        numbers = [counters.get(name, "0") for name in ("rbytes", "wbytes", "rios", "wios")]
        if all(number.isdigit() for number in numbers):
            entries.append(IOEntry2(int(device[0]), int(device[2]), *map(int, numbers)))
    return tuple(entries)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split() if word.isdigit())


def _text(directory: str, name: str) -> str:
    """A file of the cgroup; "" when this machine has none."""
    if not directory:
        return ""
    try:
        return str(fsio.read_file(f"{directory}/{name}", 1 << 20), "ascii", "replace")
    except (OSError, OrlopError):
        return ""
