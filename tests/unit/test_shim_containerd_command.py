"""The shim command's flags, options and configuration; containerd's metrics; the end of a FIFO's input."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.kernel.cgroups import Cgroup
from orlop.base.ttrpc import task_v2, wire
from orlop.base.ttrpc.loop import Loop
from orlop.services.shim import containerd_shim, containerd_task, fifos, metrics, task_events
from orlop.services.shim.stdio import Stdio


def test_flags_are_read_as_go_reads_them() -> None:
    words = ["-namespace", "ns", "--id=one", "-address", "/c.sock", "-publish-binary", "/bin/true", "-debug", "start"]
    found = containerd_shim.parse(words)
    assert (found.action, found.namespace, found.id, found.address) == ("start", "ns", "one", "/c.sock")
    assert (found.publish_binary, found.bundle, found.debug) == ("/bin/true", os.getcwd(), True)
    assert containerd_shim.parse(["-v"]).action == "version"
    assert containerd_shim.parse(["-namespace=n", "-id=i", "-bundle=/b", "delete"]).bundle == "/b"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-namespace", "n", "-id", "i"],
        ["-namespace", "n", "-id", "i", "stop"],
        ["-namespace", "n", "start"],
        ["-namespace", "n", "-id", "../up", "start"],
        ["-namespace", "n", "-id", "..", "start"],
        ["-unknown", "start"],
        ["-id"],
    ],
)
def test_what_is_no_command_line_is_refused(words: list[str]) -> None:
    with pytest.raises(errors.InvalidArgument):
        containerd_shim.parse(words)


@given(st.lists(st.text(max_size=8), max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_command_line_is_read_or_refused(words: list[str]) -> None:
    with contextlib.suppress(errors.InvalidArgument):
        containerd_shim.parse(words)


def test_options_of_another_kind_are_passed_over_and_bad_ones_refused() -> None:
    options = task_v2.RuncOptions(binary_name="runc", systemd_cgroup=True, root="/r")
    found = containerd_task.options_of(wire.AnyMessage(task_v2.RUNC_OPTIONS_TYPE, options.encode()))
    assert found == options
    for of_google in ("types.googleapis.com/", ""):
        raw = wire.AnyMessage(of_google + task_v2.RUNC_OPTIONS_TYPE, options.encode() + b"\xa2\x06\x03new")
        assert containerd_task.options_of(raw) == options
    other = wire.AnyMessage("runtimeoptions.v1.Options", b"\xff\xff")
    assert containerd_task.options_of(other) == containerd_task.options_of(None) == task_v2.RuncOptions()
    with pytest.raises(errors.InvalidArgument):
        containerd_task.options_of(wire.AnyMessage(task_v2.RUNC_OPTIONS_TYPE, b"\xff\xff"))


def test_the_runtime_is_what_the_options_ask_for() -> None:
    options = task_v2.RuncOptions(binary_name="runc", systemd_cgroup=True, root="/r")
    said = containerd_task.configuration("ns", "one", options, lambda name: f"/x/{name}", "/state", True)
    assert said["runtime"] == ["/x/runc", "--root", "/r/ns", "--systemd-cgroup"]
    assert (said["runtime_name"], said["hide_unified"]) == ("runc", False)
    options = task_v2.RuncOptions()
    said = containerd_task.configuration("ns", "one", options, lambda name: f"/x/{name or 'crun'}", "/state", True)
    assert said["runtime"] == ["/x/crun", "--root", "/state/crun/ns"]
    assert said["hide_unified"] is True


def test_a_runtime_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.RuntimeFailed, match="no-such-runtime"):
        containerd_shim.find_runtime("no-such-runtime")
    assert containerd_shim.find_runtime("/opt/any") == "/opt/any"
    monkeypatch.setattr(containerd_shim, "RUNTIMES", ("no-such-a", "no-such-b"))
    with pytest.raises(errors.RuntimeFailed, match="no-such-a or no-such-b"):
        containerd_shim.find_runtime("")


def test_every_event_has_containerds_topic_and_type() -> None:
    packed = task_events.pack(task_events.TaskExecStarted("c", "e", 7))
    assert (packed.type_url, packed.value) == ("containerd.events.TaskExecStarted", b"\x0a\x01c\x12\x01e\x18\x07")
    assert sorted(task_events.TOPICS.values()) == [
        f"/tasks/{what}"
        for what in ("create", "delete", "exec-added", "exec-started", "exit", "oom", "paused", "resumed", "start")
    ]


def _files(directory: Path, **files: str) -> str:
    directory.mkdir()
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return str(directory)


def test_metrics_of_version_1(tmp_path: Path) -> None:
    memory = _files(
        tmp_path / "memory",
        memory__stat="total_cache 11\ntotal_rss 12\ntotal_inactive_file 13\n",
        memory__usage_in_bytes="100\n",
        memory__limit_in_bytes="9223372036854771712\n",
        memory__max_usage_in_bytes="120\n",
        memory__oom_control="oom_kill 2\n",
    )
    cpu = _files(tmp_path / "cpu", cpuacct__usage="50\n", cpuacct__usage_percpu="20 30 \n", cpu__stat="nr_periods 4\n")
    pids = _files(tmp_path / "pids", pids__current="3\n", pids__max="64\n")
    blkio = _files(
        tmp_path / "blkio",
        blkio__throttle__io_service_bytes_recursive="8:0 Read 4096\n8:0 Write 1\nTotal 4097\n",
    )
    packed = metrics.read(Cgroup({"memory": memory, "cpu": cpu, "cpuacct": cpu, "pids": pids, "blkio": blkio}))
    assert packed.type_url == "io.containerd.cgroups.v1.Metrics"
    found = metrics.Metrics.decode(packed.value)
    assert found.pids == metrics.PidsStat(3, 64)
    assert found.cpu is not None
    assert found.cpu.usage == metrics.CpuUsage(50, 0, 0, (20, 30))
    assert found.cpu.throttling == metrics.Throttle(4)
    assert found.memory is not None
    assert found.memory.usage == metrics.MemoryEntry((1 << 63) - 4096, 100, 120)
    assert (found.memory.total_cache, found.memory.total_rss, found.memory.inactive_file) == (11, 12, 13)
    assert found.memory.swap is None
    assert found.blkio is not None
    assert [(one.op, one.major, one.minor, one.value) for one in found.blkio.io_service_bytes_recursive] == [
        ("Read", 8, 0, 4096),
        ("Write", 8, 0, 1),
    ]
    assert found.memory_oom_control == metrics.MemoryOomControl(2)


def test_metrics_of_version_2(tmp_path: Path) -> None:
    unified = _files(
        tmp_path / "two",
        memory__stat="anon 1\nfile 2\ninactive_file 3\n",
        memory__current="100\n",
        memory__max="max\n",
        memory__events="oom_kill 1\n",
        cpu__stat="usage_usec 70\nuser_usec 40\nsystem_usec 30\n",
        pids__current="3\n",
        pids__max="max\n",
        io__stat="8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\nnonsense\n",
    )
    packed = metrics.read(Cgroup({}, unified))
    assert packed.type_url == "io.containerd.cgroups.v2.Metrics"
    found = metrics.Metrics2.decode(packed.value)
    assert found.pids == metrics.PidsStat(3, 0)
    assert found.cpu == metrics.CpuStat2(70, 40, 30)
    assert found.memory == metrics.MemoryStat2(1, 2, 3, 100, (1 << 64) - 1)
    assert found.io == metrics.IOStat2((metrics.IOEntry2(8, 16, 1, 2, 3, 4),))
    assert found.memory_events == metrics.MemoryEvents2(1)


def test_metrics_of_a_cgroup_that_has_gone_are_empty(tmp_path: Path) -> None:
    found = metrics.Metrics.decode(metrics.read(Cgroup({"memory": str(tmp_path / "gone")})).value)
    assert found.memory is None
    assert found.pids is None


@pytest.mark.parametrize("size", [0, 5, 60_000])
def test_the_end_of_a_fifos_input_comes_after_all_that_was_written(tmp_path: Path, size: int) -> None:
    """Also while the writer's end stays open, and when it is more than the process takes at once."""
    loop = Loop()
    os.mkfifo(tmp_path / "in")
    streams = Stdio(loop, True)
    closers = fifos.attach(loop, streams, str(tmp_path / "in"), "", "")
    theirs = os.dup(streams.open()[0])
    streams.begin()
    writer = os.open(tmp_path / "in", os.O_WRONLY | os.O_NONBLOCK)
    data = os.urandom(size)
    more = os.urandom(size)
    assert os.write(writer, data) == size if size else True
    for _ in range(3):
        loop.run_once(0)
    assert os.write(writer, more) == size if size else True
    assert fifos.end_input(closers)
    got = b""
    os.set_blocking(theirs, False)
    for _ in range(1000):
        loop.run_once(0)
        try:
            chunk = os.read(theirs, 4096)
        except BlockingIOError:
            continue
        if not chunk:
            break
        got += chunk
    else:
        pytest.fail("the end of input never came")
    assert got == data + more
    os.close(writer)
    os.close(theirs)
    for close in closers:
        close()
    streams.close()
    loop.close()


def test_without_a_fifo_there_is_no_input_of_ours_to_end() -> None:
    assert not fifos.end_input([])
