"""`orlop logs`."""

from __future__ import annotations

import os
import time

from ....base import errors
from .. import human

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def moment(text: str) -> int:
    """A time as people give it to --since and --until, in ns since the epoch: RFC 3339 (local when it names no zone), a
    date, a Unix time, or a duration before now.
    """
    if not text:
        return 0
    try:
        return time.time_ns() - human.parse_duration(text)
    except errors.InvalidArgument:
        pass
    try:
        return int(float(text) * 1_000_000_000)
    except (ValueError, OverflowError):
        pass
    day, _, clock = text.partition("T")
    if not clock:
        clock = "00:00:00"
    try:
        if clock[-1] != "Z" and "+" not in clock and "-" not in clock:
            return _local(human.parse_time(f"{day}T{clock}Z"))
        return human.parse_time(f"{day}T{clock}")
    except (errors.InvalidArgument, ValueError, OverflowError):
        raise errors.UsageError(
            f"invalid time {text!r}", advice='use "2026-11-23T10:00:00Z", a Unix time, or a duration such as "10m"'
        ) from None


def _local(ns: int) -> int:
    """The moment at which the local clock shows what UTC's shows at `ns`: a time without a zone is a local one."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return int(time.mktime((*time.gmtime(seconds)[:8], -1))) * 1_000_000_000 + rest


def main(cli: Invocation) -> int:
    flags = cli.flags
    tail_text = flags.get("tail", "all")
    try:
        tail = -1 if tail_text == "all" else int(tail_text)
    except ValueError:
        raise errors.UsageError(f'invalid value for "tail": {tail_text}', advice="use a number or all") from None
    stamps = bool(flags.get("timestamps"))
    container = cli.engine.containers.get(cli.args[0])
    buffers: dict[int, list[bytes]] = {1: [], 2: []}
    follow = bool(flags.get("follow"))
    size = 0

    def flush() -> None:
        nonlocal size
        for fd, parts in buffers.items():
            if parts:
                view = memoryview(b"".join(parts))
                parts.clear()
                while view:
                    view = view[os.write(fd, view) :]
        size = 0

    last = 1
    for line in container.logs(
        tail=tail, since_ns=moment(flags.get("since", "")), until_ns=moment(flags.get("until", "")), follow=follow
    ):
        fd = 2 if line.stream == "stderr" else 1
        if fd != last or follow:
            flush()
            last = fd
        text = f"{human.rfc3339(line.time_ns, fixed=True)} {line.text}" if stamps else line.text
        data = text.encode("utf-8", "surrogateescape")
        buffers[fd].append(data)
        size += len(data)
        if follow or size > 1 << 16:
            flush()
    flush()
    return 0
