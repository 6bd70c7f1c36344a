"""Unpacks a layer while its compressed bytes arrive: inflate and hash in one thread, apply in another.

    write(chunk) → pipe (4 MiB) → inflate, diff ID hash → pipe (6 MiB) → applier

Nothing is read twice and the memory stays small whatever the layer's size: the two pipes, a piece on either side and
the decompressor's window. Inflating, hashing and the applier's system calls let the GIL go, so two cores are used.
"""

from __future__ import annotations

import threading

from ...base import errors
from ...base.archive import compression as compressions
from ...base.cancel import NEVER, Cancel
from ...base.kernel import files
from ...base.oci import digest as digests
from ...base.progress import SILENT, Sink
from . import applier
from . import limits as _limits
from .applier import Applied
from .limits import Limits
from .pipe import Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.archive.compression import Source

_COMPRESSED = 4 << 20
_INFLATED = 6 << 20
_READ = 1 << 18


class LayerUnpacker:
    """Builds a layer's tree from compressed bytes that are pushed into it.

    compression: "none", "gzip" or "zstd". tree_path, mode, limits, progress, item: as for `applier.apply_layer`.
    Call `write` with the bytes as they come, then `finish`; `abort` at any time, also after either. When one of the
    threads fails, `write` or `finish` raises its error. Usable as a context manager that aborts what is not finished.
    """

    def __init__(
        self,
        compression: str,
        tree_path: str,
        *,
        mode: str = applier.ALONE,
        limits: Limits = _limits.DEFAULT,
        cancel: Cancel = NEVER,
        progress: Sink = SILENT,
        item: str = "",
    ) -> None:
        self._compressed = Pipe(_COMPRESSED, cancel)
        self._inflated = Pipe(_INFLATED, cancel)
        # Made here, so that an unknown compression is told at once.
        self._reader = compressions.open_reader(self._compressed, compression, max_ratio=limits.ratio)
        self._hasher = digests.hasher()
        self._applied: Applied | None = None
        self._failure: BaseException | None = None
        self._ended = False
        self._cancelling = cancel.closing(self._on_cancel)
        try:
            self._cancelling.__enter__()
        except errors.OrlopError:
            self._cancelling.__exit__(None, None, None)
            raise

        def apply() -> None:
            # A umask of the thread's own makes modes right as files are created.
            try:
                files.take_own_umask(0)
            except OSError:
                pass  # a sandbox may forbid it; the applier then sets modes one by one
            self._applied = applier.apply_layer(
                self._inflated,
                tree_path,
                mode=mode,
                limits=limits,
                cancel=cancel,
                progress=progress,
                item=item,
                diff_id=lambda: digests.from_hasher(self._hasher),
            )

        self._threads = [self._thread(self._inflate, "inflate"), self._thread(apply, "apply")]

    def _thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that writes
                self._fail(error)

        # Daemons: a process that ends must not wait for a layer that nobody will finish.
        thread = threading.Thread(target=run, name=f"orlop-{name}", daemon=True)
        thread.start()
        return thread

    def _inflate(self) -> None:
        read, update, hand_on = self._reader.read, self._hasher.update, self._inflated.write
        while data := read():
            update(data)
            hand_on(data)
        self._inflated.close()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._compressed.fail(error)
        self._inflated.fail(error)

    def _on_cancel(self) -> None:
        self._fail(errors.Cancelled("cancelled"))

    def write(self, data: bytes) -> None:
        """Hand over the next compressed bytes, which must not change any more. Waits while the threads are behind.

        Raises what went wrong in a thread: DataLoss, ResourceExhausted, Cancelled, …
        """
        self._compressed.write(data)

    def finish(self) -> Applied:
        """No more bytes come: wait until all is unpacked. Raises what went wrong."""
        self._compressed.close()
        self._join()
        if self._failure is not None:
            raise self._failure
        if self._applied is None:
            raise errors.Internal("a layer was unpacked to no result")
        return self._applied

    def abort(self) -> None:
        """Give up; the tree is left half made. When this returns nothing works on it any more. Fine after `finish`."""
        self._fail(errors.Cancelled("unpacking was aborted"))
        self._join()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()
        if not self._ended:
            self._ended = True
            self._cancelling.__exit__(None, None, None)

    def __enter__(self) -> LayerUnpacker:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._ended:
            self.abort()


def unpack_stream(
    compressed: Source,
    compression: str,
    tree_path: str,
    *,
    mode: str = applier.ALONE,
    limits: Limits = _limits.DEFAULT,
    cancel: Cancel = NEVER,
    progress: Sink = SILENT,
    item: str = "",
) -> Applied:
    """Unpack a layer from a stream of its compressed bytes, which is read to its end."""
    with LayerUnpacker(
        compression, tree_path, mode=mode, limits=limits, cancel=cancel, progress=progress, item=item
    ) as unpacker:
        while data := compressed.read(_READ):
            unpacker.write(data)
        return unpacker.finish()
