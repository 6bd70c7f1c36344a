"""Restart policies on a real kernel: the monitor starts again, a user's stop ends it, its death is told."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import orlops
from tests.support.orlops import IMAGE, Orlop


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "restart") as opened:
        opened.import_busybox()
        yield opened


@pytest.fixture(autouse=True)
def nothing_left(orlop: Orlop) -> Iterator[None]:
    yield
    for container in orlop.engine.containers.list(all=True):
        container.remove(force=True)
    assert not [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{orlop.state}/tasks" in line]


def told(orlop: Orlop, name: str) -> dict[str, Any]:
    found: dict[str, Any] = orlop.engine.containers.get(name).inspect()
    return found


def run(orlop: Orlop, policy: str, command: str, name: str = "one", *flags: str) -> None:
    orlop.run("run", "-d", "--name", name, "--restart", policy, *flags, IMAGE, "sh", "-c", command)


def wait_for_status(orlop: Orlop, status: str, name: str = "one") -> None:
    orlops.wait_for(f"status {status}", lambda: orlop.engine.containers.get(name).status == status)


def monitor_of(orlop: Orlop, name: str) -> int:
    """The process that holds the lock of the bundle."""
    lock = os.stat(f"{orlop.engine.containers.get(name).bundle}/monitor.lock")
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and int(fields[5].split(":")[2]) == lock.st_ino:
            return int(fields[4])
    raise AssertionError("the monitor does not live")


def test_on_failure_restarts_up_to_its_maximum_and_keeps_the_file_system(orlop: Orlop) -> None:
    run(orlop, "on-failure:2", "echo run >> /count; cat /count; exit 3")
    wait_for_status(orlop, "exited")
    found = told(orlop, "one")
    assert found["RestartCount"] == 2
    assert found["State"]["ExitCode"] == 3
    assert found["State"]["Restarting"] is False
    assert found["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert orlop.out("logs", "one").split() == ["run"] * 6


def test_on_failure_leaves_a_success(orlop: Orlop) -> None:
    run(orlop, "on-failure", "true")
    wait_for_status(orlop, "exited")
    assert told(orlop, "one")["RestartCount"] == 0


def test_always_comes_back_after_its_process_is_killed_with_a_new_one(orlop: Orlop) -> None:
    run(orlop, "always", "while :; do sleep 0.05; done")
    before = told(orlop, "one")["State"]
    os.kill(before["Pid"], signal.SIGKILL)
    orlops.wait_for("the restart", lambda: told(orlop, "one")["State"]["Pid"] not in (0, before["Pid"]))
    after = told(orlop, "one")
    assert after["State"]["Status"] == "running"
    assert after["RestartCount"] == 1
    assert after["State"]["StartedAt"] > before["StartedAt"]
    orlop.run("exec", "one", "true")
    orlop.run("stop", "-t", "0", "one")
    assert orlop.engine.containers.get("one").status == "exited"


def test_a_wait_ends_with_the_first_end_and_a_foreground_run_returns_it(orlop: Orlop) -> None:
    done = orlop.run("run", "--name", "one", "--restart", "always", IMAGE, "sh", "-c", "echo said; exit 4", code=4)
    assert done.stdout == b"said\n"
    assert orlop.engine.containers.get("one").status in ("running", "restarting")
    assert orlop.out("wait", "one") == "4"


def crash_until_it_waits_long(orlop: Orlop, name: str = "one", policy: str = "always") -> None:
    """A container that fails at once, in a pause of 0.8 s or more."""
    run(orlop, policy, "exit 7", name)
    orlops.wait_for(
        "a long pause",
        lambda: (state := orlop.engine.containers.get(name).state()).status == "restarting" and state.restarts >= 4,
    )


def test_a_restarting_container_is_shown_as_such_and_stop_ends_it(orlop: Orlop) -> None:
    crash_until_it_waits_long(orlop)
    assert "Restarting (7)" in orlop.out("ps", "--filter", "status=restarting", "--format", "{{.Status}}")
    found = told(orlop, "one")["State"]
    assert (found["Status"], found["Restarting"], found["Running"], found["Pid"]) == ("restarting", True, True, 0)
    assert "restarting" in orlop.run("exec", "one", "true", code=125).stderr.decode()
    orlop.run("start", "one")
    assert "restarting" in orlop.run("rm", "one", code=1).stderr.decode()
    orlop.run("stop", "one")
    state = orlop.engine.containers.get("one").state()
    assert (state.status, state.exit_status) == ("exited", 7)


def test_kill_ends_the_restarting_and_a_start_counts_from_zero(orlop: Orlop) -> None:
    crash_until_it_waits_long(orlop)
    orlop.run("kill", "one")
    assert orlop.engine.containers.get("one").status == "exited"
    orlop.run("start", "one")
    orlops.wait_for("a restart", lambda: 1 <= told(orlop, "one")["RestartCount"] < 4)


def test_remove_by_force_ends_it_in_any_phase(orlop: Orlop) -> None:
    crash_until_it_waits_long(orlop)
    run(orlop, "always", "true", "two")
    orlop.run("rm", "-f", "one", "two")
    assert orlop.out("ps", "-aq") == ""


def test_a_monitor_killed_in_a_pause_is_told_and_the_container_can_be_started_and_removed(orlop: Orlop) -> None:
    crash_until_it_waits_long(orlop)
    os.kill(monitor_of(orlop, "one"), signal.SIGKILL)
    wait_for_status(orlop, "exited")
    assert told(orlop, "one")["State"]["ExitCode"] == 7
    orlop.run("start", "one")
    wait_for_status(orlop, "restarting")
    os.kill(monitor_of(orlop, "one"), signal.SIGKILL)
    orlop.run("rm", "-f", "one")
    assert orlop.out("ps", "-aq") == ""


def test_update_gives_and_takes_a_policy(orlop: Orlop) -> None:
    orlop.run("run", "-d", "--name", "one", IMAGE, "sh", "-c", "sleep 0.3; exit 5")
    orlop.run("update", "--restart", "always", "one")
    orlops.wait_for("a restart", lambda: told(orlop, "one")["RestartCount"] >= 1)
    orlop.run("update", "--restart", "no", "one")
    wait_for_status(orlop, "exited")
    assert told(orlop, "one")["HostConfig"]["RestartPolicy"]["Name"] == "no"


@pytest.mark.parametrize("restarts", [1, 2, 3])
def test_what_a_monitor_killed_while_it_restarts_leaves_is_cleared(orlop: Orlop, restarts: int) -> None:
    run(orlop, "always", "true")
    container = orlop.engine.containers.get("one")
    orlops.wait_for("a restart", lambda: container.state().restarts >= restarts)
    os.kill(monitor_of(orlop, "one"), signal.SIGKILL)
    wait_for_status(orlop, "exited")
    container.remove()
    assert not os.path.lexists(container.bundle)


def test_a_restart_that_cannot_begin_is_the_end(orlop: Orlop) -> None:
    run(orlop, "always", "rm /bin/sh; exit 1")
    wait_for_status(orlop, "exited")
    assert told(orlop, "one")["State"]["ExitCode"] == 127


def test_a_terminal_is_new_at_each_restart(orlop: Orlop) -> None:
    run(orlop, "on-failure:1", "test -t 0 && echo terminal; exit 1", "one", "-t")
    wait_for_status(orlop, "exited")
    assert orlop.out("logs", "one").split() == ["terminal", "terminal"]


def test_rm_and_restart_do_not_go_together(orlop: Orlop) -> None:
    said = orlop.run("run", "--rm", "--restart", "always", IMAGE, "true", code=125).stderr.decode()
    assert "--restart" in said
    orlop.run("create", "--rm", "--name", "one", IMAGE, "true")
    orlop.run("update", "--restart", "always", "one", code=1)


def reboot(orlop: Orlop) -> None:
    """What a power cut leaves: the root directory, nothing of the state directory, no processes."""
    for container in orlop.engine.containers.list(all=True):
        record = Path(container.record_dir)
        kept = {path.name: path.read_bytes() for path in record.glob("*.json") if path.name == "init.json"}
        was_running = container.status in ("running", "paused", "restarting")
        with container._lock():
            container._delete_task(kill=True)
        if was_running:
            (record / "exit.json").unlink(missing_ok=True)
            for name, data in kept.items():
                (record / name).write_bytes(data)


def test_boot_starts_what_should_run_and_tells_what_the_reboot_ended(orlop: Orlop) -> None:
    loop = "while :; do sleep 0.05; done"
    run(orlop, "always", loop, "always")
    run(orlop, "unless-stopped", loop, "unless")
    run(orlop, "unless-stopped", loop, "stopped")
    run(orlop, "no", loop, "plain")
    orlop.run("run", "-d", "--rm", "--name", "gone", IMAGE, "sh", "-c", loop)
    orlop.run("create", "--restart", "always", "--name", "fresh", IMAGE, "true")
    orlop.run("stop", "-t", "0", "stopped")
    reboot(orlop)
    assert sorted(orlop.out("system", "boot").split()) == ["always", "unless"]
    statuses = {c.name: c.status for c in orlop.engine.containers.list(all=True)}
    assert statuses == {
        "always": "running",
        "unless": "running",
        "stopped": "exited",
        "plain": "exited",
        "fresh": "created",
    }
    plain = orlop.engine.containers.get("plain")
    assert plain.state().exit_status == 255
    assert json.loads(Path(plain.record_dir, "exit.json").read_text())["exit_status"] == 255
    assert orlop.out("system", "boot") == ""


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_container_that_runs_out_of_memory_is_told_so(orlop: Orlop, runtime: str) -> None:
    eat = "a=x; while :; do a=$a$a; done"
    flags = ("--memory", "16m", "--memory-swap", "16m", "--runtime", runtime)
    orlop.run("run", "--name", "one", *flags, IMAGE, "sh", "-c", eat, code=137)
    found = told(orlop, "one")["State"]
    assert (found["OOMKilled"], found["ExitCode"]) == (True, 137)
