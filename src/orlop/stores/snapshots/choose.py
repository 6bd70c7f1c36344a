"""Which snapshotter suits a root directory: found out by a trial, not by names of file systems.

overlayfs needs an upper directory whose file system keeps whiteouts, `trusted.` xattrs and directory entries with
types; overlayfs itself, and many network and FUSE file systems, do not. May import only `fsio` and `kernel`.
"""

from __future__ import annotations

import os

from ...base import errors, fsio
from .api import Mount
from .stackview import is_opaque, is_whiteout


def choose(root: str) -> tuple[str, str]:
    """The name of the best snapshotter that works on root's file system, and why.

    Mounts a small overlay below root for a moment. Raises OrlopError when root itself cannot be written.
    """
    why = overlay_fault(root)
    if why:
        return "native", f"overlayfs cannot be used on {root}: {why}"
    return "overlay", "a trial overlay mount works"


def overlay_fault(root: str) -> str:
    """What keeps the overlay snapshotter from working below root, or "" when nothing does."""
    from ...base.kernel import mounts

    place = f"{root}/snapshots/.trial-{os.urandom(4).hex()}"
    target = f"{place}/merged"
    try:
        fsio.make_dirs(f"{root}/snapshots")
        for name in ("", "/lower", "/lower/directory", "/upper", "/work", "/merged"):
            os.mkdir(f"{place}{name}", 0o700)
        for name in ("file", "directory/inside"):
            os.close(os.open(f"{place}/lower/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        fsio.remove_tree(place)
        raise errors.from_os(error, f"try a mount below {root}") from error
    try:
        lower, upper, work = (
            mounts.escape_path(f"{place}/{name}", lower=name == "lower") for name in ("lower", "upper", "work")
        )
        overlay = Mount("overlay", "overlay", "", (f"workdir={work}", f"upperdir={upper}", f"lowerdir={lower}"))
        mounts.mount_all([overlay], target)
        try:
            os.unlink(f"{target}/file")
            os.unlink(f"{target}/directory/inside")
            os.rmdir(f"{target}/directory")
            os.mkdir(f"{target}/directory")
            left = os.listdir(target), os.listdir(f"{target}/directory")
        finally:
            mounts.unmount(target)
        if left != (["directory"], []):
            return "what is deleted comes back"
        if not is_whiteout(os.lstat(f"{place}/upper/file")):
            return "its file system keeps no whiteouts"
        if not is_opaque(f"{place}/upper/directory"):
            return "its file system keeps no trusted xattrs"
    except errors.OrlopError as error:
        return error.message
    except OSError as error:
        return error.strerror or str(error)
    finally:
        fsio.remove_tree(place)
    return ""
