"""Generated specifications run by crun and runc on the real kernel, looked at from inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.base import errors
from orlop.base.kernel import cgroups
from orlop.services.runtime import capabilities, rootview, runtimes, seccomp, spec
from orlop.services.runtime.mounts import Mount, parse_volume, prepare_sources
from orlop.services.runtime.options import ExecOptions, RunOptions
from tests.support import runtime_probe
from tests.support.runtime_probe import Runner

MIB = 1 << 20


@pytest.fixture(scope="module", params=["crun", "runc"])
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runtime_probe.require(request.param)
    directory = tmp_path_factory.mktemp(request.param)
    root = runtime_probe.make_root(str(directory / "root"))
    yield Runner(request.param, str(directory), root)
    runtime_probe.remove_cgroup_parents()


def status(runner: Runner, **options: Any) -> dict[str, str]:
    result = runner.run("cat", "/proc/self/status", **options)
    assert result.code == 0, result
    return {key: value.strip() for key, _, value in (line.partition(":") for line in result.lines)}


class TestProtections:
    def test_a_container_holds_the_default_capabilities_a_filter_and_no_new_privileges(self, runner: Runner) -> None:
        got = status(runner)
        expected = capabilities.DEFAULT_MASK & runner.host.bounding
        for name in ("CapEff", "CapPrm", "CapBnd"):
            assert int(got[name], 16) == expected, name
        assert int(got["CapInh"], 16) == int(got["CapAmb"], 16) == 0
        assert got["Seccomp"] == "2"
        assert got["NoNewPrivs"] == "1"

    def test_a_user_that_is_not_root_holds_nothing(self, runner: Runner) -> None:
        got = status(runner, user="app")
        assert int(got["CapEff"], 16) == int(got["CapPrm"], 16) == 0
        assert got["Uid"].split() == ["1000"] * 4
        assert sorted(map(int, got["Groups"].split())) == [10, 44, 1001]

    def test_capabilities_are_added_and_dropped(self, runner: Runner) -> None:
        got = status(runner, cap_drop=("ALL",), cap_add=("KILL",))
        assert int(got["CapEff"], 16) == capabilities.bit("CAP_KILL")

    def test_namespaces_and_mounts_cannot_be_made(self, runner: Runner) -> None:
        result = runner.run(
            "sh",
            "-c",
            "unshare -U true; unshare -m true; mount -t tmpfs t /tmp; umount /proc; mount -o remount,rw /proc/sys",
        )
        assert result.err.count("ermission denied") + result.err.count("not permitted") == 5, result

    def test_masked_paths_cannot_be_read_and_read_only_ones_not_written(self, runner: Runner) -> None:
        script = (
            "for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do"
            " test -e $f && test -n \"$(head -c 1 $f 2>/dev/null | od -An -c)\" && echo READABLE $f; done;"
            " for d in /sys/firmware /proc/acpi /proc/scsi /sys/devices/virtual/powercap; do"
            " test -d $d && test -n \"$(ls $d)\" && echo LISTED $d; done;"
            " for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity"
            " /sys/kernel/uevent_helper /sys/power/state /sys/fs/cgroup/pids/tasks;"
            " do test -e $f && (echo 0 > $f) 2>/dev/null && echo WRITTEN $f; done; echo end"
        )  # fmt: skip
        assert runner.run("sh", "-c", script).out == "end\n"

    def test_its_namespaces_are_not_the_hosts(self, runner: Runner) -> None:
        names = ("mnt", "pid", "ipc", "uts", "net", "cgroup")
        result = runner.run("sh", "-c", "for n in " + " ".join(names) + "; do readlink /proc/self/ns/$n; done")
        assert len(result.lines) == len(names)
        for name, inside in zip(names, result.lines, strict=True):
            assert inside != os.readlink(f"/proc/self/ns/{name}")

    def test_shared_namespaces_are_the_hosts(self, runner: Runner) -> None:
        script = "for n in pid ipc uts net; do readlink /proc/self/ns/$n; done"
        result = runner.run("sh", "-c", script, pid="host", ipc="host", uts="host", network="host")
        assert result.lines == [os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "ipc", "uts", "net")]

    def test_there_are_only_the_usual_devices_and_no_other_can_be_used(self, runner: Runner) -> None:
        result = runner.run(
            "sh", "-c", "ls /dev; echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c"
        )
        devices = set(result.lines[:-2])
        assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue"} <= devices
        usual = "null zero full random urandom tty ptmx pts shm mqueue fd core stdin stdout stderr console"
        assert devices <= set(usual.split())
        assert result.lines[-2:] == ["4", "4"]
        made = runner.run("sh", "-c", "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem")
        assert made.code != 0
        assert "not permitted" in made.err

    def test_privileged_lifts_all_of_it(self, runner: Runner) -> None:
        script = (
            "grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status; mount -t tmpfs t /tmp && echo mounted;"
            " test -w /proc/sys/kernel/hostname && echo writable; test -c /dev/kmsg && echo device;"
            " grep ' /sys ' /proc/mounts"
        )
        result = runner.run("sh", "-c", script, privileged=True)
        got = dict(line.split(":\t") for line in result.lines[:3])
        assert int(got["CapEff"], 16) == capabilities.ALL & runner.host.bounding
        assert (got["NoNewPrivs"], got["Seccomp"]) == ("0", "0")
        assert {"mounted", "writable", "device"} <= set(result.lines)
        assert " rw," in result.lines[-1]

    def test_an_unconfined_filter_and_open_system_paths(self, runner: Runner) -> None:
        options = ("seccomp=unconfined", "no-new-privileges=false", "systempaths=unconfined")
        script = "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; grep -c ' /proc/sys ' /proc/mounts"
        assert runner.run("sh", "-c", script, security_opt=options).lines == ["NoNewPrivs:\t0", "Seccomp:\t0", "0"]

    def test_a_users_profile_is_in_force(self, runner: Runner) -> None:
        profile = json.dumps(
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
                            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []}],
                "syscalls": [{"names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}],
            }
        )  # fmt: skip
        result = runner.run("mkdir", "/tmp/x", security_opt=(f"seccomp={profile}",))
        assert result.code != 0
        assert "Protocol error" in result.err

    def test_the_default_filter_answers_call_by_call_as_it_says(self, runner: Runner) -> None:
        """Python of the host, bound in, makes the calls themselves."""
        script = Path(runner.root) / "probe.py"
        script.write_text(_SYSCALLS)
        binds = {"/usr", "/lib", "/lib64", sys.base_prefix}
        mounts = tuple(
            Mount("bind", path, os.path.realpath(path), read_only=True)
            for path in sorted(binds)
            if os.path.exists(path)
        )
        result = runner.run(os.path.realpath(sys.executable), "-I", "-S", "/probe.py", mounts=mounts)
        assert result.code == 0, result
        got = json.loads(result.out)
        allowed = {"getpid", "socket_inet", "socket_netlink", "personality_query", "clone_plain", "memfd_create"}
        assert {name for name, errno in got.items() if errno == 0} == allowed
        nosys = {"clone3", "unknown", "personality_randomize"}
        assert {name for name, errno in got.items() if errno == 38} == nosys
        assert all(errno == 1 for name, errno in got.items() if name not in allowed | nosys), got


_SYSCALLS = """
import ctypes, json, os, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
def call(number, *args):
    ctypes.set_errno(0)
    done = libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(a) for a in args])
    if done >= 0:
        return 0
    return ctypes.get_errno()
n = dict(getpid=39, socket=41, personality=135, clone=56, unshare=272, keyctl=250, bpf=321, ptrace=101, mount=165,
         setns=308, swapon=167, reboot=169, kexec=246, userfault=323, perf=298, iouring=425, memfd=319, acct=163,
         init_module=175, open_by_handle=304, quotactl=179, settimeofday=164, syslog=103) if x86 else dict(
         getpid=172, socket=198, personality=92, clone=220, unshare=97, keyctl=219, bpf=280, ptrace=117, mount=40,
         setns=268, swapon=224, reboot=142, kexec=104, userfault=282, perf=241, iouring=425, memfd=279, acct=89,
         init_module=105, open_by_handle=265, quotactl=60, settimeofday=170, syslog=116)
out = {}
out["getpid"] = call(n["getpid"])
for name, family in (("inet", 2), ("netlink", 16), ("vsock", 40), ("alg", 38), ("new", 99)):
    out["socket_" + name] = call(n["socket"], family, 3 if family == 16 else 5 if family == 38 else 1, 0)
out["personality_query"] = call(n["personality"], 0xffffffff)
out["personality_randomize"] = call(n["personality"], 0x40000)
out["clone3"] = call(435, 0, 0)
for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
    out["clone_%x" % flag] = call(n["clone"], flag | 17, 0, 0, 0, 0)
pid = libc.syscall(ctypes.c_long(n["clone"]), ctypes.c_ulong(17), 0, 0, 0, 0)
if pid == 0:
    os._exit(0)
out["clone_plain"] = 0 if pid > 0 else ctypes.get_errno()
out["memfd_create"] = call(n["memfd"], ctypes.cast(ctypes.c_char_p(b"x"), ctypes.c_void_p).value, 0)
out["unknown"] = call(9999)
for name in ("unshare", "keyctl", "bpf", "mount", "setns", "swapon", "reboot", "kexec", "userfault", "perf", "iouring",
             "acct", "init_module", "open_by_handle", "quotactl", "settimeofday", "syslog"):
    out[name] = call(n[name], 0, 0, 0, 0, 0)
print(json.dumps(out))
"""


class TestFilterCache:
    def test_crun_takes_the_harvested_program_which_equals_its_own_and_exec_is_filtered_too(
        self, tmp_path: Path
    ) -> None:
        runtime_probe.require("crun")
        runner = Runner("crun", str(tmp_path), runtime_probe.make_root(str(tmp_path / "root")))
        with runner.running() as (id, _, made):
            kept = seccomp.compile(made.seccomp, runner.runtime, runner.cache)
            assert kept.bpf
            own = Path(runner.runtime.state_root(runner.state), id, "seccomp.bpf").read_bytes()
        with runner.running() as (id, _, made):
            assert Path(runner.runtime.state_root(runner.state), id, "seccomp.bpf").read_bytes() == own
            config = json.loads(next(tmp_path.glob(f"{id}/config.json")).read_text())
            assert config["annotations"][seccomp.BPF_ANNOTATION] == kept.bpf
            done = runner.call("exec", id, "sh", "-c", "grep Seccomp: /proc/self/status; unshare -U true")
            assert "Seccomp:\t2" in done.stdout
            assert "not permitted" in done.stderr
        result = runner.run("sh", "-c", "grep Seccomp: /proc/self/status; unshare -U true; mount -t tmpfs t /tmp")
        assert "Seccomp:\t2" in result.out
        assert result.err.count("not permitted") + result.err.count("permission denied") == 2
        assert runner.run("true", cap_add=("SYS_ADMIN",)).code == 0
        runtime_probe.remove_cgroup_parents()


class TestProcess:
    def test_environment_user_home_directory_and_host_name(self, runner: Runner) -> None:
        result = runner.run(
            "sh", "-c", 'echo $A "$HOME" $HOSTNAME; pwd; hostname; id -u; id -g; umask',
            env=("A=ä b",), user="app", workdir="/not/there/yet", hostname="box", umask="0027",
        )  # fmt: skip
        assert result.lines == ["ä b /home/app box", "/not/there/yet", "box", "1000", "1001", "0027"], result

    def test_the_domain_name_and_sysctls_are_set(self, runner: Runner) -> None:
        result = runner.run(
            "sh", "-c", "cd /proc/sys; cat kernel/domainname kernel/msgmax net/ipv4/ip_unprivileged_port_start",
            domainname="example.org", sysctls={"kernel.msgmax": "4096"},
        )  # fmt: skip
        assert result.lines == ["example.org", "4096", "0"]

    def test_limits_and_oom_score(self, runner: Runner) -> None:
        result = runner.run(
            "sh",
            "-c",
            "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj",
            ulimits=("nofile=100:200",),
            oom_score_adj=77,
        )
        assert result.lines == ["100", "200", "77"]

    def test_a_limit_above_ours_is_lowered_and_the_container_still_runs(self, runner: Runner) -> None:
        hard = runner.host.hard_limits["nofile"]
        if runner.host.may_raise_limits:
            pytest.skip("this process may raise limits")
        result = runner.run("sh", "-c", "ulimit -Hn", ulimits=(f"nofile={hard * 2}",))
        assert result.lines == [str(hard)]
        assert "lowered" in result.made.warnings[0]

    def test_an_init_is_process_one_and_reaps(self, runner: Runner) -> None:
        result = runner.run("sh", "-c", "cat /proc/1/comm; cat /proc/1/cmdline | tr '\\0' ' '", init=True)
        assert "sh" not in result.lines[0]
        assert result.lines[1].startswith("/dev/init -- sh -c")

    def test_exit_codes_come_through(self, runner: Runner) -> None:
        assert runner.run("sh", "-c", "exit 42").code == 42

    def test_a_descriptor_of_ours_does_not_reach_the_container(self, runner: Runner) -> None:
        result = runner.run("sh", "-c", "ls /proc/self/fd | wc -l")
        assert int(result.out) == 4  # 0, 1, 2 and the directory being listed

    def test_exec_has_the_containers_protections_and_its_own_environment(self, runner: Runner, tmp_path: Path) -> None:
        with runner.running("sleep", "60", env=("A=1",)) as (id, _, made):
            script = "grep -E 'Seccomp:|NoNewPrivs|CapEff' /proc/self/status; echo $A $B; pwd; id -u"
            wanted = ExecOptions(("sh", "-c", script), env=("B=2",), user="app", workdir="/tmp")
            process = spec.exec_process(made.spec, wanted, runner.host, rootview.over_directory(runner.root))
            (tmp_path / "process.json").write_bytes(spec.dump_process(process))
            done = runner.call("exec", "--process", str(tmp_path / "process.json"), id)
        assert done.stdout.splitlines() == [
            "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "1 2", "/tmp", "1000",
        ]  # fmt: skip


class TestFileSystems:
    def test_a_read_only_root_is_read_only_and_a_tmpfs_on_it_is_not(self, runner: Runner) -> None:
        script = (
            "(echo x > /file) 2>/dev/null || echo denied; cd /scratch; echo y > f; cat f; grep scratch /proc/mounts"
        )
        os.makedirs(f"{runner.root}/scratch", exist_ok=True)
        result = runner.run("sh", "-c", script, read_only=True, tmpfs=("/scratch:size=2m,mode=1770",))
        assert result.lines[:2] == ["denied", "y"]
        assert {"nosuid", "nodev", "noexec", "size=2048k", "mode=1770"} <= set(result.lines[2].split()[3].split(","))

    def test_binds_are_writable_or_read_only_all_the_way_down(self, runner: Runner, tmp_path: Path) -> None:
        source = tmp_path / "data"
        (source / "below").mkdir(parents=True)
        (source / "file").write_text("host")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(source / "below")], check=True)
        try:
            read_write, _ = parse_volume(f"{source}:/rw")
            read_only, _ = parse_volume(f"{source}:/ro:ro")
            tries = "for d in /ro /ro/below; do (echo x > $d/x) 2>/dev/null || echo denied $d; done"
            result = runner.run("sh", "-c", f"cat /ro/file; echo in > /rw/new; {tries}", mounts=(read_write, read_only))
            assert result.out == "hostdenied /ro\ndenied /ro/below\n", result
            assert (source / "new").read_text() == "in\n"
        finally:
            subprocess.run(["umount", str(source / "below")], check=True)

    def test_a_mount_inside_does_not_reach_the_host(self, runner: Runner, tmp_path: Path) -> None:
        volume, _ = parse_volume(f"{tmp_path}/v:/v")
        prepare_sources([volume])
        result = runner.run("sh", "-c", "mount -t tmpfs t /v && touch /v/inside", mounts=(volume,), privileged=True)
        assert result.code == 0, result
        assert os.listdir(f"{tmp_path}/v") == []

    def test_shared_memory_has_the_size_asked_for(self, runner: Runner) -> None:
        assert runner.run("df", "-k", "/dev/shm", shm_size=3 * MIB).lines[1].split()[1] == "3072"
        assert runner.run("df", "-k", "/dev/shm").lines[1].split()[1] == "65536"

    def test_a_device_of_the_host_is_there_when_asked_for(self, runner: Runner) -> None:
        result = runner.run("sh", "-c", "ls /dev/same; head -c 3 /dev/same | wc -c", devices=("/dev/zero:/dev/same:r",))
        assert result.lines == ["/dev/same", "3"], result


class TestLimits:
    def read(self, runner: Runner, controller: str, name: str, **options: Any) -> str:
        layout = cgroups.detect()
        with runner.running(**options) as (_, _, made):
            found = cgroups.at(made.spec["linux"]["cgroupsPath"], layout)
            directory = found.unified if layout.mode == "v2" else found.v1[controller]
            return Path(directory, name).read_text().strip()

    def test_processes_are_bounded_so_that_a_fork_bomb_ends(self, runner: Runner) -> None:
        script = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo unbounded"
        result = runner.run("sh", "-c", script, pids_limit=20)
        assert "unbounded" not in result.out
        assert "fork" in result.err

    def test_the_default_limit_on_processes_is_in_force(self, runner: Runner) -> None:
        assert self.read(runner, "pids", "pids.max") == "4096"

    def test_a_container_over_its_memory_is_killed_with_137(self, runner: Runner) -> None:
        result = runner.run("tail", "-c", "400m", "/dev/zero", memory=32 * MIB, memory_swap=32 * MIB)
        assert result.code == 137, result

    def test_cpus_reach_the_cgroup(self, runner: Runner) -> None:
        if cgroups.detect().mode == "v2":
            assert self.read(runner, "cpu", "cpu.max", cpus=0.5) == "50000 100000"
        else:
            assert self.read(runner, "cpu", "cpu.cfs_quota_us", cpus=0.5) == "50000"
            assert self.read(runner, "cpu", "cpu.shares", cpu_shares=512) == "512"

    def test_the_cgroup_is_the_one_the_specification_names(self, runner: Runner) -> None:
        with runner.running() as (_, pid, made):
            assert made.spec["linux"]["cgroupsPath"] in cgroups.paths_of(pid).values()

    def test_a_cgroup_parent_is_taken(self, runner: Runner) -> None:
        with runner.running(cgroup_parent="/orlop/testroot0000/deep") as (id, pid, _):
            assert f"/orlop/testroot0000/deep/{id}" in cgroups.paths_of(pid).values()
        cgroups.remove(cgroups.at("/orlop/testroot0000/deep"))


class TestHostileRoots:
    """/etc/passwd belongs to the image."""

    def user(self, runner: Runner, text: str) -> Any:
        return runner.generate(RunOptions(user=text, args=("true",))).user

    @pytest.fixture
    def hostile(self, runner: Runner, tmp_path: Path) -> Runner:
        root = tmp_path / "root"
        (root / "etc").mkdir(parents=True)
        return Runner(runner.runtime.name, str(tmp_path), str(root))

    def test_a_link_out_of_the_root_stays_in_it(self, hostile: Runner, tmp_path: Path) -> None:
        outside = tmp_path / "secret"
        outside.write_text("evil:x:666:666::/evil:\n")
        etc = Path(hostile.root, "etc")
        for target in (str(outside), "../../secret", "../../../../../../../../" + str(outside)):
            (etc / "passwd").symlink_to(target)
            with pytest.raises(errors.UsageError, match="unable to find user evil: no /etc/passwd in the container"):
                self.user(hostile, "evil")
            (etc / "passwd").unlink()
        (Path(hostile.root) / "real").write_text("good:x:7:8::/good:\n")
        (etc / "passwd").symlink_to("/real")
        assert self.user(hostile, "good").uid == 7
        (etc / "passwd").unlink()
        (etc / "passwd").symlink_to("/proc/self/environ")
        with pytest.raises(errors.UsageError, match="unable to find user"):
            self.user(hostile, "x")

    @pytest.mark.parametrize("kind", ["fifo", "directory", "device", "socketless"])
    def test_what_is_no_regular_file_is_refused_and_never_opened(self, hostile: Runner, kind: str) -> None:
        path = f"{hostile.root}/etc/passwd"
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "directory":
            os.mkdir(path)
        elif kind == "device":
            os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))
        else:
            os.mknod(path, 0o666 | 0o140000)
        with pytest.raises(errors.UsageError, match="is not a regular file"):
            self.user(hostile, "app")
        assert self.user(hostile, "12").uid == 12

    def test_a_huge_file_is_refused(self, hostile: Runner) -> None:
        with open(f"{hostile.root}/etc/passwd", "wb") as file:
            file.truncate(1 << 33)
        with pytest.raises(errors.UsageError, match="is larger than"):
            self.user(hostile, "app")

    def test_a_working_directory_that_is_a_link_out_stays_in_the_root(self, runner: Runner) -> None:
        link = Path(runner.root, "way-out")
        link.symlink_to("/../../../../../../etc")
        try:
            result = runner.run("sh", "-c", "cat passwd", workdir="/way-out")
            assert result.out == runtime_probe.PASSWD
        finally:
            link.unlink()


def test_the_preferred_runtime_here_answers_with_its_version(tmp_path: Path) -> None:
    runtime_probe.require("crun")
    found = runtimes.find("crun", str(tmp_path))
    assert found.version
    layout = cgroups.detect()
    assert found.hide_unified == (layout.mode == "hybrid" and bool(layout.unified_controllers))
    assert runtimes.find("crun", str(tmp_path)) == found
