"""The facts of this machine and this process that a specification depends on.

Gathered in one place so that `spec.generate` is a pure function of them. Everything is read afresh, from a handful of
small files of /proc and /sys: a third of a millisecond. On the hot path; reads only.
"""

from __future__ import annotations

import os
import sys

from ...base import errors
from ...base.kernel import cgroups
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CGROUP_PARENT = "/orlop"

_ALL_CAPABILITIES = (1 << 64) - 1
_SYS_RESOURCE = 1 << 24


class HostFacts(Record):
    """What `spec.generate` needs to know.

    machine: as uname(2) says ("x86_64"). kernel: (major, minor). hostname: the host's.
    bounding: our own bounding set of capabilities, as a mask; may_raise_limits: whether we hold CAP_SYS_RESOURCE.
    hard_limits: our own hard resource limits by name ("nofile"); (1 << 64) - 1 for none.
    oom_score_adj: our own, below which we cannot go without CAP_SYS_RESOURCE.
    cgroup_mode: "v1", "hybrid", "v2" or "none" (`cgroups.Layout`). controllers: those a container can be limited with.
    unified_controllers: those cgroup2 holds.
    swap_accounting: whether memory plus swap can be limited. cpus: CPUs that are on line.
    seccomp: whether the kernel has filters. apparmor: whether it is enabled. selinux: whether it is.
    recursive_read_only: whether the kernel can make a tree of mounts read-only (Linux 5.12, mount_setattr).
    throttle_paths: per-CPU thermal directories of /sys that must be masked (they tell load of the host).
    cgroup_files: names of files that v1 cgroups have; None: look when somebody asks (`has_cgroup_file`).
    """

    machine: str = "x86_64"
    kernel: tuple[int, int] = (6, 1)
    hostname: str = "localhost"
    bounding: int = _ALL_CAPABILITIES
    may_raise_limits: bool = True
    hard_limits: dict[str, int] = {}
    oom_score_adj: int = 0
    cgroup_mode: str = "v2"
    controllers: tuple[str, ...] = ("blkio", "cpu", "cpuset", "devices", "hugetlb", "memory", "pids")
    unified_controllers: tuple[str, ...] = ()
    swap_accounting: bool = True
    cpus: int = 1
    seccomp: bool = True
    apparmor: bool = False
    selinux: bool = False
    recursive_read_only: bool = True
    throttle_paths: tuple[str, ...] = ()
    cgroup_files: tuple[str, ...] | None = None

    def has_cgroup_file(self, controller: str, name: str) -> bool:
        """Whether cgroups of a v1 controller have this file. Looks at the kernel only when it is asked."""
        if self.cgroup_files is not None:
            return name in self.cgroup_files
        hierarchy = cgroups.detect().v1.get(controller)
        return hierarchy is not None and _cgroup_has(hierarchy.mount_point, name)


def _cgroup_has(top: str, name: str) -> bool:
    """Whether the top cgroup or one below it has the file: some are not at the top."""
    if os.path.exists(f"{top}/{name}"):
        return True
    with os.scandir(top) as entries:
        return any(os.path.exists(f"{entry.path}/{name}") for entry in entries if entry.is_dir())


def facts() -> HostFacts:
    """The facts of here and now. Raises Unimplemented anywhere but on Linux."""
    if sys.platform != "linux":
        raise errors.Unimplemented(
            f"containers need the Linux kernel; this is {sys.platform}",
            advice="run Orlop on Linux, or in a Linux virtual machine",
        )
    name = os.uname()
    kernel = kernel_version(name.release)
    status = _read("/proc/self/status")
    layout = cgroups.detect()
    return HostFacts(
        machine=name.machine,
        kernel=kernel,
        hostname=name.nodename,
        bounding=_mask(status, b"CapBnd"),
        may_raise_limits=bool(_mask(status, b"CapEff") & _SYS_RESOURCE),
        hard_limits=_hard_limits(),
        oom_score_adj=int(_read("/proc/self/oom_score_adj") or 0),
        cgroup_mode=layout.mode,
        controllers=_controllers(layout),
        unified_controllers=layout.unified_controllers,
        swap_accounting=_has_swap_accounting(layout),
        cpus=os.cpu_count() or 1,
        seccomp=b"\nSeccomp:" in status,
        apparmor=_read("/sys/module/apparmor/parameters/enabled")[:1] == b"Y",
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        recursive_read_only=kernel >= (5, 12),
        throttle_paths=_throttle_paths(),
    )


def kernel_version(release: str) -> tuple[int, int]:
    """(major, minor) of a kernel release such as "6.1.0-13-amd64"; (0, 0) when it is none."""
    parts = release.split(".", 2)
    digits = []
    for part in (*parts[:2], "0", "0")[:2]:
        end = 0
        while end < len(part) and part[end] in "0123456789":
            end += 1
        digits.append(int(part[:end] or 0))
    return digits[0], digits[1]


def cgroup_path(root_id: str, container_id: str, parent: str = "") -> str:
    """The container's cgroup, from the top of each hierarchy: /orlop/<root id>/<container id>.

    The root id keeps two roots of one machine apart. With a parent (`--cgroup-parent`) it is <parent>/<container id>,
    a parent without a leading "/" being taken below /orlop/<root id>. Absolute on purpose: a path relative to our own
    cgroup would make a container's limits depend on who started it, and die with that. Raises UsageError.
    """
    if not parent:
        return f"{CGROUP_PARENT}/{root_id}/{container_id}"
    parts = [part for part in parent.split("/") if part not in ("", ".")]
    if ".." in parts or not parts or "\0" in parent or parent.endswith(".slice"):
        raise errors.UsageError(
            f"invalid --cgroup-parent {parent!r}", advice="give a path below the cgroup root, such as /services/web"
        )
    head = "" if parent.startswith("/") else f"{CGROUP_PARENT}/{root_id}"
    return f"{head}/{'/'.join(parts)}/{container_id}"


def find_init(search: Mapping[str, str] | None = None, named: str = "") -> str:
    """The path of a small init for `--init` that needs no libraries: tini-static, docker-init, catatonit, tini.

    search: the environment whose PATH is looked through (ours). named: the one to use instead, as a path of the host.
    Raises RuntimeFailed with how to get one, UsageError when the named one cannot be used.
    """
    if named:
        if not named.startswith("/") or not os.access(named, os.X_OK) or not os.path.isfile(named):
            raise errors.UsageError(f"invalid --init-binary {named!r}: give the absolute path of a program")
        if not _is_static(named):
            raise errors.UsageError(f"invalid --init-binary {named!r}: it is not a static program (64-bit ELF)")
        return os.path.realpath(named)
    environment = os.environ if search is None else search
    directories = (
        *environment.get("PATH", "").split(":"),
        "/usr/bin",
        "/usr/libexec/podman",
        "/usr/local/bin",
        "/sbin",
    )
    for name in ("tini-static", "docker-init", "catatonit", "tini"):
        for directory in directories:
            path = f"{directory}/{name}"
            if directory.startswith("/") and os.access(path, os.X_OK) and _is_static(path):
                return os.path.realpath(path)
    raise errors.RuntimeFailed("no static init program found for --init", advice="apt install tini")


def _is_static(path: str) -> bool:
    """Whether an ELF program has no interpreter (PT_INTERP), so that it runs in any root."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = os.read(fd, 64)
        if len(head) < 64 or head[:4] != b"\x7fELF" or head[4] != 2:
            return False
        little = head[5] == 1

        def number(data: bytes) -> int:
            return int.from_bytes(data, "little" if little else "big")

        size, count = number(head[54:56]), number(head[56:58])
        table = os.pread(fd, size * count, number(head[32:40]))
        kinds = [number(table[n * size : n * size + 4]) for n in range(count)]
        return 3 not in kinds  # PT_INTERP
    finally:
        os.close(fd)


def _read(path: str) -> bytes:
    """A small file of /proc or /sys, b"" when it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 1 << 16)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _mask(status: bytes, name: bytes) -> int:
    start = status.find(b"\n" + name + b":")
    if start < 0:
        return 0
    return int(status[start + len(name) + 2 : status.find(b"\n", start + 1)], 16)


def _hard_limits() -> dict[str, int]:
    import resource

    limits = {}
    for name in (
        "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
        "sigpending", "stack", "as",
    ):  # fmt: skip
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is not None:
            hard = resource.getrlimit(number)[1]
            limits[name] = (1 << 64) - 1 if hard == resource.RLIM_INFINITY else hard
    return limits


def _controllers(layout: cgroups.Layout) -> tuple[str, ...]:
    if layout.mode != "v2":
        return tuple(sorted(name for name in layout.v1 if not name.startswith("name=")))
    found = {*layout.unified_controllers, "devices"}  # a BPF program there, not a controller
    if "io" in found:
        found.add("blkio")
    return tuple(sorted(found))


def _has_swap_accounting(layout: cgroups.Layout) -> bool:
    if layout.mode == "v2":
        return True  # a child has memory.swap.max wherever the kernel has swap; its absence shows at creation
    memory = layout.v1.get("memory")
    return memory is not None and os.path.exists(f"{memory.mount_point}/memory.memsw.limit_in_bytes")


def _throttle_paths() -> tuple[str, ...]:
    base = "/sys/devices/system/cpu"
    if not os.path.exists(f"{base}/cpu0/thermal_throttle"):
        return ()
    numbered = [name for name in os.listdir(base) if name[:3] == "cpu" and name[3:].isdecimal()]
    paths = (f"{base}/{name}/thermal_throttle" for name in sorted(numbered))
    return tuple(path for path in paths if os.path.exists(path))
