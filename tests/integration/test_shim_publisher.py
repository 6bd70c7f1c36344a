"""Events reach containerd in order: over ttrpc, by its publish binary, and when it comes back after it was away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.ttrpc import server, task_v2, unixsock, wire
from orlop.base.ttrpc.loop import Loop
from orlop.services.shim import publisher
from orlop.services.shim.reaper import Reaper
from orlop.services.shim.task_events import TaskOOM, TaskPaused, TaskResumed, TaskStart
from tests.support.shim import until


class Place:
    """A loop with a publisher in it, and a containerd that can come and go."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loop = Loop()
        self.reaper = Reaper(self.loop)
        self.seen: list[tuple[str, str, bytes]] = []
        self.notes: list[str] = []
        self.refuse = ""
        self.server: server.Server | None = None

    def serve(self) -> None:
        method = server.Method(task_v2.ForwardRequest, self._forward)
        self.server = server.Server(self.loop, {task_v2.EVENTS_SERVICE: {"Forward": method}})
        self.server.listen(unixsock.listen(str(self.directory / "events")))

    def go_away(self) -> None:
        assert self.server is not None
        self.server.close()
        (self.directory / "events").unlink()

    def _forward(self, call: server.Call, request: task_v2.ForwardRequest) -> wire.Empty:
        envelope = request.envelope
        assert envelope is not None
        assert envelope.event is not None
        assert envelope.timestamp is not None
        if envelope.topic == self.refuse:
            raise errors.InvalidArgument("not this one")
        self.seen.append((envelope.namespace, envelope.topic, envelope.event.value))
        return wire.Empty()

    def publisher(self, ttrpc: bool = True, binary: str = "") -> publisher.Publisher:
        address = f"unix://{self.directory}/events" if ttrpc else ""
        return publisher.Publisher(self.loop, self.reaper, "ns", address, binary, "/c.sock", self.notes.append)

    def until_published(self, one: publisher.Publisher) -> None:
        def published() -> bool:
            self.loop.run_once(0.01)
            return not one.pending

        until(published, "everything is published")

    @property
    def topics(self) -> list[str]:
        return [topic for _, topic, _ in self.seen]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(publisher, "RETRY_S", 0.01)
    one = Place(tmp_path)
    yield one
    one.reaper.close()
    one.loop.close()


def test_events_arrive_in_order(place: Place) -> None:
    place.serve()
    one = place.publisher()
    for event in (TaskStart("c", 7), TaskPaused("c"), TaskResumed("c")):
        one.publish(event)
    place.until_published(one)
    assert place.topics == ["/tasks/start", "/tasks/paused", "/tasks/resumed"]
    assert place.seen[0] == ("ns", "/tasks/start", TaskStart("c", 7).encode())
    one.close()
    place.go_away()


def test_a_containerd_that_is_away_is_told_when_it_is_back(place: Place) -> None:
    one = place.publisher()
    one.publish(TaskPaused("c"))
    for _ in range(3):
        place.loop.run_once(0.02)
    place.serve()
    place.until_published(one)
    place.go_away()
    one.publish(TaskResumed("c"))
    for _ in range(5):
        place.loop.run_once(0.02)
    assert one.pending == 1
    place.serve()
    place.until_published(one)
    assert place.topics == ["/tasks/paused", "/tasks/resumed"]
    one.close()
    place.go_away()


def test_an_event_that_is_refused_holds_up_no_other(place: Place) -> None:
    place.serve()
    place.refuse = "/tasks/oom"
    one = place.publisher()
    one.publish(TaskOOM("c"))
    one.publish(TaskPaused("c"))
    place.until_published(one)
    assert place.topics == ["/tasks/paused"]
    assert len(place.notes) == 1
    assert "not this one" in place.notes[0]
    one.close()
    place.go_away()


def test_what_waits_has_a_limit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "MAX_QUEUED", 2)
    one = place.publisher()
    for event in (TaskStart("c", 7), TaskPaused("c"), TaskResumed("c")):
        one.publish(event)
    assert one.pending == 2
    assert len(place.notes) == 1
    one.close()


def test_flush_calls_when_all_is_told_or_time_is_up(place: Place) -> None:
    flushed: list[int] = []
    one = place.publisher()
    one.flush(lambda: flushed.append(1), 60)
    place.loop.run_once(0.01)
    assert flushed == [1]
    one.publish(TaskPaused("c"))
    one.flush(lambda: flushed.append(2), 0.05)
    until(lambda: place.loop.run_once(0.01) or flushed == [1, 2], "time is up")
    one.flush(lambda: flushed.append(3), 60)
    place.serve()
    until(lambda: place.loop.run_once(0.01) or flushed == [1, 2, 3], "all is told")
    assert place.topics == ["/tasks/paused"]
    one.close()
    place.go_away()


def test_without_ttrpc_the_publish_binary_is_run_for_each(place: Place) -> None:
    binary = place.directory / "publish"
    binary.write_text(f'#!/bin/sh\necho "$*" >>{place.directory}/args; cat >>{place.directory}/events.bin\n')
    binary.chmod(0o755)
    one = place.publisher(ttrpc=False, binary=str(binary))
    one.publish(TaskPaused("c"))
    one.publish(TaskResumed("c"))
    place.until_published(one)
    assert (place.directory / "args").read_text().splitlines() == [
        f"--address /c.sock publish --topic /tasks/{what} --namespace ns" for what in ("paused", "resumed")
    ]
    said = (place.directory / "events.bin").read_bytes()
    assert said.startswith(wire.AnyMessage("containerd.events.TaskPaused", TaskPaused("c").encode()).encode())
    one.close()


def test_a_publish_binary_that_fails_is_given_up(place: Place) -> None:
    one = place.publisher(ttrpc=False, binary="/bin/false")
    one.publish(TaskPaused("c"))
    place.until_published(one)
    assert "status 1" in place.notes[0]
    gone = place.publisher(ttrpc=False, binary=f"{place.directory}/none")
    gone.publish(TaskPaused("c"))
    place.until_published(gone)
    assert "No such file" in place.notes[1]


def test_with_nobody_to_tell_nothing_waits(place: Place) -> None:
    one = place.publisher(ttrpc=False)
    one.publish(TaskPaused("c"))
    assert one.pending == 0
    assert os.listdir(place.directory) == []
