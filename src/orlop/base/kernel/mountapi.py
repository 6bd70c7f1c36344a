"""The mount API of Linux 5.2 and later, as typed functions: a mount is built on a descriptor, then attached.

Names and constants as in <linux/mount.h> and <linux/fcntl.h>. Failures raise OSError whose sentence ends with what the
file system itself said (its message log), where it said something. May import only `_sys`.
"""

from __future__ import annotations

import os
import sys

from . import _sys

AT_FDCWD = _sys.AT_FDCWD
AT_SYMLINK_NOFOLLOW = _sys.AT_SYMLINK_NOFOLLOW
AT_NO_AUTOMOUNT = _sys.AT_NO_AUTOMOUNT
AT_EMPTY_PATH = _sys.AT_EMPTY_PATH
AT_RECURSIVE = _sys.AT_RECURSIVE

FSOPEN_CLOEXEC = 1
FSPICK_CLOEXEC = 1
FSPICK_SYMLINK_NOFOLLOW = 2
FSPICK_NO_AUTOMOUNT = 4
FSPICK_EMPTY_PATH = 8

FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_BINARY = 2
FSCONFIG_SET_PATH = 3
FSCONFIG_SET_PATH_EMPTY = 4
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7

FSCONFIG_STRING_MAX = 255
"""Longest value FSCONFIG_SET_STRING takes, in bytes."""

FSMOUNT_CLOEXEC = 1
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

MOVE_MOUNT_F_SYMLINKS = 0x01
MOVE_MOUNT_F_AUTOMOUNTS = 0x02
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_SYMLINKS = 0x10
MOVE_MOUNT_T_AUTOMOUNTS = 0x20
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOVE_MOUNT_SET_GROUP = 0x100
MOVE_MOUNT_BENEATH = 0x200

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC if hasattr(os, "O_CLOEXEC") else 0o2000000


def fsopen(name: str, flags: int = FSOPEN_CLOEXEC) -> int:
    """Open a context for a new instance of the file system type `name`. Raises OSError (ENODEV: unknown type)."""
    return _sys.syscall(_sys.SYS_fsopen, _sys.encode(name), flags, path=name)


def fspick(path: str, flags: int = FSPICK_CLOEXEC, dir_fd: int = AT_FDCWD) -> int:
    """Open a context to reconfigure the file system mounted at path."""
    return _sys.syscall(_sys.SYS_fspick, dir_fd, _sys.encode(path), flags, path=path)


def fsconfig_flag(fd: int, key: str) -> None:
    """Set a parameter that takes no value ("ro")."""
    _fsconfig(fd, FSCONFIG_SET_FLAG, key, None, 0)


def fsconfig_string(fd: int, key: str, value: str) -> None:
    """Set a parameter to a string of at most FSCONFIG_STRING_MAX bytes."""
    _fsconfig(fd, FSCONFIG_SET_STRING, key, _sys.encode(value), 0)


def fsconfig_path(fd: int, key: str, path: str, dir_fd: int = AT_FDCWD) -> None:
    """Set a parameter to a path, looked up from dir_fd."""
    _fsconfig(fd, FSCONFIG_SET_PATH, key, _sys.encode(path), dir_fd)


def fsconfig_fd(fd: int, key: str, value: int) -> None:
    """Set a parameter to an open descriptor."""
    _fsconfig(fd, FSCONFIG_SET_FD, key, None, value)


def fsconfig_create(fd: int) -> None:
    """Make the file system as configured."""
    _fsconfig(fd, FSCONFIG_CMD_CREATE, None, None, 0)


def fsconfig_reconfigure(fd: int) -> None:
    """Apply what was configured to the file system that `fspick` picked."""
    _fsconfig(fd, FSCONFIG_CMD_RECONFIGURE, None, None, 0)


def fsmount(fd: int, flags: int = FSMOUNT_CLOEXEC, attributes: int = 0) -> int:
    """A detached mount of a file system that was created; attributes: MOUNT_ATTR_ bits."""
    return _sys.syscall(_sys.SYS_fsmount, fd, flags, attributes)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int) -> None:
    """Attach a detached mount, or move an attached one (MOVE_MOUNT_ flags)."""
    _sys.syscall(_sys.SYS_move_mount, from_fd, _sys.encode(from_path), to_fd, _sys.encode(to_path), flags, path=to_path)


def open_tree(path: str, flags: int = OPEN_TREE_CLOEXEC, dir_fd: int = AT_FDCWD) -> int:
    """A descriptor of the mount at path or, with OPEN_TREE_CLONE, of a detached copy (AT_RECURSIVE: of all below)."""
    return _sys.syscall(_sys.SYS_open_tree, dir_fd, _sys.encode(path), flags, path=path)


def mount_setattr(
    path: str,
    set_attributes: int = 0,
    clear_attributes: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
    flags: int = 0,
    dir_fd: int = AT_FDCWD,
) -> None:
    """Change a mount's attributes, with AT_RECURSIVE those of all mounts below as well (Linux 5.12).

    set_attributes, clear_attributes: MOUNT_ATTR_ bits; propagation: one MS_ propagation flag or 0; userns_fd: with
    MOUNT_ATTR_IDMAP, the user namespace whose mapping applies. Raises OSError, Unimplemented on older kernels.
    """
    values = (set_attributes, clear_attributes, propagation, userns_fd)
    attributes = b"".join(value.to_bytes(8, sys.byteorder) for value in values)
    _sys.syscall(_sys.SYS_mount_setattr, dir_fd, _sys.encode(path), flags, attributes, len(attributes), path=path)


def messages(fd: int) -> list[str]:
    """What the file system has said on this context ("e overlay: …": an error), oldest first; read once."""
    found: list[str] = []
    while True:
        try:
            message = os.read(fd, 4096)
        except OSError:  # ENODATA: no more; anything else: nothing more to learn
            return found
        if not message:
            return found
        found.append(os.fsdecode(message).strip())


def _fsconfig(fd: int, command: int, key: str | None, value: bytes | None, aux: int) -> None:
    try:
        _sys.syscall(_sys.SYS_fsconfig, fd, command, _sys.encode(key), value, aux)
    except OSError as error:
        said = "; ".join(message.partition(" ")[2] or message for message in messages(fd))
        if said:
            raise OSError(error.errno, f"{error.strerror} ({said})") from error
        raise
