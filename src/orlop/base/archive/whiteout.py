"""Whiteouts: how a layer says that something below it is gone; the tar form and overlayfs's, and their rules. Pure.

Sources: OCI image specification, layer.md, "Whiteouts" (the AUFS form: marker files named `.wh.NAME`, and
`.wh..wh..opq` for "nothing below shows through"); the kernel's Documentation/filesystems/overlayfs.rst (character
devices 0:0, and the xattr `trusted.overlay.opaque`).
"""

from __future__ import annotations

import stat

from .. import errors
from .entry import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = b".wh."
META_PREFIX = b".wh..wh."
OPAQUE_NAME = b".wh..wh..opq"
LINKS_DIR = b".wh..wh.plnk"
"""Where AUFS kept the files that have several names; members of it are targets of hard links, in very old images."""

OVERLAY_OPAQUE = "trusted.overlay.opaque"
OVERLAY_WHITEOUT = "overlay.whiteout"
OVERLAY_PREFIXES = (b"trusted.overlay.", b"user.overlay.")
"""overlayfs's own notes: never taken from an archive, never written to one."""

WHITEOUT = "whiteout"
OPAQUE = "opaque"
META = "meta"


def kind_of(name: bytes) -> str:
    """What a member's last name component stands for: WHITEOUT, OPAQUE, META (AUFS's own, to be passed over) or "".

    Raises DataLoss for the names that would remove a directory itself or its parent (`.wh.`, `.wh..`, `.wh...`).
    """
    if not name.startswith(PREFIX):
        return ""
    if name == OPAQUE_NAME:
        return OPAQUE
    if name.startswith(META_PREFIX):
        return META
    if name[len(PREFIX) :] in (b"", b".", b".."):
        raise errors.DataLoss(f"invalid whiteout {shown(name)}", advice="the image is broken or hostile")
    return WHITEOUT


def hidden_name(name: bytes) -> bytes:
    """What a whiteout hides: `.wh.a` → `a`."""
    return name[len(PREFIX) :]


def marker(name: bytes) -> bytes:
    """The whiteout that hides a name: `a` → `.wh.a`. InvalidArgument for a name that is itself a marker's."""
    if name.startswith(PREFIX):
        raise errors.InvalidArgument(
            f"a file named {shown(name)} cannot be in a layer: names that begin with .wh. are whiteouts",
            advice="rename it",
        )
    return PREFIX + name


def is_overlay_whiteout(mode: int, device: int) -> bool:
    """Whether a file's st_mode and st_rdev are those of an overlayfs whiteout."""
    return stat.S_ISCHR(mode) and device == 0


def is_overlay_note(name: bytes) -> bool:
    """Whether an extended attribute is one of overlayfs's own."""
    return name.startswith(OVERLAY_PREFIXES)


def opaque_mark(xattrs: Mapping[bytes, bytes]) -> bytes:
    """The value of a directory's opaque mark: b"y" (opaque), b"x" (holds whiteouts that are files), or b""."""
    return xattrs.get(b"trusted.overlay.opaque") or xattrs.get(b"user.overlay.opaque") or b""


def is_file_whiteout(mode: int, size: int, xattrs: Mapping[bytes, bytes]) -> bool:
    """Whether a file is a whiteout of Linux 6.7's form: an empty file with a mark, in a directory marked "x"."""
    return (
        stat.S_ISREG(mode)
        and size == 0
        and (b"trusted.overlay.whiteout" in xattrs or b"user.overlay.whiteout" in xattrs)
    )
