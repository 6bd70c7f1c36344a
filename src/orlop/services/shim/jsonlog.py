r"""Docker's json-file log: `{"log":"…\n","stream":"stdout","time":"…Z"}`, one object a line, with rotation.

A line of output over 16 KiB becomes several entries, all but the last without a line feed. `path` is the newest file,
`path.1` the one before. Writing never blocks a container and never kills it: what the disk refuses is counted. Source:
Docker's json-file driver. May import only the interpreter's cheap modules.
"""

from __future__ import annotations

import os
import time

from ...base import fsio, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINE_BYTES = 16 << 10

_escape: Callable[[str], str] = getattr(jsonio, "encode_basestring", jsonio.dumps)


class JsonLog:
    """Writes one container's log.

    max_size: bytes after which a new file is begun, 0 for never. max_file: files kept in all.
    note: told once, in a sentence, when writing fails. clock: nanoseconds since the epoch.
    """

    def __init__(
        self,
        path: str,
        max_size: int = 0,
        max_file: int = 1,
        *,
        note: Callable[[str], object] = lambda _: None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self.lost = 0
        """Entries that could not be written."""
        self._max_size = max_size
        self._max_file = max(1, max_file)
        self._note = note
        self._clock = clock
        self._noted = False
        self._rest: dict[str, bytes] = {}
        self._second = -1
        self._second_text = ""
        self._fd = -1
        self._size = 0

    def write(self, stream: str, chunk: bytes) -> None:
        """Take a piece of "stdout" or "stderr". A line that is not complete waits for its end, up to 16 KiB."""
        data = self._rest.get(stream, b"") + chunk
        lines = data.split(b"\n")
        rest = lines.pop()
        tail = self._tail(stream)
        entries: list[str] = []
        escape = _escape
        for line in lines:
            if len(line) >= MAX_LINE_BYTES:
                line = self._cut(line, entries, tail)
            entries.append('{"log":' + escape(line.decode("utf-8", "replace") + "\n") + tail)
        if len(rest) >= MAX_LINE_BYTES:
            rest = self._cut(rest, entries, tail)
        self._rest[stream] = rest
        self._put(entries)

    def end(self, stream: str) -> None:
        """The stream has ended: what waits for its line feed is written as it is."""
        rest = self._rest.pop(stream, b"")
        if rest:
            self._put(['{"log":' + _escape(rest.decode("utf-8", "replace")) + self._tail(stream)])

    def close(self) -> None:
        for stream in list(self._rest):
            self.end(stream)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _cut(self, line: bytes, entries: list[str], tail: str) -> bytes:
        """Move 16 KiB pieces of a long line to entries, never inside a character; returns what is left."""
        at = 0
        while len(line) - at >= MAX_LINE_BYTES:
            back = _whole(line, at + MAX_LINE_BYTES)
            entries.append('{"log":' + _escape(line[at:back].decode("utf-8", "replace")) + tail)
            at = back
        return line[at:]

    def _tail(self, stream: str) -> str:
        """What follows an entry's text, with the time now as RFC 3339 in nanoseconds."""
        second, ns = divmod(self._clock(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f',"stream":"{stream}","time":"{self._second_text}.{ns:09d}Z"}}\n'

    def _put(self, entries: list[str]) -> None:
        if not entries:
            return
        if self._max_size <= 0:
            self._append("".join(entries).encode("utf-8", "surrogatepass"), len(entries))
            return
        batch = bytearray()
        count = 0
        for entry in entries:
            encoded = entry.encode("utf-8", "surrogatepass")
            if count and self._size + len(batch) + len(encoded) > self._max_size:
                self._append(bytes(batch), count)
                batch.clear()
                count = 0
            if self._size and not count and self._size + len(encoded) > self._max_size:
                self._rotate()
            batch += encoded
            count += 1
        self._append(bytes(batch), count)

    def _append(self, data: bytes, count: int) -> None:
        try:
            if self._fd < 0:
                self._open()
            fsio.write_all(self._fd, data)
            self._size += len(data)
        except OSError as error:
            self.lost += count
            self._undo()
            if not self._noted:
                self._noted = True
                self._note(f"cannot write the container's log {self.path}: {error.strerror}; its output is lost")

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _undo(self) -> None:
        """Take half-written entries back: each line of the file stays one object."""
        if self._fd >= 0:
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                pass

    def _rotate(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        try:
            if self._max_file == 1:
                os.truncate(self.path, 0)
            else:
                for number in range(self._max_file - 1, 0, -1):
                    older = f"{self.path}.{number - 1}" if number > 1 else self.path
                    try:
                        os.rename(older, f"{self.path}.{number}")
                    except FileNotFoundError:
                        pass
        except OSError as error:
            self._note(f"cannot rotate the container's log {self.path}: {error.strerror}")
        self._size = 0


def _whole(line: bytes, end: int) -> int:
    """The last place at or before `end` that does not cut a UTF-8 character which begins before it and may go on."""
    for back in range(1, 4):
        byte = line[end - back]
        if byte & 0xC0 != 0x80:
            length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return end - back if length > back else end
    return end
