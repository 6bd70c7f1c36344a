"""Figures of a cgroup, the same record from version 1 and version 2. Reads files only; imports `cgroups`, `record`.

Sources: the kernel's cgroup-v1/{memory,cpuacct,blkio-controller,pids}.rst and cgroup-v2.rst.
"""

from __future__ import annotations

from ..record import Record
from .cgroups import Cgroup, _read

_UNLIMITED = 1 << 62
_NS_PER_US = 1000


class Stats(Record):
    """What a cgroup uses and may use. None: this machine does not tell (or there is no limit, for limits).

    Memory in bytes; `memory_inactive_file` is page cache that can go, which Docker takes off the usage it shows.
    Times in ns. I/O in bytes and operations since the cgroup was made. oom_kills: processes the OOM killer took.
    """

    memory_usage: int | None = None
    memory_peak: int | None = None
    memory_limit: int | None = None
    memory_swap: int | None = None
    memory_anon: int | None = None
    memory_file: int | None = None
    memory_inactive_file: int | None = None
    oom_kills: int | None = None
    cpu_usage_ns: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    cpu_periods: int | None = None
    cpu_throttled_periods: int | None = None
    cpu_throttled_ns: int | None = None
    pids_current: int | None = None
    pids_limit: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    io_read_operations: int | None = None
    io_write_operations: int | None = None


def read(cgroup: Cgroup) -> Stats:
    """All figures of a cgroup, each from the hierarchy that holds its controller. Never fails for what is missing."""
    found: dict[str, int | None] = {}
    _memory(cgroup, found)
    _cpu(cgroup, found)
    _pids(cgroup, found)
    _io(cgroup, found)
    return Stats(**found)


def oom_kills(cgroup: Cgroup) -> int | None:
    """How many processes the OOM killer took in this cgroup (below it, too, on v2), or None when nobody counts.

    v1 counts since Linux 4.13.
    """
    if "memory" in cgroup.v1:
        return _table(f"{cgroup.v1['memory']}/memory.oom_control").get("oom_kill")
    return _table(f"{cgroup.unified}/memory.events").get("oom_kill") if cgroup.unified else None


def _memory(cgroup: Cgroup, found: dict[str, int | None]) -> None:
    found["oom_kills"] = oom_kills(cgroup)
    v1 = cgroup.v1.get("memory")
    if v1:
        table = _table(f"{v1}/memory.stat")
        usage = _number(f"{v1}/memory.usage_in_bytes")
        with_swap = _number(f"{v1}/memory.memsw.usage_in_bytes")
        found["memory_usage"] = usage
        found["memory_peak"] = _number(f"{v1}/memory.max_usage_in_bytes")
        found["memory_limit"] = _limit(f"{v1}/memory.limit_in_bytes")
        found["memory_swap"] = None if usage is None or with_swap is None else max(0, with_swap - usage)
        found["memory_anon"] = table.get("total_rss")
        found["memory_file"] = table.get("total_cache")
        found["memory_inactive_file"] = table.get("total_inactive_file")
    elif cgroup.unified:
        v2 = cgroup.unified
        table = _table(f"{v2}/memory.stat")
        found["memory_usage"] = _number(f"{v2}/memory.current")
        found["memory_peak"] = _number(f"{v2}/memory.peak")
        found["memory_limit"] = _limit(f"{v2}/memory.max")
        found["memory_swap"] = _number(f"{v2}/memory.swap.current")
        found["memory_anon"] = table.get("anon")
        found["memory_file"] = table.get("file")
        found["memory_inactive_file"] = table.get("inactive_file")


def _cpu(cgroup: Cgroup, found: dict[str, int | None]) -> None:
    account = cgroup.v1.get("cpuacct")
    v1 = cgroup.v1.get("cpu")
    if account:
        found["cpu_usage_ns"] = _number(f"{account}/cpuacct.usage")
        found["cpu_user_ns"] = _number(f"{account}/cpuacct.usage_user")
        found["cpu_system_ns"] = _number(f"{account}/cpuacct.usage_sys")
    if v1:
        table = _table(f"{v1}/cpu.stat")
        found["cpu_throttled_ns"] = table.get("throttled_time")
    else:
        table = _table(f"{cgroup.unified}/cpu.stat") if cgroup.unified else {}
        found["cpu_throttled_ns"] = _us(table.get("throttled_usec"))
        if not account:
            found["cpu_usage_ns"] = _us(table.get("usage_usec"))
            found["cpu_user_ns"] = _us(table.get("user_usec"))
            found["cpu_system_ns"] = _us(table.get("system_usec"))
    found["cpu_periods"] = table.get("nr_periods")
    found["cpu_throttled_periods"] = table.get("nr_throttled")


def _pids(cgroup: Cgroup, found: dict[str, int | None]) -> None:
    directory = cgroup.v1.get("pids") or cgroup.unified
    if directory:
        found["pids_current"] = _number(f"{directory}/pids.current")
        found["pids_limit"] = _limit(f"{directory}/pids.max")


def _io(cgroup: Cgroup, found: dict[str, int | None]) -> None:
    v1 = cgroup.v1.get("blkio")
    if v1:
        for name, key in (("io_service_bytes", "bytes"), ("io_serviced", "operations")):
            text = _read(f"{v1}/blkio.throttle.{name}_recursive")
            if text is None:
                text = _read(f"{v1}/blkio.throttle.{name}")
            if text is not None:
                found[f"io_read_{key}"], found[f"io_write_{key}"] = _blkio(text)
    elif cgroup.unified:
        text = _read(f"{cgroup.unified}/io.stat")
        if text is not None:
            sums = {b"rbytes": 0, b"wbytes": 0, b"rios": 0, b"wios": 0}
            for word in text.split():
                key_, equals, value = word.partition(b"=")
                if equals and key_ in sums:
                    sums[key_] += int(value)
            found["io_read_bytes"], found["io_write_bytes"] = sums[b"rbytes"], sums[b"wbytes"]
            found["io_read_operations"], found["io_write_operations"] = sums[b"rios"], sums[b"wios"]


def _blkio(text: bytes) -> tuple[int, int]:
    """The sums over all devices of the lines "MAJOR:MINOR Read N" and "… Write N"."""
    read_ = write = 0
    for line in text.split(b"\n"):
        words = line.split()
        if len(words) == 3 and words[1] == b"Read":
            read_ += int(words[2])
        elif len(words) == 3 and words[1] == b"Write":
            write += int(words[2])
    return read_, write


def _table(path: str) -> dict[str, int]:
    found = {}
    for line in (_read(path) or b"").split(b"\n"):
        key, _, value = line.partition(b" ")
        if value.isdigit():
            found[key.decode("ascii", "replace")] = int(value)
    return found


def _number(path: str) -> int | None:
    text = (_read(path) or b"").strip()
    return int(text) if text.isdigit() else None


def _limit(path: str) -> int | None:
    value = _number(path)  # v2 says "max"; v1 the largest page-aligned number
    return None if value is None or value >= _UNLIMITED else value


def _us(value: int | None) -> int | None:
    return None if value is None else value * _NS_PER_US
