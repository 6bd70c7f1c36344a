"""Streams that may be compressed: looks at the first bytes and inflates what they say. Files and pipes alike."""

from __future__ import annotations

from ...base.archive import compression

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Protocol

    class Source(Protocol):
        def read(self, n: int, /) -> bytes: ...


_MAGIC_BYTES = 16


class Peeked:
    """A stream whose first bytes have been looked at."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.head = b""
        while len(self.head) < _MAGIC_BYTES:
            more = file.read(_MAGIC_BYTES - len(self.head))
            if not more:
                break
            self.head += more
        self._left = self.head

    def read(self, n: int, /) -> bytes:
        if self._left:
            data, self._left = self._left[:n], self._left[n:]
            return data
        return self._file.read(n)


def kind_of(head: bytes) -> str:
    """How a stream that begins so is compressed: "none", "gzip" or "zstd"."""
    return compression.detect(head)


def decompressed(file: IO[bytes]) -> Source:
    """The stream's plain bytes."""
    peeked = Peeked(file)
    return compression.open_reader(peeked, kind_of(peeked.head))
