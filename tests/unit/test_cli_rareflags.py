"""Health checks, restart policies and GPUs from words to Docker's objects."""

from __future__ import annotations

import pytest

from orlop.base import errors
from orlop.doors.cli import rareflags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", ("no", 0)),
        ("always", ("always", 0)),
        ("unless-stopped", ("unless-stopped", 0)),
        ("on-failure", ("on-failure", 0)),
        ("on-failure:7", ("on-failure", 7)),
    ],
)
def test_restart_policies(text: str, expected: tuple[str, int]) -> None:
    assert rareflags.restart(text, remove=False) == {"Name": expected[0], "MaximumRetryCount": expected[1]}


def test_a_restart_policy_does_not_go_with_rm() -> None:
    with pytest.raises(errors.UsageError, match="--restart and --rm"):
        rareflags.restart("always", remove=True)
    assert rareflags.restart("no", remove=True)["Name"] == "no"


@pytest.mark.parametrize("text", ["", "sometimes", "always:1", "on-failure:", "on-failure:-1", "on-failure:x"])
def test_other_policies_are_refused(text: str) -> None:
    with pytest.raises(errors.UsageError, match="--restart"):
        rareflags.restart(text, remove=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", ["all"]),
        ("-1", ["all"]),
        ("2", ["0", "1"]),
        ("count=2", ["0", "1"]),
        ("device=0", ["0"]),
        ("device=0,1", ["0", "1"]),
        ('"device=0,1",driver=nvidia', ["0", "1"]),
        ("all,capabilities=utility", ["all"]),
    ],
)
def test_gpus_are_cdi_names(text: str, expected: list[str]) -> None:
    assert rareflags.gpus([text]) == tuple(f"nvidia.com/gpu={id}" for id in expected)


def test_no_healthcheck_stands_alone() -> None:
    assert rareflags.health({"no-healthcheck": True}) == {"Test": ["NONE"]}
    with pytest.raises(errors.UsageError, match="--no-healthcheck"):
        rareflags.health({"no-healthcheck": True, "health-cmd": "true"})
    assert rareflags.health({"health-timeout": "2s", "health-start-period": "0"}) == {
        "Timeout": 2_000_000_000,
        "StartPeriod": 0,
    }
