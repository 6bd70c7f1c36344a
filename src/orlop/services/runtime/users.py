"""Users and groups by the container's own /etc/passwd and /etc/group.

The files belong to the image and are hostile: they come through `rootview` (regular files of the root only), at most
MAX_BYTES are read, lines that make no sense are skipped. Sources: passwd(5), group(5); Docker's rules for `--user`.
On the hot path.
"""

from __future__ import annotations

import os

from ...base import errors
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .rootview import OpenInRoot

MAX_BYTES = 16 << 20
MAX_ID = (1 << 31) - 1
PASSWD, GROUP = "/etc/passwd", "/etc/group"


class User(Record):
    """Who a process runs as. groups: supplementary group ids, the primary one first. name: "" without an entry."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = (0,)
    home: str = "/"
    name: str = ""


def resolve(text: str, group_add: Iterable[str], open_in_root: OpenInRoot) -> User:
    """Who "user[:group]" is ("" is root), with the groups of group_add as well.

    Names are looked up; numbers are taken as they are, also without an entry (then the group is 0 and HOME is "/").
    Unlike Docker, a number always means the user of that number, never one whose *name* is that number: an image could
    otherwise turn `--user 1000` into root. Without a group the user has the supplementary groups /etc/group gives.
    Raises UsageError for what cannot be found or parsed.
    """
    user_text, colon, group_text = text.partition(":")
    if colon and not (user_text and group_text):
        raise errors.UsageError(f"invalid user {text!r}: the form is USER[:GROUP]")
    user_text = user_text or "0"
    uid = _number(user_text)
    entry, trouble = _user_entry(user_text, uid, open_in_root)
    if entry is not None:
        name, uid, gid, home = entry
    elif uid is not None:
        name, gid, home = "", 0, "/"
    else:
        why = trouble or "no matching entries in passwd file"
        raise errors.UsageError(f"unable to find user {_shown(user_text)}: {why}")
    extra: tuple[int, ...] = ()
    if group_text:
        gid = _group(group_text, open_in_root)
    elif name:
        extra = _groups_of(name, open_in_root)
    groups = [gid]
    for each in (*extra, *(_added_group(wanted, open_in_root) for wanted in group_add)):
        if each not in groups:
            groups.append(each)
    return User(uid, gid, tuple(groups), home, name)


def _shown(name: str) -> str:
    """A name for a message of one line: as it is, or escaped when it would not print."""
    return name if name.isprintable() else repr(name)


def _number(text: str) -> int | None:
    if not text.isdecimal() or not text.isascii():
        return None
    if len(text) > 10 or int(text) > MAX_ID:
        raise errors.UsageError(f"user or group {text} is not in the range 0 to {MAX_ID}")
    return int(text)


def _user_entry(text: str, uid: int | None, open_in_root: OpenInRoot) -> tuple[tuple[str, int, int, str] | None, str]:
    data, trouble = _read(PASSWD, open_in_root, required=uid is None)
    if uid is None:
        wanted = text.encode("utf-8", "surrogateescape") + b":"
        candidates = (line for line in data.split(b"\n") if line.startswith(wanted))
    else:
        middle = b":%d:" % uid
        candidates = (line for line in data.split(b"\n") if middle in line)
    for line in candidates:
        fields = line.split(b":")
        if len(fields) < 4 or not fields[0]:
            continue
        found_uid, found_gid = _id(fields[2]), _id(fields[3])
        if found_uid is None or found_gid is None or (uid is not None and found_uid != uid):
            continue
        try:
            home = fields[5].decode() if len(fields) > 5 else ""
            name = fields[0].decode()
        except UnicodeDecodeError:
            continue
        if not home.startswith("/") or "\0" in home or "\0" in name:
            home = "/"
        return (name, found_uid, found_gid, home), ""
    return None, trouble


def _id(field: bytes) -> int | None:
    return int(field) if field.isdigit() and len(field) <= 10 and int(field) <= MAX_ID else None


def _group_lines(open_in_root: OpenInRoot, required: bool = False) -> tuple[list[list[bytes]], str]:
    data, trouble = _read(GROUP, open_in_root, required)
    return [fields for line in data.split(b"\n") if len(fields := line.split(b":")) >= 3 and fields[0]], trouble


def _group(text: str, open_in_root: OpenInRoot) -> int:
    number = _number(text)
    if number is not None:
        return number
    wanted = text.encode("utf-8", "surrogateescape")
    lines, trouble = _group_lines(open_in_root, required=True)
    for fields in lines:
        gid = _id(fields[2])
        if fields[0] == wanted and gid is not None:
            return gid
    raise errors.UsageError(f"unable to find group {_shown(text)}: {trouble or 'no matching entries in group file'}")


def _added_group(text: str, open_in_root: OpenInRoot) -> int:
    try:
        return _group(text, open_in_root)
    except errors.UsageError as error:
        raise errors.UsageError(f"--group-add {_shown(text)}: {error.message}", advice=error.advice) from None


def _groups_of(name: str, open_in_root: OpenInRoot) -> tuple[int, ...]:
    wanted = name.encode()
    found = []
    for fields in _group_lines(open_in_root)[0]:
        gid = _id(fields[2])
        if gid is not None and len(fields) > 3 and wanted in fields[3].split(b","):
            found.append(gid)
    return tuple(found)


def _read(path: str, open_in_root: OpenInRoot, required: bool) -> tuple[bytes, str]:
    """The file's bytes, or b"" and why there are none.

    required: whether an answer depends on it; where none does, a file that cannot be read is as good as a missing one.
    """
    try:
        fd = open_in_root(path)
    except errors.OrlopError as error:
        return b"", error.message
    except OSError as error:
        return b"", f"{path}: {error.strerror}"
    if fd is None:
        return b"", f"no {path} in the container" if required else ""
    try:
        chunks: list[bytes] = []
        left = MAX_BYTES + 1
        while left > 0:
            chunk = os.read(fd, min(left, 1 << 20 if chunks else 1 << 16))
            if not chunk:
                break
            chunks.append(chunk)
            left -= len(chunk)
    except OSError as error:
        return b"", f"{path}: {error.strerror}"
    finally:
        os.close(fd)
    if left <= 0:
        return b"", f"{path} in the container is larger than {MAX_BYTES} bytes"
    return b"".join(chunks), ""
