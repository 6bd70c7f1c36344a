"""Standard streams: order, back-pressure, the end with and without descendants, input."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from orlop.base.ttrpc.loop import Loop
from orlop.services.shim import stdio
from orlop.services.shim.exitfile import Exited
from orlop.services.shim.stdio import Stdio


class Outlet:
    def __init__(self, backlog: int = 0) -> None:
        self.backlog = backlog
        self.got: list[tuple[int, bytes]] = []
        self.ends: list[Exited | None] = []

    def put(self, stream: int, data: bytes) -> None:
        self.got.append((stream, data))

    def finish(self, exited: Exited | None) -> None:
        self.ends.append(exited)

    def of(self, stream: int) -> bytes:
        return b"".join(data for number, data in self.got if number == stream)


class Case:
    """A Stdio whose process is this test."""

    def __init__(self, wants_stdin: bool = False) -> None:
        self.loop = Loop()
        self.stdio = Stdio(self.loop, wants_stdin)
        self.fds = [os.dup(fd) for fd in self.stdio.open()]
        self.stdio.begin()

    def turn(self, times: int = 5) -> None:
        for _ in range(times):
            self.loop.run_once(0)

    def exit(self) -> None:
        while self.fds:
            os.close(self.fds.pop())

    def close(self) -> None:
        self.exit()
        self.stdio.close()
        self.loop.close()


@pytest.fixture
def case() -> Iterator[Case]:
    one = Case()
    yield one
    one.close()


@pytest.fixture
def reader() -> Iterator[Case]:
    one = Case(wants_stdin=True)
    yield one
    one.close()


END = Exited(0, 1, 2)


def test_output_reaches_every_outlet_and_then_the_end(case: Case) -> None:
    outlets = [Outlet(), Outlet()]
    for outlet in outlets:
        case.stdio.add(outlet)
    os.write(case.fds[1], b"out")
    os.write(case.fds[2], b"err")
    case.exit()
    case.stdio.drain(lambda: case.stdio.finish(END))
    for outlet in outlets:
        assert (outlet.of(1), outlet.of(2), outlet.ends) == (b"out", b"err", [END])


def test_a_full_outlet_holds_the_pipes_back_until_it_has_room(case: Case) -> None:
    outlet = Outlet(stdio.HIGH_BYTES)
    case.stdio.add(outlet)
    os.write(case.fds[1], b"first")
    case.turn()
    os.write(case.fds[1], b"second")
    case.turn()
    assert outlet.of(1) == b"first"
    outlet.backlog = 0
    case.stdio.taken()
    case.turn()
    assert outlet.of(1) == b"firstsecond"


def test_an_outlet_that_goes_holds_nobody_back(case: Case) -> None:
    full, other = Outlet(stdio.HIGH_BYTES), Outlet()
    case.stdio.add(full)
    case.stdio.add(other)
    os.write(case.fds[1], b"first")
    case.turn()
    os.write(case.fds[1], b"second")
    case.stdio.remove(full)
    case.turn()
    assert other.of(1) == b"firstsecond"


def test_a_slow_outlet_gets_everything_before_the_end_though_others_are_told_earlier(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "CAP_S", 0.01)
    slow = Outlet(stdio.HIGH_BYTES)
    case.stdio.add(slow)
    os.write(case.fds[1], b"first")
    case.turn()
    os.write(case.fds[1], b"second")
    case.exit()
    told: list[str] = []
    case.stdio.drain(lambda: (told.append("published"), case.stdio.finish(END)))
    while not told:
        case.loop.run_once(1)
    assert (slow.of(1), slow.ends) == (b"first", [])
    slow.backlog = 0
    case.stdio.taken()
    case.turn()
    assert (slow.of(1), slow.ends) == (b"firstsecond", [END])


def test_a_descendant_that_keeps_the_pipe_does_not_keep_the_end(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "GRACE_S", 0.01)
    outlet = Outlet()
    case.stdio.add(outlet)
    os.write(case.fds[1], b"before")
    told: list[str] = []
    case.stdio.drain(lambda: (told.append("published"), case.stdio.finish(END)))
    while not told:
        case.loop.run_once(1)
    assert (outlet.of(1), outlet.ends) == (b"before", [END])
    os.write(case.fds[1], b"nobody is told")
    case.turn()


def test_a_descendant_that_writes_for_ever_does_not_keep_the_end(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "CAP_S", 0.01)
    outlet = Outlet()
    case.stdio.add(outlet)
    told: list[str] = []
    os.set_blocking(case.fds[1], False)
    case.stdio.drain(lambda: (told.append("published"), case.stdio.finish(END)))
    for _ in range(10_000):
        try:
            os.write(case.fds[1], bytes(60_000))
        except BlockingIOError:
            pass
        case.loop.run_once(0.001)
        if outlet.ends:
            break
    assert outlet.ends == [END]


def test_little_on_standard_error_is_remembered_and_much_or_other_is_not(case: Case) -> None:
    os.write(case.fds[2], b"exec: ")
    case.turn()
    os.write(case.fds[2], b"failed")
    case.turn()
    assert case.stdio.first_bytes == b"exec: failed"
    os.write(case.fds[1], b"x")
    case.turn()
    assert case.stdio.first_bytes is None


def test_input_is_passed_on_in_order_and_its_end_after_it(reader: Case) -> None:
    data = os.urandom(300_000)
    left, got = data, b""
    while left:
        if reader.stdio.feed(left[:50_000]):
            left = left[50_000:]
        else:
            left = left[50_000:]
            room: list[bool] = []
            reader.stdio.on_room(lambda room=room: room.append(True))  # type: ignore[misc]
            while not room:
                got += os.read(reader.fds[0], 65536)
                reader.turn()
    reader.stdio.end_input()
    reader.stdio.end_input()
    while chunk := os.read(reader.fds[0], 65536):
        got += chunk
        reader.turn()
    assert got == data


def test_input_for_a_process_that_reads_no_more_is_dropped(reader: Case) -> None:
    os.close(reader.fds.pop(0))
    for _ in range(10):
        reader.stdio.feed(bytes(50_000))
        reader.turn()
    assert reader.stdio.feed(b"x")


def test_input_given_before_the_process_began_waits_for_it() -> None:
    loop = Loop()
    one = Stdio(loop, True)
    ours = os.dup(one.open()[0])
    one.feed(b"early")
    one.end_input()
    one.begin()
    assert os.read(ours, 100) == b"early"
    assert os.read(ours, 100) == b""
    os.close(ours)
    one.close()
    loop.close()


def test_input_that_comes_before_the_process_waits_for_it() -> None:
    loop = Loop()
    one = Stdio(loop, True)
    assert one.feed(b"early ")
    assert not one.feed(b"x" * stdio.STDIN_BYTES)
    rooms: list[int] = []
    one.on_room(lambda: rooms.append(1))
    one.end_input()
    theirs = os.dup(one.open()[0])
    assert rooms == []
    one.begin()
    got = b""
    while chunk := os.read(theirs, 4096):
        got += chunk
        loop.run_once(0)
    assert got == b"early " + b"x" * stdio.STDIN_BYTES
    assert rooms == [1]
    os.close(theirs)
    one.close()
    loop.close()
