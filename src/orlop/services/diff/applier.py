"""Applies a layer's tar stream to a directory: containerd's Applier.

Two modes. "alone" builds the layer's own data, without its parents, in overlayfs's form (whiteouts as character devices
0:0, opaque directories by xattr), and notes what only a stack of layers can settle (stores/layers/api.py).
"onto" applies the layer to a directory that holds the layers below: what whiteouts name is deleted there.
Both give, once stacked, the same tree.

Nothing an archive holds has an effect outside the directory: see `directories`. Names are cleaned as if the directory
were "/": "..", leading "/" and "." do not count. Attributes are set on what was just made by its descriptor, file
capabilities after the owner, times of directories at the very end.
Sources: OCI image specification, layer.md; what containerd's applier and `umoci unpack` do where it is silent.
"""

from __future__ import annotations

import errno
import os
import stat

from ...base import errors, fsio
from ...base.archive import entry as kinds
from ...base.archive import whiteout
from ...base.archive.entry import shown
from ...base.archive.tar import TarReader
from ...base.cancel import NEVER, Cancel
from ...base.kernel import files
from ...base.oci import digest as digests
from ...base.progress import SILENT, Report, Sink
from ...base.record import Record
from . import limits as _limits
from . import xattrs
from .directories import Dir, Directories, NotADirectory
from .limits import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.archive.entry import Entry
    from ...base.archive.tar import Source
    from ...base.oci.digest import Digest

ALONE, ONTO = "alone", "onto"

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | files.O_NOFOLLOW | files.O_CLOEXEC
_REPORT_EVERY = 4 << 20
_ID_MAX = (1 << 32) - 2  # the last 32-bit number means "leave as it is" to chown(2)
_BROKEN = "the image is broken or hostile"


class Applied(Record):
    """What a layer turned out to be.

    diff_id: digest of the whole stream. tar_size: its bytes. size, inodes: bytes of file data and number of files,
    directories and whiteouts the layer made.
    implied, foreign_links: see stores/layers/api.py; "." is the root. Empty in mode "onto", which settles them.
    """

    diff_id: Digest
    tar_size: int
    size: int
    inodes: int
    implied: tuple[str, ...] = ()
    foreign_links: tuple[tuple[str, str], ...] = ()


def apply_layer(
    stream: Source,
    tree_path: str,
    *,
    mode: str = ALONE,
    limits: Limits = _limits.DEFAULT,
    cancel: Cancel = NEVER,
    progress: Sink = SILENT,
    item: str = "",
    diff_id: Callable[[], Digest] | None = None,
) -> Applied:
    """Apply an uncompressed tar stream, which is read to its end, to the directory tree_path.

    mode: "alone" (tree_path is empty and private to the caller) or "onto". item: what reports are about.
    diff_id: gives the stream's digest at the end when somebody else computes it; otherwise it is computed here.
    On failure the directory is left as it is: half applied.
    Raises DataLoss for a damaged or impossible archive, ResourceExhausted over a limit or for a full disk, Cancelled,
    PermissionDenied (owners and devices need root).
    """
    metered = _Metered(stream, diff_id is None, limits.total_bytes, cancel, progress, item)
    try:
        with Directories(tree_path) as directories:
            applier = _Applier(TarReader(metered), directories, mode == ALONE, limits)
            applier.run()
            cancel.check()
            return applier.result(diff_id() if diff_id is not None else metered.digest())
    except OSError as error:
        raise errors.from_os(error, f"unpack a layer into {tree_path}") from error


class _Metered:
    """The stream, with what is due as it goes by: limit, cancellation, progress and, if wanted, the digest."""

    def __init__(self, stream: Source, hashed: bool, limit: int, cancel: Cancel, progress: Sink, item: str) -> None:
        self._stream = stream
        self._hasher = digests.hasher() if hashed else None
        self._limit = limit
        self._cancel = cancel
        self._progress = progress
        self._item = item
        self._total = self._reported = 0

    def read(self, n: int, /) -> bytes:
        self._cancel.check()
        data = self._stream.read(n)
        total = self._total = self._total + len(data)
        if total - n > self._limit:  # members that are too large have been named before; this is anything else
            raise _limits.exceeded("total_bytes", self._limit, b"")
        if total - self._reported > _REPORT_EVERY:
            self._reported = total
            self._progress.report(Report(self._item, "unpacking", total))
        if self._hasher is not None:
            self._hasher.update(data)
        return data

    def digest(self) -> Digest:
        return digests.from_hasher(self._hasher)


class _Applier:
    def __init__(
        self,
        reader: TarReader,
        directories: Directories,
        alone: bool,
        limits: Limits,
    ) -> None:
        self._reader = reader
        self._directories = directories
        self._root = directories.root
        self._alone = alone
        self._limits = limits
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._masked = files.umask() | 0o7000
        self._size = self._inodes = 0
        self._recount = False
        self._whiteouts: list[tuple[Dir, bytes]] = []
        self._foreign: dict[tuple[Dir, bytes], bytes] = {}
        self._aufs_links = False
        # The directory part of the last name, and what it led to: most members follow a sibling.
        self._head: bytes | None = None
        self._parent: Dir | None = None

    # ------------------------------------------------------------ the whole

    def run(self) -> None:
        reader, limits = self._reader, self._limits
        root = self._root
        if self._alone:
            if self._uid == 0:
                os.fchown(root.fd, 0, 0)
            os.fchmod(root.fd, 0o755)
        self._directories.inspect(root, root.fd)
        most, longest, largest = limits.entries, limits.path_length, limits.file_bytes
        room, count = limits.total_bytes, 0
        while (entry := reader.next()) is not None:
            count += 1
            stored = entry.stored
            room -= 512 + stored + -stored % 512
            if count > most:
                raise _limits.exceeded("entries", most, entry.name)
            if room < 0:
                raise _limits.exceeded("total_bytes", limits.total_bytes, entry.name)
            if entry.size > largest:
                raise _limits.exceeded("file_bytes", largest, entry.name)
            if len(entry.name) > longest or len(entry.linkname) > longest:
                raise _limits.exceeded("path_length", longest, entry.name)
            try:
                self._member(entry)
            except OSError as error:
                raise self._failed(error, entry) from error
            except (OverflowError, ValueError) as error:
                raise errors.DataLoss(f"layer entry {shown(entry.name)}: {error}", advice=_BROKEN) from error
            except NotADirectory as error:
                raise errors.DataLoss(
                    f"layer entry {shown(entry.name)}: {shown(error.parent.path(error.name))} is not a directory",
                    advice=_BROKEN,
                ) from None
        self._finish()

    def result(self, diff_id: Digest) -> Applied:
        implied: list[str] = []
        foreign: list[tuple[str, str]] = []
        if self._alone:
            implied = [os.fsdecode(node.path() or b".") for node in self._root.below() if not node.listed]
            foreign = [
                (os.fsdecode(parent.path(name)), os.fsdecode(target))
                for (parent, name), target in self._foreign.items()
                if not parent.dead
            ]
        return Applied(
            diff_id=diff_id,
            tar_size=self._reader.offset,
            size=self._size,
            inodes=self._inodes,
            implied=tuple(implied),
            foreign_links=tuple(foreign),
        )

    def _failed(self, error: OSError, entry: Entry) -> errors.OrlopError:
        doing = f"unpack layer entry {shown(entry.name)}"
        if error.errno == errno.ENAMETOOLONG:
            return errors.ResourceExhausted(f"{doing}: its name is longer than the file system allows", advice=_BROKEN)
        bare = OSError(error.errno, error.strerror)  # the entry's name says where
        return errors.from_os(bare, doing)

    def _finish(self) -> None:
        """AUFS's link store goes, and directories get their times, which nothing changes any more."""
        if self._aufs_links:
            self._clear(self._root, whiteout.LINKS_DIR)
        for parent, name in self._whiteouts:
            # Where nothing shows from below a whiteout hides nothing, and overlayfs would list it.
            if not parent.dead and parent.hidden_from_below() and self._is_whiteout(parent, name):
                self._clear(parent, name)
        if self._recount and self._alone:
            self._count()
        utime, open_fd = os.utime, self._directories.fd
        for node in self._root.below():
            if node.children:
                for name, child in node.children.items():
                    if child.times is not None:
                        utime(name, ns=child.times, dir_fd=open_fd(node), follow_symlinks=False)
        if self._root.times is not None:
            utime(self._root.fd, ns=self._root.times)

    # ------------------------------------------------------------ one member

    def _member(self, entry: Entry) -> None:
        name = entry.name
        if name[:2] == b"./":
            name = name[2:]
        if name[-1:] == b"/":
            name = name.rstrip(b"/")
        if b"//" in name or b"/." in name or name[:1] in (b".", b"/", b""):
            name = _cleaned(name)
            if not name:
                self._root_attributes(entry)
                return
        head, _, base = name.rpartition(b"/")
        parent = self._parent
        if parent is None or head != self._head:
            parent = self._find_parent(head, entry)
            if parent is None:
                return
            self._head, self._parent = head, parent
        if base[:4] == b".wh." and self._marker(parent, base, entry):
            return
        kind = entry.kind
        if kind is kinds.FILE:
            self._file(parent, base, entry)
        elif kind is kinds.DIR:
            self._directory(parent, base, entry)
        elif kind is kinds.SYMLINK:
            self._symlink(parent, base, entry)
        elif kind is kinds.LINK:
            self._link(parent, base, entry)
        else:
            self._node(parent, base, entry)

    def _find_parent(self, head: bytes, entry: Entry) -> Dir | None:
        """The directory a name's first part leads to, made when it is missing; None for AUFS's own directories."""
        parts = head.split(b"/") if head else []
        if len(parts) >= self._limits.depth:
            raise _limits.exceeded("depth", self._limits.depth, entry.name)
        for index, part in enumerate(parts):
            if part[:4] == b".wh.":
                if index == 0 and part == whiteout.LINKS_DIR:
                    self._aufs_links = True
                elif index == 0 and part.startswith(whiteout.META_PREFIX):
                    return None
                else:
                    raise errors.DataLoss(
                        f"layer entry {shown(entry.name)} lies below a whiteout, {shown(part)}", advice=_BROKEN
                    )
        while True:
            try:
                node, missing = self._directories.walk(parts)
                break
            except NotADirectory as error:
                status = error.status
                if not self._alone or not whiteout.is_overlay_whiteout(status.st_mode, status.st_rdev):
                    raise
                # What was below is gone by this layer's own word, so nothing of it shows in the new directory.
                self._clear(error.parent, error.name)
                made = self._imply(error.parent, error.name, entry)
                made.listed = True
                self._make_opaque(made)
        if node.depth + len(missing) >= self._limits.depth:
            raise _limits.exceeded("depth", self._limits.depth, entry.name)
        for part in missing:
            node = self._imply(node, part, entry)
        each: Dir | None = node
        while each is not None and not each.touched:
            each.touched = True
            each = each.parent
        return node

    def _imply(self, parent: Dir, name: bytes, entry: Entry) -> Dir:
        """Make a directory that the archive has not listed (so far), with the attributes layers/api.py names.

        Its time is that of the entry that needs it: the same on every machine.
        """
        directory = self._directories.fd(parent)
        os.mkdir(name, 0o755, dir_fd=directory)
        self._inodes += 1
        node = parent.adopt(name)
        node.times = (entry.mtime_ns, entry.mtime_ns)
        if self._foreign and self._foreign.pop((parent, name), b""):
            node.listed = True
            self._make_opaque(node)
        if self._masked & 0o755 or parent.inherits or self._uid or self._gid:
            fd = self._directories.fd(node)
            if self._uid == 0:
                os.fchown(fd, 0, 0)
            os.fchmod(fd, 0o755)
            if parent.acl:
                xattrs.replace(fd, {}, name)
        return node

    def _root_attributes(self, entry: Entry) -> None:
        if entry.kind is not kinds.DIR:
            raise errors.DataLoss(f"layer entry {shown(entry.name)} would replace the root directory", advice=_BROKEN)
        self._directory_attributes(self._root, entry)

    # ------------------------------------------------------------ kinds of members

    def _file(self, parent: Dir, name: bytes, entry: Entry) -> None:
        mode, uid, gid = entry.mode, entry.uid, entry.gid
        directory = parent.fd if parent.fd >= 0 else self._directories.fd(parent)
        try:
            fd = os.open(name, _CREATE, mode & 0o777, dir_fd=directory)
        except FileExistsError:
            self._clear(parent, name)
            fd = os.open(name, _CREATE, mode & 0o777, dir_fd=self._directories.fd(parent))
        try:
            if entry.sparse is not None:
                self._sparse(fd, entry)
            elif stored := entry.stored:
                piece = self._reader.read_some()
                done = os.write(fd, piece)
                if done != stored:
                    self._content(fd, piece[done:], stored - done)
            inherits = parent.inherits
            if uid != self._uid or gid != self._gid or inherits:
                os.fchown(fd, *_ids(entry))
            if mode & self._masked or inherits:
                if parent.acl:
                    xattrs.remove(fd, xattrs.ACL_ACCESS)
                os.fchmod(fd, mode)
            if entry.xattrs:
                xattrs.put(fd, entry.xattrs, entry.name)
            mtime, atime = entry.mtime_ns, entry.atime_ns
            os.utime(fd, ns=(mtime if atime is None else atime, mtime))
        finally:
            os.close(fd)
        self._size += entry.size
        self._inodes += 1
        if self._foreign or not self._alone:
            self._bring(parent, name)

    def _content(self, fd: int, piece: memoryview, left: int) -> None:
        """The last `left` bytes of a file, the first of which are in piece."""
        while left:
            if not piece:
                piece = self._reader.read_some()
            done = os.write(fd, piece)
            piece = piece[done:]
            left -= done

    def _sparse(self, fd: int, entry: Entry) -> None:
        os.ftruncate(fd, entry.size)
        for offset, piece in self._reader.pieces(entry):
            while piece:
                done = os.pwrite(fd, piece, offset)
                offset += done
                piece = piece[done:]

    def _directory(self, parent: Dir, name: bytes, entry: Entry) -> None:
        node = parent.child(name)
        if node is None:
            directory = self._directories.fd(parent)
            try:
                os.mkdir(name, entry.mode & 0o777, dir_fd=directory)
            except FileExistsError:
                node = self._existing_directory(parent, name)
                if node is None:
                    self._clear(parent, name)
                    os.mkdir(name, entry.mode & 0o777, dir_fd=self._directories.fd(parent))
                    made = self._new_directory(parent, name, entry)
                    if self._alone:
                        # A whiteout or a file of this layer had already hidden a directory below.
                        self._make_opaque(made)
                    return
            else:
                self._new_directory(parent, name, entry)
                return
        self._directory_attributes(node, entry)

    def _existing_directory(self, parent: Dir, name: bytes) -> Dir | None:
        """The directory of that name which a layer below brought, or None when something else is there."""
        directory = self._directories.fd(parent)
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            return None
        node = parent.adopt(name)
        self._directories.inspect(node, self._directories.fd(node))
        return node

    def _new_directory(self, parent: Dir, name: bytes, entry: Entry) -> Dir:
        """Give a directory just made its attributes: only what is not right by itself."""
        self._inodes += 1
        node = parent.adopt(name)
        node.listed = True
        self._note(node, entry)
        if self._foreign and self._foreign.pop((parent, name), b""):
            self._make_opaque(node)
        if node.depth > self._limits.depth:
            raise _limits.exceeded("depth", self._limits.depth, entry.name)
        owned = entry.uid == self._uid and entry.gid == self._gid and not parent.inherits
        if owned and not entry.mode & self._masked and not entry.xattrs:
            return node
        fd = self._directories.fd(node)
        if not owned:
            os.fchown(fd, *_ids(entry))
        if parent.acl:
            xattrs.replace(fd, {}, name)
        if entry.mode & self._masked or parent.inherits:
            os.fchmod(fd, entry.mode)
        if entry.xattrs:
            xattrs.put(fd, entry.xattrs, entry.name)
        return node

    def _directory_attributes(self, node: Dir, entry: Entry) -> None:
        """Give a directory that was there before all the attributes of its entry."""
        node.listed = True
        self._note(node, entry)
        fd = self._directories.fd(node)
        os.fchown(fd, *_ids(entry))
        os.fchmod(fd, entry.mode)
        xattrs.replace(fd, entry.xattrs, entry.name)

    def _note(self, node: Dir, entry: Entry) -> None:
        mtime, atime = entry.mtime_ns, entry.atime_ns
        node.times = (mtime if atime is None else atime, mtime)
        node.acl = xattrs.ACL_DEFAULT in entry.xattrs
        node.inherits = node.acl or bool(entry.mode & stat.S_ISGID)
        node.touched = True

    def _symlink(self, parent: Dir, name: bytes, entry: Entry) -> None:
        if not entry.linkname:
            raise errors.DataLoss(f"symbolic link {shown(entry.name)} has no target", advice=_BROKEN)
        directory = self._directories.fd(parent)
        try:
            os.symlink(entry.linkname, name, dir_fd=directory)
        except FileExistsError:
            self._clear(parent, name)
            directory = self._directories.fd(parent)
            os.symlink(entry.linkname, name, dir_fd=directory)
        if entry.uid != self._uid or entry.gid != self._gid or parent.inherits:
            os.chown(name, *_ids(entry), dir_fd=directory, follow_symlinks=False)
        self._named(parent, name, entry, directory)

    def _node(self, parent: Dir, name: bytes, entry: Entry) -> None:
        """Devices and fifos."""
        device, form = 0, stat.S_IFIFO
        if entry.kind is not kinds.FIFO:
            form = stat.S_IFCHR if entry.kind is kinds.CHAR else stat.S_IFBLK
            device = os.makedev(entry.devmajor, entry.devminor)
            if whiteout.is_overlay_whiteout(form, device):
                raise errors.DataLoss(
                    f"layer entry {shown(entry.name)} is a character device 0:0, overlayfs's whiteout",
                    advice="the image was made of an overlay's upper directory, wrongly; ask who built it",
                )
        directory = self._directories.fd(parent)
        try:
            os.mknod(name, form | entry.mode & 0o777, device, dir_fd=directory)
        except FileExistsError:
            self._clear(parent, name)
            directory = self._directories.fd(parent)
            os.mknod(name, form | entry.mode & 0o777, device, dir_fd=directory)
        if entry.uid != self._uid or entry.gid != self._gid or parent.inherits:
            os.chown(name, *_ids(entry), dir_fd=directory, follow_symlinks=False)
        if entry.mode & self._masked or parent.inherits:
            if parent.acl:
                xattrs.remove(xattrs.place(directory, name), xattrs.ACL_ACCESS)
            # Follows links, but it is a node of ours that stands there.
            os.chmod(name, entry.mode, dir_fd=directory)
        self._named(parent, name, entry, directory)

    def _named(self, parent: Dir, name: bytes, entry: Entry, directory: int) -> None:
        """What can only be set by name: xattrs and times of what was just made."""
        if entry.xattrs:
            xattrs.put(xattrs.place(directory, name), entry.xattrs, entry.name)
        mtime, atime = entry.mtime_ns, entry.atime_ns
        os.utime(name, ns=(mtime if atime is None else atime, mtime), dir_fd=directory, follow_symlinks=False)
        self._inodes += 1
        self._bring(parent, name)

    def _bring(self, parent: Dir, name: bytes) -> None:
        """Note that something that is no directory now has this name."""
        if self._foreign:
            self._foreign.pop((parent, name), None)
        if not self._alone:
            if parent.brought is None:
                parent.brought = set()
            parent.brought.add(name)

    # ------------------------------------------------------------ hard links

    def _link(self, parent: Dir, name: bytes, entry: Entry) -> None:
        target = _cleaned(entry.linkname)
        if not target:
            raise self._bad_link(entry, "that is the root directory")
        head, _, base = target.rpartition(b"/")
        parts = head.split(b"/") if head else []
        if len(parts) >= self._limits.depth:
            raise _limits.exceeded("depth", self._limits.depth, entry.name)
        try:
            source, missing = self._directories.walk(parts)
        except NotADirectory as error:
            raise self._bad_link(entry, f"{shown(error.parent.path(error.name))} is not a directory") from None
        if missing:
            self._foreign_link(parent, name, source, b"/".join([source.path(), *missing, base]).lstrip(b"/"), entry)
            return
        if source is parent and base == name:
            return  # a link to itself; what is there, here or in a layer below, stays
        try:
            status = os.stat(base, dir_fd=self._directories.fd(source), follow_symlinks=False)
        except FileNotFoundError:
            known = self._foreign.get((source, base))
            self._foreign_link(parent, name, source, known or source.path(base), entry)
            return
        if stat.S_ISDIR(status.st_mode):
            raise self._bad_link(entry, "that is a directory")
        if self._alone and whiteout.is_overlay_whiteout(status.st_mode, status.st_rdev):
            raise self._bad_link(entry, "the layer itself removes it")
        try:
            self._hard_link(source, base, parent, name)
        except FileExistsError:
            there = os.stat(name, dir_fd=self._directories.fd(parent), follow_symlinks=False)
            if (there.st_dev, there.st_ino) != (status.st_dev, status.st_ino):
                self._clear(parent, name)
                try:
                    self._hard_link(source, base, parent, name)
                except FileNotFoundError:
                    raise self._bad_link(entry, "it lies in the directory that the link replaces") from None
        self._bring(parent, name)

    def _hard_link(self, source: Dir, base: bytes, parent: Dir, name: bytes) -> None:
        source_fd = self._directories.fd(source)
        os.link(base, name, src_dir_fd=source_fd, dst_dir_fd=self._directories.fd(parent), follow_symlinks=False)

    def _foreign_link(self, parent: Dir, name: bytes, source: Dir, target: bytes, entry: Entry) -> None:
        """A link whose target is not here: noted for the stack of layers to settle, if it can."""
        if not self._alone:
            raise self._bad_link(entry, "neither this layer nor one below has it")
        if source.hidden_from_below():
            raise self._bad_link(entry, "it is not in the layer, and an opaque directory hides the layers below")
        if parent.path(name) == target:
            return
        self._clear(parent, name)
        self._foreign[parent, name] = target

    def _bad_link(self, entry: Entry, why: str) -> errors.DataLoss:
        return errors.DataLoss(
            f"hard link {shown(entry.name)} to {shown(entry.linkname)} cannot be made: {why}", advice=_BROKEN
        )

    # ------------------------------------------------------------ whiteouts

    def _marker(self, parent: Dir, name: bytes, entry: Entry) -> bool:
        """Act on a name that begins with .wh.; False for AUFS's link store, which is kept until the end."""
        kind = whiteout.kind_of(name)
        if kind == whiteout.META:
            if parent is self._root and name == whiteout.LINKS_DIR:
                self._aufs_links = True
                return False
            return True
        if kind == whiteout.OPAQUE:
            if self._alone:
                self._make_opaque(parent)
            else:
                self._clear_below(parent, entry)
            return True
        hidden = whiteout.hidden_name(name)
        node = parent.child(hidden)
        if node is not None and (node.touched or self._alone):
            # A layer's whiteouts are about the layers below: what it brings itself stays, and is all that stays.
            if self._alone:
                self._make_opaque(node)
                node.listed = True  # a directory below of that name is gone, so it lends no attributes
            else:
                self._clear_below(node, entry, replaced=True)
        elif self._alone:
            self._whiteout(parent, hidden)
        elif parent.brought is None or hidden not in parent.brought:
            self._clear(parent, hidden)
        return True

    def _whiteout(self, parent: Dir, name: bytes) -> None:
        if (parent, name) in self._foreign:
            return
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=self._directories.fd(parent))
        except FileExistsError:
            return  # the layer's own file, or the same whiteout again
        self._inodes += 1
        self._whiteouts.append((parent, name))

    def _make_opaque(self, node: Dir) -> None:
        os.setxattr(self._directories.fd(node), whiteout.OVERLAY_OPAQUE, b"y")
        node.opaque = True

    def _is_whiteout(self, parent: Dir, name: bytes) -> bool:
        if not self._alone:
            return False
        try:
            status = os.stat(name, dir_fd=self._directories.fd(parent), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return whiteout.is_overlay_whiteout(status.st_mode, status.st_rdev)

    def _clear_below(self, top: Dir, entry: Entry, *, replaced: bool = False) -> None:
        """Remove from a directory what layers below brought, and keep what this layer did.

        replaced: the directory itself counts as new, too.
        """
        todo = [top]
        while todo:
            node = todo.pop()
            if (node is not top or replaced) and not node.listed:
                # Only implied: what is below no longer counts, so neither do its attributes.
                fd = self._directories.fd(node)
                os.fchown(fd, 0, 0)
                os.fchmod(fd, 0o755)
                xattrs.replace(fd, {}, node.name)
                node.acl = node.inherits = False
                node.times = (entry.mtime_ns, entry.mtime_ns)
            for name in os.listdir(self._directories.fd(node)):
                raw = os.fsencode(name)
                child = node.child(raw)
                if child is not None and child.touched:
                    todo.append(child)
                elif node.brought is None or raw not in node.brought:
                    self._clear(node, raw)

    # ------------------------------------------------------------ removal

    def _clear(self, parent: Dir, name: bytes) -> None:
        """Remove whatever has that name in a directory, if anything has."""
        self._head = None
        if self._foreign:
            self._foreign.pop((parent, name), None)
        if parent.brought is not None:
            parent.brought.discard(name)
        directory = self._directories.fd(parent)
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return
        node = parent.child(name)
        if node is not None:
            self._directories.forget(node)
        self._recount = True
        if stat.S_ISDIR(status.st_mode):
            # Through the descriptor, so that no part of the path can lead elsewhere.
            fsio.remove_tree(f"/proc/self/fd/{directory}/{os.fsdecode(name)}")
        else:
            os.unlink(name, dir_fd=directory)

    def _count(self) -> None:
        """Size and inodes anew, after something the layer brought was removed again (seldom)."""
        self._size = self._inodes = 0
        linked: set[int] = set()
        for node in self._root.below():
            self._inodes += node is not self._root
            for name in os.listdir(self._directories.fd(node)):
                status = os.stat(name, dir_fd=self._directories.fd(node), follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) or status.st_ino in linked:
                    continue
                if status.st_nlink > 1:
                    linked.add(status.st_ino)
                self._inodes += 1
                self._size += status.st_size if stat.S_ISREG(status.st_mode) else 0


def _ids(entry: Entry) -> tuple[int, int]:
    uid, gid = entry.uid, entry.gid
    if not (0 <= uid <= _ID_MAX and 0 <= gid <= _ID_MAX):
        raise ValueError(f"impossible owner {uid}:{gid}")
    return uid, gid


def _cleaned(name: bytes) -> bytes:
    """A name without empty, "." and ".." parts, as if it were looked up from "/"; b"" for the root."""
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part and part != b".":
            parts.append(part)
    return b"/".join(parts)
