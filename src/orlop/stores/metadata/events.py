"""Rows of events: a log that keeps so many and for so long. Touches no file."""

from __future__ import annotations

from ...base import jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .database import Transaction

    EventRow = tuple[int, int, str, str, dict[str, Any]]
    """seq, time_ns, namespace, topic, payload: the fields of stores/events/api.Event, in its order."""

KEEP = 10_000
"""How many events are kept at least, unless they are older than KEEP_NS."""
KEEP_NS = 7 * 24 * 3600 * 1_000_000_000
_EVERY = 256
"""Old events are dropped once in so many inserts: the log is at most this much longer than KEEP."""


def insert(tx: Transaction, namespace: str, topic: str, payload: Mapping[str, Any]) -> int:
    """Add an event and return its sequence number, which is greater than that of every event before."""
    seq = tx.insert(
        "INSERT INTO events (time_ns, namespace, topic, payload) VALUES (?, ?, ?, ?)",
        (tx.now_ns, namespace, topic, jsonio.dumps(dict(payload), ascii_only=True)),
    )
    if seq % _EVERY == 0:
        prune(tx, seq)
    return seq


def prune(tx: Transaction, last: int, keep: int = KEEP, keep_ns: int = KEEP_NS) -> int:
    """Drop what is more than `keep` events before `last` or older than keep_ns; returns how many went."""
    return tx.execute("DELETE FROM events WHERE seq <= ? OR time_ns < ?", (last - keep, tx.now_ns - keep_ns))


def last_seq(tx: Transaction) -> int:
    """The highest number given so far, 0 at the beginning (also when the event itself has been dropped)."""
    row = tx.row("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
    return 0 if row is None else int(row[0])


def after(tx: Transaction, seq: int, limit: int, namespace: str = "") -> list[EventRow]:
    """At most `limit` events after seq, oldest first; namespace "": of all."""
    rows = tx.rows(
        "SELECT seq, time_ns, namespace, topic, payload FROM events WHERE seq > ? AND (? = '' OR namespace = ?)"
        " ORDER BY seq LIMIT ?",
        (seq, namespace, namespace, limit),
    )
    return [(*row[:4], jsonio.loads(row[4])) for row in rows]
