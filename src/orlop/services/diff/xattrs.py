"""Extended attributes of files by descriptor or by name in a directory, as layers carry them.

Left alone both ways: overlayfs's own notes, SELinux labels (the host's, not the image's) and NFS ACLs.
"""

from __future__ import annotations

import errno
import os

from ...base import errors
from ...base.archive import whiteout
from ...base.archive.entry import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ACL_ACCESS = b"system.posix_acl_access"
ACL_DEFAULT = b"system.posix_acl_default"
_CAPABILITY = b"security.capability"
_HOST_OWN = frozenset((b"security.selinux", b"system.nfs4_acl"))
_ABSENT = (errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP)


def belongs(name: bytes) -> bool:
    """Whether an attribute is part of the image."""
    return name not in _HOST_OWN and not whiteout.is_overlay_note(name)


def place(directory: int, name: bytes) -> bytes:
    """A path for calls that take no directory descriptor; the last component is not followed by any of them."""
    return b"/proc/self/fd/%d/%s" % (directory, name)


def put(target: int | bytes, wanted: Mapping[bytes, bytes], name: bytes) -> None:
    """Set those of `wanted` that belong to an image. target: descriptor, or a path by `place`; name: for messages.

    What the file system cannot hold is left out, as other tools do; but a file capability that cannot be set is
    Unimplemented. Raises OSError for the rest.
    """
    for key, value in wanted.items():
        if not belongs(key):
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, key, value)
            else:
                os.setxattr(target, key, value, follow_symlinks=False)
        except OSError as error:
            # EPERM: user attributes exist on files and directories only.
            unfit = error.errno == errno.EPERM and key.startswith(b"user.")
            if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP) and not unfit:
                raise
            if key == _CAPABILITY:
                raise errors.Unimplemented(
                    f"the file system cannot hold the capabilities of {shown(name)}",
                    advice="put Orlop's root on a file system with extended attributes (ext4, xfs, btrfs, tmpfs)",
                ) from error


def get(target: int | bytes, *, notes: bool = False) -> dict[bytes, bytes]:
    """The attributes of a file that belong to an image; with notes=True overlayfs's own as well. Raises OSError."""
    found: dict[bytes, bytes] = {}
    for key in names(target):
        if belongs(key) or (notes and whiteout.is_overlay_note(key)):
            try:
                found[key] = os.getxattr(target, key, follow_symlinks=isinstance(target, int))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
    return found


def names(target: int | bytes) -> list[bytes]:
    """The names of a file's attributes (none where the file system has none). Raises OSError."""
    try:
        return [os.fsencode(key) for key in os.listxattr(target, follow_symlinks=isinstance(target, int))]
    except OSError as error:
        if error.errno in _ABSENT:
            return []
        raise


def replace(target: int, wanted: Mapping[bytes, bytes], name: bytes) -> None:
    """Make a file's attributes those of `wanted`: what belongs to an image and is not among them goes."""
    for key in names(target):
        if belongs(key) and key not in wanted:
            remove(target, key)
    put(target, wanted, name)


def remove(target: int | bytes, key: bytes) -> None:
    """Remove one attribute; fine when it is not there. Raises OSError."""
    try:
        os.removexattr(target, key, follow_symlinks=isinstance(target, int))
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
