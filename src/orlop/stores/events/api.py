"""Events: rows with a sequence number, a wake-up file and a retention (DESIGN §3). The interface.

Topics are containerd's ("/images/create", "/containers/delete", "/tasks/exit", …); payloads are JSON objects whose
members carry the names of containerd's event messages. A handle is bound to a namespace and sees its events; one bound
to "" sees those of all namespaces.
"""

from __future__ import annotations

from ...base.cancel import NEVER, Cancel
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Protocol
else:
    Protocol = object


class Event(Record):
    seq: int
    time_ns: int
    namespace: str
    topic: str
    payload: dict[str, Any]


class EventStore(Protocol):
    def publish(self, topic: str, payload: Mapping[str, Any]) -> Event: ...

    def read(self, after_seq: int = 0, limit: int = 1000, *filters: str) -> Sequence[Event]: ...

    def last_seq(self) -> int: ...

    def subscribe(self, *filters: str, after_seq: int | None = None, cancel: Cancel = NEVER) -> Iterator[Event]:
        """Events as they come, from any process of this root; after_seq None means from now on."""
