"""Writes files of a tree as members of a layer's tar: attributes, content, hard links, whiteouts.

Reads by descriptors, follows nothing, and hashes and compresses what it writes. Used by the two ways of finding out
what belongs into a layer (`differ`, `upper`).
"""

from __future__ import annotations

import os
import stat

from ...base import errors
from ...base.archive import compression as compressions
from ...base.archive import entry as kinds
from ...base.archive import whiteout
from ...base.archive.entry import SECOND_NS, Entry, shown
from ...base.archive.tarwrite import TarWriter
from ...base.cancel import NEVER, Cancel
from ...base.kernel import files
from ...base.oci import digest as digests
from ...base.progress import SILENT, Report, Sink
from ...base.record import Record
from . import xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...base.archive.compression import Sink as Out
    from ...base.oci.digest import Digest

_READ = 1 << 19
_OPEN = os.O_RDONLY | files.O_NOFOLLOW | files.O_NONBLOCK | files.O_NOCTTY | files.O_CLOEXEC


class Options(Record):
    """How a layer is written.

    compression: "none", "gzip" or "zstd"; level: the compressor's, or None. epoch: seconds since 1970 that no time in
    the layer is later than (SOURCE_DATE_EPOCH), or None to keep times. exact: compare the content of files even where
    their attributes are the same (slower; finds changes that hid their time).
    """

    compression: str = compressions.NONE
    level: int | None = None
    epoch: int | None = None
    exact: bool = False


PLAIN = Options()


class Written(Record):
    """A layer that was written. diff_id, tar_size: of the tar; digest, size: of what went out (compressed or not)."""

    diff_id: Digest
    tar_size: int
    digest: Digest
    size: int
    entries: int


class Members:
    """Writes one layer into `out`, an object with `write`. Call `finish` at the end."""

    def __init__(
        self, out: Out, options: Options, cancel: Cancel = NEVER, progress: Sink = SILENT, item: str = ""
    ) -> None:
        self._blob = _Hashed(out)
        self._compressor = compressions.open_writer(self._blob, options.compression, level=options.level)
        self._plain = _Hashed(self._compressor)
        self._tar = TarWriter(self._plain)
        self._epoch_ns = None if options.epoch is None else options.epoch * SECOND_NS
        self._cancel = cancel
        self._progress = progress
        self._item = item
        self._links: dict[tuple[int, int], bytes] = {}
        self._entries = 0

    def add(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        """Write the file `name` in the open `directory` as the member `path`; status: its lstat.

        Another name of a file already written becomes a hard link. Sockets are passed over: tar cannot hold them.
        Raises InvalidArgument for names of whiteouts, Unavailable for a file that changes meanwhile, OSError.
        """
        whiteout.marker(name)
        self._cancel.check()
        mode = status.st_mode
        if stat.S_ISSOCK(mode):
            return
        linked = status.st_nlink > 1 and not stat.S_ISDIR(mode)
        key = (status.st_dev, status.st_ino)
        if linked and key in self._links:
            entry = self._entry(path, kinds.LINK, status)
            entry.linkname = self._links[key]
            self._put(entry)
            return
        if stat.S_ISREG(mode):
            self._file(directory, name, path, status)
        else:
            place = xattrs.place(directory, name)
            self._other(path, status, place, xattrs.get(place))
        if linked:
            self._links[key] = path

    def root(self, fd: int) -> None:
        """Write the attributes of the root directory, the member "./"."""
        entry = self._entry(b"./", kinds.DIR, os.fstat(fd))
        entry.xattrs = xattrs.get(fd)
        self._put(entry)

    def whiteout(self, path: bytes) -> None:
        """Say that `path` in the layers below is gone."""
        directory, slash, name = path.rpartition(b"/")
        self._mark(directory + slash + whiteout.marker(name))

    def opaque(self, path: bytes) -> None:
        """Say that nothing of the layers below shows in the directory `path` (b"" for the root)."""
        self._mark(path + b"/" + whiteout.OPAQUE_NAME if path else whiteout.OPAQUE_NAME)

    def finish(self) -> Written:
        """Write the end. What went out is complete then; `out` is not closed."""
        self._tar.close()
        self._compressor.close()
        return Written(
            diff_id=self._plain.digest(),
            tar_size=self._plain.size,
            digest=self._blob.digest(),
            size=self._blob.size,
            entries=self._entries,
        )

    def _mark(self, path: bytes) -> None:
        self._put(Entry(path, kinds.FILE, 0, mtime_ns=self._epoch_ns or 0))

    def _put(self, entry: Entry) -> None:
        self._entries += 1
        self._tar.add(entry)
        if not self._entries & 255:
            self._progress.report(Report(self._item, "diffing", self._plain.size))

    def _entry(self, path: bytes, kind: str, status: os.stat_result) -> Entry:
        mtime = status.st_mtime_ns
        if self._epoch_ns is not None and mtime > self._epoch_ns:
            mtime = self._epoch_ns
        return Entry(path, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, 0, mtime)

    def _other(self, path: bytes, status: os.stat_result, place: bytes, attributes: Mapping[bytes, bytes]) -> None:
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            entry = self._entry(path, kinds.DIR, status)
        elif stat.S_ISLNK(mode):
            entry = self._entry(path, kinds.SYMLINK, status)
            entry.mode = 0o777
            entry.linkname = os.readlink(place)
        elif stat.S_ISFIFO(mode):
            entry = self._entry(path, kinds.FIFO, status)
        else:
            entry = self._entry(path, kinds.CHAR if stat.S_ISCHR(mode) else kinds.BLOCK, status)
            entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        entry.xattrs = attributes
        self._put(entry)

    def _file(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        fd = os.open(name, _OPEN, dir_fd=directory)
        try:
            opened = os.fstat(fd)
            if (opened.st_dev, opened.st_ino) != (status.st_dev, status.st_ino) or not stat.S_ISREG(opened.st_mode):
                raise self._changed(path)
            entry = self._entry(path, kinds.FILE, opened)
            entry.size = left = opened.st_size
            entry.xattrs = xattrs.get(fd)
            self._put(entry)
            while left:
                data = os.read(fd, min(left, _READ))
                if not data:
                    raise self._changed(path)
                self._tar.write(data)
                left -= len(data)
                if left:
                    self._cancel.check()
                    self._progress.report(Report(self._item, "diffing", self._plain.size))
        finally:
            os.close(fd)

    @staticmethod
    def _changed(path: bytes) -> errors.Unavailable:
        return errors.Unavailable(
            f"{shown(path)} changed while it was read", advice="stop or pause what writes to it, and try again"
        )


class _Hashed:
    """Passes bytes on, hashing and counting them."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._hasher = digests.hasher()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._hasher.update(data)
        self.size += len(data)
        self._out.write(data)

    def digest(self) -> Digest:
        return digests.from_hasher(self._hasher)
