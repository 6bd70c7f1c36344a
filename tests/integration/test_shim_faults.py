"""What goes wrong: monitors that are killed, OCI runtimes that hang or print rubbish, full disks, lost spawners."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.base import errors, fsio
from orlop.base.cancel import Cancel
from orlop.base.kernel import mounts, process
from orlop.services.runtime import tasks
from orlop.services.shim import spawner
from tests.support import bundle as bundles
from tests.support.shim import PYTHON, Place, processes_with, until


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


def monitor_pid(task: tasks.Task) -> int:
    """The monitor's pid: the process whose working directory is the bundle."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name == "orlop-monitor" and os.readlink(f"/proc/{pid}/cwd") == task.bundle:
                return int(pid)
        except OSError:
            continue
    raise AssertionError("no monitor")


def kill_monitor(task: tasks.Task) -> None:
    task.close()
    os.kill(monitor_pid(task), signal.SIGKILL)
    until(lambda: not fsio.is_locked(f"{task.bundle}/monitor.lock"), "the monitor's death")


# ---------------------------------------------------------------------- monitors that are killed


def test_a_container_whose_monitor_was_killed_is_reported_truthfully_and_removed(place: Place) -> None:
    task = place.run("sleep", "1000")
    pid = place.state(task).pid
    kill_monitor(task)
    running = place.state(task)
    assert (running.status, running.pid, running.monitor_alive) == ("running", pid, False)
    with pytest.raises(errors.Unavailable):
        tasks.connect(task.bundle).wait()
    with pytest.raises(errors.FailedPrecondition):
        tasks.clear(task.bundle, place.spawner)
    assert place.state(task).status == "running"
    place.clear(task)
    assert not os.path.exists(f"/proc/{pid}/status") or not process.is_alive(pid, process.start_ticks(pid))
    assert not os.path.exists(task.bundle)


def test_a_recovered_monitor_waits_and_kills_but_does_not_know_the_status(place: Place) -> None:
    task = place.run("sleep", "1000")
    kill_monitor(task)
    with tasks.recover(place.spawner, task.bundle) as again:
        assert again.state().status == "running"
        assert len(again.pids()) == 1
        waited: list[int] = []
        waiter = threading.Thread(target=lambda: waited.append(again.wait(cancel=Cancel(30))))
        waiter.start()
        again.kill(signal.SIGKILL)
        waiter.join(30)
        assert waited == [255]
        ended = place.state(task)
        assert (ended.status, ended.exit_status) == ("exited", 255)
        assert ended.exited_ns > ended.started_ns


def test_a_container_that_ends_without_a_monitor_ended_with_255(crun: Place) -> None:
    task = crun.run("sleep", "1000")
    pid = crun.state(task).pid
    kill_monitor(task)
    os.kill(pid, signal.SIGKILL)
    until(lambda: crun.state(task).status == "exited", "the container's end")
    assert crun.state(task).exit_status == 255
    with tasks.recover(crun.spawner, task.bundle) as again:
        assert again.wait(cancel=Cancel(10)) == 255


def test_a_monitor_killed_before_start_leaves_nothing_after_clearing(crun: Place) -> None:
    task = crun.create("true")
    kill_monitor(task)
    assert crun.state(task).status == "created"
    crun.clear(task)


def test_an_end_that_was_written_survives_the_monitor(crun: Place) -> None:
    task = crun.run("sh", "-c", "exit 5")
    task.wait(cancel=Cancel(30))
    kill_monitor(task)
    assert crun.state(task).exit_status == 5
    crun.clear(task)
    assert crun.state(task).exit_status == 5


def test_killing_the_monitor_in_the_middle_of_anything_leaves_what_can_be_cleared(crun: Place) -> None:
    """The monitor dies at a different moment of create and start each time."""
    for number in range(12):
        bundle = crun.bundle(["sleep", "1000"])
        spawned = crun.spawner.spawn(str(bundle))
        task = tasks.Task(str(bundle), spawned.address)
        killer = threading.Timer(number * 0.002, lambda pid=spawned.pid: os.kill(pid, signal.SIGKILL))
        killer.start()
        try:
            task.create(crun.mounts, cancel=Cancel(20))
            task.start(cancel=Cancel(20))
        except errors.OrlopError:
            pass
        killer.join()
        task.close()
        until(lambda b=bundle: not fsio.is_locked(f"{b}/monitor.lock"), "the monitor's death")
        assert crun.state(task).status in ("created", "running")
        crun.clear(task)


# ---------------------------------------------------------------------- OCI runtimes that misbehave


def fake(tmp_path: Path, script: str) -> list[str]:
    path = tmp_path / "fake-runtime"
    path.write_text(f"#!/bin/sh\n# words: --log FILE --log-format json VERB …\nlog=$2; verb=$5\n{script}\n")
    path.chmod(0o755)
    return [str(path)]


def test_a_runtime_that_hangs_is_killed_with_all_it_started(crun: Place, tmp_path: Path) -> None:
    runtime = fake(tmp_path, 'if [ "$verb" = create ]; then sleep 1234.5 & sleep 1234.5; fi')
    with pytest.raises(errors.RuntimeFailed, match=r"did not end within 0\.2 s"):
        crun.create("true", argv=runtime, runtime_timeout=0.2)
    assert processes_with("sleep 1234.5") == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -SEGV $$", "signal 11"),
        ("exit 77", "status 77 and gave no reason"),
        ('printf "\\377\\000rub\\nbish" >&2; exit 1', "rub bish"),
        ('echo "not json" > "$log"; echo reason >&2; exit 1', "reason"),
        ("""echo '{"msg":"the log says","level":"error"}' > "$log"; exit 1""", "the log says"),
        ("yes | head -c 5000000 >&2; exit 3", "was killed; it said: y y y"),
        ("exit 0", "without telling a process id"),
        ('while [ "$1" != --pid-file ]; do shift; done; echo rubbish > "$2"', "without telling a process id"),
    ],
)
def test_whatever_a_runtime_does_there_is_one_line_that_says_it(
    crun: Place, tmp_path: Path, script: str, said: str
) -> None:
    runtime = fake(tmp_path, f'if [ "$verb" = create ]; then {script}; fi')
    with pytest.raises(errors.RuntimeFailed) as caught:
        crun.create("true", argv=runtime, runtime_name="fake", runtime_timeout=1)
    assert said in caught.value.message
    assert caught.value.message.isprintable()
    assert caught.value.exit_code == 125


def test_a_runtime_that_is_not_there_is_told_with_advice(crun: Place) -> None:
    with pytest.raises(errors.RuntimeFailed, match="no-such-runtime") as caught:
        crun.create("true", argv=["/usr/bin/no-such-runtime"])
    assert "install" in caught.value.advice


def test_a_start_that_fails_leaves_a_container_that_can_be_cleared(crun: Place, tmp_path: Path) -> None:
    runtime = fake(
        tmp_path, f'if [ "$verb" = start ]; then echo no >&2; exit 1; fi; exec crun --root {tmp_path}/crun "$@"'
    )
    task = crun.create("true", argv=runtime)
    with pytest.raises(errors.RuntimeFailed, match="no"):
        task.start()
    assert crun.state(task).status == "created"


# ---------------------------------------------------------------------- disks


def test_a_full_disk_neither_blocks_nor_kills_the_container(crun: Place) -> None:
    bundle = crun.bundle(["sh", "-c", "seq 1 100000; echo end >&2; exit 4"])
    record = crun.state_dir / "record" / bundle.name
    mounts.mount("tmpfs", str(record), "tmpfs", 0, "size=64k")
    try:
        task = tasks.create(crun.spawner, str(bundle), crun.mounts)
        with task.attach() as attachment:
            task.start()
            out = b"".join(data for stream, data in attachment.frames(Cancel(60)) if stream == "stdout")
        assert out.endswith(b"99999\n100000\n")
        assert task.wait(cancel=Cancel(30)) == 4
        assert crun.state(task).exit_status == 4
        notes = (bundle / "monitor.log").read_text()
        assert notes.count("cannot write the container's log") == 1
        for line in (record / f"{task.id}-json.log").read_text().splitlines():
            json.loads(line)
        task.close()
        crun.clear(task)
    finally:
        mounts.unmount_all(str(record))


# ---------------------------------------------------------------------- the spawner


def test_two_who_ask_at_once_start_one_spawner(crun: Place) -> None:
    made = [crun.bundle(["true"]) for _ in range(6)]
    spawned: list[spawner.Spawned] = []
    threads = [threading.Thread(target=lambda b=b: spawned.append(crun.spawner.spawn(str(b)))) for b in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({one.pid for one in spawned}) == 6
    parents = {process.parent_of(one.pid) for one in spawned}
    assert len(parents) == 1
    assert os.getpid() not in parents


def test_a_spawner_that_was_killed_is_replaced_and_its_monitors_live(crun: Place) -> None:
    task = crun.run("sleep", "1000")
    parent = process.parent_of(monitor_pid(task))
    os.kill(parent, signal.SIGKILL)
    until(lambda: not process.is_alive(parent, 0) and process.parent_of(monitor_pid(task)) != parent, "its death")
    other = crun.run("true")
    assert other.wait(cancel=Cancel(30)) == 0
    assert task.state().status == "running"


def test_an_idle_spawner_goes_and_a_new_one_comes(crun: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORLOP_SPAWNER_IDLE_S", "0.05")
    for _ in range(3):
        task = crun.run("true")
        assert task.wait(cancel=Cancel(30)) == 0
        path = spawner.socket_path(str(crun.state_dir))
        until(lambda p=path: not os.path.exists(p), "the idle spawner's end")
        assert task.state().status == "exited"


def test_asking_while_the_spawner_goes_idle_always_gets_a_monitor(crun: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORLOP_SPAWNER_IDLE_S", "0.001")
    for _ in range(25):
        bundle = crun.bundle(["true"])
        assert crun.spawner.spawn(str(bundle)).pid > 1


def test_a_spawner_whose_state_directory_is_gone_goes_too(tmp_path: Path) -> None:
    state = tmp_path / "state"
    sock = spawner.ensure(str(state), PYTHON)
    sock.close()
    fsio.remove_tree(str(state))

    until(lambda: not processes_with(str(state)), "the spawner's end")


def test_an_interpreter_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.RuntimeFailed, match="no-python"):
        spawner.Spawner(str(tmp_path / "s"), ("/no-python",)).spawn(str(tmp_path))
    assert not list((tmp_path / "s").glob("*.sock"))


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "monitor.json"), ("[]", "not an object"), ('{"version": 2}', "version 2"), ('{"version": 1}', "not usable")],
)
def test_a_monitor_with_a_wrong_configuration_is_refused(crun: Place, text: str, said: str) -> None:
    bundle = crun.bundle(["true"])
    (bundle / "monitor.json").write_text(text)
    with pytest.raises(errors.OrlopError, match=said):
        crun.spawner.spawn(str(bundle))
    assert not fsio.is_locked(str(bundle / "monitor.lock"))


def test_a_bundle_that_is_missing_is_told(crun: Place) -> None:
    with pytest.raises(errors.NotFound):
        crun.spawner.spawn(str(crun.state_dir / "tasks/default/none"))


def test_a_spawner_leaks_no_descriptor_of_its_caller_into_containers(crun: Place) -> None:
    leak = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        task = crun.create("ls", "-l", "/proc/self/fd")
        with task.attach() as attachment:
            task.start()
            out = b"".join(data for _, data in attachment.frames(Cancel(30)))
    finally:
        os.close(leak)
    assert b"passwd" not in out
    monitor = monitor_pid(task)
    assert not any("passwd" in os.readlink(f"/proc/{monitor}/fd/{fd}") for fd in os.listdir(f"/proc/{monitor}/fd"))


# ---------------------------------------------------------------------- cleaning up by itself


def test_the_cleaner_runs_when_a_detached_container_ends(crun: Place, tmp_path: Path) -> None:
    mark = tmp_path / "cleaned"
    task = crun.run("sleep", "1000", on_exit=["/bin/sh", "-c", f"echo done > {mark}"])
    assert not mark.exists()
    task.kill()
    until(mark.exists, "the cleaner")


def test_the_cleaner_waits_for_the_owner_and_runs_when_it_was_killed(crun: Place, tmp_path: Path) -> None:
    mark = tmp_path / "cleaned"
    task = crun.create("true", on_exit=["/bin/sh", "-c", f"echo done > {mark}"])
    owner = task.attach(owner=True)
    task.start()
    task.wait(cancel=Cancel(30))
    assert list(owner.frames(Cancel(30))) == []
    assert not mark.exists()
    owner.close()
    until(mark.exists, "the cleaner")


def test_the_cleaner_does_not_run_when_the_owner_cleans_up(crun: Place, tmp_path: Path) -> None:
    mark = tmp_path / "cleaned"
    task = crun.create("true", on_exit=["/bin/sh", "-c", f"echo done > {mark}"])
    with task.attach(owner=True) as owner:
        task.start()
        assert list(owner.frames(Cancel(30))) == []
    task.delete()
    task.shutdown()
    assert not mark.exists()


def test_a_task_that_ended_and_that_nobody_asks_about_cleans_itself(
    crun: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORLOP_MONITOR_IDLE_S", "0.05")
    task = crun.run("sh", "-c", "exit 6")
    task.close()
    until(lambda: not crun.state(task).monitor_alive and crun.state(task).status == "exited", "the monitor's end")
    assert crun.state(task).exit_status == 6
    assert not os.path.ismount(f"{task.bundle}/rootfs")
    assert list((crun.state_dir / "crun").iterdir()) == []
    assert list((crun.state_dir / "s").iterdir()) == []
    crun.clear(task)
    assert crun.state(task).exit_status == 6


def test_many_monitors_are_small(crun: Place) -> None:
    """Proportional set size of idle monitors, as they share what the spawner loaded."""
    started = [crun.run("sleep", "1000") for _ in range(20)]
    for task in started:
        task.close()
    sizes = [_pss_kib(monitor_pid(task)) for task in started]
    average = sum(sizes) / len(sizes)
    print(f"monitors: {average:.0f} KiB PSS on average, at most {max(sizes)}", file=sys.stderr)
    assert average <= 2764  # half of what containerd's shim takes here is 2.7 MiB per container (baselines)


def _pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss")
