"""Flags of run and create that end in the kernel: looked at from inside the container or in its cgroup's files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orlop.base.kernel import cgroups
from orlop.services.runtime import environment
from tests.support import orlops
from tests.support.orlops import IMAGE, Orlop


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "flags-kernel") as opened:
        opened.import_busybox()
        yield opened


@contextmanager
def running(orlop: Orlop, *flags: str) -> Iterator[str]:
    """A container that runs; gives its id."""
    id = orlop.out("run", "-d", *flags, IMAGE, "sleep", "1000")
    try:
        yield id
    finally:
        orlop.run("rm", "-f", id)


def cgroup(orlop: Orlop, id: str, controller: str, name: str, parent: str = "") -> str:
    """A file of the container's cgroup, of whichever version; the v2 name is looked for in the unified hierarchy."""
    found = cgroups.at(environment.cgroup_path(orlop.engine.wiring.root_id, id, parent))
    return Path(found.v1.get(controller) or found.unified, name).read_text().strip()


V1 = cgroups.detect().mode != "v2"
v1_only = pytest.mark.skipif(not V1, reason="a file of cgroup v1")


@v1_only
def test_memory_flags(orlop: Orlop) -> None:
    flags = ("--memory", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "--memory-swappiness", "7")
    with running(orlop, *flags, "--oom-kill-disable") as id:
        assert cgroup(orlop, id, "memory", "memory.limit_in_bytes") == str(64 << 20)
        assert cgroup(orlop, id, "memory", "memory.memsw.limit_in_bytes") == str(96 << 20)
        assert cgroup(orlop, id, "memory", "memory.soft_limit_in_bytes") == str(32 << 20)
        assert cgroup(orlop, id, "memory", "memory.swappiness") == "7"
        assert "oom_kill_disable 1" in cgroup(orlop, id, "memory", "memory.oom_control")


def test_oom_kill_disable_without_a_limit_warns(orlop: Orlop) -> None:
    done = orlop.run("run", "--rm", "--oom-kill-disable", IMAGE, "true")
    assert b"WARNING: --oom-kill-disable" in done.stderr


def test_kernel_memory_warns_and_has_no_effect(orlop: Orlop) -> None:
    done = orlop.run("run", "--rm", "--kernel-memory", "64m", IMAGE, "echo", "ran")
    assert done.stdout == b"ran\n"
    assert b"WARNING: --kernel-memory is deprecated" in done.stderr


@v1_only
def test_cpu_flags(orlop: Orlop) -> None:
    with running(orlop, "--cpu-shares", "512", "--cpu-period", "50000", "--cpu-quota", "20000", "--cpuset-cpus", "0",
                 "--cpuset-mems", "0") as id:  # fmt: skip
        assert cgroup(orlop, id, "cpu", "cpu.shares") == "512"
        assert cgroup(orlop, id, "cpu", "cpu.cfs_period_us") == "50000"
        assert cgroup(orlop, id, "cpu", "cpu.cfs_quota_us") == "20000"
        assert cgroup(orlop, id, "cpuset", "cpuset.cpus") == "0"
        assert cgroup(orlop, id, "cpuset", "cpuset.mems") == "0"
    with running(orlop, "--cpus", "0.5") as id:
        assert cgroup(orlop, id, "cpu", "cpu.cfs_quota_us") == "50000"


def test_real_time_flags_apply_or_fail_closed(orlop: Orlop) -> None:
    flags = ("--cpu-rt-period", "1000000", "--cpu-rt-runtime", "1000")
    if not environment.facts().has_cgroup_file("cpu", "cpu.rt_runtime_us"):
        done = orlop.run("run", "--rm", *flags, IMAGE, "true", code=125)
        assert "--cpu-rt-runtime" in done.stderr.decode().splitlines()[0]
        return
    with running(orlop, *flags) as id:
        assert cgroup(orlop, id, "cpu", "cpu.rt_runtime_us") == "1000"
        assert cgroup(orlop, id, "cpu", "cpu.rt_period_us") == "1000000"
    with running(orlop, *flags) as first, running(orlop, *flags) as second:
        for id in (first, second):
            assert cgroup(orlop, id, "cpu", "cpu.rt_runtime_us") == "1000"


@pytest.fixture(scope="module")
def disk() -> str:
    """The block device of some disk."""
    for name in sorted(os.listdir("/sys/block")):
        if os.path.exists(f"/dev/{name}") and not name.startswith(("loop", "zram", "ram")):
            return f"/dev/{name}"
    pytest.skip("no disk here")


@v1_only
def test_rates_of_block_devices_are_limited(orlop: Orlop, disk: str) -> None:
    status = os.stat(disk)
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    flags = ("--device-read-bps", f"{disk}:1mb", "--device-write-bps", f"{disk}:2048", "--device-read-iops",
             f"{disk}:100", "--device-write-iops", f"{disk}:200")  # fmt: skip
    with running(orlop, *flags) as id:
        for name, rate in (("read_bps", 1 << 20), ("write_bps", 2048), ("read_iops", 100), ("write_iops", 200)):
            assert cgroup(orlop, id, "blkio", f"blkio.throttle.{name}_device") == f"{number} {rate}"


def test_a_block_weight_applies_or_warns(orlop: Orlop, disk: str) -> None:
    done = orlop.run("run", "--rm", "--blkio-weight", "300", "--blkio-weight-device", f"{disk}:200", IMAGE, "true")
    host = environment.facts()
    if host.cgroup_mode == "v2" or host.has_cgroup_file("blkio", "blkio.weight"):
        assert done.stderr == b""
    else:
        assert b"WARNING: --blkio-weight has no effect" in done.stderr


def test_the_cgroup_parent_and_namespace(orlop: Orlop) -> None:
    parent = f"/orlop-flags-{os.getpid()}/web"
    try:
        with running(orlop, "--cgroup-parent", parent, "--pids-limit", "33") as id:
            assert cgroup(orlop, id, "pids", "pids.max", parent) == "33"
    finally:
        for path in (parent, os.path.dirname(parent)):
            for directory in cgroups.at(path).directories():
                if os.path.isdir(directory):
                    os.rmdir(directory)
    own = orlop.out("run", "--rm", IMAGE, "readlink", "/proc/self/ns/cgroup")
    host = orlop.out("run", "--rm", "--cgroupns", "host", IMAGE, "readlink", "/proc/self/ns/cgroup")
    assert host == os.readlink("/proc/self/ns/cgroup") != own


def test_namespaces_of_another_container_are_joined(orlop: Orlop) -> None:
    with running(orlop, "--name", "donor", "--ipc", "shareable", "--hostname", "brig", "--shm-size", "1m") as donor:
        kinds = {"pid": "pid", "ipc": "ipc", "uts": "uts", "net": "network", "cgroup": "cgroupns"}
        script = ";".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
        theirs = orlop.out("exec", "donor", "sh", "-c", script).split()
        flags = [text for flag in kinds.values() for text in (f"--{flag}", "container:donor")]
        assert orlop.out("run", "--rm", *flags, IMAGE, "sh", "-c", script).split() == theirs
        for number, flag in enumerate(kinds.values()):
            ours = orlop.out("run", "--rm", f"--{flag}", f"container:{donor[:12]}", IMAGE, "sh", "-c", script).split()
            assert [a == b for a, b in zip(ours, theirs, strict=True)] == [n == number for n in range(len(kinds))]
        orlop.run("run", "--rm", "--ipc", "container:donor", IMAGE, "sh", "-c", "echo hello > /dev/shm/note")
        assert orlop.out("exec", "donor", "cat", "/dev/shm/note") == "hello"
        text = orlop.out(
            "run", "--rm", "--network", "container:donor", IMAGE, "sh", "-c", "hostname; cat /etc/hostname"
        )
        assert text.split() == ["brig", "brig"]


def test_joining_needs_a_container_that_runs_and_shares(orlop: Orlop) -> None:
    orlop.run("create", "--name", "idle", IMAGE, "true")
    for flag in ("pid", "uts", "network", "cgroupns"):
        done = orlop.run("run", "--rm", f"--{flag}", "container:idle", IMAGE, "true", code=125)
        line = done.stderr.decode().splitlines()[0]
        assert f"--{flag}" in line
        assert "not running" in line
    done = orlop.run("run", "--rm", "--ipc", "container:idle", IMAGE, "true", code=125)
    assert "not shareable" in done.stderr.decode()
    done = orlop.run("run", "--rm", "--pid", "container:nobody", IMAGE, "true", code=125)
    assert "no such container: nobody" in done.stderr.decode().splitlines()[0]
    orlop.run("rm", "idle")
    assert orlop.out("ps", "-aq") == ""


def test_a_container_joins_its_donor_anew_at_every_start(orlop: Orlop) -> None:
    with running(orlop, "--name", "donor"), running(orlop, "--name", "joiner", "--pid", "container:donor"):
        for name in ("joiner", "donor"):
            orlop.run("stop", "-t", "0", name)
        done = orlop.run("start", "joiner", code=None)
        assert done.returncode != 0
        assert "not running" in done.stderr.decode()
        orlop.run("start", "donor")
        orlop.run("start", "joiner")
        inside = [orlop.out("exec", name, "readlink", "/proc/self/ns/pid") for name in ("donor", "joiner")]
        assert inside[0] == inside[1]


def test_ipc_none_has_no_shared_memory_and_shm_size_is_its_size(orlop: Orlop) -> None:
    assert orlop.run("run", "--rm", "--ipc", "none", IMAGE, "ls", "/dev/shm", code=None).returncode != 0
    for mode in ("private", "shareable"):
        text = orlop.out("run", "--rm", "--ipc", mode, "--shm-size", "3m", IMAGE, "df", "-k", "/dev/shm")
        assert text.splitlines()[-1].split()[1] == "3072"


def test_device_rules_and_devices(orlop: Orlop) -> None:
    script = "mknod /tmp/fuse c 10 229 && (: < /tmp/fuse) 2>&1 | grep -q 'not permitted' && echo denied; true"
    assert orlop.out("run", "--rm", "--cap-add", "MKNOD", IMAGE, "sh", "-c", script) == "denied"
    rule = ("--device-cgroup-rule", "c 10:229 rwm")
    assert orlop.out("run", "--rm", "--cap-add", "MKNOD", *rule, IMAGE, "sh", "-c", script) == ""
    text = orlop.out(
        "run", "--rm", "--device", "/dev/null:/dev/hole:rw", IMAGE, "sh", "-c", "echo x > /dev/hole; ls -l /dev/hole"
    )
    assert "1,   3" in text


@pytest.fixture
def cdi() -> Iterator[Path]:
    """/etc/cdi with one vendor's file."""
    directory = Path("/etc/cdi")
    made = not directory.exists()
    directory.mkdir(exist_ok=True)
    file = directory / "orlop-test.json"
    broken = directory / "orlop-test-broken.json"
    file.write_text(
        json.dumps(
            {
                "cdiVersion": "0.6.0",
                "kind": "vendor.test/thing",
                "devices": [
                    {
                        "name": "one",
                        "containerEdits": {
                            "deviceNodes": [{"path": "/dev/thing", "hostPath": "/dev/null", "permissions": "rw"}],
                            "mounts": [{"hostPath": "/etc/cdi", "containerPath": "/vendor", "options": ["ro", "bind"]}],
                        },
                    }
                ],
                "containerEdits": {"env": ["THING=yes"], "additionalGids": [4242]},
            }
        )
    )
    broken.write_text("{")
    try:
        yield file
    finally:
        file.unlink()
        broken.unlink()
        if made:
            directory.rmdir()


def test_a_cdi_device_brings_nodes_mounts_environment_and_groups(orlop: Orlop, cdi: Path) -> None:
    script = "echo $THING; ls /vendor; echo x > /dev/thing && echo node; id -G; touch /vendor/x 2>&1 || true"
    text = orlop.out("run", "--rm", "--device", "vendor.test/thing=one", IMAGE, "sh", "-c", script)
    assert text.splitlines()[0] == "yes"
    assert cdi.name in text
    assert "node" in text.split()
    assert "4242" in text.split()
    assert "Read-only" in text
    done = orlop.run("run", "--rm", "--device", "vendor.test/thing=two", IMAGE, "true", code=125)
    assert "unresolvable CDI device" in done.stderr.decode().splitlines()[0]


def test_gpus_are_the_vendors_cdi_devices(orlop: Orlop) -> None:
    done = orlop.run("run", "--rm", "--gpus", "all", IMAGE, "true", code=125)
    assert "nvidia.com/gpu=all" in done.stderr.decode().splitlines()[0]


def test_sysctls_are_the_containers_own(orlop: Orlop) -> None:
    flags = ("--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=4321")
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"
    assert orlop.out("run", "--rm", *flags, IMAGE, "sh", "-c", script).split() == ["1", "4321"]


def test_security_options(orlop: Orlop, tmp_path: Path) -> None:
    def status(*flags: str) -> dict[str, str]:
        text = orlop.out("run", "--rm", *flags, IMAGE, "cat", "/proc/self/status")
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    assert status("--security-opt", "seccomp=unconfined")["Seccomp"] == "0"
    assert status("--security-opt", "no-new-privileges=false")["NoNewPrivs"] == "0"
    profile = tmp_path / "profile.json"
    profile.write_text(
        json.dumps(
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
            }
        )
    )
    option = f"seccomp={profile}"
    assert "not permitted" in orlop.out(
        "run", "--rm", "--security-opt", option, IMAGE, "sh", "-c", "mkdir /x 2>&1; true"
    )
    masked = orlop.out("run", "--rm", "--security-opt", "systempaths=unconfined", IMAGE, "cat", "/proc/mounts")
    assert "/proc/kcore" not in masked
    orlop.run("run", "--rm", "--security-opt", "label=disable", IMAGE, "true")
    text = orlop.out(
        "run", "--rm", "--security-opt", "writable-cgroups", IMAGE, "grep", " /sys/fs/cgroup", "/proc/mounts"
    )
    assert " rw," in text
    if not environment.facts().apparmor:
        done = orlop.run("run", "--rm", "--security-opt", "apparmor=mine", IMAGE, "true", code=125)
        assert "apparmor=mine cannot be applied" in done.stderr.decode().splitlines()[0]


def test_init_is_the_first_process_and_may_be_named(orlop: Orlop) -> None:
    for flags in (("--init",), ("--init", "--init-binary", environment.find_init())):
        text = orlop.out("run", "--rm", *flags, IMAGE, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; echo; echo $$")
        assert text.startswith("/dev/init -- sh")
        assert text.splitlines()[-1] != "1"


def test_groups_are_resolved_in_the_container(orlop: Orlop) -> None:
    text = orlop.out("run", "--rm", "--group-add", "crew", "--group-add", "4711", IMAGE, "id", "-G")
    assert set(text.split()) == {"0", "2000", "4711"}


def test_another_users_home_in_exec_is_its_own_unless_somebody_set_it(orlop: Orlop) -> None:
    with running(orlop, "--name", "homes") as _, running(orlop, "--name", "set", "-e", "HOME=/set") as _:
        assert orlop.out("exec", "-u", "sailor", "homes", "sh", "-c", "echo $HOME") == "/home"
        assert orlop.out("exec", "homes", "sh", "-c", "echo $HOME") == "/root"
        assert orlop.out("exec", "-u", "sailor", "set", "sh", "-c", "echo $HOME") == "/set"


def test_labels_files_and_annotations_are_kept(orlop: Orlop, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("# comment\nfrom=file\nboth=file\n")
    id = orlop.out(
        "create", "--label-file", str(tmp_path / "labels"), "-l", "both=flag", "--annotation", "a.b/c=d", IMAGE
    )
    assert orlop.out("inspect", "--format", "{{.Config.Labels.from}} {{.Config.Labels.both}}", id) == "file flag"
    record = orlop.engine.containers.get(id).record
    assert json.loads(record.spec)["annotations"]["a.b/c"] == "d"
    orlop.run("rm", id)


def test_health_checks_and_restart_policies_are_kept_in_the_record(orlop: Orlop) -> None:
    flags = ("--health-cmd", "true", "--health-interval", "1m30s", "--health-retries", "2", "--restart", "on-failure:3")
    id = orlop.out("create", *flags, IMAGE)
    config = orlop.engine.containers.get(id).record.extensions["orlop.config"]
    assert config["health"] == {"Test": ["CMD-SHELL", "true"], "Interval": 90_000_000_000, "Retries": 2}
    assert config["restart"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    orlop.run("rm", id)
    id = orlop.out("create", "--no-healthcheck", IMAGE)
    assert orlop.engine.containers.get(id).record.extensions["orlop.config"]["health"] == {"Test": ["NONE"]}
    orlop.run("rm", id)


def test_help_lists_what_works(orlop: Orlop) -> None:
    text = orlop.out("run", "--help")
    for flag in ("--volumes-from", "--device-read-bps", "--cgroupns", "--memory-swappiness", "--device-cgroup-rule"):
        assert flag in text
    assert "--storage-opt" not in text
