"""The protobuf codec: the format's own examples, round trips, merging, unknown fields, bytes that are no message."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base.ttrpc import task_v2, wire


class Numbers(wire.Message):
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: bool = False
    f: tuple[int, ...] = ()
    _wire = (
        wire.uint32(1),
        wire.uint64(2),
        wire.int32(3),
        wire.int64(4),
        wire.boolean(5),
        wire.repeated(wire.int32(6)),
    )


class Inner(wire.Message):
    text: str = ""
    raw: bytes = b""
    _wire = (wire.string(2), wire.data(15))


class Outer(wire.Message):
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    labels: dict[str, str] = {}
    names: tuple[str, ...] = ()
    _wire = (
        wire.message(3, Inner),
        wire.repeated(wire.message(16, Inner)),
        wire.string_map(4),
        wire.repeated(wire.string(5)),
    )


class Bytes(wire.Message):
    raw: bytes = b""
    _wire = (wire.data(1),)


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        (Numbers(a=150), "089601"),
        (Inner(text="testing"), "120774657374696e67"),
        (Outer(inner=Inner(text="x")), "1a03120178"),
        (Numbers(f=(3, 270, 86942)), "3206038e029ea705"),
        (Numbers(c=-1), "18ffffffffffffffffff01"),
        (Numbers(d=-2), "20feffffffffffffffff01"),
        (Numbers(b=2**64 - 1), "10ffffffffffffffffff01"),
        (Numbers(e=True), "2801"),
        (Outer(labels={"k": "v"}), "22060a016b120176"),
        (Outer(names=("a", "", "b")), "2a01612a002a0162"),
        (Outer(many=(Inner(), Inner(text="y"))), "82010082010312 0179".replace(" ", "")),
        (Inner(raw=b"\xff"), "7a01ff"),
        (Numbers(), ""),
        (task_v2.KillRequest("c", "", 9, True), "0a016318092001"),
        (task_v2.WaitResponse(137, wire.Timestamp(1, 5)), "0889011204080110 05".replace(" ", "")),
    ],
)
def test_messages_have_the_bytes_of_the_specification(message: wire.Message, encoded: str) -> None:
    assert message.encode().hex() == encoded
    assert type(message).decode(bytes.fromhex(encoded)) == message


_TEXT = st.text(max_size=20)
_INNER = st.builds(Inner, text=_TEXT, raw=st.binary(max_size=20))


@settings(max_examples=150)
@given(
    st.builds(
        Outer,
        inner=st.none() | _INNER,
        many=st.lists(_INNER, max_size=4).map(tuple),
        labels=st.dictionaries(_TEXT, _TEXT, max_size=4),
        names=st.lists(_TEXT, max_size=4).map(tuple),
    )
)
def test_every_message_survives_the_wire(message: Outer) -> None:
    assert Outer.decode(message.encode()) == message


@settings(max_examples=150)
@given(
    a=st.integers(0, 2**32 - 1),
    b=st.integers(0, 2**64 - 1),
    c=st.integers(-(2**31), 2**31 - 1),
    d=st.integers(-(2**63), 2**63 - 1),
    e=st.booleans(),
    f=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5).map(tuple),
)
def test_numbers_of_every_size_survive_the_wire(a: int, b: int, c: int, d: int, e: bool, f: tuple[int, ...]) -> None:
    message = Numbers(a, b, c, d, e, f)
    assert Numbers.decode(message.encode()) == message


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        decoded = Outer.decode(data)
    except wire.Malformed:
        return
    assert Outer.decode(decoded.encode()) == decoded


@settings(max_examples=100)
@given(_INNER, _INNER)
def test_pieces_of_one_sub_message_merge(first: Inner, second: Inner) -> None:
    both = Outer.decode(Outer(inner=first).encode() + Outer(inner=second).encode())
    assert both.inner == Inner(second.text or first.text, second.raw or first.raw)


def test_the_last_of_a_scalar_wins_and_unpacked_numbers_are_read() -> None:
    assert Numbers.decode(bytes.fromhex("08010802")).a == 2
    assert Numbers.decode(bytes.fromhex("3003308e02")).f == (3, 270)


def test_unknown_fields_of_every_wire_type_are_skipped() -> None:
    strange = bytes.fromhex("a80605") + bytes.fromhex("a906") + bytes(8) + bytes.fromhex("ad06") + bytes(4)
    strange += bytes.fromhex("aa0603616263") + bytes.fromhex("ab06") + bytes.fromhex("0801ac06")
    assert Numbers.decode(strange + bytes.fromhex("0807") + strange) == Numbers(a=7)


@pytest.mark.parametrize(
    "data",
    [
        "08",  # ends inside a number
        "08" + "ff" * 10 + "01",  # a number of eleven bytes
        "1205616263",  # ends inside a text
        "1201ff",  # not UTF-8
        "0001",  # field number 0
        "0e",  # wire type 6
        "0c",  # a group's end without its beginning
        "0b" * 200,  # groups without end
    ],
)
def test_malformed_bytes_are_refused_by_the_name_of_the_message(data: str) -> None:
    with pytest.raises(wire.Malformed, match="Inner"):
        Inner.decode(bytes.fromhex(data))


def test_a_map_entry_without_key_or_value_is_empty_text() -> None:
    assert Outer.decode(bytes.fromhex("2200")).labels == {"": ""}


def test_timestamps_convert_to_nanoseconds_and_zero_is_absent() -> None:
    stamp = wire.Timestamp.from_ns(1_700_000_000_123_456_789)
    assert stamp is not None
    assert (stamp.seconds, stamp.nanos) == (1_700_000_000, 123_456_789)
    assert stamp.ns == 1_700_000_000_123_456_789
    assert wire.Timestamp.from_ns(0) is None


def test_bytes_are_taken_from_any_buffer() -> None:
    assert Bytes.decode(memoryview(bytearray(Bytes(b"abc").encode()))) == Bytes(b"abc")
