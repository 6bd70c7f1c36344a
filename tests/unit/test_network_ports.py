"""The grammar of -p, --expose, -P, and the sockets that hold published ports."""

from __future__ import annotations

import os
import socket
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.services.network import ports
from orlop.stores.networks.api import PortMapping


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [PortMapping(80)]),
        ("80/udp", [PortMapping(80, protocol="udp")]),
        ("80/TCP", [PortMapping(80)]),
        ("8080:80", [PortMapping(80, 8080)]),
        (":80", [PortMapping(80)]),
        ("127.0.0.1:8080:80", [PortMapping(80, 8080, "127.0.0.1")]),
        ("127.0.0.1::80", [PortMapping(80, 0, "127.0.0.1")]),
        ("0.0.0.0:8080:80/udp", [PortMapping(80, 8080, "0.0.0.0", "udp")]),
        ("[::1]:8080:80", [PortMapping(80, 8080, "::1")]),
        ("[2001:DB8::0:1]::80", [PortMapping(80, 0, "2001:db8::1")]),
        ("0:80", [PortMapping(80)]),
        ("80-82", [PortMapping(80), PortMapping(81), PortMapping(82)]),
        ("8000-8001:80-81", [PortMapping(80, 8000), PortMapping(81, 8001)]),
        ("1.2.3.4:80-81:80-81", [PortMapping(80, 80, "1.2.3.4"), PortMapping(81, 81, "1.2.3.4")]),
        ("8000-8010:80", [PortMapping(80, 8000, "", "tcp", 8010)]),
        ("65535:65535", [PortMapping(65535, 65535)]),
    ],
)  # fmt: skip
def test_publish_follows_dockers_grammar(text: str, expected: list[PortMapping]) -> None:
    assert ports.parse_publish(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "a", "80:", "0", "8080:0", "65536", "8080:65536", "-1:80", "80/", "80/sctp", "80/icmp", "80/tcp/udp",
        "::1:8080:80", "[::1]:80", "[::1:8080:80", "[1.2.3.4]:80:80", "1.2.3.4:80", "1.2.3:80:80", "localhost:80:80",
        ":8080:80", "82-80", "8000-8001:80-82", "8000:80-81", "80-", "-80", "8 0", "٣:80", "080808:80", "1:2:3:4",
    ],
)  # fmt: skip
def test_a_malformed_publish_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        ports.parse_publish(text)
    assert caught.value.exit_code == 125
    assert "\n" not in str(caught.value)


@given(st.text("0123456789:.-/[]abtcpud ", max_size=24))
@settings(max_examples=150)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in (ports.parse_publish, ports.parse_expose):
        try:
            assert parse(text)
        except errors.UsageError:
            pass


@given(st.integers(0, 65535), st.integers(1, 65535), st.sampled_from(["", "127.0.0.1", "0.0.0.0", "::"]))
@settings(max_examples=50)
def test_what_is_written_is_read(host_port: int, port: int, ip: str) -> None:
    written = f"[{ip}]" if ":" in ip else ip
    text = f"{written}:{host_port}:{port}" if ip else f"{host_port}:{port}"
    assert ports.parse_publish(text) == [PortMapping(port, host_port, ip)]


def test_expose_gives_ports_and_protocols() -> None:
    assert ports.parse_expose("80") == [(80, "tcp")]
    assert ports.parse_expose("80-81/udp") == [(80, "udp"), (81, "udp")]
    for text in ("", "0", "8080:80", "80/x", "9-8"):
        with pytest.raises(errors.UsageError):
            ports.parse_expose(text)


def test_publish_all_leaves_what_is_published() -> None:
    made = ports.publish_all([(80, "tcp"), (80, "udp"), (80, "tcp"), (81, "tcp")], [PortMapping(80, 8080)])
    assert made == [PortMapping(80, protocol="udp"), PortMapping(81)]


def test_publishing_without_an_address_binds_loopback_at_a_port_of_the_kernels_choice() -> None:
    (bound,) = ports.bind([PortMapping(80)])
    with closing(bound.sock):
        assert bound.sock.getsockname() == ("127.0.0.1", bound.mapping.host_port)
        assert bound.mapping.host_ip == "127.0.0.1"
        assert bound.mapping.host_port > 0
        assert not ports.is_forwarded(bound.mapping)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_taken_port_is_refused_naming_the_process_and_frees_the_others(kind: str) -> None:
    of = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, of) as holder, socket.socket(socket.AF_INET, of) as probe:
        holder.bind(("127.0.0.1", 0))
        if kind == "tcp":
            holder.listen()
        taken = holder.getsockname()[1]
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
        probe.close()
        with pytest.raises(errors.FailedPrecondition, match=rf"127\.0\.0\.1:{taken}/{kind}.*\(pid {os.getpid()}\)"):
            ports.bind([PortMapping(1, free, "", kind), PortMapping(2, taken, "", kind)])
        ports.close(ports.bind([PortMapping(1, free, "", kind)]))


def test_a_container_that_has_the_port_is_named_first() -> None:
    (bound,) = ports.bind([PortMapping(80)])
    with closing(bound.sock), pytest.raises(errors.FailedPrecondition, match="allocated to container web"):
        ports.bind([PortMapping(1, bound.mapping.host_port)], lambda mapping: "container web")


def test_a_range_of_host_ports_gives_the_first_free_one() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        (bound,) = ports.bind([PortMapping(80, taken, "", "tcp", min(taken + 50, 65535))])
        with closing(bound.sock):
            assert taken < bound.mapping.host_port <= taken + 50
            assert bound.mapping.host_port_end == 0


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(errors.FailedPrecondition, match="does not have that address"):
        ports.bind([PortMapping(80, 0, "192.0.2.254")])


def test_ports_collide_on_one_address_or_on_all() -> None:
    one = PortMapping(80, 8080, "127.0.0.1")
    assert ports.collides(one, PortMapping(81, 8080))
    assert ports.collides(one, PortMapping(80, 8080, "0.0.0.0"))
    assert not ports.collides(one, PortMapping(80, 8080, "10.0.0.1"))
    assert not ports.collides(one, PortMapping(80, 8080, "127.0.0.1", "udp"))
    assert not ports.collides(one, PortMapping(80, 8081, "127.0.0.1"))
    assert not ports.collides(one, PortMapping(80, 8080, "::"))


def test_a_mapping_is_shown_as_docker_does() -> None:
    assert ports.format_port(PortMapping(80, 8080)) == "127.0.0.1:8080->80/tcp"
    assert ports.format_port(PortMapping(53, 53, "::", "udp")) == "[::]:53->53/udp"
