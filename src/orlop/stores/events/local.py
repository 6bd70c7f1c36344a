"""The event store on this machine: rows of the metadata database, and a FIFO a subscriber to be woken by.

A subscriber that falls behind by more than the retention (stores/metadata/events.py) misses what was dropped; it can
tell by a gap in the sequence numbers.
"""

from __future__ import annotations

import os

from ...base import errors, fsio
from ...base.cancel import NEVER, Cancel
from ..metadata import events as rows
from ..metadata import filters as _filters
from .api import Event
from .publish import fifo_dir, publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from ..metadata.database import Database

_BATCH = 256
_LOOK_S = 1.0
"""How long a subscriber sleeps at most before it looks by itself, should a wake-up be lost."""
_LOOK_WITHOUT_FIFO_S = 0.1


class LocalEventStore:
    """Events of one namespace, or of all when namespace is "" (it then cannot publish)."""

    def __init__(self, db: Database, root: str, namespace: str) -> None:
        self._db = db
        self._root = root
        self._namespace = namespace

    def publish(self, topic: str, payload: Mapping[str, Any]) -> Event:
        """Add an event of its own. InvalidArgument for a topic that is not a path, or a payload that is not JSON."""
        if not self._namespace:
            raise errors.InvalidArgument("an event belongs to a namespace")
        if not topic.startswith("/") or topic.endswith("/") or len(topic) < 2:
            raise errors.InvalidArgument(f"invalid topic {topic!r}: it is not a path", advice='name it "/noun/verb"')
        try:
            with self._db.write() as tx:
                seq = publish(tx, self._root, self._namespace, topic, payload)
                return Event(seq, tx.now_ns, self._namespace, topic, dict(payload))
        except (TypeError, ValueError) as error:
            raise errors.InvalidArgument(f"payload of {topic}: {error}") from error

    def read(self, after_seq: int = 0, limit: int = 1000, *filters: str) -> Sequence[Event]:
        """At most `limit` events after a sequence number that fit any of the filters, oldest first.

        Fields of filters: topic, namespace, event.MEMBER (a member of the payload).
        """
        match = _filters.compile(*filters)
        found: list[Event] = []
        while len(found) < limit:
            with self._db.read() as tx:
                batch = rows.after(tx, after_seq, _BATCH, self._namespace)
            if not batch:
                break
            after_seq = batch[-1][0]
            found += [event for event in (Event(*row) for row in batch) if match(_adaptor(event))]
        return found[:limit]

    def last_seq(self) -> int:
        """The number of the last event of this root, 0 before the first."""
        with self._db.read() as tx:
            return rows.last_seq(tx)

    def subscribe(self, *filters: str, after_seq: int | None = None, cancel: Cancel = NEVER) -> Iterator[Event]:
        """Events as they come, from any process of this root; after_seq None means from now on.

        "Now" is the moment of this call, not of the first event asked for. The iterator ends by Cancelled or
        DeadlineExceeded; close it, or drop it, to unsubscribe.
        """
        match = _filters.compile(*filters)
        listener = _Listener(self._root)
        try:
            seq = self.last_seq() if after_seq is None else after_seq
        except BaseException:
            listener.close()
            raise
        return self._follow(match, listener, seq, cancel)

    def _follow(self, match: _filters.Match, listener: _Listener, seq: int, cancel: Cancel) -> Iterator[Event]:
        with listener, cancel.closing(listener.wake):
            while True:
                cancel.check()
                listener.drain()  # before the look: what is published after it wakes the wait
                with self._db.read() as tx:
                    batch = rows.after(tx, seq, _BATCH, self._namespace)
                for row in batch:
                    seq = row[0]
                    event = Event(*row)
                    if match(_adaptor(event)):
                        yield event
                        cancel.check()
                if not batch:
                    listener.wait(cancel)


class _Listener:
    """A FIFO that publishers write into; where FIFOs cannot be made, a short sleep instead."""

    def __init__(self, root: str) -> None:
        self._pid = os.getpid()
        self._path = f"{fifo_dir(root)}/{self._pid}-{os.urandom(6).hex()}"
        self._fd = -1
        try:
            fsio.make_dirs(fifo_dir(root), 0o700)
            os.mkfifo(self._path, 0o600)
            # Read and write: never at end-of-file, and `wake` can write into it.
            self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.close()

    def wake(self) -> None:
        """End a wait in another thread."""
        if self._fd >= 0:
            try:
                os.write(self._fd, b"\0")
            except OSError:  # full
                pass

    def drain(self) -> None:
        try:
            while self._fd >= 0 and len(os.read(self._fd, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def wait(self, cancel: Cancel) -> None:
        """Until woken, cancelled, or it is time to look."""
        import select

        if self._fd < 0:
            select.select([], [], [], cancel.remaining(_LOOK_WITHOUT_FIFO_S))
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.poll(1000 * (cancel.remaining(_LOOK_S) or 0))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._pid == os.getpid():
            try:
                os.unlink(self._path)
            except OSError:
                pass

    def __del__(self) -> None:  # of an iterator that was dropped before its first event was asked for
        if self._fd >= 0:
            self.close()

    def __enter__(self) -> _Listener:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _adaptor(event: Event) -> _filters.Adaptor:
    def adaptor(path: Sequence[str]) -> tuple[str, bool]:
        if path[0] == "event" and len(path) > 1:
            value: Any = event.payload
            for member in path[1:]:
                if not isinstance(value, dict) or member not in value:
                    return "", False
                value = value[member]
            text = value if isinstance(value, str) else str(value)
            return text, bool(text)
        if path == ["topic"]:
            return event.topic, True
        if path == ["namespace"]:
            return event.namespace, True
        return "", False

    return adaptor
