"""What one member of a tar archive says about a file; shared by the reader and the writer. Pure data."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "file"
DIR = "dir"
SYMLINK = "symlink"
LINK = "link"
CHAR = "char"
BLOCK = "block"
FIFO = "fifo"

NO_XATTRS: Mapping[bytes, bytes] = {}
SECOND_NS = 1_000_000_000


class Entry:
    """One member. Treat as immutable (a plain class, because an archive has a hundred thousand of them).

    name: as stored: not cleaned, not checked. kind: one of the constants above; LINK is a hard link. mode: permission
    bits with setuid, setgid and sticky. size: bytes of the file once unpacked. mtime_ns, atime_ns, ctime_ns: since the
    epoch. linkname: target of a LINK (a name in the archive) or SYMLINK. xattrs: name → value.
    sparse: (offset, length) of the parts of a sparse file that hold data, or None. stored: bytes of data in the
    archive. offset: where the member's header begins in the archive.
    """

    __slots__ = (
        "atime_ns",
        "ctime_ns",
        "devmajor",
        "devminor",
        "gid",
        "gname",
        "kind",
        "linkname",
        "mode",
        "mtime_ns",
        "name",
        "offset",
        "size",
        "sparse",
        "stored",
        "uid",
        "uname",
        "xattrs",
    )

    def __init__(
        self,
        name: bytes,
        kind: str = FILE,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime_ns: int = 0,
        linkname: bytes = b"",
        devmajor: int = 0,
        devminor: int = 0,
        uname: bytes = b"",
        gname: bytes = b"",
        atime_ns: int | None = None,
        ctime_ns: int | None = None,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
        sparse: tuple[tuple[int, int], ...] | None = None,
        stored: int = 0,
        offset: int = 0,
    ) -> None:
        self.name = name
        self.kind = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.mtime_ns = mtime_ns
        self.linkname = linkname
        self.devmajor = devmajor
        self.devminor = devminor
        self.uname = uname
        self.gname = gname
        self.atime_ns = atime_ns
        self.ctime_ns = ctime_ns
        self.xattrs = xattrs
        self.sparse = sparse
        self.stored = stored
        self.offset = offset

    @property
    def path(self) -> str:
        """The name as Python's `os` functions take it."""
        return os.fsdecode(self.name)

    def __repr__(self) -> str:
        return f"Entry({self.kind} {shown(self.name)}, {self.size} bytes at {self.offset})"


def shown(name: bytes) -> str:
    """A name for messages: quoted, control characters escaped, cut when it is very long."""
    text = repr(name.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 200 else f"{text[:120]}…{text[-60:]}"
