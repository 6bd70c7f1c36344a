"""Writes tar archives: deterministic, each member in the shortest form that holds it (ustar, else pax).

The same members give the same bytes on every machine. Touches no file system.
Source: POSIX.1-2024 `pax`. Names that are not ASCII go into a pax record, as Go's archive/tar and libarchive do.
"""

from __future__ import annotations

from zlib import adler32

from .. import errors
from . import pax
from .entry import BLOCK as BLOCK_DEVICE
from .entry import CHAR, DIR, FIFO, FILE, LINK, SECOND_NS, SYMLINK, Entry, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    Buffer = bytes | bytearray | memoryview

    class Sink(Protocol):
        """Takes all the bytes it is given."""

        def write(self, data: bytes, /) -> object: ...


_BLOCK = 512
_BATCH = 1 << 18
_SIZE_MAX = 0o77777777777
_ID_MAX = 0o7777777
_NAME_MAX, _PREFIX_MAX = 100, 155
_FLAGS = {FILE: b"0", LINK: b"1", SYMLINK: b"2", CHAR: b"3", BLOCK_DEVICE: b"4", DIR: b"5", FIFO: b"6"}


class TarWriter:
    """Writes members one after the other; `out` gets the bytes in pieces of a quarter MiB or more."""

    def __init__(self, out: Sink) -> None:
        self._out = out
        self._batch = bytearray()
        self._left = 0
        self._pad = 0
        self._name = b""

    def add(self, entry: Entry) -> None:
        """Write a member's header; the data of a FILE, `entry.size` bytes, must follow by `write`.

        A directory's name gets its "/". linkname is for LINK and SYMLINK, device numbers for CHAR and BLOCK only.
        Raises InvalidArgument for a name with NUL.
        """
        self._end_member()
        self._batch += member_header(entry)
        self._name = entry.name
        if entry.kind is FILE or entry.kind == FILE:
            self._left = entry.size
            self._pad = -entry.size % _BLOCK

    def write(self, data: Buffer) -> None:
        """The next bytes of the current member. InvalidArgument when they are more than its size."""
        view = memoryview(data)
        if len(view) > self._left:
            raise errors.InvalidArgument(f"more data than the size of {shown(self._name)}")
        self._left -= len(view)
        if len(view) >= _BATCH:
            self._flush()
            self._out.write(view)  # type: ignore[arg-type]
            return
        self._batch += view
        if len(self._batch) >= _BATCH:
            self._flush()

    def close(self) -> None:
        """Write the end of the archive. InvalidArgument when the last member lacks data."""
        self._end_member()
        self._batch += bytes(2 * _BLOCK)
        self._flush()

    def _end_member(self) -> None:
        if self._left:
            raise errors.InvalidArgument(f"{shown(self._name)} lacks {self._left} bytes of its size")
        if self._pad:
            self._batch += bytes(self._pad)
            self._pad = 0
        if len(self._batch) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, bytearray()
            self._out.write(bytes(batch))


def member_header(entry: Entry) -> bytes:
    """A member's header blocks: one ustar block, with an extended header before it when that is not enough."""
    name = entry.name
    if entry.kind == DIR and not name.endswith(b"/"):
        name += b"/"
    linkname = entry.linkname if entry.kind in (LINK, SYMLINK) else b""
    if b"\0" in name or b"\0" in linkname or not name:
        raise errors.InvalidArgument(f"the name {shown(name)} cannot stand in a tar archive")
    size = entry.size if entry.kind == FILE else 0
    seconds, fraction = divmod(entry.mtime_ns, SECOND_NS)
    records: list[tuple[bytes, bytes]] = []
    split = _split(name)
    if split is None:
        records.append((b"path", name))
        split = (b"", name[:_NAME_MAX])
    if len(linkname) > _NAME_MAX or not linkname.isascii():
        records.append((b"linkpath", linkname))
        linkname = linkname[:_NAME_MAX]
    uid, gid = entry.uid, entry.gid
    if not 0 <= uid <= _ID_MAX:
        records.append((b"uid", b"%d" % uid))
        uid = 0
    if not 0 <= gid <= _ID_MAX:
        records.append((b"gid", b"%d" % gid))
        gid = 0
    if size > _SIZE_MAX:
        records.append((b"size", b"%d" % size))
        size = 0
    if fraction or not 0 <= seconds <= _SIZE_MAX:
        records.append((b"mtime", pax.time_text(entry.mtime_ns)))
        seconds = min(max(seconds, 0), _SIZE_MAX)
    records += [(pax.xattr_key(key), value) for key, value in entry.xattrs.items()]
    major = minor = 0
    if entry.kind in (CHAR, BLOCK_DEVICE):
        major, minor = entry.devmajor, entry.devminor
        if major > _ID_MAX:
            records.append((b"SCHILY.devmajor", b"%d" % major))
            major = 0
        if minor > _ID_MAX:
            records.append((b"SCHILY.devminor", b"%d" % minor))
            minor = 0
    block = _block(
        split[1], split[0], entry.mode & 0o7777, uid, gid, size, seconds, _FLAGS[entry.kind], linkname, major, minor,
        entry.uname[:31], entry.gname[:31],
    )  # fmt: skip
    return _extended_header(name, records) + block if records else block


def _extended_header(name: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    body = pax.records_of(records)
    directory, _, base = name.rstrip(b"/").rpartition(b"/")
    shown_name = b"/".join(part for part in (directory, b"PaxHeaders", base) if part)
    if len(shown_name) > _NAME_MAX or not shown_name.isascii():
        shown_name = b"PaxHeaders/" + bytes(byte if byte < 128 else 0x5F for byte in base)[:80]
    block = _block(shown_name, b"", 0o644, 0, 0, len(body), 0, b"x", b"", 0, 0, b"", b"")
    return block + body + bytes(-len(body) % _BLOCK)


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """(prefix, name) as ustar holds it, or None when it cannot."""
    if not name.isascii():
        return None
    if len(name) <= _NAME_MAX:
        return b"", name
    if len(name) > _PREFIX_MAX + 1 + _NAME_MAX:
        return None
    # The last slash that leaves a prefix short enough; a directory's final slash does not count.
    cut = name.rfind(b"/", 0, min(_PREFIX_MAX + 1, len(name) - 1))
    if cut <= 0 or len(name) - cut - 1 > _NAME_MAX:
        return None
    return name[:cut], name[cut + 1 :]


def _block(
    name: bytes,
    prefix: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    flag: bytes,
    linkname: bytes,
    major: int,
    minor: int,
    uname: bytes,
    gname: bytes,
) -> bytes:
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    tail = b"%s%sustar\x0000%s%s%07o\0%07o\0%s" % (
        flag, linkname.ljust(100, b"\0"), uname.ljust(32, b"\0"), gname.ljust(32, b"\0"), major, minor,
        prefix.ljust(167, b"\0"),
    )  # fmt: skip
    # As in the reader: exact sums of less than 256 bytes each, by Adler-32.
    total = (adler32(head) & 0xFFFF) + (adler32(tail[:200]) & 0xFFFF) + (adler32(tail[200:]) & 0xFFFF) + 253
    return head + b"%06o\0 " % total + tail
