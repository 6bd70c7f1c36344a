"""Control groups, version 1, hybrid and 2: what is mounted, which cgroups a process is in, freeze, kill, remove.

The machine is found out from mountinfo, never guessed from names. A hierarchy that stands in /proc/PID/cgroup but is
not mounted (or not visible here) is left out. Creating cgroups and setting limits is the OCI runtime's work.
Sources: cgroups(7), the kernel's cgroup-v1/ and cgroup-v2.rst. Figures are read by `cgroupstats`.
May import only its neighbours, `errors`, `record`, `cancel` and cheap modules.
"""

from __future__ import annotations

import errno
import os
import time

from .. import errors
from ..cancel import NEVER, Cancel
from ..record import Record
from . import _sys
from .mountinfo import MountInfo, mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORTEST_WAIT_S = 0.0005
_LONGEST_WAIT_S = 0.02
_KILL_PASSES = 100
_FREEZE_PATIENCE_S = 1.0

# v1 mount options that are not controllers.
_NOT_CONTROLLERS = frozenset(("rw", "ro", "noprefix", "clone_children", "xattr", "all", "none", "cpuset_v2_mode",
                              "favordynmods", "nofavordynmods", "seclabel", "relatime"))  # fmt: skip


class Hierarchy(Record):
    """One mounted hierarchy. root: the cgroup that the mount point shows ("/", but in containers a deeper one)."""

    mount_point: str
    root: str = "/"

    def directory(self, path: str) -> str:
        """The directory of the cgroup `path` of /proc/PID/cgroup, or "" when this mount does not show it."""
        if self.root == "/":
            return self.mount_point + path.rstrip("/")
        if path == self.root or path.startswith(self.root + "/"):
            return self.mount_point + path[len(self.root) :].rstrip("/")
        return ""


class Layout(Record):
    """The machine's cgroups as this process sees them.

    mode: "v2", "v1", "hybrid" (both are mounted, controllers on v1), "none". v1: controller (or "name=…") → hierarchy.
    unified_controllers: controllers that cgroup2 holds; in hybrid mode they are what v1 has left over.
    """

    mode: str
    v1: dict[str, Hierarchy] = {}
    unified: Hierarchy | None = None
    unified_controllers: tuple[str, ...] = ()


class Cgroup(Record):
    """The directories of one cgroup. v1: controller (or "name=…") → directory; unified: that on cgroup2, or ""."""

    v1: dict[str, str] = {}
    unified: str = ""

    def directories(self) -> list[str]:
        """Each directory once; co-mounted controllers share theirs."""
        found = dict.fromkeys(self.v1.values())
        if self.unified:
            found[self.unified] = None
        return list(found)


def detect(mounts: list[MountInfo] | None = None) -> Layout:
    """Find out what is mounted. mounts: a parsed mountinfo, when there is one at hand. Raises OSError."""
    v1: dict[str, Hierarchy] = {}
    unified: Hierarchy | None = None
    check = mounts is None
    for mount in mountinfo() if mounts is None else mounts:
        if mount.type not in ("cgroup", "cgroup2") or (check and not _is_visible(mount)):
            continue
        hierarchy = Hierarchy(mount.mount_point, mount.root)
        if mount.type == "cgroup2":
            if unified is None or mount.root == "/":
                unified = hierarchy
            continue
        for option in mount.super_options:
            if option.startswith("name=") or (option not in _NOT_CONTROLLERS and "=" not in option):
                v1.setdefault(option, hierarchy)
    held: tuple[str, ...] = ()
    if unified is not None:
        held = tuple(os.fsdecode(_read(f"{unified.mount_point}/cgroup.controllers") or b"").split())
    controllers = any(not name.startswith("name=") for name in v1)
    if unified is not None:
        mode = "hybrid" if controllers else "v2"
    else:
        mode = "v1" if controllers else "none"
    return Layout(mode, v1, unified, held)


def paths_of(pid: int | str = "self") -> dict[str, str]:
    """The cgroups a process is in: controller, "name=…" or "" (cgroup2) → path within the hierarchy.

    Raises ProcessLookupError when there is no such process.
    """
    _sys.require_linux()
    try:
        with open(f"/proc/{pid}/cgroup", "rb", buffering=0) as file:
            data = file.readall()
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid)) from None
    return parse_paths(data)


def parse_paths(data: bytes) -> dict[str, str]:
    """Parse the text of /proc/PID/cgroup. A path the kernel marks " (deleted)" is left out."""
    found = {}
    for line in os.fsdecode(data).split("\n"):
        number, colon, rest = line.partition(":")
        controllers, colon2, path = rest.partition(":")
        if not colon or not colon2 or path.endswith(" (deleted)"):
            continue
        if number == "0" and not controllers:
            found[""] = path
        for controller in controllers.split(","):
            if controller:
                found[controller] = path
    return found


def of_process(pid: int | str = "self", layout: Layout | None = None) -> Cgroup:
    """The cgroups a process is in, to read figures from. Hierarchies in whose root it sits are left out: the figures
    of a root are the machine's.

    Raises ProcessLookupError when there is no such process.
    """
    layout = layout or detect()
    v1 = {}
    unified = ""
    for controller, path in paths_of(pid).items():
        hierarchy = layout.v1.get(controller) if controller else layout.unified
        directory = hierarchy.directory(path) if hierarchy and path != "/" and ".." not in path.split("/") else ""
        if controller and directory:
            v1[controller] = directory
        elif directory:
            unified = directory
    return Cgroup(v1, unified)


def at(path: str, layout: Layout | None = None) -> Cgroup:
    """The directories that exist for the cgroup `path` ("/orlop/ID"), below the mount points.

    InvalidArgument for the root and for paths that are not plain: what is done to such a cgroup hits the machine.
    """
    names = [name for name in path.split("/") if name]
    if not names or "." in names or ".." in names:
        raise errors.InvalidArgument(f"{path!r} does not name a cgroup below the root")
    layout = layout or detect()
    below = "/" + "/".join(names)
    v1 = {}
    for controller, hierarchy in layout.v1.items():
        directory = hierarchy.mount_point + below
        if os.path.isdir(directory):
            v1[controller] = directory
    unified = layout.unified.mount_point + below if layout.unified else ""
    return Cgroup(v1, unified if unified and os.path.isdir(unified) else "")


def ease_moves() -> None:
    """Begin, in a thread of its own, what lets a process be moved into a cgroup quickly in the next moments.

    A move takes the kernel's lock on thread groups (cgroup_threadgroup_rwsem), and the first to take it after a while
    waits for an RCU grace period: 8 to 15 ms here, half of what an OCI runtime needs to create a container. Those right
    after it do not wait. Moving ourselves to where we are takes the lock and changes nothing; done while the caller
    prepares a container, it takes that wait off its start (measured: 61 → 46 ms for a whole run). Whether it works does
    not matter to anybody but the clock.
    """
    import _thread

    _thread.start_new_thread(_take_lock, ())


def _take_lock() -> None:
    try:
        for directory in of_process("self").directories():
            if _write(f"{directory}/cgroup.procs", b"%d" % os.getpid()):
                return
    except (OSError, errors.OrlopError):
        pass


def pids(cgroup: Cgroup) -> list[int]:
    """All processes in a cgroup and below it, in any of its hierarchies (0, one of another pid namespace, left out)."""
    found: set[int] = set()
    for directory in cgroup.directories():
        for each in _tree(directory):
            found.update(int(pid) for pid in (_read(f"{each}/cgroup.procs") or b"").split())
    return sorted(found - {0})


def freeze(cgroup: Cgroup, cancel: Cancel = NEVER) -> None:
    """Stop all processes of a cgroup; returns when they are stopped.

    Unimplemented when neither cgroup2 nor v1's freezer holds the cgroup. A cancelled freeze is undone.
    """
    _set_frozen(cgroup, True, cancel)


def thaw(cgroup: Cgroup, cancel: Cancel = NEVER) -> None:
    """Let the processes of a frozen cgroup run again."""
    _set_frozen(cgroup, False, cancel)


def is_frozen(cgroup: Cgroup) -> bool:
    """Whether all its processes are stopped by the freezer."""
    if "freezer" in cgroup.v1:
        return (_read(f"{cgroup.v1['freezer']}/freezer.state") or b"").strip() == b"FROZEN"
    return bool(cgroup.unified) and b"frozen 1" in (_read(f"{cgroup.unified}/cgroup.events") or b"")


def kill_all(cgroup: Cgroup, signal: int = 9) -> int:
    """Signal every process of a cgroup and below it; how many there were. None forked meanwhile escapes SIGKILL:
    cgroup2 does it in one step (cgroup.kill, Linux 5.14); elsewhere the cgroup is frozen for it where it can be, and
    signalled again until nobody new is found. A cgroup that was frozen is thawed by SIGKILL, so that it can die.
    """
    seen = set(pids(cgroup))
    if not seen:
        return 0
    if signal != 9:
        _signal(seen, signal)
        return len(seen)
    freezer = "freezer" in cgroup.v1
    if not (cgroup.unified and _write(f"{cgroup.unified}/cgroup.kill", b"1")) and (freezer or cgroup.unified):
        try:
            freeze(cgroup, Cancel(timeout=_FREEZE_PATIENCE_S))
        except (OSError, errors.OrlopError):  # what cannot be frozen is chased instead
            pass
    for _ in range(_KILL_PASSES):
        found = set(pids(cgroup))
        _signal(found, signal)
        if found <= seen:
            break
        seen |= found
    # v1 lets a frozen process die only when it is thawed, whoever froze it; cgroup2 lets it die as it is.
    if freezer or is_frozen(cgroup):
        thaw(cgroup)
    return len(seen)


def remove(cgroup: Cgroup, cancel: Cancel = NEVER, *, patience_s: float = 2.0) -> None:
    """Remove a cgroup's directories and all below them. Missing ones are fine.

    A cgroup stays busy for a moment after its last process has been killed: it is tried again for patience_s seconds,
    then FailedPrecondition is raised, naming the cgroup.
    """
    deadline = time.monotonic() + patience_s
    for directory in cgroup.directories():
        wait = _SHORTEST_WAIT_S
        while True:
            try:
                _remove_tree(directory)
                break
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                cancel.check()
                if time.monotonic() >= deadline:
                    raise errors.FailedPrecondition(
                        f"cannot remove cgroup {error.filename}: it still has processes",
                        advice="kill what runs in it (its cgroup.procs file lists the pids)",
                    ) from error
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_S)


def _is_visible(mount: MountInfo) -> bool:
    # A mount that another covers is still listed; what is at its mount point has another device then.
    try:
        device = os.stat(mount.mount_point).st_dev
    except OSError:
        return False
    return f"{os.major(device)}:{os.minor(device)}" == mount.device


def _tree(directory: str) -> Iterator[str]:
    """A cgroup and all below it, parents first."""
    yield directory
    try:
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for each in below:
        yield from _tree(each)


def _remove_tree(directory: str) -> None:
    for each in reversed(list(_tree(directory))):
        try:
            os.rmdir(each)
        except FileNotFoundError:
            pass


def _set_frozen(cgroup: Cgroup, frozen: bool, cancel: Cancel) -> None:
    if "freezer" in cgroup.v1:
        path, on, off = f"{cgroup.v1['freezer']}/freezer.state", b"FROZEN", b"THAWED"
    elif cgroup.unified and os.path.exists(f"{cgroup.unified}/cgroup.freeze"):
        path, on, off = f"{cgroup.unified}/cgroup.freeze", b"1", b"0"
    else:
        raise errors.Unimplemented("this machine cannot freeze the cgroup: neither v1's freezer nor cgroup2 holds it")
    wait = _SHORTEST_WAIT_S
    while True:
        # v1 may stay FREEZING until it is asked again (a process forked meanwhile).
        _must_write(path, on if frozen else off)
        if not frozen or is_frozen(cgroup):
            return
        try:
            cancel.check()
        except errors.OrlopError:
            _must_write(path, off)
            raise
        time.sleep(cancel.remaining(wait) or 0)
        wait = min(wait * 2, _LONGEST_WAIT_S)


def _signal(targets: set[int], signal: int) -> None:
    for pid in targets:
        try:
            os.kill(pid, signal)
        except ProcessLookupError:
            pass


def _read(path: str) -> bytes | None:
    """A small kernel file's content, or None when it is not there or its cgroup is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        chunks = []
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
        return b"".join(chunks)
    except OSError:  # ENODEV: removed meanwhile; EOPNOTSUPP: a threaded cgroup's cgroup.procs
        return None
    finally:
        os.close(fd)


def _must_write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(fd)


def _write(path: str, data: bytes) -> bool:
    try:
        _must_write(path, data)
    except OSError:
        return False
    return True
