"""From the flags of `run` and `create` to `RunOptions`. Words only: what they mean is the runtime room's."""

from __future__ import annotations

import os

from ...base import errors
from ...services.runtime.options import RunOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...engine.networking import NetworkOptions
    from ...services.runtime.mounts import Mount

_SAME = (
    ("workdir", "workdir", str),
    ("user", "user", str),
    ("group-add", "group_add", tuple),
    ("umask", "umask", str),
    ("hostname", "hostname", str),
    ("domainname", "domainname", str),
    ("tty", "terminal", bool),
    ("init", "init", bool),
    ("read-only", "read_only", bool),
    ("pid", "pid", str),
    ("ipc", "ipc", str),
    ("uts", "uts", str),
    ("userns", "userns", str),
    ("cap-add", "cap_add", tuple),
    ("cap-drop", "cap_drop", tuple),
    ("privileged", "privileged", bool),
    ("tmpfs", "tmpfs", tuple),
    ("shm-size", "shm_size", int),
    ("device", "devices", tuple),
    ("memory", "memory", int),
    ("memory-reservation", "memory_reservation", int),
    ("cpus", "cpus", float),
    ("cpu-shares", "cpu_shares", int),
    ("cpu-period", "cpu_period", int),
    ("cpu-quota", "cpu_quota", int),
    ("cpuset-cpus", "cpuset_cpus", str),
    ("cpuset-mems", "cpuset_mems", str),
    ("pids-limit", "pids_limit", int),
    ("ulimit", "ulimits", tuple),
    ("oom-score-adj", "oom_score_adj", int),
    ("stop-signal", "stop_signal", str),
    ("runtime", "runtime", str),
    ("cgroup-parent", "cgroup_parent", str),
    ("blkio-weight", "blkio_weight", int),
    ("blkio-weight-device", "blkio_weight_device", tuple),
    ("cgroupns", "cgroupns", str),
    ("cpu-rt-period", "cpu_rt_period", int),
    ("cpu-rt-runtime", "cpu_rt_runtime", int),
    ("device-cgroup-rule", "device_cgroup_rules", tuple),
    ("device-read-bps", "device_read_bps", tuple),
    ("device-read-iops", "device_read_iops", tuple),
    ("device-write-bps", "device_write_bps", tuple),
    ("device-write-iops", "device_write_iops", tuple),
    ("init-binary", "init_path", str),
    ("oom-kill-disable", "oom_kill_disable", bool),
    ("volumes-from", "volumes_from", tuple),
)
"""Flags that are handed on as they are: (flag, field, type)."""


def options(flags: dict[str, Any], args: list[str], env: tuple[str, ...], warn: Callable[[str], None]) -> RunOptions:
    """The options a command line asks for. UsageError names the flag that cannot be understood."""
    values: dict[str, Any] = {field: kind(flags[flag]) for flag, field, kind in _SAME if flag in flags}
    network = flags.get("network") or ("bridge" if "publish" in flags or "publish-all" in flags else "none")
    if not _RARE.isdisjoint(flags):
        values.update(_rare(flags, values, warn))
    if "entrypoint" in flags:
        values["entrypoint"] = (flags["entrypoint"],) if flags["entrypoint"] else ()
    if "security-opt" in flags:
        from ...services.runtime import security

        values["security_opt"] = security.inline_files(tuple(flags["security-opt"]))
    if "memory-swap" in flags:
        values["memory_swap"] = _swap(flags["memory-swap"])
    if "volume" in flags or "mount" in flags:
        values["mounts"] = _mounts(flags, warn)
    for flag, field in (("sysctl", "sysctls"), ("annotation", "annotations")):
        if flag in flags:
            values[field] = _pairs(flags[flag], flag)
    return RunOptions(args=tuple(args), env=env, network=network, **values)


_NETWORK = (
    ("publish", "publish", tuple),
    ("publish-all", "publish_all", bool),
    ("expose", "expose", tuple),
    ("ip", "ip", str),
    ("mac-address", "mac", str),
    ("network-alias", "aliases", tuple),
    ("dns", "dns", tuple),
    ("dns-search", "dns_search", tuple),
    ("dns-option", "dns_options", tuple),
    ("add-host", "add_hosts", tuple),
)


def network_options(flags: dict[str, Any]) -> NetworkOptions | None:
    """What the flags ask of the container's network; None when they ask nothing."""
    given: dict[str, Any] = {field: kind(flags[flag]) for flag, field, kind in _NETWORK if flag in flags}
    if not given:
        return None
    from ...engine.networking import NetworkOptions

    return NetworkOptions(**given)


_RARE = frozenset(
    (
        "gpus", "health-cmd", "health-interval", "health-retries", "health-start-interval", "health-start-period",
        "health-timeout", "kernel-memory", "memory-swappiness", "no-healthcheck", "restart", "storage-opt",
        "volume-driver",
    )
)  # fmt: skip


def _rare(flags: dict[str, Any], values: dict[str, Any], warn: Callable[[str], None]) -> dict[str, Any]:
    """The fields that flags of _RARE stand for; what cannot be done is refused, what has no effect is told."""
    from . import rareflags

    found: dict[str, Any] = {}
    if "gpus" in flags:
        found["devices"] = (*values.get("devices", ()), *rareflags.gpus(flags["gpus"]))
    if not flags.keys().isdisjoint(rareflags.HEALTH_FLAGS):
        found["health"] = rareflags.health(flags)
    if "restart" in flags:
        found["restart"] = rareflags.restart(flags["restart"], remove=bool(flags.get("rm")))
    if flags.get("memory-swappiness", -1) != -1:
        found["memory_swappiness"] = flags["memory-swappiness"]
    if "kernel-memory" in flags:
        warn("--kernel-memory is deprecated and has no effect: --memory limits the kernel's memory too")
    if "storage-opt" in flags:
        raise errors.UsageError(
            f"--storage-opt {flags['storage-opt'][0]}: not supported by Orlop's snapshotters",
            advice="limit space with a file system of its own: a volume with --opt device=/PATH, or --tmpfs with size=",
        )
    if flags.get("volume-driver", "local") not in ("", "local"):
        raise errors.UsageError(f"--volume-driver {flags['volume-driver']}: the only volume driver is local")
    return found


def _swap(text: str) -> int:
    if text == "-1":
        return -1
    from . import human

    try:
        return human.parse_size(text)
    except errors.InvalidArgument as error:
        raise errors.UsageError(f'invalid argument "{text}" for "--memory-swap" flag: {error.message}') from None


def _mounts(flags: dict[str, Any], warn: Callable[[str], None]) -> tuple[Mount, ...]:
    from ...services.runtime import mounts

    cwd = os.getcwd()
    found = []
    for text in flags.get("volume", ()):
        mount, warnings = mounts.parse_volume(text, cwd)
        found.append(mount)
        for warning in warnings:
            warn(warning)
    for text in flags.get("mount", ()):
        mount, warnings = mounts.parse_mount(text, cwd)
        found.append(mount)
        for warning in warnings:
            warn(warning)
    return tuple(found)


def _pairs(items: list[str], flag: str) -> dict[str, str]:
    out = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise errors.UsageError(f"invalid argument {item!r} for --{flag}: use KEY=VALUE")
        out[key] = value
    return out
