"""Streams whose compression is found out from their first bytes."""

from __future__ import annotations

import gzip
import io
from typing import IO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.services.transfer import streams


class Dribble:
    """Gives at most `step` bytes at a time, as pipes do."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, n: int) -> bytes:
        return self._file.read(min(n, self._step))


def dribble(data: bytes, step: int) -> IO[bytes]:
    return cast("IO[bytes]", Dribble(data, step))


def all_of(source: streams.Source, n: int) -> bytes:
    return b"".join(iter(lambda: source.read(n), b""))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=100), st.integers(1, 20), st.integers(1, 40))
def test_looking_at_the_first_bytes_loses_none(data: bytes, step: int, n: int) -> None:
    peeked = streams.Peeked(dribble(data, step))
    assert data.startswith(peeked.head)
    assert len(peeked.head) == min(16, len(data))
    assert all_of(peeked, n) == data


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=3000), st.integers(1, 4000), st.booleans())
def test_compressed_and_plain_streams_give_their_bytes(data: bytes, step: int, compressed: bool) -> None:
    if not compressed and streams.kind_of(data[:16]) != "none":
        return
    stream = dribble(gzip.compress(data) if compressed else data, step)
    assert all_of(streams.decompressed(stream), 1000) == data


def test_what_cannot_be_inflated_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="xz"):
        streams.decompressed(io.BytesIO(b"\xfd7zXZ\x00" + bytes(20)))


def test_a_stream_that_is_cut_short() -> None:
    with pytest.raises(errors.DataLoss):
        all_of(streams.decompressed(io.BytesIO(gzip.compress(b"x" * 1000)[:-5])), 100)
