"""Which Linux capabilities a container gets.

Pure. Sources: capabilities(7); Docker's documented default set. On the hot path.
"""

from __future__ import annotations

from ...base import errors
from ...base.kernel.capabilities import NAMES, from_mask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ALL = (1 << len(NAMES)) - 1

DEFAULT = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
)  # fmt: skip
DEFAULT_MASK = 0xA80425FB
"""The fourteen of DEFAULT, as the kernel writes them in /proc/PID/status."""


def bit(name: str) -> int:
    """The mask of one capability, given as "CAP_KILL" (exactly so)."""
    return 1 << NAMES.index(name)


def parse(name: str, flag: str = "capability") -> int:
    """The mask of one capability as people write it ("net_admin", "CAP_NET_ADMIN"), or of "ALL".

    flag: what to call it in the error. Raises UsageError.
    """
    upper = name.upper()
    if upper in ("ALL", "CAP_ALL"):
        return ALL
    if not upper.startswith("CAP_"):
        upper = "CAP_" + upper
    if upper not in NAMES:
        raise errors.UsageError(
            f"invalid {flag}: unknown capability {name!r}", advice="see capabilities(7) for the names"
        )
    return bit(upper)


def names(mask: int) -> list[str]:
    """The names in a mask, in the order of their numbers. A bit newer than this module has no name and is left out."""
    return list(from_mask(mask))


def resolve(add: Iterable[str], drop: Iterable[str], privileged: bool, bounding: int) -> tuple[int, int]:
    """Which capabilities a container gets, and which of those asked for cannot be given.

    add, drop: names as people write them. As with Docker, "ALL" in add (or privileged) starts from all of them, "ALL"
    in drop from none. Unlike Docker a name in both is dropped, also of a privileged container: what restricts wins.
    bounding: our own bounding set; what we lack cannot be handed on. Returns (the mask, the mask of what add names and
    we lack).
    """
    added = [parse(name, "--cap-add") for name in add]
    dropped = [parse(name, "--cap-drop") for name in drop]
    if ALL in dropped:
        mask = 0
    elif privileged or ALL in added:
        mask = ALL
    else:
        mask = DEFAULT_MASK
    wanted = taken = 0
    for each in added:
        wanted |= each if each != ALL else 0
    for each in dropped:
        taken |= each if each != ALL else 0
    if ALL in dropped and ALL in added:
        mask = ALL
    mask = (mask | wanted) & ~taken
    return mask & bounding, wanted & ~taken & ~bounding
