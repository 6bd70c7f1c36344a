"""A task's state from files and /proc, for every mixture that a crash can leave."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orlop.base import fsio
from orlop.base.kernel import process
from orlop.services.shim import exitfile, state
from orlop.services.shim.exitfile import Exited, Init
from orlop.services.shim.state import TaskState


class Place:
    def __init__(self, tmp_path: Path) -> None:
        self.bundle = tmp_path / "bundle"
        self.record = tmp_path / "record"
        self.bundle.mkdir()
        self.record.mkdir()

    def read(self) -> TaskState:
        return state.read(str(self.bundle), str(self.record))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def alive(started_ns: int = 5) -> Init:
    return Init(os.getpid(), process.start_ticks(os.getpid()), started_ns)


def dead() -> Init:
    return Init(os.getpid(), 1, 5)  # our pid, but of another start


def test_nothing_at_all_was_never_started(tmp_path: Path) -> None:
    assert state.read(str(tmp_path / "no"), str(tmp_path / "where")) == TaskState("created")


def test_a_living_process_runs_whatever_became_of_its_monitor(place: Place) -> None:
    exitfile.write_init(str(place.bundle), alive())
    assert place.read() == TaskState("running", os.getpid(), None, 5)
    with fsio.lock(f"{place.bundle}/monitor.lock"):
        assert place.read() == TaskState("running", os.getpid(), None, 5, monitor_alive=True)


def test_a_process_that_waits_for_start_is_created(place: Place) -> None:
    exitfile.write_init(str(place.bundle), alive(0))
    assert place.read() == TaskState("created", os.getpid())


def test_an_end_that_was_written_is_told(place: Place) -> None:
    exitfile.write_init(str(place.bundle), dead())
    exitfile.write_exit(str(place.bundle), Exited(137, 9, 1, True), durable=False)
    assert place.read() == TaskState("exited", 0, 137, 5, 9, oom_killed=True)


def test_an_end_that_nobody_saw_is_255(place: Place) -> None:
    exitfile.write_init(str(place.bundle), dead())
    assert place.read() == TaskState("exited", 0, 255, 5)


def test_while_the_monitor_lives_the_end_is_about_to_be_written(place: Place) -> None:
    exitfile.write_init(str(place.bundle), dead())
    with fsio.lock(f"{place.bundle}/monitor.lock"):
        assert place.read().status == "running"


def test_the_record_outlives_the_bundle(place: Place) -> None:
    exitfile.write_init(str(place.record), dead())
    exitfile.write_exit(str(place.record), Exited(3, 9, 1), durable=True)
    place.bundle.rmdir()
    assert place.read() == TaskState("exited", 0, 3, 5, 9)


def test_a_machine_that_went_down_leaves_an_unknown_end(place: Place) -> None:
    exitfile.write_init(str(place.record), dead())
    place.bundle.rmdir()
    assert place.read() == TaskState("exited", 0, 255, 5)


def test_a_bundle_being_prepared_still_tells_of_the_run_before(place: Place) -> None:
    exitfile.write_exit(str(place.record), Exited(3, 9, 1), durable=False)
    assert place.read().exit_status == 3
    with fsio.lock(f"{place.bundle}/monitor.lock"):
        assert place.read() == TaskState("created", monitor_alive=True)


@pytest.mark.parametrize("spoil", [lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"[1]"), lambda p: p.mkdir()])
def test_files_that_are_not_what_they_should_be_count_as_missing(place: Place, spoil: Callable[[Path], object]) -> None:
    spoil(place.bundle / "init.json")
    spoil(place.bundle / "exit.json")
    assert place.read() == TaskState("created")
