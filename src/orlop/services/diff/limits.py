"""What a layer may ask for before it is refused: guards against archives made to exhaust a machine. Pure data."""

from __future__ import annotations

from ...base import errors
from ...base.archive.entry import shown
from ...base.record import Record


class Limits(Record):
    """The defaults are far above what images in use need.

    entries: members of the archive. total_bytes: bytes of the uncompressed archive. file_bytes: size of one file
    (holes count). path_length: bytes of a name. depth: directories below one another. ratio: how many times larger
    the archive may be than its compressed form (after the first GiB); 0 for any.
    """

    entries: int = 2_000_000
    total_bytes: int = 256 << 30
    file_bytes: int = 128 << 30
    path_length: int = 4095
    depth: int = 512
    ratio: int = 500


DEFAULT = Limits()


def exceeded(limit: str, value: int, name: bytes) -> errors.ResourceExhausted:
    """The error for a limit (a field of Limits, with its value) that a member goes over."""
    return errors.ResourceExhausted(
        f"layer goes over the limit {limit}={value}" + (f", at {shown(name)}" if name else ""),
        advice="the image is broken or hostile; if it is trusted, raise the limit",
    )
