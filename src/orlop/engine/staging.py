"""What is mounted on the host for one run of a container, to be bound into it: STATE/mounts/NAMESPACE/ID/NUMBER.

    volume    a path inside a volume: looked up at the start, by descriptor, so that no link in it leads out
    image     a view of an image, or a path inside of it
    bind      a directory of the host without what is mounted below it (crun 1.8 binds that along whatever it is told)
    shm       the /dev/shm of a container whose IPC namespace others may join

Made before the OCI runtime is asked for, unmounted when the run is over; each can be repeated after a crash.
"""

from __future__ import annotations

import os
import stat

from ..base import errors, fsio
from ..base.kernel import files
from ..base.kernel import mounts as kernel_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..stores.containers.api import Container as Record
    from .wiring import Wiring

STAGED = "orlop.staged"
"""The record's extension that lists what to mount: objects with "kind" and what that kind needs."""


def directory(wiring: Wiring, id: str) -> str:
    """Where a container's mounts are."""
    return f"{wiring.state}/mounts/{wiring.namespace}/{id}"


def point(wiring: Wiring, id: str, number: int) -> str:
    """Where the number-th of them is."""
    return f"{directory(wiring, id)}/{number}"


def stage(wiring: Wiring, record: Record) -> None:
    """Mount all that the record lists. What fails leaves nothing mounted. Raises UsageError, FailedPrecondition."""
    unstage(wiring, record)
    try:
        fsio.make_dirs(directory(wiring, record.id), 0o700)
        for number, each in enumerate(record.extensions[STAGED]):
            try:
                _mount(wiring, record, each, point(wiring, record.id, number))
            except OSError as error:
                what = each.get("subpath") or each["kind"]
                raise errors.from_os(error, f"mount {each['kind']} {what}") from error
    except BaseException:
        unstage(wiring, record)
        raise


def unstage(wiring: Wiring, record: Record) -> None:
    """Unmount whatever of it is mounted."""
    where = directory(wiring, record.id)
    try:
        names = os.listdir(where)
    except FileNotFoundError:
        return
    for name in names:
        kernel_mounts.unmount_all(f"{where}/{name}")
    fsio.remove_tree(where)


def _mount(wiring: Wiring, record: Record, each: dict[str, Any], at: str) -> None:
    kind = each["kind"]
    if kind == "shm":
        os.mkdir(at, 0o700)
        flags = kernel_mounts.MS_NOSUID | kernel_mounts.MS_NODEV | kernel_mounts.MS_NOEXEC
        kernel_mounts.mount("shm", at, "tmpfs", flags, f"mode=1777,size={int(each['size'])}")
        _private(at)
    elif kind == "volume":
        volume = wiring.volumes.get(each["volume"])
        _bind_inside(wiring.volumes.path(volume), each["subpath"], at, f"volume {volume.name}")
    elif kind == "bind":
        os.mkdir(at, 0o700)
        kernel_mounts.mount(each["source"], at, "", kernel_mounts.MS_BIND)
        if each["propagation"] in ("private", "rprivate"):
            _private(at)
    else:
        view = wiring.snapshotter(record.snapshotter).mounts(each["key"])
        whole = f"{at}.whole" if each.get("subpath") else at
        os.mkdir(whole, 0o700)
        kernel_mounts.mount_all(view, whole)
        _private(whole)
        if each.get("subpath"):
            try:
                _bind_inside(whole, each["subpath"], at, "the image")
            finally:
                kernel_mounts.unmount_all(whole)
            os.rmdir(whole)


def _bind_inside(root: str, path: str, at: str, what: str) -> None:
    """Bind what `path` names inside `root`, followed without leaving it."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = files.openat2(top, path, os.O_PATH, 0, files.RESOLVE_IN_ROOT)
    except OSError as error:
        raise errors.UsageError(f"cannot access path {path} in {what}: {error.strerror}") from error
    finally:
        os.close(top)
    try:
        mode = os.fstat(found).st_mode
        if stat.S_ISDIR(mode):
            os.mkdir(at, 0o700)
        elif stat.S_ISREG(mode):
            os.close(os.open(at, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        else:
            raise errors.UsageError(f"cannot mount path {path} in {what}: it is neither a directory nor a file")
        kernel_mounts.mount(f"/proc/self/fd/{found}", at, "", kernel_mounts.MS_BIND | kernel_mounts.MS_REC)
        _private(at)
    finally:
        os.close(found)


def _private(at: str) -> None:
    kernel_mounts.mount("", at, "", kernel_mounts.MS_PRIVATE)
