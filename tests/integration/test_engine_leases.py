"""What a transfer that was cut off leaves protected, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.engine.wiring import Hold, Wiring


@pytest.fixture
def wiring(tmp_path: Path) -> Iterator[Wiring]:
    made = Wiring(str(tmp_path / "root"), str(tmp_path / "state"), "default", "native", False)
    yield made
    made.close()


def leases(wiring: Wiring) -> list[str]:
    return [lease.labels.get("orlop.dev/transfer", "") for lease in wiring.leases.list()]


@pytest.mark.parametrize("error", [errors.Unavailable, errors.Cancelled, errors.DeadlineExceeded, KeyboardInterrupt])
def test_a_transfer_that_was_cut_off_keeps_its_lease_until_the_next_one_succeeds(
    wiring: Wiring, error: type[BaseException]
) -> None:
    with pytest.raises(error), Hold(wiring, "a:1"):
        raise error("cut")
    with pytest.raises(errors.Unavailable), Hold(wiring, "b:1"):
        raise errors.Unavailable("cut")
    assert sorted(leases(wiring)) == ["a:1", "b:1"]
    with Hold(wiring, "a:1"):
        pass
    assert leases(wiring) == ["b:1"]


def test_a_transfer_that_met_bad_input_keeps_nothing(wiring: Wiring) -> None:
    with pytest.raises(errors.DataLoss), Hold(wiring, "a:1"):
        raise errors.DataLoss("wrong digest")
    assert leases(wiring) == []


def test_the_lease_of_one_that_still_runs_is_left_alone(wiring: Wiring) -> None:
    with Hold(wiring, "a:1"):
        with Hold(wiring, "a:1"):
            pass
        assert leases(wiring) == ["a:1"]
    assert leases(wiring) == []
