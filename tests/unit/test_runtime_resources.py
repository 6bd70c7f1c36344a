"""Limits, resource limits, devices, namespaces and sysctls."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.services.runtime import devices, environment, namespaces, resources, rlimits
from orlop.services.runtime.environment import HostFacts
from orlop.services.runtime.options import DEFAULT_PIDS_LIMIT, RunOptions

HOST = HostFacts(cpus=4)
MIB = 1 << 20


def limits(host: HostFacts = HOST, **options: Any) -> dict[str, Any]:
    return resources.to_spec(RunOptions(**options), host)[0]


class TestResources:
    def test_processes_are_limited_by_default_and_can_be_unlimited(self) -> None:
        assert limits() == {"pids": {"limit": DEFAULT_PIDS_LIMIT}}
        assert limits(pids_limit=7)["pids"] == {"limit": 7}
        assert limits(pids_limit=-1)["pids"] == limits(pids_limit=0)["pids"] == {"limit": -1}

    def test_memory_brings_as_much_swap_again_as_docker_does(self) -> None:
        assert limits(memory=64 * MIB)["memory"] == {"limit": 64 * MIB, "swap": 128 * MIB}
        assert limits(memory=64 * MIB, memory_swap=-1)["memory"]["swap"] == -1
        assert limits(memory=64 * MIB, memory_swap=64 * MIB, memory_reservation=32 * MIB)["memory"] == {
            "limit": 64 * MIB,
            "swap": 64 * MIB,
            "reservation": 32 * MIB,
        }

    def test_cpus_become_a_quota(self) -> None:
        assert limits(cpus=1.5)["cpu"] == {"quota": 150000, "period": 100000}
        assert limits(cpu_quota=5000, cpu_period=20000, cpu_shares=512)["cpu"] == {
            "quota": 5000,
            "period": 20000,
            "shares": 512,
        }
        assert limits(cpuset_cpus="0-2,3", cpuset_mems="0")["cpu"] == {"cpus": "0-2,3", "mems": "0"}

    @pytest.mark.parametrize(
        "options",
        [
            {"memory": 5 * MIB},
            {"memory": -1},
            {"memory_swap": 1 << 30},
            {"memory": 64 * MIB, "memory_swap": 32 * MIB},
            {"memory": 64 * MIB, "memory_reservation": 128 * MIB},
            {"memory_swap": -2},
            {"memory_swappiness": 101},
            {"cpus": 5.0},
            {"cpus": 0.001},
            {"cpus": -1.0},
            {"cpus": 1.0, "cpu_quota": 5000},
            {"cpu_period": 10},
            {"cpu_quota": 10},
            {"cpu_shares": 1},
            {"cpuset_cpus": "0-"},
            {"cpuset_cpus": "a"},
            {"cpuset_mems": "3-1"},
            {"pids_limit": -2},
            {"blkio_weight": 5},
            {"cpus": float("nan")},
        ],
    )
    def test_a_limit_that_makes_no_sense_is_refused_with_exit_code_125(self, options: dict[str, Any]) -> None:
        with pytest.raises(errors.UsageError) as caught:
            limits(**options)
        assert caught.value.exit_code == 125

    @pytest.mark.parametrize(
        ("options", "controller"),
        [({"memory": 64 * MIB}, "memory"), ({"cpus": 1.0}, "cpu"), ({"cpuset_cpus": "0"}, "cpuset"),
         ({"pids_limit": 5}, "pids")],
    )  # fmt: skip
    def test_a_limit_whose_controller_is_missing_fails_closed(self, options: dict[str, Any], controller: str) -> None:
        host = HOST.replace(controllers=tuple(name for name in HOST.controllers if name != controller))
        with pytest.raises(errors.FailedPrecondition, match=f"the {controller} cgroup controller is missing"):
            limits(host, **options)

    def test_a_missing_pids_controller_is_only_warned_about_when_nobody_asked(self) -> None:
        made, warnings = resources.to_spec(RunOptions(), HOST.replace(controllers=()))
        assert made == {}
        assert "no limit on the number of processes" in warnings[0]

    def test_swap_that_cannot_be_limited_fails_only_when_asked_for(self) -> None:
        host = HOST.replace(swap_accounting=False)
        assert limits(host, memory=64 * MIB)["memory"] == {"limit": 64 * MIB}
        with pytest.raises(errors.FailedPrecondition, match="swap"):
            limits(host, memory=64 * MIB, memory_swap=64 * MIB)


class TestUlimits:
    hard = {"nofile": 20000, "core": rlimits.INFINITY}

    def test_a_limit_below_ours_is_given_as_it_is(self) -> None:
        made, warnings = rlimits.resolve(["nofile=1024:2048", "core=0"], self.hard, False)
        assert made == [
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2048},
        ]
        assert warnings == ()

    def test_limits_above_ours_are_lowered_with_one_warning(self) -> None:
        made, warnings = rlimits.resolve(["nofile=1000000", "nofile=65536:100000"], self.hard, False)
        assert made == [{"type": "RLIMIT_NOFILE", "soft": 20000, "hard": 20000}]
        assert len(warnings) == 1
        assert rlimits.resolve(["nofile=1000000"], self.hard, True)[0][0]["hard"] == 1000000

    def test_unlimited_is_minus_one(self) -> None:
        assert (
            rlimits.parse("core=-1") == rlimits.parse("core=unlimited") == ("core", rlimits.INFINITY, rlimits.INFINITY)
        )

    @pytest.mark.parametrize(
        "text", ["", "nofile", "nofile=", "nofile=a", "bogus=1", "nofile=2:1", "nofile=1:2:3", "nofile=-2"]
    )
    def test_a_malformed_limit_is_refused(self, text: str) -> None:
        with pytest.raises(errors.UsageError, match=r"invalid --ulimit"):
            rlimits.parse(text)


def fake_stat(path: str) -> os.stat_result:
    known = {
        "/dev/fuse": (stat.S_IFCHR | 0o666, os.makedev(10, 229)),
        "/dev/sda": (stat.S_IFBLK | 0o660, os.makedev(8, 0)),
        "/etc/hosts": (stat.S_IFREG | 0o644, 0),
    }
    if path not in known:
        raise FileNotFoundError(2, "No such file or directory", path)
    mode, number = known[path]
    return os.stat_result((mode, 0, 0, 1, 0, 6, 0, 0, 0, 0), {"st_rdev": number})


class TestDevices:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("/dev/fuse", ("/dev/fuse", "/dev/fuse", "rwm")), ("/dev/fuse:r", ("/dev/fuse", "/dev/fuse", "r")),
         ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")), ("/dev/a:/dev/b:rw", ("/dev/a", "/dev/b", "rw"))],
    )  # fmt: skip
    def test_a_device_is_parsed_as_docker_does(self, text: str, expected: tuple[str, str, str]) -> None:
        assert devices.parse(text) == expected

    @pytest.mark.parametrize("text", ["", "fuse", "/a:b:c:d", "/a:/b:x", "/a:/b:rr", "/a:/b:", ":/b"])
    def test_a_malformed_device_is_refused(self, text: str) -> None:
        with pytest.raises(errors.UsageError, match=r"invalid --device"):
            devices.parse(text)

    def test_a_device_gets_a_node_and_a_rule(self) -> None:
        nodes, rules = devices.resolve(["/dev/sda:/dev/xvda:r"], fake_stat)
        assert nodes == [
            {"path": "/dev/xvda", "type": "b", "major": 8, "minor": 0, "fileMode": 0o660, "uid": 0, "gid": 6}
        ]
        assert rules == [{"allow": True, "type": "b", "major": 8, "minor": 0, "access": "r"}]

    @pytest.mark.parametrize("path", ["/etc/hosts", "/dev/none"])
    def test_what_is_no_device_is_refused(self, path: str) -> None:
        with pytest.raises(errors.UsageError, match="error gathering device information"):
            devices.resolve([path], fake_stat)

    def test_device_rules_may_leave_numbers_open(self) -> None:
        assert devices.parse_rule("c 10:* rw") == {"allow": True, "type": "c", "major": 10, "access": "rw"}
        assert devices.parse_rule("a *:* rwm") == {"allow": True, "type": "a", "access": "rwm"}

    @pytest.mark.parametrize("text", ["", "c 1:2", "x 1:2 r", "c 1 r", "c 1:b r", "c 1:2 q"])
    def test_a_malformed_rule_is_refused(self, text: str) -> None:
        with pytest.raises(errors.UsageError, match=r"invalid --device-cgroup-rule"):
            devices.parse_rule(text)

    @settings(max_examples=100, deadline=None)
    @given(st.text(alphabet="/:devrwmx *1a", max_size=20))
    def test_no_text_makes_the_parsers_fail_in_another_way(self, text: str) -> None:
        for parse in (devices.parse, devices.parse_rule):
            try:
                parse(text)
            except errors.UsageError:
                continue


class TestNamespaces:
    def kinds(self, **options: Any) -> dict[str, str]:
        return {each["type"]: each.get("path", "") for each in namespaces.to_spec(RunOptions(**options))}

    def test_every_namespace_is_its_own_by_default(self) -> None:
        assert self.kinds() == dict.fromkeys(("mount", "pid", "ipc", "uts", "cgroup", "network"), "")

    @pytest.mark.parametrize(
        ("option", "kind"),
        [("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("cgroupns", "cgroup"), ("network", "network")],
    )
    def test_host_shares_one(self, option: str, kind: str) -> None:
        assert kind not in self.kinds(**{option: "host"})

    def test_whoever_sets_up_networks_hands_in_the_namespace(self) -> None:
        assert self.kinds(network="bridge", network_namespace="/run/netns/x")["network"] == "/run/netns/x"

    def test_another_containers_namespace_needs_its_path(self) -> None:
        assert self.kinds(pid="container:a", namespace_paths={"pid": "/proc/7/ns/pid"})["pid"] == "/proc/7/ns/pid"
        for options in ({"pid": "container:a"}, {"network": "container:a"}):
            with pytest.raises(errors.FailedPrecondition):
                self.kinds(**options)

    @pytest.mark.parametrize("options", [{"pid": "bogus"}, {"uts": "shareable"}, {"userns": "auto"}, {"cgroupns": "x"}])
    def test_an_unknown_mode_is_refused(self, options: dict[str, str]) -> None:
        with pytest.raises(errors.UsageError):
            self.kinds(**options)

    def test_sysctls_of_the_containers_own_namespaces_may_be_set(self) -> None:
        wanted = {
            "net.core.somaxconn": "1024",
            "kernel.msgmax": "65536",
            "fs.mqueue.msg_max": "20",
            "net/ipv4/ip_forward": "1",
        }
        found = namespaces.sysctls(RunOptions(sysctls=wanted))
        assert found["net.core.somaxconn"] == "1024"
        assert found["net.ipv4.ip_forward"] == "1"
        assert found["net.ipv4.ip_unprivileged_port_start"] == "0"

    @pytest.mark.parametrize(
        "options",
        [
            {"sysctls": {"kernel.panic": "1"}},
            {"sysctls": {"vm.swappiness": "1"}},
            {"sysctls": {"": "1"}},
            {"sysctls": {"net.core.somaxconn": "1"}, "network": "host"},
            {"sysctls": {"kernel.sem": "1"}, "ipc": "host"},
            {"sysctls": {"kernel.hostname": "x"}, "uts": "host"},
            {"sysctls": {"net../x": "1"}},
            {"domainname": "x", "uts": "host"},
        ],
    )
    def test_a_sysctl_that_would_change_the_host_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(errors.UsageError):
            namespaces.sysctls(RunOptions(**options))

    def test_nothing_is_set_in_the_hosts_network(self) -> None:
        assert namespaces.sysctls(RunOptions(network="host")) == {}


class TestEnvironment:
    @pytest.mark.parametrize(
        ("release", "version"),
        [("6.1.0-13-amd64", (6, 1)), ("5.11", (5, 11)), ("6.18.44-fc-v595", (6, 18)), ("6", (6, 0)), ("x", (0, 0)),
         ("4.19-rc1", (4, 19)), ("", (0, 0))],
    )  # fmt: skip
    def test_a_kernels_version_is_read_from_its_release(self, release: str, version: tuple[int, int]) -> None:
        assert environment.kernel_version(release) == version

    def test_a_containers_cgroup_is_below_its_roots(self) -> None:
        assert environment.cgroup_path("0123456789ab", "c1") == "/orlop/0123456789ab/c1"
        assert environment.cgroup_path("r", "c1", "/services//web/") == "/services/web/c1"
        assert environment.cgroup_path("r", "c1", "web") == "/orlop/r/web/c1"

    @pytest.mark.parametrize("parent", ["/", "..", "/a/../../b", "a\0", "user.slice", "."])
    def test_a_parent_that_leads_elsewhere_is_refused(self, parent: str) -> None:
        with pytest.raises(errors.UsageError, match="--cgroup-parent"):
            environment.cgroup_path("r", "c1", parent)
