"""The event store: sequence, retention, filters, subscriptions."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.stores.events import publish as publishing
from orlop.stores.metadata import events as rows
from tests.support import faults
from tests.support.stores import Root


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(str(tmp_path / "root"))


def fifos(root: Root) -> list[str]:
    directory = publishing.fifo_dir(root.path)
    return os.listdir(directory) if os.path.isdir(directory) else []


def test_events_are_numbered_in_order_and_read_after_a_number(root: Root) -> None:
    events = root.events()
    assert events.last_seq() == 0
    made = [events.publish("/a/b", {"n": n}) for n in range(5)]
    assert [event.seq for event in made] == sorted({event.seq for event in made})
    assert events.read() == made
    assert events.read(made[1].seq, 2) == made[2:4]
    assert events.last_seq() == made[-1].seq


def test_a_namespace_reads_its_own_events_and_no_name_reads_all(root: Root) -> None:
    one = root.events().publish("/a", {})
    two = root.events("other").publish("/b", {})
    assert root.events().read() == [one]
    assert root.events("").read() == [one, two]
    with pytest.raises(errors.InvalidArgument):
        root.events("").publish("/c", {})


def test_filters_see_topic_namespace_and_payload(root: Root) -> None:
    events = root.events()
    events.publish("/images/create", {"name": "x", "labels": {"a.b": "c"}})
    events.publish("/tasks/exit", {"id": "1", "exit_status": 137, "none": None})

    def topics(*filters: str) -> list[str]:
        return [event.topic for event in events.read(0, 10, *filters)]

    assert topics('topic=="/images/create"') == ["/images/create"]
    assert topics("topic~=^/tasks") == ["/tasks/exit"]
    assert topics("namespace==default") == ["/images/create", "/tasks/exit"]
    assert topics("event.exit_status==137") == ["/tasks/exit"]
    assert topics('event.labels."a.b"==c') == ["/images/create"]
    assert topics("event.missing", "event.name.deeper") == []


def test_the_limit_counts_what_fits(root: Root) -> None:
    events = root.events()
    for number in range(600):
        with root.db.write() as tx:
            publishing.publish(tx, root.path, "default", "/odd" if number % 2 else "/even", {"n": number})
    found = events.read(0, 290, "topic~=odd")
    assert len(found) == 290
    assert {event.topic for event in found} == {"/odd"}


@pytest.mark.parametrize("topic", ["", "/", "a/b", "/a/"])
def test_a_bad_topic_is_refused(root: Root, topic: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        root.events().publish(topic, {})


def test_a_payload_that_is_no_json_is_refused_and_nothing_is_published(root: Root) -> None:
    with pytest.raises(errors.InvalidArgument):
        root.events().publish("/a", {"x": object()})
    assert root.events().read() == []


def test_retention_is_by_count_and_by_age(root: Root) -> None:
    events = root.events()
    for number in range(10):
        events.publish("/a", {"n": number})
    with root.db.write() as tx:
        assert rows.prune(tx, 10, keep=4) == 6
    assert [event.payload["n"] for event in events.read()] == [6, 7, 8, 9]
    with root.db.write() as tx:
        assert rows.prune(tx, 10, keep=100, keep_ns=-1) == 4
    assert events.read() == []
    assert events.last_seq() == 10
    assert events.publish("/a", {}).seq == 11


def test_the_log_does_not_grow_for_ever(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "KEEP", 100)
    monkeypatch.setattr(rows.prune, "__defaults__", (100, rows.KEEP_NS))
    with root.db.write() as tx:
        for number in range(1100):
            publishing.publish(tx, root.path, "default", "/a", {"n": number})
    assert len(root.events().read(0, 5000)) <= 100 + 256


def test_a_subscriber_gets_what_comes_after_the_call_in_order(root: Root) -> None:
    events = root.events()
    events.publish("/before", {})
    stream = events.subscribe(cancel=Cancel(timeout=30))
    made = [events.publish("/a", {"n": n}) for n in range(3)]
    assert [next(stream) for _ in made] == made
    stream.close()  # type: ignore[attr-defined]
    assert fifos(root) == []


def test_a_subscriber_can_begin_in_the_past_and_filter(root: Root) -> None:
    events = root.events()
    events.publish("/a", {})
    two = events.publish("/b", {})
    stream = events.subscribe("topic~=b", after_seq=0, cancel=Cancel(timeout=30))
    assert next(stream) == two
    del stream
    assert fifos(root) == []


def test_a_subscriber_is_woken_by_another_process(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    from orlop.stores.events import local

    monkeypatch.setattr(local, "_LOOK_S", 3600.0)  # it will not find it by looking
    waiting = threading.Event()
    real = local._Listener.wait

    def wait(self: local._Listener, cancel: Cancel) -> None:
        waiting.set()
        real(self, cancel)

    monkeypatch.setattr(local._Listener, "wait", wait)
    found = []

    def follow() -> None:
        found.append(next(root.events().subscribe(cancel=Cancel(timeout=60))))

    thread = threading.Thread(target=follow)
    thread.start()
    assert waiting.wait(30)
    root.db.close()
    pid = faults.start(lambda: Root(root.path).events().publish("/a", {"from": "child"}), f"{root.path}/log")
    assert os.waitpid(pid, 0)[1] == 0
    thread.join(60)
    assert [event.payload for event in found] == [{"from": "child"}]


def test_where_there_are_no_fifos_it_looks_often(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(path: str, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(os, "mkfifo", none)
    events = root.events()
    stream = events.subscribe(cancel=Cancel(timeout=30))
    thread = threading.Thread(target=lambda: Root(root.path).events().publish("/a", {}))
    thread.start()
    assert next(stream).topic == "/a"
    thread.join()


def test_cancelling_ends_a_wait_in_another_thread(root: Root) -> None:
    cancel = Cancel()
    ended = []

    def follow() -> None:
        try:
            next(root.events().subscribe(cancel=cancel))
        except errors.Cancelled:
            ended.append(True)

    thread = threading.Thread(target=follow)
    thread.start()
    cancel.cancel()
    thread.join(30)
    assert ended == [True]
    assert fifos(root) == []


def test_a_deadline_ends_a_subscription(root: Root) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        next(root.events().subscribe(cancel=Cancel(timeout=0.05)))


def test_the_fifo_of_a_dead_subscriber_is_removed_by_the_next_publisher(root: Root) -> None:
    directory = publishing.fifo_dir(root.path)
    os.makedirs(directory)
    os.mkfifo(f"{directory}/1-dead")
    root.events().publish("/a", {})
    assert fifos(root) == []


def test_a_full_fifo_does_not_hold_a_publisher_up(root: Root) -> None:
    directory = publishing.fifo_dir(root.path)
    os.makedirs(directory)
    os.mkfifo(f"{directory}/1-slow")
    fd = os.open(f"{directory}/1-slow", os.O_RDWR | os.O_NONBLOCK)
    try:
        while True:
            try:
                os.write(fd, bytes(4096))
            except BlockingIOError:
                break
        assert root.events().publish("/a", {}).seq == 1
    finally:
        os.close(fd)


def test_an_event_of_a_transaction_that_is_undone_never_was(root: Root) -> None:
    def undone() -> None:
        with root.db.write() as tx:
            publishing.publish(tx, root.path, "default", "/a", {})
            raise KeyError

    with pytest.raises(KeyError):
        undone()
    assert root.events().read() == []
