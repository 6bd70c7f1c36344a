"""The default seccomp profile, users' profiles, and the cache of compiled programs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from orlop.base import errors
from orlop.services.runtime import capabilities, seccomp, seccomp_profile, seccomp_user
from orlop.services.runtime.runtimes import Runtime
from orlop.services.runtime.seccomp import Choice, Filter

ALLOW = "SCMP_ACT_ALLOW"
KERNEL = (6, 18)


def default(caps: int = capabilities.DEFAULT_MASK, machine: str = "x86_64", kernel: tuple[int, int] = KERNEL) -> Any:
    return seccomp.default_profile(caps, machine, kernel)


def names(profile: Any, action: str = ALLOW, errno: int | None = None) -> set[str]:
    """Names with one answer whatever their arguments."""
    return {
        name
        for rule in profile["syscalls"]
        if rule["action"] == action and "args" not in rule and rule.get("errnoRet") == errno
        for name in rule["names"]
    }


def verdict(profile: Any, name: str, *args: int) -> str | int:
    """What a filter of this profile answers, as the kernel would: "allow" or an errno."""

    def holds(arg: Any) -> bool:
        value = args[arg["index"]] if arg["index"] < len(args) else 0
        wanted = arg["value"]
        return {
            "SCMP_CMP_EQ": value == wanted,
            "SCMP_CMP_NE": value != wanted,
            "SCMP_CMP_LT": value < wanted,
            "SCMP_CMP_GT": value > wanted,
            "SCMP_CMP_MASKED_EQ": value & wanted == arg.get("valueTwo", 0),
        }[arg["op"]]

    found = {
        "allow" if rule["action"] == ALLOW else rule["errnoRet"]
        for rule in profile["syscalls"]
        if name in rule["names"] and all(holds(arg) for arg in rule.get("args", ()))
    }
    assert len(found) <= 1, f"{name}{args} has two answers"
    return found.pop() if found else int(profile["defaultErrnoRet"])


def test_a_change_of_the_table_changes_its_version() -> None:
    """Compiled programs are cached by version: raise seccomp.PROFILE_VERSION, then put the new hash here."""
    profiles = [default(caps, machine) for caps in (0, capabilities.ALL) for machine in ("x86_64", "aarch64", "s390x")]
    found = hashlib.sha256(json.dumps(profiles, sort_keys=True).encode()).hexdigest()[:16]
    assert (seccomp.PROFILE_VERSION, found) == ("1", "0cf00f1592483b3e")


def test_everyday_calls_are_allowed_and_dangerous_ones_answer_eperm() -> None:
    profile = default()
    assert {"read", "openat", "execve", "futex", "epoll_wait", "clone3", "chroot", "ptrace"} - names(profile) == {
        "clone3"
    }
    for name in (
        "kexec_load",
        "unshare",
        "mount",
        "setns",
        "bpf",
        "keyctl",
        "io_uring_setup",
        "reboot",
        "init_module",
        "open_by_handle_at",
        "swapon",
        "userfaultfd",
        "perf_event_open",
        "pivot_root",
        "acct",
        "move_mount",
    ):
        assert verdict(profile, name) == 1, name


def test_a_call_nobody_knows_answers_enosys_so_that_programs_fall_back() -> None:
    assert verdict(default(), "call_of_the_year_2040") == 38


def test_clone_may_not_make_namespaces_and_clone3_falls_back_to_clone() -> None:
    profile = default()
    assert verdict(profile, "clone", 0x11) == "allow"
    assert verdict(profile, "clone", 0x003D0F00) == "allow"  # a thread, as glibc makes it
    assert verdict(profile, "clone3") == 38
    flags = seccomp_profile.NAMESPACE_FLAGS
    assert sum(flags) == seccomp._CLONE_FLAGS
    for flag in flags:
        assert verdict(profile, "clone", flag | 0x11) == 1
    assert verdict(default(machine="s390x"), "clone", flags[0], 0x11) == "allow"
    assert verdict(default(machine="s390x"), "clone", 0, flags[0]) == 1


def test_sys_admin_lifts_what_hangs_on_it() -> None:
    profile = default(capabilities.DEFAULT_MASK | capabilities.bit("CAP_SYS_ADMIN"))
    for name in ("clone", "clone3", "unshare", "mount", "setns", "bpf"):
        assert verdict(profile, name, 0x7E020000) == "allow", name
    assert verdict(profile, "reboot") == 1


@pytest.mark.parametrize(("capability", "calls"), seccomp_profile.BY_CAPABILITY)
def test_each_capability_grants_its_calls_and_only_with_it(capability: str, calls: str) -> None:
    others = capabilities.ALL & ~capabilities.bit(capability)
    granted_elsewhere = {
        name for other, more in seccomp_profile.BY_CAPABILITY if other != capability for name in more.split()
    } | {"ptrace", "process_vm_readv", "process_vm_writev", "clone", "clone3"}
    for name in calls.split():
        assert verdict(default(capabilities.bit(capability)), name) == "allow"
        if name not in granted_elsewhere:
            assert verdict(default(others), name) == 1


def test_sockets_of_strange_families_are_refused() -> None:
    profile = default()
    for family in (1, 2, 10, 16, 17, 29, 44, 45):
        assert verdict(profile, "socket", family) == "allow", family
    for family in (*seccomp_profile.REFUSED_FAMILIES, 46, 1000, 1 << 63):
        assert verdict(profile, "socket", family) == 1, family


def test_personality_may_only_be_asked_or_set_to_plain_linux() -> None:
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert verdict(default(), "personality", value) == "allow"
    assert verdict(default(), "personality", 0x0040000) == 38


def test_ptrace_needs_a_kernel_on_which_it_cannot_step_around_the_filter() -> None:
    assert verdict(default(kernel=(4, 7)), "ptrace") == 1
    assert verdict(default(kernel=(4, 8)), "ptrace") == "allow"


def test_no_name_has_two_answers_and_every_machine_has_its_architectures() -> None:
    for machine, architectures in seccomp_profile.ARCHITECTURES.items():
        for caps in (0, capabilities.DEFAULT_MASK, capabilities.ALL):
            profile = default(caps, machine)
            assert profile["architectures"] == list(architectures)
            assert not names(profile) & names(profile, "SCMP_ACT_ERRNO", 1)
    assert "arch_prctl" in names(default())
    assert "arch_prctl" not in names(default(machine="aarch64"))
    with pytest.raises(errors.Unimplemented, match="does not know vax"):
        default(machine="vax")


class TestUserProfile:
    def resolve(self, profile: Any, caps: int = 0, machine: str = "x86_64", kernel: tuple[int, int] = KERNEL) -> Any:
        return seccomp_user.resolve(json.dumps(profile), caps, machine, kernel)

    def test_an_oci_profile_goes_through_as_it_is(self) -> None:
        profile = {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [
                {
                    "names": ["read"],
                    "action": ALLOW,
                    "args": [{"index": 0, "value": 3, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
                }
            ],
        }
        assert self.resolve(profile) == profile

    def test_the_architectures_of_dockers_map_are_this_machines(self) -> None:
        arch_map = [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
        ]
        profile = {"defaultAction": ALLOW, "archMap": arch_map, "syscalls": None}
        assert self.resolve(profile)["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
        assert self.resolve(profile, machine="riscv64")["architectures"] == ["SCMP_ARCH_RISCV64"]

    @pytest.mark.parametrize(
        ("condition", "applies"),
        [
            ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
            ({"includes": {"caps": ["CAP_KILL"]}}, True),
            ({"includes": {"caps": ["CAP_KILL", "CAP_SYS_ADMIN"]}}, False),
            ({"excludes": {"caps": ["CAP_KILL", "CAP_SYS_ADMIN"]}}, False),
            ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
            ({"includes": {"arches": ["amd64", "x32"]}}, True),
            ({"includes": {"arches": ["arm64"]}}, False),
            ({"excludes": {"arches": ["amd64"]}}, False),
            ({"includes": {"minKernel": "6.18"}}, True),
            ({"includes": {"minKernel": "6.19"}}, False),
            ({"excludes": {"minKernel": "5.0"}}, False),
            ({"includes": {}, "excludes": {}}, True),
        ],
    )
    def test_a_rule_applies_when_all_includes_and_no_excludes_hold(self, condition: Any, applies: bool) -> None:
        rule = {"name": "read", "action": ALLOW, "comment": "x", **condition}
        found = self.resolve({"defaultAction": ALLOW, "syscalls": [rule]}, capabilities.bit("CAP_KILL"))["syscalls"]
        assert found == ([{"names": ["read"], "action": ALLOW}] if applies else [])

    def test_errnos_may_be_given_by_name(self) -> None:
        profile = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "syscalls": []}
        assert self.resolve(profile)["defaultErrnoRet"] == 38

    @pytest.mark.parametrize(
        "profile",
        [
            [],
            {},
            {"defaultAction": "SCMP_ACT_SHRUG"},
            {"defaultAction": ALLOW, "syscalls": {}},
            {"defaultAction": ALLOW, "syscalls": [3]},
            {"defaultAction": ALLOW, "syscalls": [{"names": [], "action": ALLOW}]},
            {"defaultAction": ALLOW, "syscalls": [{"names": ["a\0"], "action": ALLOW}]},
            {"defaultAction": ALLOW, "syscalls": [{"name": "a", "names": ["b"], "action": ALLOW}]},
            {"defaultAction": ALLOW, "syscalls": [{"names": ["a"], "action": "x"}]},
            {
                "defaultAction": ALLOW,
                "syscalls": [{"names": ["a"], "action": ALLOW, "args": [{"index": 0, "op": "x"}]}],
            },
            {"defaultAction": ALLOW, "syscalls": [{"names": ["a"], "action": ALLOW, "includes": {"caps": ["NOPE"]}}]},
            {"defaultAction": ALLOW, "syscalls": [{"names": ["a"], "action": ALLOW, "includes": {"minKernel": "6"}}]},
            {"defaultAction": ALLOW, "defaultErrnoRet": "EPERM"},
            {"defaultAction": ALLOW, "architectures": ["a"], "archMap": [{}]},
        ],
    )
    def test_a_profile_that_is_not_understood_is_refused_not_skipped(self, profile: Any) -> None:
        with pytest.raises(errors.UsageError):
            self.resolve(profile)

    def test_what_is_not_json_is_refused(self) -> None:
        with pytest.raises(errors.UsageError, match="decoding seccomp profile failed"):
            seccomp_user.resolve("{", 0, "x86_64", KERNEL)


CRUN = Runtime("crun", "/usr/bin/crun", "1.8.1", "crun-1-2-3", seccomp_bpf=True)
RUNC = Runtime("runc", "/usr/bin/runc", "1.1.5", "runc-1-2-3")
PROGRAM = b"\x20\0\0\0\x04\0\0\0" + b"\x06\0\0\0\0\0\xff\x7f"


class TestCompiled:
    choice = Choice("default", capabilities.DEFAULT_MASK, "x86_64", KERNEL)

    def harvest(self, tmp_path: Path, program: bytes, filter: Filter) -> bool:
        (tmp_path / "c1").mkdir(exist_ok=True)
        (tmp_path / "c1/seccomp.bpf").write_bytes(program)
        return seccomp.harvest(filter, str(tmp_path / "cache"), str(tmp_path / "c1"))

    def test_no_filter_is_nothing(self, tmp_path: Path) -> None:
        assert seccomp.compile(Choice(), CRUN, str(tmp_path)) == seccomp.NONE

    def test_a_program_is_kept_and_handed_to_the_next_container_of_the_same_kind(self, tmp_path: Path) -> None:
        cache = str(tmp_path / "cache")
        first = seccomp.compile(self.choice, CRUN, cache)
        assert first.key
        assert first.bpf == ""
        assert self.harvest(tmp_path, PROGRAM, first)
        second = seccomp.compile(self.choice, CRUN, cache)
        assert second.section == first.section
        assert second.bpf == "IAAAAAQAAAAGAAAAAAD/fw=="
        assert not self.harvest(tmp_path, PROGRAM, second)

    @pytest.mark.parametrize(
        "change",
        [{"capabilities": 1}, {"machine": "aarch64"}, {"kernel": (6, 19)}],
    )
    def test_another_kind_of_container_gets_another_program(self, tmp_path: Path, change: dict[str, Any]) -> None:
        cache = str(tmp_path / "cache")
        self.harvest(tmp_path, PROGRAM, seccomp.compile(self.choice, CRUN, cache))
        assert seccomp.compile(self.choice.replace(**change), CRUN, cache).bpf == ""
        assert seccomp.compile(self.choice, CRUN.replace(identity="crun-new"), cache).bpf == ""

    def test_runc_and_users_profiles_get_no_program(self, tmp_path: Path) -> None:
        assert seccomp.compile(self.choice, RUNC, str(tmp_path)).key == ""
        profile = self.choice.replace(kind="profile", profile='{"defaultAction": "SCMP_ACT_ALLOW"}')
        assert seccomp.compile(profile, CRUN, str(tmp_path)).key == ""

    @pytest.mark.parametrize("program", [b"", PROGRAM[:-1], PROGRAM[:8], PROGRAM * 2049])
    def test_what_is_no_whole_program_is_not_kept(self, tmp_path: Path, program: bytes) -> None:
        first = seccomp.compile(self.choice, CRUN, str(tmp_path / "cache"))
        assert not self.harvest(tmp_path, program, first)
        assert not seccomp.harvest(first, str(tmp_path / "cache"), str(tmp_path / "nowhere"))

    @pytest.mark.parametrize(
        "damage", [b"", b"x", b"\n\n", b"AAAA\n{}", b"\n{}\nend", b"AAAA\nno\nend", b"\xff\n{}\nend"]
    )
    def test_a_damaged_cache_is_as_good_as_none(self, tmp_path: Path, damage: bytes) -> None:
        first = seccomp.compile(self.choice, CRUN, str(tmp_path))
        (tmp_path / first.key).write_bytes(damage)
        assert seccomp.compile(self.choice, CRUN, str(tmp_path)) == first
