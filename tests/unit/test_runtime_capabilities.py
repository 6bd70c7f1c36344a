"""Which capabilities a container gets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.services.runtime import capabilities as caps

EVERYTHING = (1 << 64) - 1


def mask(*names: str) -> int:
    return sum(caps.bit(name) for name in names)


def test_the_default_mask_is_dockers_fourteen() -> None:
    assert mask(*caps.DEFAULT) == caps.DEFAULT_MASK
    assert len(caps.DEFAULT) == 14
    assert caps.resolve((), (), False, EVERYTHING) == (caps.DEFAULT_MASK, 0)


@pytest.mark.parametrize("name", ["net_admin", "NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN"])
def test_a_capability_is_known_by_every_spelling(name: str) -> None:
    assert caps.parse(name) == 1 << 12


def test_an_unknown_capability_is_refused_with_dockers_exit_code_and_the_flag() -> None:
    with pytest.raises(errors.UsageError, match=r"invalid --cap-add: unknown capability 'NONSENSE'") as caught:
        caps.resolve(("NONSENSE",), (), False, EVERYTHING)
    assert caught.value.exit_code == 125


def test_what_is_added_is_added_and_what_is_dropped_is_dropped() -> None:
    got, _ = caps.resolve(("SYS_TIME",), ("chown",), False, EVERYTHING)
    assert got == caps.DEFAULT_MASK & ~mask("CAP_CHOWN") | mask("CAP_SYS_TIME")


def test_drop_all_leaves_only_what_is_added() -> None:
    assert caps.resolve(("kill",), ("ALL",), False, EVERYTHING) == (mask("CAP_KILL"), 0)


def test_add_all_starts_from_everything() -> None:
    assert caps.resolve(("all",), ("SYS_ADMIN",), False, EVERYTHING)[0] == caps.ALL & ~mask("CAP_SYS_ADMIN")


def test_nothing_outside_our_own_bounding_set_is_given_and_what_was_named_is_told() -> None:
    bounding = caps.ALL & ~mask("CAP_SYS_RESOURCE", "CAP_CHOWN")
    got, lacking = caps.resolve(("SYS_RESOURCE",), (), False, bounding)
    assert got == caps.DEFAULT_MASK & ~mask("CAP_CHOWN")
    assert lacking == mask("CAP_SYS_RESOURCE")


def test_privileged_is_everything_we_hold_but_what_is_dropped() -> None:
    bounding = caps.ALL & ~mask("CAP_SYS_RESOURCE")
    assert caps.resolve((), (), True, bounding) == (bounding, 0)
    assert caps.resolve((), ("SYS_BOOT",), True, bounding)[0] == bounding & ~mask("CAP_SYS_BOOT")


_NAMES = st.lists(st.sampled_from([*caps.NAMES, "ALL"]), max_size=6)


@settings(max_examples=150, deadline=None)
@given(_NAMES, _NAMES, st.booleans(), st.integers(0, EVERYTHING))
def test_no_combination_gives_more_than_we_hold_or_what_is_dropped_by_name(
    add: list[str], drop: list[str], privileged: bool, bounding: int
) -> None:
    got, lacking = caps.resolve(add, drop, privileged, bounding)
    assert got & ~bounding == 0
    assert lacking & bounding == 0
    for name in drop:
        if name != "ALL":
            assert not got & caps.bit(name)
