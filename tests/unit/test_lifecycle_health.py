"""What the results of health checks make of a container's health."""

from __future__ import annotations

from pathlib import Path

import pytest

from orlop.services.shim import health
from orlop.services.shim.health import Check, Health, Result

SECOND = 1_000_000_000
CHECK = Check(("true",), retries=2)


def result(code: int, at_s: int = 0, output: str = "") -> Result:
    return Result(at_s * SECOND, at_s * SECOND + 1, code, output)


def test_one_success_is_healthy_and_enough_failures_in_a_row_are_not() -> None:
    found = Health()
    seen = []
    for code in (1, 0, 1, 0, 1, 2, 1, 0):
        found = health.after(found, CHECK, result(code), 0)
        seen.append((found.status, found.streak))
    assert seen == [
        ("starting", 1),
        ("healthy", 0),
        ("healthy", 1),
        ("healthy", 0),
        ("healthy", 1),
        ("unhealthy", 2),
        ("unhealthy", 3),
        ("healthy", 0),
    ]


def test_failures_in_the_start_period_do_not_count_until_the_first_success() -> None:
    check = CHECK.replace(start_period_ns=10 * SECOND)
    found = Health()
    for at in range(5):
        found = health.after(found, check, result(1, at), 0)
    assert (found.status, found.streak) == ("starting", 0)
    assert health.after(found, check, result(1, 11), 0).streak == 1
    found = health.after(found, check, result(0, 5), 0)
    assert health.after(found, check, result(1, 6), 0).streak == 1


def test_checks_come_faster_while_it_starts() -> None:
    check = CHECK.replace(start_period_ns=10 * SECOND, start_interval_ns=1, interval_ns=7)
    assert health.pause_ns(Health(), check, 5 * SECOND, 0) == 1
    assert health.pause_ns(Health(), check, 11 * SECOND, 0) == 7
    assert health.pause_ns(Health("healthy"), check, 5 * SECOND, 0) == 7


def test_the_last_five_results_are_kept(tmp_path: Path) -> None:
    found = Health()
    for at in range(8):
        found = health.after(found, CHECK, result(0, at, f"ok {at}"), 0)
    assert [one.output for one in found.log] == [f"ok {at}" for at in range(3, 8)]
    health.write(str(tmp_path), found)
    assert health.read(str(tmp_path)) == found
    (tmp_path / health.FILE).write_text("[]")
    assert health.read(str(tmp_path)) is None


@pytest.mark.parametrize("said", [None, {}, {"Test": []}, {"Test": ["NONE"]}, {"Test": ["CMD"]}, {"Interval": 5}])
def test_no_test_is_no_check(said: object) -> None:
    assert health.from_docker(said) is None


def test_docker_s_object_is_understood_and_zero_means_the_default() -> None:
    assert health.from_docker({"Test": ["CMD", "a", "b"], "Interval": 0}) == Check(("a", "b"))
    told = {"Test": ["CMD-SHELL", "a b"], "Interval": 1, "Timeout": 2, "StartPeriod": 3, "StartInterval": 4}
    assert health.from_docker({**told, "Retries": 5}) == Check(("/bin/sh", "-c", "a b"), 1, 2, 3, 4, 5)
    assert health.from_docker(told, ("/bin/x",)) == Check(("/bin/x", "a b"), 1, 2, 3, 4)


def test_a_check_runs_as_the_container_does_without_its_terminal() -> None:
    process = {"args": ["sh"], "terminal": True, "consoleSize": {}, "env": ["A=1"], "user": {"uid": 5}}
    made = health.process_of({"process": process}, CHECK)
    assert made == {"args": ["true"], "env": ["A=1"], "user": {"uid": 5}}
