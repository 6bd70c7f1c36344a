"""The keys that detach: their names, and finding them among what is typed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.doors.cli.terminal import DETACH_KEYS, Keys, parse_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (DETACH_KEYS, b"\x10\x11"),
        ("ctrl-a,d", b"\x01d"),
        ("x", b"x"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("CTRL-A,A", b"\x01A"),
    ],
)
def test_names_of_keys_are_dockers(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ctrl-pq", "ab", ",", "a,", "é", "ctrl-p ctrl-q"])
def test_what_is_no_key_is_named(text: str) -> None:
    with pytest.raises(errors.UsageError, match="invalid detach keys"):
        parse_keys(text)


def test_the_sequence_is_found_and_not_handed_on() -> None:
    assert Keys(b"\x10\x11").take(b"ls\x10\x11rest") == (b"ls", True)


def test_a_beginning_that_goes_on_otherwise_is_handed_on() -> None:
    keys = Keys(b"\x10\x11")
    assert keys.take(b"a\x10") == (b"a", False)
    assert keys.take(b"b\x10") == (b"\x10b", False)
    assert keys.take(b"\x10") == (b"\x10", False)
    assert keys.take(b"\x11") == (b"", True)


@given(
    st.binary(min_size=1, max_size=4).map(lambda b: bytes(x % 2 for x in b)),
    st.lists(st.binary(max_size=4).map(lambda b: bytes(x % 3 for x in b)), max_size=8),
)
@settings(max_examples=300)
def test_however_the_keys_come_in_pieces_nothing_is_lost_or_doubled(sequence: bytes, pieces: list[bytes]) -> None:
    keys, out, found = Keys(sequence), b"", False
    typed = b"".join(pieces)
    for piece in pieces:
        given, found = keys.take(piece)
        out += given
        if found:
            break
    at = typed.find(sequence)
    assert found == (at >= 0)
    if found:
        assert out == typed[:at]
    else:
        assert typed.startswith(out)
        assert sequence.startswith(typed[len(out) :])
