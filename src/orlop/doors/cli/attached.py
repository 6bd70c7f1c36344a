"""Joining a person's terminal or pipe to a container: copies its output here, standard input there, signals through.

On the path of `run`: poll and raw descriptors only.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` itself brings enum
import os
import select

from ...base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from ...services.runtime.tasks import Attachment

_PROXIED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGTSTP", "SIGALRM")
_CHUNK = 1 << 16
_EIO = 5


class Signals:
    """While this context is open, signals that would end this process are handed to `send` instead."""

    def __init__(self, send: Callable[[int], None], enabled: bool = True) -> None:
        self._send = send
        self._enabled = enabled
        self._before: dict[int, object] = {}

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        try:
            self._send(number)
        except errors.OrlopError:
            pass  # it ended meanwhile

    def __enter__(self) -> None:
        if not self._enabled:
            return
        for name in _PROXIED:
            number = getattr(_signal, name)
            self._before[number] = _signal.signal(number, self._handle)

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            _signal.signal(number, handler if handler is not None else _signal.SIG_DFL)


def copy(
    attachment: Attachment,
    *,
    stdin: bool,
    quiet: tuple[str, ...] = (),
    keys: Callable[[bytes], tuple[bytes, bool]] | None = None,
    woken: tuple[int, Callable[[], object]] | None = None,
) -> bool:
    """Copy until the container's output ends (True), or until `keys` says that its user detaches (False).

    quiet: streams whose output is dropped ("stdout", "stderr"). keys: is given all input, returns what of it goes to
    the container and whether that was the last. woken: a descriptor, and what is called when it can be read. When
    nobody reads our own output any more, the rest is dropped and the container goes on, as with Docker.
    """
    poll = select.poll()
    poll.register(attachment.fileno(), select.POLLIN)
    source = 0 if stdin else -1
    if stdin:
        poll.register(source, select.POLLIN)
    targets = {"stdout": 1, "stderr": 2}
    for stream in quiet:
        targets.pop(stream, None)
    if woken is not None:
        poll.register(woken[0], select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == source:
                data = _read(source)
                if data:
                    detach = False
                    if keys is not None:
                        data, detach = keys(data)
                    try:
                        attachment.send(data)
                        if detach:
                            return False
                        continue
                    except (BrokenPipeError, ConnectionError):
                        pass
                poll.unregister(source)
                source = -1
                attachment.close_stdin()
                continue
            if woken is not None and fd == woken[0]:
                woken[1]()
                continue
            frames = attachment.read_ready()
            if frames is None:
                return True
            for stream, data in frames:
                target = targets.get(stream)
                if target is None:
                    continue
                try:
                    _write(target, data)
                except BrokenPipeError:
                    del targets[stream]


def _read(fd: int) -> bytes:
    """Some input; nothing at its end. A terminal whose other side is gone is one that has ended."""
    try:
        return os.read(fd, _CHUNK)
    except OSError as error:
        if error.errno != _EIO:
            raise
        return b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
