"""Capabilities: names ↔ numbers, and the sets of a process. Names as in <linux/capability.h> and capabilities(7).

May import only `_sys` and `record`.
"""

from __future__ import annotations

import os

from .. import errors
from ..record import Record
from . import _sys

NAMES: tuple[str, ...] = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""Every capability; its place is its number."""


class Sets(Record):
    """A process's capability sets, each in order of number. Numbers this module has no name for are left out."""

    effective: tuple[str, ...]
    permitted: tuple[str, ...]
    inheritable: tuple[str, ...]
    bounding: tuple[str, ...]
    ambient: tuple[str, ...]


def normalise(name: str) -> str:
    """The kernel's name for what a person wrote ("net_admin", "NET_ADMIN", "cap_net_admin").

    InvalidArgument for an unknown one.
    """
    upper = name.upper()
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in NAMES:
        raise errors.InvalidArgument(f"unknown capability {name!r}", advice="see capabilities(7) for the names")
    return full


def number(name: str) -> int:
    """The number of a capability, by any spelling `normalise` takes."""
    return NAMES.index(normalise(name))


def from_mask(mask: int) -> tuple[str, ...]:
    """The names of the bits set in mask, in order of number."""
    return tuple(name for bit, name in enumerate(NAMES) if mask >> bit & 1)


def to_mask(names: tuple[str, ...] | list[str] | frozenset[str]) -> int:
    """A mask with the bits of all names."""
    mask = 0
    for name in names:
        mask |= 1 << number(name)
    return mask


def own(pid: int | str = "self") -> Sets:
    """The capability sets of a process (of its first thread), from /proc/PID/status. Raises OSError."""
    _sys.require_linux()
    fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.read(fd, 1 << 16)
    finally:
        os.close(fd)
    masks = {}
    for line in status.split(b"\n"):
        if line.startswith(b"Cap"):
            key, _, value = line.partition(b":")
            masks[key] = from_mask(int(value, 16))
    empty: tuple[str, ...] = ()
    return Sets(
        masks.get(b"CapEff", empty),
        masks.get(b"CapPrm", empty),
        masks.get(b"CapInh", empty),
        masks.get(b"CapBnd", empty),
        masks.get(b"CapAmb", empty),
    )
