"""Publishing an event inside the transaction that makes it true: on the path of every verb that changes a store.

Subscribers wait on a FIFO each, in ROOT/events/. When the transaction has been committed, one byte goes into each: that
wakes them at once, in every process, without polling. A subscriber that died leaves its FIFO; the next publisher
removes it. May import nothing dear.
"""

from __future__ import annotations

import errno
import os

from ..metadata import events as rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..metadata.database import Transaction


def publish(tx: Transaction, root: str, namespace: str, topic: str, payload: Mapping[str, Any]) -> int:
    """Add an event to a write transaction; subscribers are woken once it is committed. Returns its sequence number.

    topic: one of containerd's ("/images/create"). payload: JSON-able, members named as in containerd's event message.
    """
    seq = rows.insert(tx, namespace, topic, payload)
    tx.after_commit(_Wake(root))
    return seq


def fifo_dir(root: str) -> str:
    """Where subscribers keep their FIFOs."""
    return f"{root}/events"


class _Wake:
    """`wake` for one root; equal to its like, so that a transaction with several events wakes once."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = root

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Wake) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    def __call__(self) -> None:
        wake(self.root)


def wake(root: str) -> None:
    """Wake every subscriber of the root. Never fails: who is not woken looks by itself within a second."""
    directory = fifo_dir(root)
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        path = f"{directory}/{name}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody reads: its subscriber is dead
                _unlink(path)
            continue
        try:
            os.write(fd, b"\0")
        except OSError:  # full: it has enough to wake it
            pass
        finally:
            os.close(fd)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
