"""How often and how long to wait before asking again: exponential back-off with jitter, Retry-After, all bounded.

Clock, sleep and randomness are handed in, so that tests need no time.
"""

from __future__ import annotations

import time

from .. import protocol
from . import failures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ....base.cancel import Cancel
    from .connection import Response

FIRST_S = 0.5
LONGEST_S = 30.0
LONGEST_ASKED_S = 120.0
"""A registry that asks for a longer wait than this is not waited for; the user is told."""
CONNECT_TRIES = 2
"""A registry that has never answered is tried so often again at most: a wrong name or port should show soon."""
STATUSES = frozenset({429, 500, 502, 503, 504})


class Policy:
    """retries: how often a request is tried again, at most. sleep: waits that many seconds (tests); None waits for
    real, and a cancellation ends it. wall: seconds since the epoch. random: a number in [0, 1).
    """

    def __init__(
        self,
        retries: int = 5,
        *,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] | None = None,
        random: Callable[[], float] | None = None,
    ) -> None:
        self.retries = retries
        self._wall = wall
        self._sleep = sleep
        self._random = random

    def backoff(self, tried: int) -> float:
        """Seconds to wait after the tried-th failure in a row (from 0): doubled each time, less up to a half."""
        if self._random is None:
            import random

            self._random = random.random
        return min(LONGEST_S, FIRST_S * 2.0 ** min(tried, 16)) * (1.0 - self._random() / 2)

    def after_failure(
        self, error: failures.Dropped, tried: int, retries: int | None = None, *, known: bool = True
    ) -> float | None:
        """Seconds until the next try after a connection failed, or None to give up. known: it has answered before."""
        most = self.retries if retries is None else retries
        if isinstance(error, failures.NotTls):
            return None
        if isinstance(error, failures.NotConnected) and not known:
            most = min(most, CONNECT_TRIES)
        return self.backoff(tried) if tried < most else None

    def after_answer(self, response: Response, tried: int, retries: int | None = None) -> float | None:
        """Seconds until the next try after an answer, or None when it is final."""
        if response.status not in STATUSES or tried >= (self.retries if retries is None else retries):
            return None
        asked = protocol.parse_retry_after(response.header("Retry-After"), self._wall())
        if asked is None:
            return self.backoff(tried)
        return None if asked > LONGEST_ASKED_S else max(asked, self.backoff(tried) if asked == 0 else asked)

    def wait(self, seconds: float, cancel: Cancel) -> None:
        """Wait; raises Cancelled or DeadlineExceeded as soon as it is time to stop."""
        cancel.check()
        if self._sleep is not None:
            self._sleep(seconds)
        else:
            import threading

            woken = threading.Event()
            with cancel.closing(woken.set):
                woken.wait(cancel.remaining(seconds))
        cancel.check()
