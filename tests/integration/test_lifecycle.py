"""Between start and end: pause, restart, rename, update, top, stats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import orlops
from tests.support.orlops import IMAGE, Orlop


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "lifecycle") as opened:
        opened.import_busybox()
        yield opened


@pytest.fixture
def sleeper(orlop: Orlop) -> Iterator[str]:
    orlop.run("run", "-d", "--name", "sleeper", "--memory", "64m", IMAGE, "sh", "-c", "while :; do sleep 0.1; done")
    yield "sleeper"
    orlop.run("rm", "-f", "sleeper", code=None)


def test_a_paused_container_is_shown_refuses_exec_and_goes_on(orlop: Orlop, sleeper: str) -> None:
    assert orlop.out("pause", sleeper) == sleeper
    assert "(Paused)" in orlop.out("ps", "--filter", f"name={sleeper}")
    assert "already paused" in orlop.run("pause", sleeper, code=1).stderr.decode()
    assert "paused" in orlop.run("exec", sleeper, "true", code=125).stderr.decode()
    assert orlop.out("unpause", sleeper) == sleeper
    orlop.run("exec", sleeper, "true")
    assert "not paused" in orlop.run("unpause", sleeper, code=1).stderr.decode()


def test_a_paused_container_can_be_removed_by_force(orlop: Orlop, sleeper: str) -> None:
    orlop.run("pause", sleeper)
    orlop.run("rm", "-f", sleeper)
    assert orlop.out("ps", "-aq") == ""


def test_restart_gives_a_new_process(orlop: Orlop, sleeper: str) -> None:
    before = orlop.out("inspect", "-f", "{{.State.Pid}}", sleeper)
    assert orlop.out("restart", "-t", "0", sleeper) == sleeper
    after = orlop.out("inspect", "-f", "{{.State.Pid}} {{.State.Status}}", sleeper)
    assert after.split()[0] != before
    assert after.split()[1] == "running"


def test_rename_moves_the_name(orlop: Orlop, sleeper: str) -> None:
    orlop.run("create", "--name", "taken", IMAGE, "true")
    orlop.run("rename", sleeper, "taken", code=1)
    orlop.run("rename", sleeper, ".bad", code=1)
    orlop.run("rename", sleeper, "woken")
    assert orlop.out("inspect", "-f", "{{.Name}}", "woken") == "/woken"
    orlop.run("inspect", sleeper, code=1)
    orlop.run("rename", "woken", sleeper)
    orlop.run("rm", "taken")


def test_update_changes_a_running_container_and_its_next_start(orlop: Orlop, sleeper: str) -> None:
    v1 = "/sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes"
    read = f"cat {v1} /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max 2>/dev/null; true"
    orlop.run("update", "--pids-limit", "33", "--memory", "96m", "--memory-swap", "96m", sleeper)
    assert orlop.out("exec", sleeper, "sh", "-c", read).split() == ["33", str(96 << 20)]
    orlop.run("restart", "-t", "0", sleeper)
    assert orlop.out("exec", sleeper, "sh", "-c", read).split() == ["33", str(96 << 20)]
    assert orlop.out("inspect", "-f", "{{.HostConfig.Memory}}", sleeper) == str(96 << 20)
    orlop.run("update", sleeper, code=1)


def test_top_lists_the_processes(orlop: Orlop, sleeper: str) -> None:
    lines = orlop.out("top", sleeper).splitlines()
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    pid = orlop.out("inspect", "-f", "{{.State.Pid}}", sleeper)
    assert any(line.split()[1] == pid and "while" in line for line in lines[1:])


def test_stats_tell_cpu_memory_and_processes(orlop: Orlop, sleeper: str) -> None:
    line = orlop.out("stats", "--no-stream", "--format", "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.PIDs}}", sleeper)
    name, cpu, memory, pids = line.split("|")
    assert name == sleeper
    assert cpu.endswith("%")
    assert memory.endswith(" / 64MiB")
    assert int(pids) >= 1
    assert orlop.out("stats", "--no-stream").splitlines()[0].startswith("CONTAINER ID")


def test_what_needs_a_running_container_says_so(orlop: Orlop) -> None:
    orlop.run("create", "--name", "still", IMAGE, "true")
    for command in ("pause", "unpause", "top"):
        assert "not running" in orlop.run(command, "still", code=1).stderr.decode()
    orlop.run("rm", "still")
