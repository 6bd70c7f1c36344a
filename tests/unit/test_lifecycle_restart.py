"""Restart policies: when a container is started again, and after how long."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.services.shim import exitfile, restart, state
from orlop.services.shim.exitfile import Exited, Init
from orlop.services.shim.restart import Policy, Progress

ALWAYS = Policy("always")


def delays(count: int, ran_ns: int = 0) -> list[float]:
    progress, found = Progress(), []
    for _ in range(count):
        after = restart.decide(ALWAYS, progress, 1, ran_ns)
        assert after is not None
        progress = after
        found.append(progress.delay_s)
    return found


def test_the_delay_doubles_from_100_ms_up_to_a_minute() -> None:
    assert delays(5) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    assert delays(12)[-2:] == [60.0, 60.0]


def test_ten_seconds_of_running_begin_the_delay_anew() -> None:
    late = Progress(7, 12.8)
    assert restart.decide(ALWAYS, late, 1, restart.SETTLED_NS) == Progress(8, 0.1)
    assert restart.decide(ALWAYS, late, 1, restart.SETTLED_NS - 1) == Progress(8, 25.6)


def test_on_failure_leaves_a_success_and_counts_to_its_maximum() -> None:
    policy = Policy("on-failure", 2)
    assert restart.decide(policy, Progress(), 0, 0) is None
    assert restart.decide(policy, Progress(1, 0.1), 3, 0) == Progress(2, 0.2)
    assert restart.decide(policy, Progress(2, 0.2), 3, 0) is None
    assert restart.decide(Policy("on-failure"), Progress(99, 60.0), 3, 0) == Progress(100, 60.0)


@pytest.mark.parametrize(("name", "again"), [("always", True), ("unless-stopped", True), ("no", False), ("", False)])
def test_a_success_is_restarted_by_those_that_always_do(name: str, again: bool) -> None:
    assert (restart.decide(Policy(name), Progress(), 0, 0) is not None) is again


@pytest.mark.parametrize(
    ("name", "stopped", "starts"),
    [
        ("always", True, True),
        ("always", False, True),
        ("unless-stopped", True, False),
        ("unless-stopped", False, True),
        ("on-failure", False, False),
        ("no", False, False),
    ],
)
def test_what_a_reboot_starts(name: str, stopped: bool, starts: bool) -> None:
    assert restart.starts_at_boot(Policy(name), stopped) is starts


def test_signals_that_end_a_container_end_its_restarting() -> None:
    policy = Policy("always", 0, 30)
    assert [n for n in range(1, 32) if restart.ends_it(policy, n)] == [2, 3, 9, 15, 30]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 20_000_000_000), max_size=30))
def test_the_delay_stays_in_its_bounds_and_the_count_goes_up(runs: list[int]) -> None:
    progress = Progress()
    for number, ran_ns in enumerate(runs, 1):
        after = restart.decide(ALWAYS, progress, 1, ran_ns)
        assert after is not None
        progress = after
        assert progress.restarts == number
        assert restart.FIRST_S <= progress.delay_s <= restart.LONGEST_S


def test_a_policy_is_kept_and_no_takes_it_away(tmp_path: Path) -> None:
    bundle = str(tmp_path)
    assert restart.read(bundle) == Policy("no")
    restart.write(bundle, Policy("on-failure", 3, 2))
    assert restart.read(bundle) == Policy("on-failure", 3, 2)
    restart.write(bundle, Policy("no"))
    assert not list(tmp_path.iterdir())
    (tmp_path / restart.POLICY).write_text('{"name": 1}')
    assert restart.read(bundle).name == "no"


def test_an_end_that_is_restarted_is_told_by_who_lives(tmp_path: Path) -> None:
    bundle = str(tmp_path)
    exitfile.write_init(bundle, Init(1 << 22, 1, 5))
    exitfile.write_exit(bundle, Exited(3, 9, 1 << 22, restarting=True, restarts=2), durable=False)
    dead = state.read(bundle, bundle)
    assert (dead.status, dead.exit_status, dead.restarts) == ("exited", 3, 2)
    from orlop.base import fsio

    with fsio.lock(f"{bundle}/{exitfile.LOCK}"):
        assert state.read(bundle, bundle).status == "restarting"
        exitfile.write_init(bundle, Init((1 << 22) + 1, 1, 0))
        assert state.read(bundle, bundle).status == "restarting", "created anew, but not started"
        exitfile.write_init(bundle, Init((1 << 22) + 1, 1, 10, 2))
        assert state.read(bundle, bundle).status == "running", "started, the old end not yet removed"
