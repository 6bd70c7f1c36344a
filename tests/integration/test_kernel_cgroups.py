"""Cgroups on this machine, whichever version it has: found, read, frozen, killed, removed."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.base.kernel import cgroups, cgroupstats


@pytest.fixture
def group():
    """A new cgroup with one child, in every hierarchy that is mounted."""
    layout = cgroups.detect()
    path = f"/orlop-test-{uuid.uuid4().hex[:8]}"
    places = {hierarchy.mount_point for hierarchy in layout.v1.values()}
    if layout.unified:
        places.add(layout.unified.mount_point)
    for place in places:
        os.makedirs(f"{place}{path}/child")
        if os.path.exists(f"{place}{path}/cpuset.cpus"):
            for below in (path, f"{path}/child"):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    with open(f"{place}/{name}") as source, open(f"{place}{below}/{name}", "w") as file:
                        file.write(source.read())
    yield path
    made = cgroups.at(path, layout)
    cgroups.kill_all(made)
    cgroups.remove(made)


def sleeper_in(path, child=""):
    started = subprocess.Popen(["sleep", "60"])
    for directory in cgroups.at(path).directories():
        with open(f"{directory}{child}/cgroup.procs", "w") as file:
            file.write(str(started.pid))
    return started


def test_this_machine_is_told_right():
    layout = cgroups.detect()
    with open("/proc/filesystems") as file:
        assert "cgroup" in file.read()
    assert layout.mode in ("v1", "v2", "hybrid")
    for hierarchy in layout.v1.values():
        assert os.path.exists(f"{hierarchy.mount_point}/cgroup.procs")
    if layout.unified:
        with open(f"{layout.unified.mount_point}/cgroup.controllers") as file:
            assert tuple(file.read().split()) == layout.unified_controllers


def test_a_covered_hierarchy_is_not_seen():
    program = """
from orlop.base.kernel import cgroups, mounts, namespaces
namespaces.unshare(namespaces.CLONE_NEWNS)
mounts.mount("", "/", "", mounts.MS_PRIVATE | mounts.MS_REC)
before = cgroups.detect()
if before.unified and before.mode == "hybrid":
    mounts.mount("none", before.unified.mount_point, "tmpfs")
    print(cgroups.detect().mode, cgroups.detect().unified)
else:
    print("v1 None")
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert run.stdout == "v1 None\n", run.stderr


def test_hierarchies_that_are_listed_but_not_mounted_are_tolerated():
    layout = cgroups.detect()
    paths = cgroups.paths_of()
    missing = layout.replace(v1={k: v for k, v in layout.v1.items() if k != "memory"})
    assert "memory" not in cgroups.of_process(layout=missing).v1
    assert set(cgroups.of_process(layout=layout).v1) <= set(paths)


def test_a_processs_cgroups_are_found_by_its_pid(group):
    process = sleeper_in(group)
    try:
        assert cgroups.of_process(process.pid) == cgroups.at(group)
    finally:
        process.kill()
        process.wait()
    with pytest.raises(ProcessLookupError):
        cgroups.of_process(process.pid)


def test_figures_are_read(group):
    process = sleeper_in(group)
    try:
        stats = cgroupstats.read(cgroups.at(group))
    finally:
        process.kill()
        process.wait()
    assert stats.pids_current == 1
    assert stats.pids_limit is None
    assert stats.memory_usage is not None
    assert stats.memory_limit is None
    assert stats.cpu_usage_ns is not None
    assert stats.oom_kills == 0


def test_oom_kills_are_counted(group):
    made = cgroups.at(group)
    memory = made.v1.get("memory") or made.unified
    name = "memory.limit_in_bytes" if "memory" in made.v1 else "memory.max"
    with open(f"{memory}/{name}", "w") as file:
        file.write(str(8 << 20))
    program = "import os,sys; open(sys.argv[1],'w').write(str(os.getpid())); x = bytearray(64 << 20)"
    run = subprocess.run(
        [sys.executable, "-S", "-c", program, f"{memory}/cgroup.procs"], capture_output=True, timeout=60
    )
    assert run.returncode == -signal.SIGKILL
    assert cgroupstats.oom_kills(made) == 1


def test_freeze_stops_and_thaw_goes_on(group):
    process = sleeper_in(group)
    made = cgroups.at(group)
    try:
        cgroups.freeze(made, Cancel(timeout=10))
        assert cgroups.is_frozen(made)
        cgroups.thaw(made)
        assert not cgroups.is_frozen(made)
    finally:
        process.kill()
        process.wait()


def test_kill_all_takes_those_below_and_the_frozen(group):
    ones = [sleeper_in(group), sleeper_in(group, "/child")]
    made = cgroups.at(group)
    assert cgroups.pids(made) == sorted(one.pid for one in ones)
    cgroups.freeze(made, Cancel(timeout=10))
    assert cgroups.kill_all(made) == 2
    assert [one.wait(timeout=20) for one in ones] == [-signal.SIGKILL] * 2
    assert cgroups.kill_all(made) == 0


def test_a_fork_bomb_does_not_escape(group):
    made = cgroups.at(group)
    with open(f"{made.v1.get('pids') or made.unified}/pids.max", "w") as file:
        file.write("40")
    directories = " ".join(f"{directory}/cgroup.procs" for directory in made.directories())
    bomb = f"for d in {directories}; do echo $$ > $d; done; echo in; f() {{ f | f & f; }}; f"
    started = subprocess.Popen(["bash", "-c", bomb], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert started.stdout.readline() == b"in\n"
    cgroups.kill_all(made)
    started.wait(timeout=20)
    started.stdout.close()
    cgroups.remove(made)
    assert not any(os.path.exists(directory) for directory in made.directories())


def test_a_cgroup_with_processes_is_not_removed_and_named(group):
    process = sleeper_in(group, "/child")
    try:
        with pytest.raises(errors.FailedPrecondition, match=group):
            cgroups.remove(cgroups.at(group), patience_s=0.01)
    finally:
        process.kill()
        process.wait()
    cgroups.remove(cgroups.at(group))
    cgroups.remove(cgroups.at(group))
    assert cgroups.at(group).directories() == []


def test_easing_moves_leaves_everybody_where_they_are() -> None:
    before = Path("/proc/self/cgroup").read_text()
    threads = len(os.listdir("/proc/self/task"))
    cgroups.ease_moves()
    deadline = time.monotonic() + 10
    while len(os.listdir("/proc/self/task")) > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Path("/proc/self/cgroup").read_text() == before
