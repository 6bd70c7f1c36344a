"""/etc/hosts and /etc/resolv.conf of a container, by Docker's rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.services.network import names


def host(tmp_path: Path, first: str, systemd: str = "") -> names.ResolvConf:
    paths = [str(tmp_path / "resolv.conf"), str(tmp_path / "systemd.conf")]
    for path, text in zip(paths, (first, systemd), strict=True):
        if text:
            Path(path).write_text(text)
    return names.host_resolv_conf(paths)


def test_resolvers_search_and_options_are_the_hosts(tmp_path: Path) -> None:
    found = host(tmp_path, "# c\nnameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:2 timeout:1\n")
    assert names.resolv_conf(found) == "nameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:2 timeout:1\n"


def test_loopback_resolvers_are_left_out(tmp_path: Path) -> None:
    found = host(tmp_path, "nameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n")
    assert found.nameservers == ["192.0.2.53"]


def test_when_only_loopback_is_left_systemds_own_servers_are_used(tmp_path: Path) -> None:
    found = host(tmp_path, "nameserver 127.0.0.53\nsearch here.example\n", "nameserver 198.51.100.1\n")
    assert found.nameservers == ["198.51.100.1"]
    assert found.search == ["here.example"]


def test_a_host_without_any_resolver_gives_the_fallback(tmp_path: Path) -> None:
    assert host(tmp_path, "").nameservers == list(names.FALLBACK)
    assert host(tmp_path, "nameserver 127.0.0.1\n").nameservers == list(names.FALLBACK)


def test_flags_replace_the_hosts_settings_each_by_itself() -> None:
    base = names.ResolvConf(["192.0.2.53"], ["host.example"], ["ndots:2"])
    made = names.resolv_conf(base, dns=["198.51.100.1", "fd00::53"], options=["rotate"])
    assert made == "nameserver 198.51.100.1\nnameserver fd00::53\nsearch host.example\noptions rotate\n"
    assert names.resolv_conf(base, search=["."]) == "nameserver 192.0.2.53\noptions ndots:2\n"
    assert "search x.example\n" in names.resolv_conf(base, search=["x.example"])


def test_a_network_with_a_resolver_of_its_own_names_only_that() -> None:
    base = names.ResolvConf(["192.0.2.53"], [], [])
    made = names.resolv_conf(base, embedded="10.92.16.1", dns=["198.51.100.1"])
    assert made == "nameserver 10.92.16.1\noptions ndots:0\n"


@pytest.mark.parametrize("bad", ["x", "1.2.3", "1.2.3.4 5.6.7.8", "1.2.3.4\nsearch evil"])
def test_a_resolver_that_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        names.resolv_conf(names.ResolvConf([], [], []), dns=[bad])


def test_a_setting_cannot_bring_another_line() -> None:
    with pytest.raises(errors.InvalidArgument):
        names.resolv_conf(names.ResolvConf([], [], []), search=["a\nnameserver 6.6.6.6"])


@given(st.text(max_size=200))
@settings(max_examples=60)
def test_any_resolv_conf_is_read(text: str) -> None:
    found = names.parse_resolv_conf(text)
    again = names.parse_resolv_conf(str(found))
    assert again.nameservers == found.nameservers


def test_hosts_tells_localhost_what_was_added_and_the_container() -> None:
    made = names.hosts(
        "web", ["10.92.0.2", "", "fd00::2"], added=[("db", "10.0.0.7"), ("up", names.HOST_GATEWAY)],
        gateways=["10.92.0.1", "fd00::1"],
    )  # fmt: skip
    lines = made.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-5:] == ["10.0.0.7\tdb", "10.92.0.1\tup", "fd00::1\tup", "10.92.0.2\tweb", "fd00::2\tweb"]


def test_a_domain_name_comes_first() -> None:
    assert "10.0.0.2\tweb.example.com web\n" in names.hosts("web", ["10.0.0.2"], domainname="example.com")


def test_host_gateway_needs_a_gateway() -> None:
    with pytest.raises(errors.InvalidArgument, match="no network with a gateway"):
        names.hosts("web", added=[("up", names.HOST_GATEWAY)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db:10.0.0.7", ("db", "10.0.0.7")),
        ("db=10.0.0.7", ("db", "10.0.0.7")),
        ("db:fd00::0:7", ("db", "fd00::7")),
        ("db:[fd00::7]", ("db", "fd00::7")),
        ("db=[::1]", ("db", "::1")),
        ("up:host-gateway", ("up", "host-gateway")),
    ],
)
def test_add_host_takes_both_forms(text: str, expected: tuple[str, str]) -> None:
    assert names.parse_add_host(text) == expected


@pytest.mark.parametrize("text", ["", "db", ":1.2.3.4", "db:", "db:x", "a b:1.2.3.4", "a\nb:1.2.3.4", "=1.2.3.4"])
def test_a_malformed_add_host_is_refused(text: str) -> None:
    with pytest.raises(errors.UsageError):
        names.parse_add_host(text)
