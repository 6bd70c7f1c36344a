"""Netlink messages and attributes, and the links, addresses and routes of this machine as the kernel tells them."""

from __future__ import annotations

import errno
import os
import socket
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base.kernel import netlink, netns, netsysctl, nfnetlink, rtnetlink


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40), max_size=8))
@settings(max_examples=50)
def test_attributes_are_read_as_written(values: dict[int, bytes]) -> None:
    data = b"".join(netlink.attribute(kind, value) for kind, value in values.items())
    assert len(data) % 4 == 0
    assert netlink.attributes(data) == values


@given(st.binary(max_size=64))
@settings(max_examples=60)
def test_malformed_attributes_break_nothing(data: bytes) -> None:
    for value in netlink.attributes(data).values():
        assert len(value) <= len(data)


def test_a_nested_attribute_holds_attributes() -> None:
    data = netlink.attributes(netlink.nested(18, netlink.text(1, "veth"), netlink.u32(2, 7)))[18]
    assert netlink.attributes(data) == {1: b"veth\0", 2: pack("=I", 7)}


def test_the_loopback_link_is_found_and_listed() -> None:
    with rtnetlink.open_route() as kernel:
        lo = rtnetlink.get_link(kernel, "lo")
        assert lo is not None
        assert (lo.index, lo.name, lo.mac) == (socket.if_nametoindex("lo"), "lo", "00:00:00:00:00:00")
        assert {link.name for link in rtnetlink.list_links(kernel)} >= {name for _, name in socket.if_nameindex()} - {
            ""
        }
        assert (lo.index, "127.0.0.1", 8) in rtnetlink.list_addresses(kernel)
        assert any(route.prefix == 32 for route in rtnetlink.list_routes(kernel))
        assert rtnetlink.get_link(kernel, "no-such-link") is None


def test_an_error_says_what_was_attempted_and_later_messages_are_still_sent() -> None:
    with rtnetlink.open_route() as kernel:
        with pytest.raises(OSError, match=r"delete link nope1: ") as caught:
            kernel.run(rtnetlink.delete_link("nope1"), rtnetlink.delete_link("nope2"))
        assert caught.value.errno in (errno.ENODEV, errno.EPERM)
        assert rtnetlink.get_link(kernel, "lo") is not None  # no answer of theirs is left over


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_named_namespace_is_made_entered_and_removed(tmp_path: object) -> None:
    path = f"{tmp_path}/one"
    home = os.stat("/proc/self/ns/net").st_ino
    with netns.create(path) as made:
        assert netns.exists(path)
        assert made.call(lambda: os.stat("/proc/thread-self/ns/net").st_ino) == os.stat(path).st_ino != home
        with pytest.raises(FileExistsError):
            netns.create(path)
        made.kernel.run(rtnetlink.change_link(1, up=True), rtnetlink.add_veth("a0", "b0", mtu=1400))
        with pytest.raises(KeyError):
            made.call(lambda: {}["an error inside comes out"])
    with netns.open(path) as again:
        assert {link.name for link in rtnetlink.list_links(again.kernel)} >= {"lo", "a0", "b0"}
        assert again.call(lambda: netsysctl.get("ipv4/ip_forward")) in ("0", "1")
        assert again.call(lambda: nfnetlink.has_table("no_such_table")) is False
    assert os.stat("/proc/self/ns/net").st_ino == home
    netns.remove(path)
    netns.remove(path)
    assert not netns.exists(path)
    with pytest.raises(FileNotFoundError):
        netns.open(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_that_lost_its_namespace_is_taken_over(tmp_path: object) -> None:
    path = f"{tmp_path}/one"
    with open(path, "w"):
        pass
    assert not netns.exists(path)
    with pytest.raises(FileNotFoundError):
        netns.open(path)
    netns.create(path).close()
    netns.remove(path)


def test_a_sysctl_this_kernel_lacks_reads_empty() -> None:
    assert netsysctl.get("ipv4/no_such_setting") == ""
    with pytest.raises((FileNotFoundError, PermissionError)):
        netsysctl.put("ipv4/no_such_setting", "1")
