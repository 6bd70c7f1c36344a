"""What is mounted, as /proc/PID/mountinfo tells (proc_pid_mountinfo(5)). Pure parsing plus one read.

May import only `record` and the interpreter's cheap modules.
"""

from __future__ import annotations

import os

from ..record import Record
from . import _sys

_CHUNK = 1 << 16


class MountInfo(Record):
    """One mount of a mount namespace.

    id, parent_id: unique while it is mounted. device: "major:minor", st_dev of its files. root: the directory of the
    file system that is mounted. mount_point: relative to the process's root. options: of the mount;
    super_options: of the file system. optional: propagation ("shared:1", "master:2", "unbindable").
    """

    id: int
    parent_id: int
    device: str
    root: str
    mount_point: str
    options: tuple[str, ...]
    optional: tuple[str, ...]
    type: str
    source: str
    super_options: tuple[str, ...]


def mountinfo(pid: int | str = "self") -> list[MountInfo]:
    """Everything mounted in a process's mount namespace, in the kernel's order (later ones cover earlier ones).

    Raises OSError; ProcessLookupError or FileNotFoundError when the process is gone.
    """
    _sys.require_linux()
    fd = os.open(f"/proc/{pid}/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, _CHUNK):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return parse(b"".join(chunks))


def parse(data: bytes) -> list[MountInfo]:
    """Parse the text of a mountinfo file. Raises ValueError for a line that is not one."""
    return [_parse_line(line) for line in data.split(b"\n") if line]


def mounted_at(path: str, mounts: list[MountInfo] | None = None) -> MountInfo | None:
    """The uppermost mount on exactly this path (absolute, no links), or None."""
    found = None
    for mount in mountinfo() if mounts is None else mounts:
        if mount.mount_point == path:
            found = mount
    return found


def mounted_under(path: str, mounts: list[MountInfo] | None = None) -> list[MountInfo]:
    """The mounts on path and below it, in the order in which they can be unmounted."""
    prefix = path.rstrip("/") + "/"
    below = [
        mount
        for mount in (mountinfo() if mounts is None else mounts)
        if mount.mount_point == path or mount.mount_point.startswith(prefix)
    ]
    return below[::-1]


def unescape(text: str) -> str:
    r"""Undo the kernel's octal escapes of blank, tab, newline, `#` and backslash ("\040" → " ")."""
    if "\\" not in text:
        return text
    parts = text.split("\\")
    out = [parts[0]]
    for part in parts[1:]:
        code = part[:3]
        if len(code) == 3 and all("0" <= c <= "7" for c in code):
            out.append(chr(int(code, 8) & 0xFF) + part[3:])
        else:
            out.append("\\" + part)
    return "".join(out)


def _parse_line(line: bytes) -> MountInfo:
    fields = os.fsdecode(line).split(" ")
    try:
        separator = fields.index("-", 6)
        number, parent, device, root, point, options = fields[:6]
        kind, source, super_options = fields[separator + 1 : separator + 4]
        return MountInfo(
            int(number),
            int(parent),
            device,
            unescape(root),
            unescape(point),
            tuple(options.split(",")),
            tuple(fields[6:separator]),
            unescape(kind),
            unescape(source),
            tuple(unescape(option) for option in super_options.split(",")),
        )
    except ValueError as error:
        raise ValueError(f"not a line of mountinfo: {line[:200]!r}") from error
