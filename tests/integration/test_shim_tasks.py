"""Containers under monitors, with crun and runc: create, start, streams, exec, kill, wait, delete, state, logs."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.services.runtime import tasks
from tests.support import bundle as bundles
from tests.support.shim import Place, until


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.rootfs(tmp_path_factory.mktemp("rootfs"))


@pytest.fixture(params=["crun", "runc"])
def place(request: pytest.FixtureRequest, tmp_path: Path, rootfs: Path) -> Iterator[Place]:
    one = Place(tmp_path, rootfs, request.param)
    yield one
    one.close()
    one.check_clean()


@pytest.fixture
def crun(tmp_path: Path, rootfs: Path) -> Iterator[Place]:
    one = Place(tmp_path, rootfs, "crun")
    yield one
    one.close()
    one.check_clean()


def output(attachment: tasks.Attachment) -> tuple[bytes, bytes]:
    found = {"stdout": b"", "stderr": b""}
    with attachment:
        for stream, data in attachment.frames(Cancel(60)):
            found[stream] += data
    return found["stdout"], found["stderr"]


def test_a_container_runs_to_its_end_and_everybody_is_told(place: Place) -> None:
    task = place.create("sh", "-c", "echo out; echo err >&2; exit 3")
    assert place.state(task).status == "created"
    attachment = task.attach(owner=True)
    pid = task.start()
    assert pid > 1
    assert output(attachment) == (b"out\n", b"err\n")
    assert attachment.exit is not None
    assert attachment.exit.status == 3
    assert task.wait() == 3
    ended = place.state(task)
    assert (ended.status, ended.exit_status, ended.monitor_alive) == ("exited", 3, True)
    assert 0 < ended.started_ns < ended.exited_ns
    assert task.state().exit == tasks.Exit(3, ended.exited_ns)
    assert task.delete() == tasks.Exit(3, ended.exited_ns)
    task.shutdown()
    assert place.state(task).replace(monitor_alive=True) == ended
    log = place.record(task) / f"{task.id}-json.log"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted((entry["stream"], entry["log"]) for entry in entries) == [("stderr", "err\n"), ("stdout", "out\n")]
    assert json.loads((place.record(task) / "exit.json").read_text())["exit_status"] == 3


def test_no_end_is_lost_however_quick_it_is(place: Place) -> None:
    """`runtime run -d` loses one of five of these; create, start and a subreaper lose none."""
    task = place.run("sleep", "1000")
    process = bundles.process(["sh", "-c", "exit 42"])
    for number in range(60):
        task.exec(f"e{number}", process)
        task.start(f"e{number}")
        assert task.wait(exec_id=f"e{number}", cancel=Cancel(30)) == 42
        task.delete(exec_id=f"e{number}")


def test_containers_that_end_in_the_same_millisecond_are_all_known(crun: Place) -> None:
    for number in range(80):
        task = crun.create("sh", "-c", f"exit {number % 7}")
        with task:
            task.start()
            assert task.wait(cancel=Cancel(30)) == number % 7
            crun.clear(task)


def test_a_signal_is_told_as_128_and_its_number(place: Place) -> None:
    task = place.run("sleep", "1000")
    task.kill(signal.SIGKILL)
    assert task.wait(cancel=Cancel(30)) == 137
    with pytest.raises(errors.NotFound):
        task.kill(signal.SIGTERM)


def test_a_signal_to_all_reaches_processes_of_exec_too(place: Place) -> None:
    task = place.run("sleep", "1000")
    task.exec("e", bundles.process(["sleep", "1000"]))
    task.start("e")
    assert len(task.pids()) == 2
    task.kill(signal.SIGKILL, all=True)
    assert task.wait(cancel=Cancel(30)) == 137
    assert task.wait(exec_id="e", cancel=Cancel(30)) == 137


def test_large_output_arrives_whole_and_in_order_attached_and_logged(crun: Place) -> None:
    size = 64 << 20
    script = f"dd if=/bin/busybox bs=64k count=1 2>/dev/null; dd if=/dev/zero bs=1M count={size >> 20} 2>/dev/null"
    task = crun.create("sh", "-c", script, log={"driver": "none"})
    attachment = task.attach()
    task.start()
    head = Path(bundles.BUSYBOX).read_bytes()[:65536]
    count, first = 0, b""
    with attachment:
        for _, data in attachment.frames(Cancel(120)):
            if len(first) < 65536:
                first += data
            count += len(data)
    assert first[:65536] == head
    assert count == size + 65536
    assert attachment.exit is not None


def test_output_with_nobody_attached_is_all_in_the_log(place: Place) -> None:
    task = place.run("sh", "-c", "seq 1 200000; echo last >&2")
    assert task.wait(cancel=Cancel(120)) == 0
    text = {"stdout": "", "stderr": ""}
    parts: dict[str, list[str]] = {"stdout": [], "stderr": []}
    with open(place.record(task) / f"{task.id}-json.log") as log:
        for line in log:
            entry = json.loads(line)
            parts[entry["stream"]].append(entry["log"])
    text = {stream: "".join(pieces) for stream, pieces in parts.items()}
    assert text["stderr"] == "last\n"
    assert text["stdout"] == "".join(f"{n}\n" for n in range(1, 200001))


def test_a_slow_client_loses_nothing_and_one_that_goes_holds_nothing_up(crun: Place) -> None:
    task = crun.create("sh", "-c", "seq 1 300000")
    slow, gone = task.attach(), task.attach()
    task.start()
    gone.close()
    until(lambda: crun.state(task).status == "exited" or len(task.pids()) > 0, "the container's start")
    out, _ = output(slow)
    assert out == "".join(f"{n}\n" for n in range(1, 300001)).encode()


def test_input_goes_round_and_its_end_ends_the_reader(place: Place) -> None:
    data = os.urandom(1 << 20)
    task = place.create("cat", open_stdin=True)
    attachment = task.attach(stdin=True, owner=True)
    task.start()
    received: list[bytes] = []

    def collect() -> None:
        received.append(output(attachment)[0])

    reader = threading.Thread(target=collect)
    sender = task.attach(stdin=True, stdout=False, stderr=False)
    reader.start()
    for at in range(0, len(data), 50_000):
        sender.send(data[at : at + 50_000])
    sender.close_stdin()
    reader.join(60)
    sender.close()
    assert received == [data]
    assert task.wait(cancel=Cancel(30)) == 0


def test_one_thread_can_send_much_input_without_reading_what_comes_back(crun: Place) -> None:
    data = bytes(range(256)) * (4 << 12)
    task = crun.create("cat", open_stdin=True)
    with task.attach(stdin=True, owner=True) as attachment:
        task.start()
        attachment.send(data)
        attachment.close_stdin()
        assert b"".join(part for _, part in attachment.frames(Cancel(60))) == data


def test_input_ends_with_its_owner_but_not_with_a_visitor(crun: Place) -> None:
    task = crun.create("cat", open_stdin=True)
    owner, visitor = task.attach(stdin=True, owner=True), task.attach(stdin=True)
    task.start()
    visitor.send(b"x")
    visitor.close()
    assert next(owner.frames(Cancel(30))) == ("stdout", b"x")
    owner.close()
    assert task.wait(cancel=Cancel(30)) == 0


def test_without_open_stdin_there_is_no_input(place: Place) -> None:
    task = place.create("cat")
    attachment = task.attach(stdin=True)
    attachment.send(b"nobody reads this")
    task.start()
    assert output(attachment) == (b"", b"")
    assert task.wait(cancel=Cancel(30)) == 0


def test_close_io_ends_input_too(crun: Place) -> None:
    task = crun.run("cat", open_stdin=True)
    task.close_stdin()
    assert task.wait(cancel=Cancel(30)) == 0


def test_exec_has_streams_and_a_status_of_its_own(place: Place) -> None:
    task = place.run("sleep", "1000")
    task.exec("e", bundles.process(["sh", "-c", "cat; echo $HOME >&2; exit 9"]), stdin=True)
    attachment = task.attach("e", stdin=True)
    task.start("e")
    attachment.send(b"through")
    attachment.close_stdin()
    assert output(attachment) == (b"through", b"/\n")
    assert task.wait(exec_id="e", cancel=Cancel(30)) == 9
    with pytest.raises(errors.AlreadyExists):
        task.exec("e", bundles.process(["true"]))
    exited = task.delete(exec_id="e")
    assert exited is not None
    assert exited.status == 9
    with pytest.raises(errors.NotFound):
        task.wait(exec_id="e")
    assert place.state(task).status == "running"


def test_an_exec_whose_child_keeps_the_output_open_ends_all_the_same(crun: Place) -> None:
    task = crun.run("sleep", "1000")
    task.exec("e", bundles.process(["sh", "-c", "sleep 1000 & echo done"]))
    attachment = task.attach("e")
    task.start("e")
    assert output(attachment) == (b"done\n", b"")
    assert task.wait(exec_id="e", cancel=Cancel(30)) == 0


BAD_COMMANDS = [
    (["no-such-command"], errors.CommandNotFound, 127),
    (["/no/such/path"], errors.CommandNotFound, 127),
    (["/bin/plain"], errors.CommandNotExecutable, 126),
    (["/etc"], errors.CommandNotExecutable, 126),
]


@pytest.mark.parametrize(("args", "kind", "code"), BAD_COMMANDS)
def test_a_command_that_cannot_run_is_told_by_its_kind_and_leaves_nothing(
    place: Place, args: list[str], kind: type[errors.OrlopError], code: int
) -> None:
    with pytest.raises(kind) as caught:
        place.create(*args)
    assert caught.value.exit_code == code
    assert "\n" not in caught.value.message
    assert [path for path in place.left_over() if "tasks/default" not in path and "spawnermain" not in path] == []


@pytest.mark.parametrize(("args", "kind", "code"), BAD_COMMANDS)
def test_an_exec_that_cannot_run_is_told_by_its_kind(
    place: Place, args: list[str], kind: type[errors.OrlopError], code: int
) -> None:
    task = place.run("sleep", "1000")
    task.exec("e", bundles.process(args))
    attachment = task.attach("e")
    with pytest.raises(kind):
        task.start("e")
    assert output(attachment) == (b"", b"")
    assert task.wait(exec_id="e", cancel=Cancel(30)) == code
    assert place.state(task).status == "running"


def test_a_file_that_is_no_program_ends_with_126(place: Place) -> None:
    task = place.run("/bin/garbage")
    assert task.wait(cancel=Cancel(30)) == 126
    assert place.state(task).exit_status == 126


def test_a_broken_specification_is_the_runtimes_failure_in_one_line(place: Place) -> None:
    config = bundles.spec(["true"], container_id="x")
    config["mounts"].append({"destination": "/tmp", "type": "bind", "source": "/no/such", "options": ["bind"]})
    with pytest.raises(errors.RuntimeFailed) as caught:
        place.create("true", config=config)
    assert "\n" not in caught.value.message
    assert "/no/such" in caught.value.message


def test_pausing_is_seen_by_everyone_and_a_paused_container_can_be_killed(place: Place) -> None:
    task = place.run("sleep", "1000")
    task.pause()
    assert task.state().status == "paused"
    assert place.state(task).status == "paused"
    with pytest.raises(errors.FailedPrecondition):
        task.pause()
    task.resume()
    assert place.state(task).status == "running"
    with pytest.raises(errors.FailedPrecondition):
        task.resume()
    task.pause()
    task.kill(signal.SIGKILL)
    assert task.wait(cancel=Cancel(30)) == 137


def test_limits_can_be_read_and_changed(place: Place) -> None:
    task = place.run("sleep", "1000")
    assert task.stats()["pids_limit"] == 256
    task.update({"pids": {"limit": 99}})
    assert task.stats()["pids_limit"] == 99


def test_running_out_of_memory_is_told(crun: Place) -> None:
    args = ["sh", "-c", "head -c 200m /dev/zero | tail"]
    config = bundles.spec(args, container_id="oom")
    config["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    config["linux"]["cgroupsPath"] = f"/orlop-test-oom-{os.getpid()}"
    task = crun.run(*args, config=config)
    task.wait(cancel=Cancel(60))
    assert crun.state(task).oom_killed


def test_a_running_task_is_not_deleted_and_a_created_one_is(place: Place) -> None:
    task = place.run("sleep", "1000")
    with pytest.raises(errors.FailedPrecondition):
        task.delete()
    with pytest.raises(errors.FailedPrecondition):
        task.shutdown()
    with pytest.raises(errors.FailedPrecondition):
        tasks.clear(task.bundle, place.spawner)
    created = place.create("true")
    assert created.delete() is None
    created.shutdown()
    assert place.state(created).status == "created"


def test_a_second_create_and_a_second_start_are_refused(crun: Place) -> None:
    task = crun.run("sleep", "1000")
    with pytest.raises(errors.AlreadyExists):
        task.create()
    with pytest.raises(errors.FailedPrecondition):
        task.start()
    with pytest.raises(errors.AlreadyExists):
        crun.spawner.spawn(task.bundle)


def test_unknown_tasks_and_processes_are_not_found(crun: Place) -> None:
    task = crun.run("sleep", "1000")
    for act in (task.state, task.wait_exit, task.attach, task.start):
        with pytest.raises(errors.NotFound):
            act("nobody")
    other = tasks.Task(task.bundle + "x", task.address)
    with other, pytest.raises(errors.NotFound):
        other.state()


def test_a_wait_can_be_given_up_and_others_go_on(crun: Place) -> None:
    task = crun.run("sleep", "1000")
    with pytest.raises(errors.DeadlineExceeded):
        task.wait(cancel=Cancel(0.05))
    task.kill()
    assert task.wait(cancel=Cancel(30)) == 137


def test_many_wait_at_once(crun: Place) -> None:
    task = crun.run("sleep", "1000")
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(task.wait(cancel=Cancel(60)))) for _ in range(20)]
    for thread in threads:
        thread.start()
    task.kill()
    for thread in threads:
        thread.join(60)
    assert results == [137] * 20


def test_streams_can_be_fifos_as_containerd_has_them(place: Place, tmp_path: Path) -> None:
    names = {name: str(tmp_path / name) for name in ("stdin", "stdout", "stderr")}
    for path in names.values():
        os.mkfifo(path)
    bundle = place.bundle(["sh", "-c", "cat; echo err >&2"])
    task = tasks.Task(str(bundle), place.spawner.spawn(str(bundle)).address)
    task.create(place.mounts, **names)
    readers = {name: os.open(names[name], os.O_RDONLY | os.O_NONBLOCK) for name in ("stdout", "stderr")}
    task.start()
    writer = os.open(names["stdin"], os.O_WRONLY)
    os.write(writer, b"by fifo")
    os.close(writer)
    got = {"stdout": b"", "stderr": b""}

    def read(name: str) -> bytes:
        try:
            got[name] += os.read(readers[name], 100)
        except BlockingIOError:
            pass
        return got[name]

    until(lambda: read("stdout") == b"by fifo", "output by FIFO")
    task.close_stdin()
    assert task.wait(cancel=Cancel(30)) == 0
    until(lambda: read("stderr") == b"err\n", "error output by FIFO")
    for fd in readers.values():
        os.close(fd)


def test_a_log_uri_that_is_not_served_is_refused_and_nothing_stays_mounted(crun: Place) -> None:
    bundle = crun.bundle(["true"])
    task = tasks.Task(str(bundle), crun.spawner.spawn(str(bundle)).address)
    with pytest.raises(errors.Unimplemented, match="binary"):
        task.create(crun.mounts, stdout="binary:///bin/logger")
    assert not os.path.ismount(bundle / "rootfs")


def test_a_root_file_system_that_cannot_be_mounted_is_told(crun: Place) -> None:
    bundle = crun.bundle(["true"])
    from orlop.stores.snapshots.api import Mount

    with pytest.raises(errors.OrlopError, match="mount"):
        tasks.create(crun.spawner, str(bundle), [Mount("bind", "/no/such", options=("bind",))])
