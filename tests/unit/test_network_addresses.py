"""Subnets and addresses: arithmetic, choice, allocation."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.services.network import addresses

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)


@given(V4 | V6)
@settings(max_examples=60)
def test_addresses_mean_what_ipaddress_says(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert addresses.to_number(str(address)) == int(address)
    assert addresses.to_number(addresses.normal(address.exploded)) == int(address)


@given(V4, st.integers(0, 32), V4, st.integers(0, 32))
@settings(max_examples=100)
def test_subnets_overlap_and_contain_as_ipaddress_says(
    a: ipaddress.IPv4Address, length: int, b: ipaddress.IPv4Address, other: int
) -> None:
    ours, theirs = addresses.parse(f"{a}/{length}"), ipaddress.ip_network(f"{a}/{length}", strict=False)
    assert str(ours) == str(theirs)
    assert addresses.contains(ours, str(b)) == (b in theirs)
    second = ipaddress.ip_network(f"{b}/{other}", strict=False)
    assert addresses.overlap(ours, addresses.parse(str(second))) == theirs.overlaps(second)


@pytest.mark.parametrize(
    "text", ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "x/8", "1.2.3.4/-1", "1.2.3.4/٣"]
)
def test_what_is_no_subnet_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        addresses.parse(text)


def test_a_subnet_is_chosen_apart_from_what_is_used() -> None:
    first = addresses.choose([])
    second = addresses.choose([first])
    assert not addresses.overlap(first, second)
    pools = [addresses.parse(text) for text in ("10.0.0.0/8",)]
    assert str(addresses.choose(pools)).startswith("172.28.")
    with pytest.raises(errors.ResourceExhausted, match="no free subnet"):
        addresses.choose([addresses.parse("0.0.0.0/0")])


def test_a_unique_local_subnet_is_one() -> None:
    made = addresses.unique_local(b"seed")
    assert made == addresses.unique_local(b"seed") != addresses.unique_local(b"other")
    network = ipaddress.ip_network(str(made))
    assert network.prefixlen == 64
    assert network.subnet_of(ipaddress.ip_network("fd00::/8"))  # type: ignore[arg-type]


SMALL = addresses.parse("10.1.1.0/29")  # hosts .1 to .6


def test_a_released_address_is_not_given_again_at_once() -> None:
    taken = {"10.1.1.1"}
    given_out, last = [], 0
    for _ in range(7):
        address, last = addresses.allocate(SMALL, SMALL, taken, last)
        given_out.append(address)  # and released: it is never in `taken`
    assert given_out == [f"10.1.1.{number}" for number in (2, 3, 4, 5, 6, 2, 3)]


@given(st.sets(st.integers(1, 6)), st.integers(0, 10))
@settings(max_examples=60)
def test_an_allocated_address_is_free_and_a_full_subnet_says_so(used: set[int], last: int) -> None:
    taken = {f"10.1.1.{number}" for number in used}
    if len(used) == 6:
        with pytest.raises(errors.ResourceExhausted, match="no free address"):
            addresses.allocate(SMALL, SMALL, taken, last)
        return
    address, place = addresses.allocate(SMALL, SMALL, taken, last)
    assert address not in taken
    assert place == int(address.rpartition(".")[2])


def test_a_range_bounds_dynamic_addresses_only() -> None:
    within = addresses.parse("10.1.1.4/31")
    assert addresses.allocate(SMALL, within, set(), 0)[0] == "10.1.1.4"
    assert addresses.allocate(SMALL, within, {"10.1.1.4"}, 4)[0] == "10.1.1.5"
    with pytest.raises(errors.ResourceExhausted):
        addresses.allocate(SMALL, within, {"10.1.1.4", "10.1.1.5"}, 5)
    assert addresses.allocate(SMALL, within, set(), 3, "10.1.1.2") == ("10.1.1.2", 3)


@pytest.mark.parametrize("wanted", ["10.1.1.0", "10.1.1.7", "10.1.2.1", "fd00::1", "x"])
def test_a_static_address_outside_is_refused(wanted: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        addresses.allocate(SMALL, SMALL, set(), 0, wanted)


def test_a_static_address_in_use_is_refused() -> None:
    with pytest.raises(errors.FailedPrecondition, match="already in use"):
        addresses.allocate(SMALL, SMALL, {"10.1.1.2"}, 0, "10.1.1.2")


def test_mac_and_ipv6_come_from_the_address() -> None:
    assert addresses.mac_of("10.92.0.2") == "02:4f:0a:5c:00:02"
    assert addresses.beside(addresses.parse("fd00:1::/64"), "10.92.0.2") == "fd00:1::a5c:2"


def test_mac_addresses_are_checked() -> None:
    assert addresses.check_mac("02-42-AC-11-00-02") == "02:42:ac:11:00:02"
    for bad in ("", "02:42:ac:11:00", "01:00:00:00:00:01", "00:00:00:00:00:00", "02:42:ac:11:00:zz", "2:42:ac:11:0:2"):
        with pytest.raises(errors.InvalidArgument):
            addresses.check_mac(bad)
