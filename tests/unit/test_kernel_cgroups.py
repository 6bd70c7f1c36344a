"""Cgroups: detection, path mapping and figures, from made-up mountinfo and directories (both versions)."""

import pytest

from orlop.base import errors
from orlop.base.kernel import capabilities, cgroups, cgroupstats, mountinfo
from orlop.base.kernel.cgroups import Cgroup, Hierarchy

V1 = b"""31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory,clone_children
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
"""
V2_BELOW = b"41 31 0:38 / /nowhere/unified rw - cgroup2 cgroup2 rw\n"


def test_v1_is_told_with_its_controllers():
    layout = cgroups.detect(mountinfo.parse(V1))
    assert layout.mode == "v1"
    assert set(layout.v1) == {"cpu", "cpuacct", "memory", "name=systemd"}
    assert layout.v1["cpu"] == layout.v1["cpuacct"] == Hierarchy("/sys/fs/cgroup/cpu,cpuacct")


def test_hybrid_is_v1_controllers_with_cgroup2():
    layout = cgroups.detect(mountinfo.parse(V1 + V2_BELOW))
    assert (layout.mode, layout.unified) == ("hybrid", Hierarchy("/nowhere/unified"))


def test_v2_with_a_named_v1_hierarchy_is_v2():
    named = b"40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    assert cgroups.detect(mountinfo.parse(V2_BELOW + named)).mode == "v2"


def test_a_machine_without_cgroups_is_none():
    assert cgroups.detect([]).mode == "none"


def test_paths_of_a_process_are_parsed_whatever_they_hold():
    text = b"12:cpu,cpuacct:/a:b\n9:name=systemd:/\n3:memory:/gone (deleted)\n0::/user.slice\n\n"
    assert cgroups.parse_paths(text) == {"cpu": "/a:b", "cpuacct": "/a:b", "name=systemd": "/", "": "/user.slice"}


def test_a_mount_that_shows_a_deeper_cgroup_maps_only_what_is_below_it():
    hierarchy = Hierarchy("/sys/fs/cgroup/memory", "/docker/abc")
    assert hierarchy.directory("/docker/abc") == "/sys/fs/cgroup/memory"
    assert hierarchy.directory("/docker/abc/x") == "/sys/fs/cgroup/memory/x"
    assert hierarchy.directory("/docker/abcd") == ""
    assert Hierarchy("/m").directory("/x") == "/m/x"


@pytest.mark.parametrize("path", ["", "/", "//", "/..", "/a/../b", "."])
def test_a_cgroup_that_is_the_root_or_not_plain_is_refused(path):
    with pytest.raises(errors.InvalidArgument):
        cgroups.at(path, cgroups.Layout("none"))


def write(directory, **files):
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return str(directory)


def test_figures_of_v2(tmp_path):
    path = write(
        tmp_path / "g",
        memory__current="1000\n", memory__peak="2000\n", memory__max="max\n", memory__swap__current="5\n",
        memory__stat="anon 600\nfile 400\ninactive_file 100\n", memory__events="low 0\noom 3\noom_kill 2\n",
        cpu__stat="usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 4\nnr_throttled 1\nthrottled_usec 7\n",
        pids__current="3\n", pids__max="100\n",
        io__stat="8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=3 wios=4\n",
    )  # fmt: skip
    stats = cgroupstats.read(Cgroup({}, path))
    assert (stats.memory_usage, stats.memory_peak, stats.memory_limit, stats.memory_swap) == (1000, 2000, None, 5)
    assert (stats.memory_anon, stats.memory_file, stats.memory_inactive_file) == (600, 400, 100)
    assert stats.oom_kills == 2
    assert (stats.cpu_usage_ns, stats.cpu_user_ns, stats.cpu_system_ns) == (30_000, 10_000, 20_000)
    assert (stats.cpu_periods, stats.cpu_throttled_periods, stats.cpu_throttled_ns) == (4, 1, 7_000)
    assert (stats.pids_current, stats.pids_limit) == (3, 100)
    assert (stats.io_read_bytes, stats.io_write_bytes) == (11, 22)
    assert (stats.io_read_operations, stats.io_write_operations) == (4, 6)


def test_figures_of_v1_are_the_same_record(tmp_path):
    memory = write(
        tmp_path / "memory",
        memory__usage_in_bytes="1000\n", memory__max_usage_in_bytes="2000\n", memory__memsw__usage_in_bytes="1005\n",
        memory__limit_in_bytes="9223372036854771712\n",
        memory__stat="cache 1\ntotal_cache 400\ntotal_rss 600\ntotal_inactive_file 100\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    )  # fmt: skip
    cpu = write(
        tmp_path / "cpu",
        cpuacct__usage="30000\n", cpuacct__usage_user="10000\n", cpuacct__usage_sys="20000\n",
        cpu__stat="nr_periods 4\nnr_throttled 1\nthrottled_time 7000\n",
    )  # fmt: skip
    pids = write(tmp_path / "pids", pids__current="3\n", pids__max="max\n")
    blkio = write(
        tmp_path / "blkio",
        blkio__throttle__io_service_bytes_recursive="8:0 Read 10\n8:0 Write 20\n8:0 Sync 1\n8:16 Read 1\nTotal 31\n",
        blkio__throttle__io_serviced="8:0 Read 4\n8:0 Write 6\nTotal 10\n",
    )  # fmt: skip
    stats = cgroupstats.read(Cgroup({"memory": memory, "cpu": cpu, "cpuacct": cpu, "pids": pids, "blkio": blkio}))
    assert (stats.memory_usage, stats.memory_peak, stats.memory_limit, stats.memory_swap) == (1000, 2000, None, 5)
    assert (stats.memory_anon, stats.memory_file, stats.memory_inactive_file) == (600, 400, 100)
    assert stats.oom_kills == 2
    assert (stats.cpu_usage_ns, stats.cpu_user_ns, stats.cpu_system_ns) == (30_000, 10_000, 20_000)
    assert (stats.cpu_periods, stats.cpu_throttled_periods, stats.cpu_throttled_ns) == (4, 1, 7_000)
    assert (stats.pids_current, stats.pids_limit) == (3, None)
    assert (stats.io_read_bytes, stats.io_write_bytes, stats.io_read_operations) == (11, 20, 4)


def test_figures_of_a_cgroup_that_is_gone_are_none_not_errors(tmp_path):
    stats = cgroupstats.read(Cgroup({"memory": str(tmp_path / "gone")}, str(tmp_path / "gone2")))
    assert set(stats.as_dict().values()) == {None}


def test_capability_names_and_numbers_go_both_ways():
    assert capabilities.number("net_admin") == capabilities.number("CAP_NET_ADMIN") == 12
    assert capabilities.number("CHECKPOINT_RESTORE") == 40
    assert capabilities.from_mask(capabilities.to_mask(["CHOWN", "cap_bpf"])) == ("CAP_CHOWN", "CAP_BPF")
    with pytest.raises(errors.InvalidArgument, match="fly"):
        capabilities.normalise("fly")
