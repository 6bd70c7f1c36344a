"""File trees for tests: what can be told of one, random ones, and tar archives made by hand.

Knows nothing of Orlop's insides.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import stat
from pathlib import Path

Facts = dict[str, tuple[object, ...]]


def facts(
    root: str | Path, *, times: bool = True, root_too: bool = True, dir_times: bool = True, ghosts: bool = False
) -> Facts:
    """Path → everything the kernel tells about it: type, mode, owner, device, size, mtime, xattrs, content, its links.

    Paths are relative ("." for the root). The links are the sorted names in the tree of the same file. ghosts: names
    that are listed and do not exist are left out (overlayfs lists whiteouts in directories that no layer below has).
    """
    found: Facts = {}
    names: dict[tuple[int, int], list[str]] = {}
    top = os.fspath(root)
    for directory, below, others in os.walk(top):
        for name in [*([""] if root_too and directory == top else []), *below, *others]:
            path = os.path.join(directory, name) if name else top
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                if ghosts:
                    continue
                raise
            relative = os.path.relpath(path, top)
            if not stat.S_ISDIR(status.st_mode):
                names.setdefault((status.st_dev, status.st_ino), []).append(relative)
            wants_time = times and (dir_times or not stat.S_ISDIR(status.st_mode))
            found[relative] = (
                stat.S_IFMT(status.st_mode),
                oct(stat.S_IMODE(status.st_mode)),
                (status.st_uid, status.st_gid),
                status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else 0,
                status.st_mtime_ns if wants_time else 0,
                _xattrs(path),
                _content(path, status),
                (status.st_dev, status.st_ino) if not stat.S_ISDIR(status.st_mode) else None,
            )
    for relative, fact in found.items():
        key = fact[-1]
        found[relative] = (*fact[:-1], tuple(sorted(names[key])) if key is not None else ())  # type: ignore[index]
    return found


def differences(one: Facts, other: Facts) -> list[str]:
    """One line for each path that is not the same in both."""
    lines = [f"{path}: only in the first: {one[path]}" for path in sorted(one.keys() - other.keys())]
    lines += [f"{path}: only in the second: {other[path]}" for path in sorted(other.keys() - one.keys())]
    lines += [
        f"{path}: {one[path]} != {other[path]}"
        for path in sorted(one.keys() & other.keys())
        if one[path] != other[path]
    ]
    return lines


def _xattrs(path: str) -> tuple[tuple[str, bytes], ...]:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def _content(path: str, status: os.stat_result) -> object:
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return status.st_size, hashlib.file_digest(file, "sha256").hexdigest()
    return None


_NAMES = ["a", "b", "c", "dir", "ein längerer Name", "x" * 120, ".hidden", "new\nline", "z\udcff"]


class Grower:
    """Makes random trees and random changes to them, the same for the same seed. Needs root."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def grow(self, root: str, count: int) -> None:
        """Put `count` random files of all kinds into a tree (over what is there)."""
        for _ in range(count):
            self._one(root)

    def change(self, root: str, count: int) -> None:
        """Make `count` random changes: new files, other attributes, other content, removals, renames."""
        for _ in range(count):
            paths = self._paths(root)
            what = self._random.randrange(8)
            if what < 3 or not paths:
                self._one(root)
                continue
            path = self._random.choice(paths)
            status = os.lstat(path)
            is_dir = stat.S_ISDIR(status.st_mode)
            if what == 3:
                remove(path)
            elif what == 4:
                self._attributes(path)
            elif what == 5 and stat.S_ISREG(status.st_mode):
                with open(path, "r+b") as file:  # all names of the file change, its size and time do not
                    file.write(self._random.randbytes(1))
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            elif what == 6:
                target = f"{os.path.dirname(path)}/{self._random.choice(_NAMES)}"
                if target != path and not os.path.lexists(target):
                    try:
                        os.rename(path, target)
                    except OSError as error:
                        if error.errno != errno.EXDEV:  # what overlayfs says of directories that are in a lower layer
                            raise
            elif what == 7 and stat.S_ISREG(status.st_mode):  # break a link: the same content, another file
                with open(path, "rb") as file:
                    content = file.read()
                names = [(n, os.getxattr(path, n)) for n in os.listxattr(path)]
                os.unlink(path)
                with open(path, "xb") as file:
                    file.write(content)
                os.chown(path, status.st_uid, status.st_gid)
                os.chmod(path, stat.S_IMODE(status.st_mode))
                for name, value in names:
                    os.setxattr(path, name, value)
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            elif is_dir:
                self._attributes(path)

    def settle(self, root: str) -> None:
        """Give every directory a time of its own, so that two trees can be compared."""
        for directory, _, _ in os.walk(root, topdown=False):
            time = self._time()
            os.utime(directory, ns=(time, time))

    def _paths(self, root: str) -> list[str]:
        found = []
        for directory, below, others in os.walk(root):
            found += [f"{directory}/{name}" for name in sorted([*below, *others])]
        return sorted(found)

    def _directories(self, root: str) -> list[str]:
        return [root, *sorted(p for p in self._paths(root) if stat.S_ISDIR(os.lstat(p).st_mode))]

    def _one(self, root: str) -> None:
        r = self._random
        directories = [d for d in self._directories(root) if d.count("/") - root.count("/") < 5]
        path = f"{r.choice(directories)}/{r.choice(_NAMES)}"
        remove(path)
        kind = r.randrange(12)
        if kind < 4:
            with open(path, "xb") as file:
                file.write(r.randbytes(r.choice((0, 1, 511, 512, 513, 70_000))))
        elif kind < 7:
            os.mkdir(path)
        elif kind == 7:
            os.symlink(r.choice(("a", "../b", "/etc/passwd", "dir/../../..", "y" * 200)), path)
        elif kind == 8:
            os.mkfifo(path)
        elif kind == 9:
            os.mknod(path, r.choice((stat.S_IFCHR, stat.S_IFBLK)) | 0o600, os.makedev(r.randrange(1, 300), 3))
        else:
            others = [p for p in self._paths(root) if not stat.S_ISDIR(os.lstat(p).st_mode)]
            if others:
                os.link(r.choice(others), path, follow_symlinks=False)
                return
            os.mkdir(path)
        self._attributes(path)

    def _time(self) -> int:
        return self._random.choice((0, 1_700_000_000, 1_500_000_000)) * 10**9 + self._random.choice(
            (0, 0, 1, 123_456_789)
        )

    def _attributes(self, path: str) -> None:
        r = self._random
        status = os.lstat(path)
        os.lchown(path, r.choice((0, 0, 1000, 70_000, 3_000_000)), r.choice((0, 0, 5, 3_000_000)))
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(path, r.choice((0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o000)))
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            for name in os.listxattr(path):
                if r.random() < 0.5:
                    os.removexattr(path, name)
            if r.random() < 0.3:
                os.setxattr(path, r.choice(("user.one", "user.zwei=%", "trusted.three")), r.randbytes(r.choice((0, 9))))
            if stat.S_ISREG(status.st_mode) and r.random() < 0.2:
                # CAP_NET_BIND_SERVICE, permitted and effective (struct vfs_cap_data, version 2)
                value = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
                os.setxattr(path, "security.capability", value)
        time = self._time()
        os.utime(path, ns=(time, time), follow_symlinks=False)


def remove(path: str) -> None:
    """Remove a file or a tree; fine when it is not there."""
    if not os.path.lexists(path):
        return
    if stat.S_ISDIR(os.lstat(path).st_mode):
        with os.scandir(path) as entries:
            for entry in entries:
                remove(entry.path)
        os.rmdir(path)
    else:
        os.unlink(path)


def header(
    name: bytes,
    flag: bytes = b"0",
    *,
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """A tar header block, written without any help from the code that is tested; nothing is checked."""
    block = bytearray(512)
    block[0 : len(name[:100])] = name[:100]
    for at, length, value in ((100, 8, mode), (108, 8, uid), (116, 8, gid), (124, 12, size), (136, 12, mtime)):
        text = b"%0*o" % (length - 1, value)
        block[at : at + len(text)] = text
    block[156:157] = flag
    block[157 : 157 + len(linkname[:100])] = linkname[:100]
    block[257 : 257 + len(magic)] = magic
    for at, value in ((329, device[0]), (337, device[1])):
        block[at : at + 7] = b"%07o" % value
    block[345 : 345 + len(prefix)] = prefix
    return sealed(block)


def sealed(block: bytearray) -> bytes:
    """A header block with its checksum."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: bytes, data: bytes = b"", flag: bytes = b"0", **fields: object) -> bytes:
    """A header and its data, padded."""
    fields.setdefault("size", len(data))
    return header(name, flag, **fields) + data + bytes(-len(data) % 512)  # type: ignore[arg-type]


def pax(records: dict[bytes, bytes], flag: bytes = b"x") -> bytes:
    """An extended header."""
    body = b""
    for key, value in records.items():
        rest = b" %b=%b\n" % (key, value)
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        body += str(length).encode() + rest
    return member(b"pax", body, flag)


END = bytes(1024)
