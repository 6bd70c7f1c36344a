"""Several tasks at once: results in order, the first error wins, cancellation reaches every task."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from orlop.base import errors
from orlop.base.cancel import NEVER, Cancel
from orlop.services.transfer import workers


def waiting_for(event: threading.Event, value: int) -> Callable[[Cancel], int]:
    def task(cancel: Cancel) -> int:
        with cancel.closing(event.set):
            event.wait(10)
        cancel.check()
        return value

    return task


def test_nothing_to_do() -> None:
    assert workers.run_all([], 3, NEVER) == []


def test_one_task_runs_in_the_callers_thread() -> None:
    assert workers.run_all([lambda cancel: threading.get_ident()], 3, NEVER) == [threading.get_ident()]


def test_results_come_in_the_order_of_the_tasks() -> None:
    first, second = threading.Event(), threading.Event()

    def late(cancel: Cancel) -> str:
        second.wait(10)
        return "late"

    def early(cancel: Cancel) -> str:
        first.set()
        second.set()
        return "early"

    assert workers.run_all([late, early], 2, NEVER) == ["late", "early"]
    assert first.is_set()


def test_no_more_run_at_once_than_were_allowed() -> None:
    guard, running, most = threading.Lock(), 0, 0

    def task(cancel: Cancel) -> None:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.002)
        with guard:
            running -= 1

    workers.run_all([task] * 12, 3, NEVER)
    assert most <= 3


def test_the_first_error_cancels_the_rest_and_is_raised() -> None:
    def fails(cancel: Cancel) -> int:
        raise errors.DataLoss("broken")

    started: list[int] = []

    def never(cancel: Cancel) -> int:
        started.append(1)
        return 0

    with pytest.raises(errors.DataLoss, match="broken"):
        workers.run_all([waiting_for(threading.Event(), 1), fails, *[never] * 5], 2, NEVER)
    assert threading.active_count() < 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("transfer-")]


def test_an_error_that_the_cancellation_caused_is_not_the_one_raised() -> None:
    event = threading.Event()

    def follows(cancel: Cancel) -> int:
        with cancel.closing(event.set):
            event.wait(10)
        raise errors.Unavailable("the connection was closed under me")

    def fails(cancel: Cancel) -> int:
        raise errors.NotFound("the cause")

    with pytest.raises(errors.NotFound, match="the cause"):
        workers.run_all([follows, fails], 2, NEVER)


def test_an_error_that_is_no_orlop_error_comes_through() -> None:
    def fails(cancel: Cancel) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        workers.run_all([fails, waiting_for(threading.Event(), 1)], 2, NEVER)


def test_cancelling_ends_every_task() -> None:
    cancel = Cancel()
    begun = threading.Barrier(3)

    def task(inner: Cancel) -> int:
        begun.wait(10)
        return waiting_for(threading.Event(), 1)(inner)

    threading.Thread(target=lambda: (begun.wait(10), cancel.cancel("enough"))).start()
    with pytest.raises(errors.Cancelled, match="enough"):
        workers.run_all([task, task], 2, cancel)


def test_what_is_cancelled_already_is_not_begun() -> None:
    cancel = Cancel()
    cancel.cancel()
    ran: list[int] = []
    with pytest.raises(errors.Cancelled):
        workers.run_all([lambda inner: ran.append(1), lambda inner: ran.append(2)], 2, cancel)
    assert not ran


def test_a_deadline_is_handed_on() -> None:
    left = workers.run_all([lambda inner: inner.remaining(), lambda inner: inner.remaining()], 2, Cancel(60))
    assert all(value is not None and 0 < value <= 60 for value in left)


def test_an_interrupt_waits_for_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = threading.Thread.join, 0

    def join(self: threading.Thread, timeout: float | None = None) -> None:
        nonlocal count
        count += 1
        if count == 1:
            raise KeyboardInterrupt
        real(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", join)
    with pytest.raises(KeyboardInterrupt):
        workers.run_all([waiting_for(threading.Event(), 1)] * 2, 2, NEVER)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("transfer-")]
