"""A person's terminal joined to a container's: raw keys, size, the keys that detach. Loaded for `-t` only.

While a session is open every key goes to the container as it is, ^C too: the container's own terminal makes signals of
them. Whatever ends the session, this terminal gets its attributes back. May import only the interpreter's cheap
modules.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` itself brings enum
import os

from ...base import errors
from ...base.kernel import terminal
from . import attached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from ...services.runtime.tasks import Attachment

DETACH_KEYS = "ctrl-p,ctrl-q"
"""Docker's default."""
NO_TERMINAL = "the input device is not a TTY"
"""Docker's words."""

_ENDING = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGUSR2")
_STDIN, _STDOUT = 0, 1
_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"


def parse_keys(text: str) -> bytes:
    """The bytes of a sequence of keys like "ctrl-p,ctrl-q" or "ctrl-a,d" (docker attach, "--detach-keys").

    Raises UsageError for what is no key.
    """
    found = bytearray()
    for key in text.split(","):
        name = key.strip().lower()
        if name.startswith("ctrl-") and len(name) == 6 and name[5] in _CONTROL:
            found.append(_CONTROL.index(name[5]))
        elif len(key) == 1 and key.isascii() and key.isprintable():
            found.append(ord(key))
        else:
            raise errors.UsageError(
                f"invalid detach keys ({text}): unknown key {key!r}",
                advice="use a character or ctrl- and one of a-z @ [ \\ ] ^ _, several with commas: ctrl-p,ctrl-q",
            )
    return bytes(found)


def may_read(interactive: bool) -> bool:
    """Whether a container with a terminal can be given this standard input: with -i it must be a terminal."""
    return not interactive or os.isatty(_STDIN)


class Keys:
    """Finds the keys that detach among those that are typed. They may come in several pieces."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._matched = 0

    def take(self, data: bytes) -> tuple[bytes, bool]:
        """(what goes to the container, whether the sequence is complete). What may be its beginning is kept back."""
        out = bytearray()
        for byte in data:
            while self._matched and byte != self._sequence[self._matched]:
                self._give_up(out)
            if byte == self._sequence[self._matched]:
                self._matched += 1
                if self._matched == len(self._sequence):
                    return bytes(out), True
            else:
                out.append(byte)
        return bytes(out), False

    def _give_up(self, out: bytearray) -> None:
        """What was taken for the beginning was none: hand on as much as is needed for the rest to be one."""
        kept = self._sequence[: self._matched]
        shorter = next(n for n in range(self._matched - 1, -1, -1) if kept.endswith(self._sequence[:n]))
        out += kept[: self._matched - shorter]
        self._matched = shorter


class Session:
    """This process's terminal while it shows a container's. A context manager; open it before the container starts.

    interactive: keys go to the container; then, and if standard input is a terminal, it is raw until the end and
    signals end this process, not the container. keys: see `parse_keys`.
    """

    def __init__(self, *, interactive: bool, keys: str = "") -> None:
        self.raw = interactive and os.isatty(_STDIN)
        """Whether the terminal is raw: keys make no signals here, and none are to be handed on."""
        self._interactive = interactive
        self._keys = Keys(parse_keys(keys or DETACH_KEYS)) if self.raw else None
        self._saved: list[Any] | None = None
        self._before: dict[int, object] = {}
        self._wake = (-1, -1)
        self._before_wakeup = -1
        self._told: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(columns, rows) that the container's terminal starts with; None when ours has none."""
        self._told = terminal.size(_STDOUT) or terminal.size(_STDIN)
        return self._told

    def __enter__(self) -> Session:
        try:
            self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._before_wakeup = _signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
            self._on(_signal.SIGWINCH, _ignored)
            if self.raw:
                self._saved = terminal.attributes(_STDIN)
                for name in _ENDING:
                    self._on(getattr(_signal, name), self._die)
                self._on(_signal.SIGCONT, self._continued)
                terminal.set_attributes(_STDIN, terminal.raw(self._saved))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()
        for number, handler in self._before.items():
            _signal.signal(number, handler if handler is not None else _signal.SIG_DFL)
        self._before.clear()
        if self._wake[0] >= 0:
            _signal.set_wakeup_fd(self._before_wakeup)
            for fd in self._wake:
                os.close(fd)
            self._wake = (-1, -1)

    def signals(self, send: Callable[[int], None], proxy: bool) -> attached.Signals:
        """What hands signals on to the container, if they are to be: not from a raw terminal."""
        return attached.Signals(send, enabled=proxy and not self.raw)

    def copy(self, attachment: Attachment, resize: Callable[[int, int], object]) -> bool:
        """Copy until the container's output ends (True) or the keys that detach are typed (False); then close it.

        resize: told (columns, rows) whenever this terminal's size changes.
        """
        with attachment:
            self._follow(resize)  # it may have changed while the container was started
            return attached.copy(
                attachment,
                stdin=self._interactive,
                keys=self._keys.take if self._keys is not None else None,
                woken=(self._wake[0], lambda: self._follow(resize)),
            )

    def _follow(self, resize: Callable[[int, int], object]) -> None:
        try:
            while os.read(self._wake[0], 4096):
                pass
        except BlockingIOError:
            pass
        told = self._told
        if self.size is not None and self._told is not None and self._told != told:
            try:
                resize(*self._told)
            except errors.OrlopError:
                pass  # it has just ended

    def _on(self, number: int, handler: Callable[[int, FrameType | None], object]) -> None:
        self._before[number] = _signal.signal(number, handler)

    def _restore(self) -> None:
        if self._saved is not None:
            try:
                terminal.set_attributes(_STDIN, self._saved)
            except OSError:
                pass  # the terminal is gone

    def _die(self, number: int, _frame: FrameType | None) -> None:
        """A signal ends this process as it would have, but for the terminal, which is put right first."""
        self._restore()
        _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _continued(self, _number: int, _frame: FrameType | None) -> None:
        """Somebody stopped this process, and a shell took the terminal for that time."""
        try:
            if self._saved is not None and os.tcgetpgrp(_STDIN) == os.getpgrp():
                terminal.set_attributes(_STDIN, terminal.raw(self._saved))
        except OSError:
            pass  # the terminal is gone


def _ignored(_number: int, _frame: FrameType | None) -> None:
    """A handler that is there so that the wake-up descriptor is written to."""
