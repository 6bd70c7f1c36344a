"""Tells when a cgroup runs out of memory, at the moment it does: a child that is killed need not end the container.

Version 1: an eventfd registered for memory.oom_control (the kernel's cgroup-v1/memory.rst, "OOM Control"). Version 2:
memory.events, which polls when it changes (cgroup-v2.rst). May import only the interpreter's cheap modules.
"""

from __future__ import annotations

import os

from ...base.kernel import cgroupstats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.kernel.cgroups import Cgroup
    from ...base.ttrpc.loop import Loop

_READ, _PRI = 0x001, 0x002
_EVENTS_BYTES = 4096
_LOOK_S = 0.02
_LOOK_AT_MOST_S = 2.0


class OomWatch:
    """Calls `call` for each new kill (several at once count as one), until `close` or the cgroup is gone.

    A machine that does not tell is no error: then nobody is called.
    """

    def __init__(self, loop: Loop, cgroup: Cgroup, call: Callable[[], object]) -> None:
        self._loop = loop
        self._cgroup = cgroup
        self._call = call
        self._fd = -1
        self._is_event = False
        self._checking = False
        self._seen = cgroupstats.oom_kills(cgroup) or 0
        memory = cgroup.v1.get("memory")
        try:
            if memory:
                self._is_event = True
                self._fd = _register(memory)
                loop.watch(self._fd, _READ, lambda _: self._woken())
            elif cgroup.unified:
                self._fd = os.open(f"{cgroup.unified}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
                os.pread(self._fd, _EVENTS_BYTES, 0)  # what happened until now is no news
                loop.watch(self._fd, _PRI, lambda _: self._woken())
        except OSError:
            self.close()

    def look(self) -> bool:
        """Whether somebody was killed of whom `call` was not told; from now on they are known."""
        kills = cgroupstats.oom_kills(self._cgroup) or 0
        new, self._seen = kills > self._seen, max(kills, self._seen)
        return new

    def close(self) -> None:
        """Stop. Twice is fine."""
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _woken(self) -> None:
        try:
            if self._is_event:
                os.eventfd_read(self._fd)
            else:
                os.pread(self._fd, _EVENTS_BYTES, 0)
        except BlockingIOError:
            return
        except OSError:  # the cgroup is gone
            self.close()
            return
        if not any(map(os.path.isdir, self._cgroup.directories())):
            self.close()  # version 1 tells of that, too
        elif not self._checking:
            self._checking = True
            self._check(_LOOK_S)

    def _check(self, pause: float) -> None:
        """Version 1 wakes us when memory is short; the kill follows, or does not."""
        self._checking = False
        if self.look():
            self._call()
        elif self._fd >= 0 and pause < _LOOK_AT_MOST_S:
            self._checking = True
            self._loop.after(pause, lambda: self._check(pause * 2))


def _register(directory: str) -> int:
    """An eventfd that counts what happens to version 1's memory.oom_control. Raises OSError."""
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            registry = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(registry, b"%d %d" % (event, control))
            finally:
                os.close(registry)
        finally:
            os.close(control)
    except BaseException:
        os.close(event)
        raise
    return event
