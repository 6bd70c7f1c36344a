"""Standard input and output as files for what reads or writes an archive. Never Python's own, which are missing when
the caller has closed them, and which complain a second time at the end when the first error has been told.
"""

from __future__ import annotations

import io
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO


def standard_input() -> IO[bytes]:
    """Standard input, buffered. Closing it leaves the descriptor open."""
    return open(0, "rb", closefd=False)


def standard_output() -> IO[bytes]:
    """Standard output, unbuffered: every write is complete, or raises the error it met."""
    return _Output()  # type: ignore[return-value]  # what a writer asks of a file, it has


class _Output(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        written = 0
        while written < len(view):
            written += os.write(1, view[written:])
        return written
