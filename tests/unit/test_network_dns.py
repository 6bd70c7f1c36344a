"""The resolver's messages: what it answers by itself, what it leaves to others, what it refuses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from struct import pack, unpack_from

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.services.network import dns
from orlop.services.network.loop import Loop

A, PTR, AAAA, MX = 1, 12, 28, 15


def query(name: str, kind: int = A, ident: int = 0x1234) -> bytes:
    return pack("!HHHHHH", ident, 0x0100, 1, 0, 0, 0) + dns.encode_name(name) + pack("!HH", kind, 1)


@pytest.fixture
def server() -> Iterator[dns.NameServer]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket()
    made = dns.NameServer(Loop(), udp, tcp, ["192.0.2.53"])  # type: ignore[arg-type]
    made.know("c1", ["Web", "0123456789ab"], "10.0.0.2", "fd00::2")
    made.know("c2", ["db"], "10.0.0.3", "")
    yield made
    made.close()


def records(message: bytes) -> list[bytes]:
    """The data of the answers, which all belong to the question's name."""
    question = 12 + message[12:].index(b"\0") + 5
    count, offset, found = unpack_from("!H", message, 6)[0], question, []
    for _ in range(count):
        assert message[offset : offset + 2] == b"\xc0\x0c"
        length = unpack_from("!H", message, offset + 10)[0]
        found.append(message[offset + 12 : offset + 12 + length])
        offset += 12 + length
    assert offset == len(message)
    return found


def test_a_known_name_is_answered_whatever_its_case(server: dns.NameServer) -> None:
    for name in ("web", "WEB", "0123456789ab"):
        answer = server.answer(query(name))
        assert answer is not None
        assert answer[:2] == b"\x12\x34"
        assert records(answer) == [socket.inet_aton("10.0.0.2")]
    answer = server.answer(query("web", AAAA))
    assert answer is not None
    assert records(answer) == [socket.inet_pton(socket.AF_INET6, "fd00::2")]


@pytest.mark.parametrize(("name", "kind"), [("db", AAAA), ("db", MX), ("web", MX)])
def test_a_known_name_without_such_a_record_is_answered_with_none(server: dns.NameServer, name: str, kind: int) -> None:
    answer = server.answer(query(name, kind))
    assert answer is not None
    assert records(answer) == []
    assert answer[3] & 0xF == 0


def test_what_is_not_known_is_anothers(server: dns.NameServer) -> None:
    assert server.answer(query("example.com")) is None
    server.forget("c2")
    assert server.answer(query("db")) is None


def test_addresses_lead_back_to_names(server: dns.NameServer) -> None:
    answer = server.answer(query("3.0.0.10.in-addr.arpa", PTR))
    assert answer is not None
    assert records(answer) == [dns.encode_name("db")]
    assert server.answer(query("9.9.9.9.in-addr.arpa", PTR)) is None


def test_containers_of_one_alias_take_turns(server: dns.NameServer) -> None:
    server.know("c3", ["db"], "10.0.0.4", "")
    first = {records(server.answer(query("db", ident=ident)) or b"")[0] for ident in range(4)}
    assert first == {socket.inet_aton("10.0.0.3"), socket.inet_aton("10.0.0.4")}


@given(st.binary(max_size=64))
@settings(max_examples=100, deadline=None)
def test_rubbish_is_refused_and_breaks_nothing(data: bytes) -> None:
    try:
        question = dns.parse_question(data)
        assert question.end <= len(data)
    except ValueError:
        pass


def test_a_reply_is_never_answered(server: dns.NameServer) -> None:
    message = bytearray(query("web"))
    message[2] |= 0x80
    assert server.answer(bytes(message)) == b""
