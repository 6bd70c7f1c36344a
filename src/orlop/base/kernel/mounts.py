r"""Mounting and unmounting: mount(2), umount2(2), and lists of mounts with mount(8)'s option strings.

`mount_all` takes what a snapshotter or a foreign containerd hands out (type, source, target, options) and understands
mount(8)'s flags for every file system, bind mounts with flags, propagation, and overlays of any number of layers.

Long overlays. mount(2) takes one page of options, NUL included. An overlay whose options are longer is mounted
    1. with fsconfig, one `lowerdir+` a layer (Linux 6.5), which has no limit but 255 bytes a path; else
    2. with paths relative to the longest directory they share, from a thread that has left the process's working
       directory for one of its own (unshare CLONE_FS), so that neither a fork nor a chdir of the process is needed.
What fits neither way raises InvalidArgument.

In an overlay's options, ":" within a path of lowerdir, "," within any path and "\" are escaped by "\"
(see `escape_path`). Constants as in <linux/mount.h>. May import only its neighbours, `errors`, `record` and cheap
modules; the new mount API is loaded when it is needed.
"""

from __future__ import annotations

import errno
import os

from .. import errors
from ..record import Record
from . import _sys
from .mountinfo import MountInfo, mounted_at, mounted_under, mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol

    class Mount(Protocol):
        """One mount, in the form of mount(8)'s columns (the snapshots' Mount record is one)."""

        @property
        def type(self) -> str: ...
        @property
        def source(self) -> str: ...
        @property
        def target(self) -> str: ...
        @property
        def options(self) -> Sequence[str]: ...


__all__ = [
    "MountInfo",
    "Options",
    "escape_path",
    "mount",
    "mount_all",
    "mounted_at",
    "mounted_under",
    "mountinfo",
    "parse_options",
    "split_lowerdir",
    "umount2",
    "unmount",
    "unmount_all",
    "unmount_under",
]

MS_RDONLY = 1
MS_NOSUID = 1 << 1
MS_NODEV = 1 << 2
MS_NOEXEC = 1 << 3
MS_SYNCHRONOUS = 1 << 4
MS_REMOUNT = 1 << 5
MS_MANDLOCK = 1 << 6
MS_DIRSYNC = 1 << 7
MS_NOSYMFOLLOW = 1 << 8
MS_NOATIME = 1 << 10
MS_NODIRATIME = 1 << 11
MS_BIND = 1 << 12
MS_MOVE = 1 << 13
MS_REC = 1 << 14
MS_SILENT = 1 << 15
MS_POSIXACL = 1 << 16
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_FORCE = 1
MNT_DETACH = 2
MNT_EXPIRE = 4
UMOUNT_NOFOLLOW = 8

_ATIME = MS_NOATIME | MS_RELATIME | MS_STRICTATIME
_PER_MOUNT = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOSYMFOLLOW | MS_NODIRATIME | _ATIME

# Option → (flags it sets, flags it clears).
_FLAGS: dict[str, tuple[int, int]] = {
    "defaults": (0, 0),
    "ro": (MS_RDONLY, 0),
    "rw": (0, MS_RDONLY),
    "nosuid": (MS_NOSUID, 0),
    "suid": (0, MS_NOSUID),
    "nodev": (MS_NODEV, 0),
    "dev": (0, MS_NODEV),
    "noexec": (MS_NOEXEC, 0),
    "exec": (0, MS_NOEXEC),
    "sync": (MS_SYNCHRONOUS, 0),
    "async": (0, MS_SYNCHRONOUS),
    "dirsync": (MS_DIRSYNC, 0),
    "remount": (MS_REMOUNT, 0),
    "mand": (MS_MANDLOCK, 0),
    "nomand": (0, MS_MANDLOCK),
    "nosymfollow": (MS_NOSYMFOLLOW, 0),
    "symfollow": (0, MS_NOSYMFOLLOW),
    "noatime": (MS_NOATIME, _ATIME),
    "atime": (0, MS_NOATIME),
    "relatime": (MS_RELATIME, _ATIME),
    "norelatime": (0, MS_RELATIME),
    "strictatime": (MS_STRICTATIME, _ATIME),
    "nostrictatime": (0, MS_STRICTATIME),
    "nodiratime": (MS_NODIRATIME, 0),
    "diratime": (0, MS_NODIRATIME),
    "lazytime": (MS_LAZYTIME, 0),
    "nolazytime": (0, MS_LAZYTIME),
    "iversion": (MS_I_VERSION, 0),
    "noiversion": (0, MS_I_VERSION),
    "silent": (MS_SILENT, 0),
    "loud": (0, MS_SILENT),
    "bind": (MS_BIND, 0),
    "rbind": (MS_BIND | MS_REC, 0),
    "move": (MS_MOVE, 0),
}

_PROPAGATION: dict[str, int] = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}

# The OCI runtime specification's recursive options: "r" + these, for the mount and everything below it.
_RECURSIVE = ("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "nosymfollow", "symfollow", "noatime",
              "atime", "relatime", "norelatime", "strictatime", "nostrictatime", "nodiratime", "diratime")  # fmt: skip

# What only mount(8), fstab or systemd read.
_USERLAND = frozenset(
    ("_netdev", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup",
     "nofail", "comment")
)  # fmt: skip

# Flag of mount(2) → attribute of mount_setattr(2) (mountapi has their names).
_ATTRIBUTES = {
    MS_RDONLY: 0x01,
    MS_NOSUID: 0x02,
    MS_NODEV: 0x04,
    MS_NOEXEC: 0x08,
    MS_NODIRATIME: 0x80,
    MS_NOSYMFOLLOW: 0x00200000,
}

# statvfs's f_flag → MS_ flag. ST_RELATIME differs from MS_RELATIME; the rest are equal.
_STATVFS = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME
_ST_RELATIME = 1 << 12
_ST_NOSYMFOLLOW = 1 << 13


class Options(Record):
    """mount(8) options, sorted out.

    flags: MS_ flags to set; cleared: those said to be off ("rw", "exec"), which a bind mount drops when its source has
    them. propagation: MS_ flags, to be applied one after the other. recursive, recursive_cleared: MS_ flags for the
    mount and all below it. data: what the file system itself reads, in order.
    """

    flags: int = 0
    cleared: int = 0
    propagation: tuple[int, ...] = ()
    recursive: int = 0
    recursive_cleared: int = 0
    data: tuple[str, ...] = ()


def parse_options(options: Iterable[str]) -> Options:
    """Sort out mount(8) option strings, each one option. The last of contradicting ones wins.

    Options that only userland reads (X-…, x-…, nofail, …) are dropped. Unimplemented for "loop", which needs a device.
    """
    flags = cleared = recursive = recursive_cleared = 0
    propagation: list[int] = []
    data: list[str] = []
    for option in options:
        if option in _FLAGS:
            on, off = _FLAGS[option]
            flags = flags & ~off | on
            cleared = (cleared | off) & ~on
        elif option in _PROPAGATION:
            propagation.append(_PROPAGATION[option])
        elif option[:1] == "r" and option[1:] in _RECURSIVE:
            on, off = _FLAGS[option[1:]]
            recursive = recursive & ~off | on
            recursive_cleared = (recursive_cleared | off) & ~on
        elif option[:2] in ("X-", "x-") or option.partition("=")[0] in _USERLAND or not option:
            continue
        elif option == "loop" or option.startswith("loop="):
            raise errors.Unimplemented("mount option 'loop': Orlop does not set up loop devices for mounts")
        else:
            data.append(option)
    return Options(flags, cleared, tuple(propagation), recursive, recursive_cleared, tuple(data))


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2) as it is; "" is passed as NULL where the call allows it. Raises OSError naming target and source."""
    _sys.call(
        "mount",
        _sys.encode(source or "none"),
        _sys.encode(target),
        _sys.encode(fstype or None),
        flags,
        _sys.encode(data or None),
        path=target,
        path2=source,
    )


def umount2(target: str, flags: int = UMOUNT_NOFOLLOW) -> None:
    """umount2(2) as it is. Raises OSError: EINVAL when nothing is mounted there, EBUSY while it is in use."""
    _sys.call("umount2", _sys.encode(target), flags, path=target)


def mount_all(mounts: Sequence[Mount], target: str) -> None:
    """Mount a list of mounts on target, in order; a mount's own `target` names a place below it.

    When one fails, those before it are unmounted again. Raises OSError naming the type and the place, InvalidArgument
    and Unimplemented for options that cannot be.
    """
    done: list[str] = []
    try:
        for each in mounts:
            place, fd = _place(target, each.target)
            try:
                _mount_one(each, place)
            except OSError as error:
                if error.errno is None:
                    raise
                what = f"mount {each.type or 'bind'}: {error.strerror}"
                raise OSError(error.errno, what, error.filename or place, None, each.source or None) from error
            finally:
                if fd >= 0:
                    place = os.readlink(place)
                    os.close(fd)
            done.append(place)
    except BaseException:
        for place in reversed(done):
            unmount(place)
        raise


def unmount(path: str, *, lazy: bool = True) -> bool:
    """Unmount the uppermost mount on path; never follows a link. Says whether there was one.

    lazy: a mount that is in use is detached: gone from the tree at once, from memory when its last user is.
    Raises OSError otherwise.
    """
    try:
        umount2(path, UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
            return False
        if error.errno != errno.EBUSY or not lazy:
            raise
        umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH)
    return True


def unmount_all(path: str, *, lazy: bool = True) -> int:
    """Unmount everything that is stacked on exactly this path; how many there were."""
    count = 0
    while unmount(path, lazy=lazy):
        count += 1
    return count


def unmount_under(path: str, *, lazy: bool = True) -> int:
    """Unmount everything on path and below it, deepest first; how many there were."""
    count = 0
    for each in mounted_under(os.path.realpath(path)):
        count += unmount(each.mount_point, lazy=lazy)
    return count


def escape_path(path: str, *, lower: bool = False) -> str:
    """A path as an overlay's option string takes it; lower: as one of lowerdir's, which ":" separates."""
    escaped = path.replace("\\", "\\\\").replace(",", "\\,")
    return escaped.replace(":", "\\:") if lower else escaped


def split_lowerdir(value: str) -> list[str]:
    """The paths of a lowerdir option, topmost first, escapes undone."""
    paths = [""]
    characters = iter(value)
    for character in characters:
        if character == "\\":
            paths[-1] += next(characters, "\\")
        elif character == ":":
            paths.append("")
        else:
            paths[-1] += character
    return paths


def _place(target: str, below: str) -> tuple[str, int]:
    """Where to mount: target, or a place below it that no link leads out of (held by a descriptor; -1: none)."""
    below = below.strip("/")
    if not below or below == ".":
        return target, -1
    from . import files

    root = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = files.openat2(root, below, os.O_PATH, resolve=files.RESOLVE_IN_ROOT)
    finally:
        os.close(root)
    return f"/proc/self/fd/{fd}", fd


def _mount_one(each: Mount, target: str) -> None:
    options = parse_options(each.options)
    flags = options.flags
    if each.type in ("bind", "rbind"):
        flags |= MS_BIND | (MS_REC if each.type == "rbind" else 0)
    if flags & MS_BIND and not flags & MS_REMOUNT:
        _bind(each.source, target, flags, options)
    elif flags & MS_MOVE:
        mount(each.source, target, "", MS_MOVE)
    elif each.type in ("", "none") and options.propagation and not flags & MS_REMOUNT:
        pass  # "none", with propagation only: the mount is there
    elif each.type == "overlay" and not _fits(options.data):
        _mount_long_overlay(each.source, target, flags, options.data)
    else:
        mount(each.source, target, each.type, flags, ",".join(options.data))
    for propagation in options.propagation:
        mount("", target, "", propagation)
    if options.recursive or options.recursive_cleared:
        _set_recursively(target, options)


def _bind(source: str, target: str, flags: int, options: Options) -> None:
    mount(source, target, "", MS_BIND | flags & MS_REC)
    # mount(2) ignores other flags when it binds, and a remount replaces all of them: those the source has must be said
    # again (in a user namespace they are locked, and dropping one is refused).
    now = _flags_of(target)
    wanted = now & ~(options.cleared & _PER_MOUNT) | flags & _PER_MOUNT
    if flags & _ATIME:
        wanted = wanted & ~_ATIME | flags & _ATIME
    if wanted != now:
        try:
            mount("", target, "", MS_REMOUNT | MS_BIND | wanted)
        except BaseException:
            unmount(target)
            raise


def _flags_of(path: str) -> int:
    flag = os.statvfs(path).f_flag
    return (
        flag & _STATVFS
        | (MS_RELATIME if flag & _ST_RELATIME else 0)
        | (MS_NOSYMFOLLOW if flag & _ST_NOSYMFOLLOW else 0)
    )


def _set_recursively(target: str, options: Options) -> None:
    from . import mountapi

    on = off = 0
    for flag, attribute in _ATTRIBUTES.items():
        on |= attribute if options.recursive & flag else 0
        off |= attribute if options.recursive_cleared & flag else 0
    if (options.recursive | options.recursive_cleared) & _ATIME:
        off |= mountapi.MOUNT_ATTR__ATIME
        if options.recursive & MS_NOATIME:
            on |= mountapi.MOUNT_ATTR_NOATIME
        elif options.recursive & MS_STRICTATIME:
            on |= mountapi.MOUNT_ATTR_STRICTATIME
    mountapi.mount_setattr(target, on, off, flags=mountapi.AT_RECURSIVE)


def _fits(data: Sequence[str]) -> bool:
    return len(os.fsencode(",".join(data))) < os.sysconf("SC_PAGE_SIZE")


def _mount_long_overlay(source: str, target: str, flags: int, data: Sequence[str]) -> None:
    if _mount_overlay_by_fsconfig(source, target, flags, data):
        return
    base, shorter = _relative(data)
    if not _fits(shorter):
        raise errors.InvalidArgument(
            f"cannot mount an overlay on {target}: its {len(data)} options take more than a page of memory",
            advice="use a shorter root directory, fewer layers, or Linux 6.5 or later",
        )
    place = target if os.path.isabs(target) else os.path.abspath(target)
    _in_own_directory(base, lambda: mount(source, place, "overlay", flags, ",".join(shorter)))


def _mount_overlay_by_fsconfig(source: str, target: str, flags: int, data: Sequence[str]) -> bool:
    """Mount, one fsconfig call a layer. False when this kernel or a path's length does not allow it."""
    from . import mountapi

    settings: list[tuple[str, str | None]] = []
    for option in data:
        key, equals, value = option.partition("=")
        if key == "lowerdir":
            settings += [("lowerdir+", path) for path in split_lowerdir(value)]
        elif key in ("upperdir", "workdir"):
            settings.append((key, _unescape(value)))
        else:
            settings.append((key, value if equals else None))
    for _, setting in settings:
        # Kernels differ in whether they undo escapes here: a backslash in a path goes the other way.
        if setting is not None and (len(os.fsencode(setting)) > mountapi.FSCONFIG_STRING_MAX or "\\" in setting):
            return False
    try:
        context = mountapi.fsopen("overlay")
    except errors.Unimplemented:
        return False
    try:
        mountapi.fsconfig_string(context, "source", source or "overlay")
        if flags & MS_RDONLY:
            mountapi.fsconfig_flag(context, "ro")
        for key, setting in settings:
            if setting is None:
                mountapi.fsconfig_flag(context, key)
                continue
            try:
                mountapi.fsconfig_string(context, key, setting)
            except OSError as error:
                if key == "lowerdir+" and error.errno == errno.EINVAL:
                    return False
                raise
        mountapi.fsconfig_create(context)
        attributes = sum(attribute for flag, attribute in _ATTRIBUTES.items() if flags & flag)
        if flags & MS_NOATIME:
            attributes |= mountapi.MOUNT_ATTR_NOATIME
        elif flags & MS_STRICTATIME:
            attributes |= mountapi.MOUNT_ATTR_STRICTATIME
        made = mountapi.fsmount(context, attributes=attributes)
        try:
            mountapi.move_mount(made, "", mountapi.AT_FDCWD, target, mountapi.MOVE_MOUNT_F_EMPTY_PATH)
        finally:
            os.close(made)
    finally:
        os.close(context)
    return True


def _unescape(value: str) -> str:
    return split_lowerdir(value.replace(":", "\\:"))[0]


def _relative(data: Sequence[str]) -> tuple[str, list[str]]:
    """The directory all paths of an overlay share, and the options with paths relative to it."""
    parsed: list[tuple[str, list[str] | str]] = []
    paths: list[str] = []
    for option in data:
        key, _, value = option.partition("=")
        if key == "lowerdir":
            lower = split_lowerdir(value)
            parsed.append((key, lower))
            paths += lower
        elif key in ("upperdir", "workdir"):
            path = _unescape(value)
            parsed.append((key, [path]))
            paths.append(path)
        else:
            parsed.append((key, option))
    base = os.path.commonpath(paths) if paths else "/"
    shorter = []
    for key, path_or_option in parsed:
        if isinstance(path_or_option, str):
            shorter.append(path_or_option)
        else:
            relative = (escape_path(path[len(base) :].strip("/") or ".", lower=key == "lowerdir")
                        for path in path_or_option)  # fmt: skip
            shorter.append(f"{key}={':'.join(relative)}")
    return base, shorter


def _in_own_directory(directory: str, action: Callable[[], None]) -> None:
    """Run action in a thread whose working directory is `directory` and nobody else's."""
    import _thread

    from .namespaces import CLONE_FS, unshare

    failure: list[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def body() -> None:
        try:
            unshare(CLONE_FS)
            os.chdir(directory)
            action()
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            failure.append(error)
        finally:
            done.release()

    _thread.start_new_thread(body, ())
    done.acquire()
    if failure:
        raise failure[0]
