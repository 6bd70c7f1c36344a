"""ttrpc's frames and envelopes: cutting, limits, metadata, errors, addresses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.ttrpc import protocol

_FRAMES = st.lists(
    st.builds(
        protocol.Frame,
        stream=st.integers(0, 2**32 - 1),
        type=st.integers(0, 255),
        flags=st.integers(0, 255),
        data=st.binary(max_size=50),
    ),
    max_size=6,
)


@settings(max_examples=100)
@given(_FRAMES, st.lists(st.integers(1, 40), max_size=20))
def test_frames_are_cut_the_same_whatever_the_pieces(frames: list[protocol.Frame], cuts: list[int]) -> None:
    stream = b"".join(protocol.encode_frame(f.stream, f.type, f.flags, f.data or b"") for f in frames)
    deframer = protocol.Deframer()
    found = []
    for cut in cuts:
        found += deframer.feed(stream[:cut])
        stream = stream[cut:]
    found += deframer.feed(stream)
    assert found == frames
    assert not deframer.partial


def test_a_frame_has_a_header_of_ten_bytes_in_network_order() -> None:
    assert (
        protocol.encode_frame(3, protocol.REQUEST, protocol.REMOTE_OPEN, b"ab").hex() == "00000002000000030102" + "6162"
    )


def test_a_frame_over_the_limit_is_not_sent() -> None:
    with pytest.raises(errors.ResourceExhausted, match="4194305 bytes"):
        protocol.encode_frame(1, protocol.REQUEST, 0, bytes(protocol.MAX_DATA_BYTES + 1))


def test_a_received_frame_over_the_limit_is_dropped_unheld_and_the_next_is_read() -> None:
    deframer = protocol.Deframer()
    length = protocol.MAX_DATA_BYTES + 100
    assert deframer.feed(length.to_bytes(4, "big") + (7).to_bytes(4, "big") + b"\1\0") == [
        protocol.Frame(7, 1, 0, None)
    ]
    for _ in range(length // 100):
        assert deframer.feed(bytes(100)) == []
        assert len(deframer._buffer) < 200
    assert deframer.partial
    after = protocol.encode_frame(9, 1, 0, b"x")
    assert deframer.feed(bytes(length % 100) + after) == [protocol.Frame(9, 1, 0, b"x")]


def test_a_first_byte_that_is_not_zero_is_no_ttrpc() -> None:
    with pytest.raises(errors.InvalidArgument):
        protocol.Deframer().feed(b"GET / HTTP/1.1\r\n\r\n")


def test_metadata_keys_are_folded_and_values_keep_their_order() -> None:
    pairs = protocol.metadata_to_wire({"X-Name": "a", "list": ["1", "2"]})
    assert protocol.metadata_from_wire(pairs) == {"x-name": ["a"], "list": ["1", "2"]}
    assert protocol.metadata_to_wire(None) == ()


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound("no such thing"),
        errors.CommandNotFound("exec: x", advice="look at PATH"),
        errors.CommandNotExecutable("exec: y"),
        errors.RuntimeFailed("it hangs"),
        errors.ResourceExhausted("full"),
    ],
)
def test_errors_keep_class_message_and_advice_between_orlops(error: errors.OrlopError) -> None:
    back = protocol.error_of(protocol.Status.decode(protocol.status_of(error).encode()))
    assert (type(back), back.message, back.advice) == (type(error), error.message, error.advice)


def test_errors_of_strangers_keep_the_meaning_of_their_code() -> None:
    assert type(protocol.error_of(protocol.Status(5, "gone"))) is errors.NotFound
    assert type(protocol.error_of(protocol.Status(77, "?"))) is errors.OrlopError
    strange = protocol.wire.AnyMessage("orlop.dev/error", b'{"kind": "SystemExit"}')
    assert type(protocol.error_of(protocol.Status(9, "x", (strange,)))) is errors.FailedPrecondition
    broken = protocol.wire.AnyMessage("orlop.dev/error", b"[")
    assert type(protocol.error_of(protocol.Status(9, "x", (broken,)))) is errors.FailedPrecondition


def test_an_exception_of_no_class_of_ours_is_told_as_unknown() -> None:
    assert protocol.status_of(ValueError("odd")) == protocol.Status(protocol.UNKNOWN, "ValueError: odd")
    assert protocol.status_of(FileNotFoundError(2, "No such file", "/x")).code == errors.NotFound.grpc_code


def test_addresses_are_paths_with_or_without_scheme() -> None:
    assert protocol.parse_address("unix:///run/x.sock") == "/run/x.sock"
    assert protocol.parse_address("/run/x.sock") == "/run/x.sock"
    assert protocol.parse_address("unix://@name") == "\0name"
    for bad in ("tcp://1.2.3.4:5", ""):
        with pytest.raises(errors.InvalidArgument):
            protocol.parse_address(bad)
