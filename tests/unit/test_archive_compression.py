"""base/archive: compression is told apart, read whole or refused, and written the same every time."""

from __future__ import annotations

import gzip
import io
import random
import struct
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.archive import compression

DATA = random.Random(1).randbytes(300_000) + b"text " * 100_000


class Trickle:
    def __init__(self, data: bytes, most: int) -> None:
        self._file = io.BytesIO(data)
        self._most = most

    def read(self, n: int) -> bytes:
        return self._file.read(min(n, self._most))


def compressed(data: bytes, kind: str, level: int | None = None) -> bytes:
    out = io.BytesIO()
    writer = compression.open_writer(out, kind, level=level)
    for at in range(0, len(data), 100_000):
        writer.write(data[at : at + 100_000])
    writer.close()
    return out.getvalue()


def inflated(data: bytes, kind: str, most: int = 1 << 20, **options: int) -> bytes:
    raw = Trickle(data, most)
    reader = compression.open_reader(raw, kind, **options)
    parts = []
    while piece := reader.read():
        parts.append(piece)
    assert raw.read(1) == b"", "the source must be read to its end"
    assert reader.consumed == len(data)
    assert reader.produced == sum(map(len, parts))
    return b"".join(parts)


@pytest.fixture(params=["isal", "zlib"])
def either_gzip(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test with isal and, as on a machine that lacks it, with zlib."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_what_is_written_is_detected_and_read_back(kind: str, either_gzip: None) -> None:
    data = compressed(DATA, kind)
    assert compression.detect(data[: compression.MAGIC_LENGTH]) == kind
    assert inflated(data, kind) == DATA
    assert inflated(data, kind, 777) == DATA
    assert compressed(DATA, kind) == data


def test_levels_are_taken() -> None:
    assert len(compressed(DATA, "gzip", 9)) < len(compressed(DATA, "gzip", 1))
    assert gzip.decompress(compressed(DATA, "gzip", 9)) == gzip.decompress(compressed(DATA, "gzip", 0)) == DATA


def test_a_gzip_header_holds_no_time_and_no_name(either_gzip: None) -> None:
    assert compressed(b"x", "gzip")[3:8] == bytes(5)


def test_other_compressions_are_named_and_refused() -> None:
    assert compression.detect(b"BZh91AY") == "bzip2"
    assert compression.detect(b"\xfd7zXZ\x00") == "xz"
    assert compression.detect(b"\x51\x2a\x4d\x18aa") == "zstd"
    assert compression.detect(b"") == "none"
    for open_it in (compression.open_reader, compression.open_writer):
        with pytest.raises(errors.InvalidArgument, match="xz"):
            open_it(io.BytesIO(), "xz")  # type: ignore[operator]


@pytest.mark.parametrize("most", [1, 13, 1 << 20])
def test_gzip_members_follow_one_another(most: int, either_gzip: None) -> None:
    data = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two " * 1000) + gzip.compress(b"end")
    assert inflated(data, "gzip", most) == b"one " + b"two " * 1000 + b"end"


@pytest.mark.parametrize("most", [1, 5, 1 << 20])
def test_all_optional_fields_of_a_gzip_header_are_passed_over_however_they_are_cut(
    most: int, either_gzip: None
) -> None:
    plain = gzip.compress(b"data" * 1000)
    head = b"\x1f\x8b\x08\x1e\0\0\0\0\0\xff" + struct.pack("<H", 4) + b"abcd" + b"name\0" + b"comment\0"
    member = head + struct.pack("<H", zlib.crc32(head) & 0xFFFF) + plain[10:]
    assert inflated(member + member, "gzip", most) == b"data" * 2000


@pytest.mark.parametrize("most", [1, 1 << 20])
@pytest.mark.parametrize("tail", [b"\0", bytes(5000), b"rubbish", b"\x1f", bytes(10) + b"rubbish" * 1000])
def test_zeros_and_rubbish_after_gzip_are_passed_over_as_gzip_does(tail: bytes, most: int, either_gzip: None) -> None:
    assert inflated(gzip.compress(b"data") + tail, "gzip", most) == b"data"


@pytest.mark.parametrize("length", [0, 1, 5, 9, 15, 100, -8, -4, -1])
def test_truncated_gzip_is_data_loss(length: int, either_gzip: None) -> None:
    whole = gzip.compress(DATA[:5000])
    with pytest.raises(errors.DataLoss):
        inflated(whole[:length], "gzip")


def test_a_second_member_that_is_cut_short_is_data_loss(either_gzip: None) -> None:
    whole = gzip.compress(b"one")
    for length in (5, len(whole) - 1):
        with pytest.raises(errors.DataLoss):
            inflated(whole + whole[:length], "gzip")


@pytest.mark.parametrize("position", [-1, -6, 1000])
def test_damaged_gzip_is_data_loss(position: int, either_gzip: None) -> None:
    broken = bytearray(gzip.compress(DATA[:5000]))
    broken[position] ^= 0xFF
    with pytest.raises(errors.DataLoss, match="gzip"):
        inflated(bytes(broken), "gzip")


def test_what_is_not_gzip_is_told() -> None:
    with pytest.raises(errors.DataLoss, match="not gzip data"):
        inflated(b"<html>", "gzip")


def test_zstd_frames_and_skippable_frames_follow_one_another() -> None:
    one, two = compressed(b"one ", "zstd"), compressed(b"two" * 10_000, "zstd")
    skippable = b"\x50\x2a\x4d\x18" + struct.pack("<I", 5) + b"12345"
    for most in (1, 9, 1 << 20):
        assert inflated(skippable + one + skippable + two + skippable, "zstd", most) == b"one " + b"two" * 10_000


@pytest.mark.parametrize("tail", [b"rubbish", b"\0\0\0\0\0", b"\x28"])
def test_rubbish_after_zstd_is_data_loss(tail: bytes) -> None:
    with pytest.raises(errors.DataLoss):
        inflated(compressed(b"x", "zstd") + tail, "zstd")


@pytest.mark.parametrize("length", [0, 3, 10, -1])
def test_truncated_zstd_is_data_loss(length: int) -> None:
    with pytest.raises(errors.DataLoss):
        inflated(compressed(DATA, "zstd")[:length], "zstd")


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_is_noticed_by_its_ratio_once_it_is_large(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_RATIO_GRACE", 1 << 20)
    bomb = compressed(bytes(8 << 20), kind)
    with pytest.raises(errors.ResourceExhausted, match="bomb"):
        inflated(bomb, kind, max_ratio=50)
    assert inflated(compressed(bytes(1 << 19), kind), kind, max_ratio=50) == bytes(1 << 19)


def test_readinto_fills_what_it_is_given() -> None:
    reader = compression.open_reader(io.BytesIO(compressed(b"hello", "gzip")), "gzip")
    buffer = bytearray(3)
    assert reader.readinto(buffer) == 3
    assert bytes(buffer) == b"hel"
    assert reader.readinto(buffer) == 2
    assert reader.readinto(buffer) == 0


def test_thousands_of_short_members_are_read() -> None:
    data = b"".join(gzip.compress(b"%d" % n, 1) for n in range(3000))
    assert inflated(data, "gzip") == b"".join(b"%d" % n for n in range(3000))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=2000), st.sampled_from(("gzip", "zstd")))
def test_random_bytes_are_never_more_than_data_loss(data: bytes, kind: str) -> None:
    magic = b"\x1f\x8b\x08" if kind == "gzip" else b"\x28\xb5\x2f\xfd"
    try:
        inflated(magic + data, kind)
    except errors.DataLoss:
        pass
