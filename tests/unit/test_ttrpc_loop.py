"""The epoll loop: timers, descriptors whose numbers come back, callbacks that fail."""

from __future__ import annotations

import os

import pytest

from orlop.base.ttrpc.loop import READ, Loop


def test_timers_come_in_order_and_cancelled_ones_do_not() -> None:
    loop = Loop()
    seen: list[str] = []
    loop.after(0.02, lambda: seen.append("late"))
    loop.after(0.001, lambda: seen.append("soon"))
    loop.after(0, lambda: seen.append("never")).cancel()
    loop.after(0.03, loop.stop)
    loop.run()
    assert seen == ["soon", "late"]
    loop.close()


def test_a_callback_that_raises_is_reported_and_the_loop_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    loop = Loop()
    loop.after(0, lambda: 1 // 0)
    loop.after(0.001, loop.stop)
    loop.run()
    assert "ZeroDivisionError" in capsys.readouterr().err
    loop.close()


def test_an_event_of_a_closed_descriptor_is_not_given_to_the_next_of_its_number() -> None:
    loop = Loop()
    pipes = [os.pipe() for _ in range(3)]
    (first, first_w), (second, second_w), (quiet, _) = pipes
    seen: list[str] = []

    def replace(other: int) -> None:
        seen.append("served")
        loop.forget(other)
        os.dup2(quiet, other)
        loop.watch(other, READ, lambda _: seen.append("wrong"))

    loop.watch(first, READ, lambda _: replace(second))
    loop.watch(second, READ, lambda _: replace(first))
    os.write(first_w, b"x")
    os.write(second_w, b"x")
    loop.run_once(1)  # both are ready; whichever is served first replaces the other
    assert seen == ["served"]
    loop.close()
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def test_forgetting_what_is_not_watched_is_fine() -> None:
    loop = Loop()
    loop.forget(12345)
    loop.close()
