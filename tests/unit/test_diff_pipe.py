"""services/diff: the bounded queue between two threads."""

from __future__ import annotations

import threading

import pytest

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.services.diff.pipe import Pipe


def test_bytes_come_out_in_order_in_pieces_of_the_size_asked_for() -> None:
    pipe = Pipe(100)
    pipe.write(b"hello")
    pipe.write(b"")
    pipe.write(b"world")
    pipe.close()
    assert [pipe.read(3), pipe.read(3), pipe.read(), pipe.read(5), pipe.read(5)] == [b"hel", b"lo", b"world", b"", b""]


def test_a_writer_waits_while_the_pipe_is_full_and_goes_on_when_it_is_read() -> None:
    pipe = Pipe(10)
    written = []

    def write() -> None:
        for n in range(50):
            pipe.write(b"%03d" % n)
            written.append(n)
        pipe.close()

    thread = threading.Thread(target=write)
    thread.start()
    data = b""
    while piece := pipe.read():
        data += piece
        assert len(written) <= len(data) // 3 + 6
    thread.join()
    assert data == b"".join(b"%03d" % n for n in range(50))


def test_a_failure_wakes_and_reaches_both_ends() -> None:
    pipe = Pipe(1)
    caught: list[BaseException] = []

    def read() -> None:
        try:
            pipe.read()
        except errors.DataLoss as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    pipe.fail(errors.DataLoss("first"))
    pipe.fail(errors.DataLoss("second"))
    thread.join()
    assert str(caught[0]) == "first"
    with pytest.raises(errors.DataLoss, match="first"):
        pipe.write(b"x")
    with pytest.raises(errors.DataLoss, match="first"):
        pipe.read()


def test_a_deadline_ends_a_wait() -> None:
    pipe = Pipe(1, Cancel(timeout=0.01))
    with pytest.raises(errors.DeadlineExceeded):
        pipe.read()


def test_nothing_can_be_written_after_close() -> None:
    pipe = Pipe(1)
    pipe.close()
    with pytest.raises(errors.Internal):
        pipe.write(b"x")
