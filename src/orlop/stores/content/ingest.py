"""An ingest's directory: the growing data of a blob, and what was said about it. Who changes it holds its flock.

Only `data` matters: a small file that is missing or torn (a crash) means that nothing was said.
"""

from __future__ import annotations

import os

from ...base import errors, fsio, times
from ...base.oci import digest as digests
from .api import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...base.oci.digest import Digest


def make(directory: str, namespace: str, ref: str, total: int, expected: Digest | None, now_ns: int) -> None:
    """Make the directory when there is none, and note what is said about the blob now. Raises OSError."""
    if not os.path.isdir(directory):
        fsio.make_dirs(directory)
    if _text(directory, "ref") != f"{namespace}/{ref}":
        _note(directory, "startedat", times.rfc3339(now_ns))
        _note(directory, "ref", f"{namespace}/{ref}")
    if total:
        _note(directory, "total", str(total))
    if expected is not None:
        _note(directory, "expected", expected)


def open_data(directory: str) -> int:
    """A descriptor to read and append the data."""
    return os.open(f"{directory}/data", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def touch(directory: str, now_ns: int) -> None:
    """Note that the ingest was written to; fine when the disk is full."""
    try:
        _note(directory, "updatedat", times.rfc3339(now_ns))
    except OSError:
        pass


def owner(directory: str) -> tuple[str, str]:
    """(namespace, ref) of an ingest; ("", "") when it cannot be told."""
    namespace, slash, ref = _text(directory, "ref").partition("/")
    return (namespace, ref) if slash else ("", "")


def status(directory: str) -> Status | None:
    """What is known of an ingest, or None when there is none. Needs no flock."""
    _, ref = owner(directory)
    try:
        data = os.stat(f"{directory}/data")
        offset, changed_ns = data.st_size, data.st_mtime_ns
    except FileNotFoundError:
        offset = 0
        try:
            changed_ns = os.stat(directory).st_mtime_ns
        except FileNotFoundError:
            return None
    expected: Digest | None
    try:
        expected = digests.parse(_text(directory, "expected"))
    except errors.InvalidArgument:
        expected = None
    total = _text(directory, "total")
    return Status(
        ref=ref,
        offset=offset,
        total=int(total) if total.isascii() and total.isdigit() and len(total) < 20 else 0,
        expected=expected,
        started_ns=_time(directory, "startedat") or changed_ns,
        updated_ns=max(changed_ns, _time(directory, "updatedat")),
    )


def _note(directory: str, name: str, text: str) -> None:
    fsio.write_atomic(f"{directory}/{name}", text.encode("utf-8", "surrogatepass"), durable=False)


def _text(directory: str, name: str) -> str:
    try:
        return fsio.read_file(f"{directory}/{name}", 1 << 16).decode("utf-8", "surrogatepass")
    except (FileNotFoundError, UnicodeDecodeError, errors.ResourceExhausted):
        return ""


def _time(directory: str, name: str) -> int:
    try:
        return times.parse_time(_text(directory, name))
    except errors.InvalidArgument:
        return 0
