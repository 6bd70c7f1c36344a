"""The specification a container gets: defaults, flags, and every string that enters it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.oci.config import ImageConfig, RunConfig
from orlop.services.runtime import capabilities, options, process, rootview, security, spec
from orlop.services.runtime.environment import HostFacts
from orlop.services.runtime.mounts import Mount
from orlop.services.runtime.options import ExecOptions, RunOptions
from orlop.services.runtime.users import User

HOST = HostFacts(bounding=capabilities.ALL, hostname="host", cpus=4)
ID = "0123456789abcdef" * 4
IMAGE = RunConfig(cmd=("sh",), env=("PATH=/bin", "A=1"), working_dir="srv")


def generate(config: RunConfig = IMAGE, host: HostFacts = HOST, **values: Any) -> spec.Generated:
    extra = {key: values.pop(key) for key in ("caller_env",) if key in values}
    extra["init"] = values.pop("init_program", "")
    return spec.generate(
        ImageConfig("amd64", "linux", config=config),
        RunOptions(**values),
        host,
        rootview.none,
        id=ID,
        root_id="r00t",
        **extra,
    )


class TestDefaults:
    made = generate()

    def test_no_new_privileges_and_dockers_capabilities_without_inheritable_ones(self) -> None:
        got = self.made.spec["process"]
        assert got["noNewPrivileges"] is True
        names = capabilities.names(capabilities.DEFAULT_MASK)
        assert got["capabilities"] == {"bounding": names, "effective": names, "permitted": names}

    def test_the_default_filter_for_exactly_these_capabilities(self) -> None:
        choice = self.made.seccomp
        assert (choice.kind, choice.capabilities) == ("default", capabilities.DEFAULT_MASK)

    def test_masked_and_read_only_paths_and_a_read_only_sys(self) -> None:
        linux = self.made.spec["linux"]
        assert {
            "/proc/kcore",
            "/proc/keys",
            "/proc/interrupts",
            "/sys/firmware",
            "/sys/devices/virtual/powercap",
        } <= set(linux["maskedPaths"])
        assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(linux["readonlyPaths"])
        by_place = {mount["destination"]: mount for mount in self.made.spec["mounts"]}
        assert set(by_place) == {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"}
        assert "ro" in by_place["/sys"]["options"]
        assert "ro" in by_place["/sys/fs/cgroup"]["options"]
        assert "size=67108864" in by_place["/dev/shm"]["options"]

    def test_no_device_of_the_host(self) -> None:
        assert self.made.spec["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
        assert "devices" not in self.made.spec["linux"]

    def test_a_cgroup_of_its_own_and_a_limit_on_processes(self) -> None:
        linux = self.made.spec["linux"]
        assert linux["cgroupsPath"] == f"/orlop/r00t/{ID}"
        assert linux["resources"]["pids"] == {"limit": options.DEFAULT_PIDS_LIMIT}

    def test_a_version_that_crun_and_runc_accept(self) -> None:
        assert self.made.spec["ociVersion"].startswith("1.0.")

    def test_nothing_is_warned_about_or_loosened(self) -> None:
        assert self.made.warnings == ()
        assert options.loosenings(RunOptions()) == ()

    def test_thermal_directories_of_the_processors_are_masked_where_they_are(self) -> None:
        made = generate(host=HOST.replace(throttle_paths=("/sys/devices/system/cpu/cpu0/thermal_throttle",)))
        assert "/sys/devices/system/cpu/cpu0/thermal_throttle" in made.spec["linux"]["maskedPaths"]


class TestProcess:
    @pytest.mark.parametrize(
        ("image", "flags", "expected"),
        [
            ({"cmd": ("a", "b")}, {}, ["a", "b"]),
            ({"entrypoint": ("e",), "cmd": ("a",)}, {}, ["e", "a"]),
            ({"entrypoint": ("e",), "cmd": ("a",)}, {"args": ("x",)}, ["e", "x"]),
            ({"entrypoint": ("e",), "cmd": ("a",)}, {"entrypoint": ("n",)}, ["n"]),
            ({"entrypoint": ("e",), "cmd": ("a",)}, {"entrypoint": ("n",), "args": ("x",)}, ["n", "x"]),
            ({"entrypoint": ("e",), "cmd": ("a",)}, {"entrypoint": (), "args": ("x",)}, ["x"]),
            ({"entrypoint": ("e",)}, {"entrypoint": ("",), "args": ("x",)}, ["x"]),
        ],
    )
    def test_flags_and_image_combine_as_with_docker(self, image: Any, flags: Any, expected: list[str]) -> None:
        assert process.command(RunConfig(**image), RunOptions(**flags)) == expected

    @pytest.mark.parametrize(
        ("image", "flags"), [({}, {}), ({"cmd": ("a",)}, {"entrypoint": ()}), ({}, {"args": ("",)})]
    )
    def test_no_command_is_refused_with_exit_code_125(self, image: Any, flags: Any) -> None:
        with pytest.raises(errors.UsageError) as caught:
            process.command(RunConfig(**image), RunOptions(**flags))
        assert caught.value.exit_code == 125

    def test_the_environment_is_home_then_defaults_then_image_then_caller(self) -> None:
        env = generate(env=("B=2", "A=3", "C", "PATH"), caller_env={"C": "4"}).spec["process"]["env"]
        assert env == ["HOME=/", "HOSTNAME=0123456789ab", "A=3", "B=2", "C=4"]

    def test_an_image_without_a_path_gets_dockers(self) -> None:
        env = generate(RunConfig(cmd=("x",), env=("HOME=/h",)), terminal=True).spec["process"]["env"]
        assert env == [f"PATH={process.DEFAULT_PATH}", "HOSTNAME=0123456789ab", "TERM=xterm", "HOME=/h"]

    @pytest.mark.parametrize("entry", ["", "=x"])
    def test_a_variable_without_a_name_is_refused(self, entry: str) -> None:
        with pytest.raises(errors.UsageError, match="invalid environment variable"):
            generate(env=(entry,))

    def test_the_working_directory_is_the_callers_or_the_images(self) -> None:
        assert generate().spec["process"]["cwd"] == "/srv"
        assert generate(workdir="/a/../b//c/").spec["process"]["cwd"] == "/b/c"
        assert process.working_directory("", "") == process.working_directory("//", "") == "/"
        with pytest.raises(errors.UsageError, match="needs to be an absolute path"):
            generate(workdir="rel")

    def test_a_user_that_is_not_root_holds_no_capabilities_but_keeps_the_bounding_set(self) -> None:
        got = generate(user="5:6", group_add=("7",)).spec["process"]
        assert got["user"] == {"uid": 5, "gid": 6, "additionalGids": [6, 7]}
        assert got["capabilities"]["effective"] == got["capabilities"]["permitted"] == []
        assert len(got["capabilities"]["bounding"]) == 14

    def test_an_oom_score_we_may_not_lower_is_clamped_with_a_warning(self) -> None:
        host = HOST.replace(oom_score_adj=10, may_raise_limits=False)
        made = generate(host=host, oom_score_adj=-500)
        assert made.spec["process"]["oomScoreAdj"] == 10
        assert "--oom-score-adj" in made.warnings[0]
        assert generate(oom_score_adj=-500).spec["process"]["oomScoreAdj"] == -500
        with pytest.raises(errors.UsageError):
            generate(oom_score_adj=1001)

    def test_a_umask_is_octal(self) -> None:
        assert generate(umask="0077").spec["process"]["user"]["umask"] == 0o77
        for text in ("8", "1777", "x", "00000"):
            with pytest.raises(errors.UsageError, match="--umask"):
                generate(umask=text)

    def test_an_init_is_bound_into_the_containers_dev_and_runs_the_command(self) -> None:
        found = generate(init=True, init_program="/usr/bin/tini-static").spec
        assert found["process"]["args"] == ["/dev/init", "--", "sh"]
        assert found["mounts"][-1]["source"] == "/usr/bin/tini-static"
        assert "ro" in found["mounts"][-1]["options"]

    def test_an_init_is_not_bound_into_a_dev_of_the_callers(self) -> None:
        with pytest.raises(errors.UsageError, match="conflicting options"):
            generate(init=True, init_program="/x", mounts=(Mount("bind", "/dev", "/dev"),))


class TestHostname:
    def test_it_is_the_short_id_the_callers_or_with_the_hosts_network_the_hosts(self) -> None:
        assert generate().spec["hostname"] == "0123456789ab"
        assert generate(hostname="web.example").spec["hostname"] == "web.example"
        assert generate(network="host").spec["hostname"] == "host"
        assert generate(domainname="example").spec["linux"]["sysctl"]["kernel.domainname"] == "example"

    def test_a_shared_uts_namespace_has_none_to_set(self) -> None:
        made = generate(uts="host").spec
        assert "hostname" not in made
        assert not any(entry.startswith("HOSTNAME=") for entry in made["process"]["env"])
        with pytest.raises(errors.UsageError, match="conflicting options"):
            generate(uts="host", hostname="x")

    @pytest.mark.parametrize("name", ["-x", ".x", "a b", "x" * 65, "é", "a\0", "a\n"])
    def test_a_name_that_cannot_be_one_is_refused(self, name: str) -> None:
        with pytest.raises(errors.UsageError, match="--hostname"):
            generate(hostname=name)


class TestSecurity:
    def test_privileged_is_all_we_hold_no_masks_no_filter_a_writable_sys_and_every_device(self) -> None:
        made = generate(host=HOST.replace(bounding=capabilities.ALL & ~1), privileged=True)
        linux, proc = made.spec["linux"], made.spec["process"]
        assert len(proc["capabilities"]["bounding"]) == len(capabilities.names(capabilities.ALL)) - 1
        assert proc["noNewPrivileges"] is False
        assert linux["maskedPaths"] == linux["readonlyPaths"] == []
        assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
        assert made.seccomp.kind == "none"
        by_place = {mount["destination"]: mount for mount in made.spec["mounts"]}
        assert "rw" in by_place["/sys"]["options"]
        assert "rw" in by_place["/sys/fs/cgroup"]["options"]

    def test_options_are_parsed_in_both_of_dockers_forms(self) -> None:
        assert security.parse(["seccomp:unconfined"]).seccomp == "unconfined"
        assert security.parse(["seccomp=builtin"]) == security.DEFAULT
        assert security.parse(["no-new-privileges"]).no_new_privileges is True
        assert security.parse(["no-new-privileges:false"]).no_new_privileges is False
        assert security.parse(["label=disable", "systempaths=unconfined"]).selinux == ("disable",)
        assert security.parse(['seccomp={"a":"b=c"}']).seccomp == '{"a":"b=c"}'

    @pytest.mark.parametrize(
        "text", ["", "bogus", "seccomp=", "no-new-privileges=perhaps", "systempaths=x", "apparmor="]
    )
    def test_an_unknown_option_is_refused(self, text: str) -> None:
        with pytest.raises(errors.UsageError, match=r"invalid --security-opt"):
            security.parse([text])

    def test_a_profiles_file_is_put_inline(self, tmp_path: Any) -> None:
        path = tmp_path / "p.json"
        path.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}\n')
        inlined = security.inline_files([f"seccomp={path}", "no-new-privileges", "seccomp=unconfined"])
        assert inlined[0] == 'seccomp={"defaultAction": "SCMP_ACT_ALLOW"}'
        assert inlined[1:] == ("no-new-privileges", "seccomp=unconfined")
        with pytest.raises(errors.UsageError, match="opening seccomp profile"):
            security.inline_files([f"seccomp={tmp_path}/none"])

    @pytest.mark.parametrize("option", ["apparmor=mine", "label=type:x_t"])
    def test_a_confinement_this_machine_lacks_fails_closed(self, option: str) -> None:
        with pytest.raises(errors.FailedPrecondition, match="cannot be applied"):
            generate(security_opt=(option,))

    def test_apparmor_is_handed_on_where_the_kernel_has_it(self) -> None:
        host = HOST.replace(apparmor=True)
        assert generate(host=host, security_opt=("apparmor=mine",)).spec["process"]["apparmorProfile"] == "mine"
        assert "apparmorProfile" not in generate(host=host).spec["process"]
        assert "apparmorProfile" not in generate(security_opt=("apparmor=unconfined",)).spec["process"]

    def test_without_filters_in_the_kernel_the_default_is_warned_about_and_a_profile_fails(self) -> None:
        host = HOST.replace(seccomp=False)
        made = generate(host=host)
        assert made.seccomp.kind == "none"
        assert "seccomp" in made.warnings[0]
        with pytest.raises(errors.FailedPrecondition):
            generate(host=host, security_opt=("seccomp={}",))

    def test_a_privileged_container_with_a_profile_has_the_profile(self) -> None:
        assert generate(privileged=True, security_opt=("seccomp={}",)).seccomp.kind == "profile"

    def test_capabilities_we_lack_are_left_out_with_a_warning(self) -> None:
        host = HOST.replace(bounding=capabilities.ALL & ~capabilities.bit("CAP_SYS_RESOURCE"))
        made = generate(host=host, cap_add=("sys_resource",))
        assert made.warnings == ("left out, as this process lacks them: CAP_SYS_RESOURCE",)

    def test_every_loosening_is_listed(self) -> None:
        loose = RunOptions(
            privileged=True, network="host", pid="host", ipc="container:x", cap_add=("SYS_ADMIN",), pids_limit=-1,
            security_opt=("seccomp=unconfined", "no-new-privileges=false", "systempaths=unconfined"),
            devices=("/dev/fuse",), masked_paths=(), annotations={"run.oci.handler": "x", "mine": "y"},
            mounts=(Mount("bind", "/x", "/var/run/docker.sock"), Mount("bind", "/y", "/y", propagation="rshared")),
        )  # fmt: skip
        assert options.loosenings(loose) == (
            "privileged", "network=host", "pid=host", "ipc=container:x", "cap-add=SYS_ADMIN",
            "security-opt=seccomp=unconfined", "security-opt=no-new-privileges=false",
            "security-opt=systempaths=unconfined", "masked-paths", "pids-limit=-1", "device=/dev/fuse",
            "volume=/var/run/docker.sock", "volume=/y:rshared", "annotation=run.oci.handler",
        )  # fmt: skip


class TestExec:
    own = generate(user="5:6", env=("X=1",)).spec

    def exec(self, **values: Any) -> dict[str, Any]:
        return spec.exec_process(self.own, ExecOptions(**values), HOST, rootview.none, {"CALLER": "c"})

    def test_it_inherits_user_environment_directory_and_protections(self) -> None:
        got = self.exec(args=("id",), env=("Y=2", "CALLER"))
        assert got["args"] == ["id"]
        assert got["env"] == [*self.own["process"]["env"], "Y=2", "CALLER=c"]
        for name in ("user", "cwd", "capabilities", "noNewPrivileges"):
            assert got[name] == self.own["process"][name]

    def test_another_user_and_directory(self) -> None:
        got = self.exec(args=("id",), user="0", workdir="/tmp")
        assert got["user"] == {"uid": 0, "gid": 0, "additionalGids": [0]}
        assert len(got["capabilities"]["effective"]) == 14
        assert got["cwd"] == "/tmp"

    def test_privileged_holds_everything_we_do(self) -> None:
        got = self.exec(args=("id",), user="0", privileged=True)
        assert len(got["capabilities"]["effective"]) == len(capabilities.names(capabilities.ALL))
        assert got["noNewPrivileges"] is False

    def test_no_command_is_refused(self) -> None:
        with pytest.raises(errors.UsageError, match="no command"):
            self.exec(args=())

    def test_its_json_is_checked_like_the_specifications(self) -> None:
        with pytest.raises(errors.UsageError, match=r"args\[0\] contains a NUL"):
            spec.dump_process(self.exec(args=("a\0b",)))


class TestDump:
    def test_the_filter_is_spliced_in_and_the_program_annotated(self) -> None:
        made = generate(annotations={"a": "b"}).spec
        got = json.loads(spec.dump(made, '{"defaultAction":"SCMP_ACT_ALLOW"}', "QUJD"))
        assert got["linux"].pop("seccomp") == {"defaultAction": "SCMP_ACT_ALLOW"}
        assert got["annotations"].pop("run.oci.seccomp_bpf_data") == "QUJD"
        assert got == made
        assert json.loads(spec.dump(made)) == made

    def test_a_program_adds_annotations_where_there_were_none(self) -> None:
        got = json.loads(spec.dump(generate().spec, "{}", "QUJD"))
        assert got["annotations"] == {"run.oci.seccomp_bpf_data": "QUJD"}
        assert got["linux"]["seccomp"] == {}

    @pytest.mark.parametrize("bad", ["a\0b", "\udcff"])
    @pytest.mark.parametrize(
        ("flags", "where"),
        [
            ({"args": ("ok", "{}")}, r"process\.args\[1\]"),
            ({"env": ("A={}",)}, r"process\.env\[\d\]"),
            ({"workdir": "/{}"}, r"process\.cwd"),
            ({"annotations": {"k": "{}"}}, r"annotations\.k"),
            ({"annotations": {"{}": "v"}}, "a name in annotations"),
            ({"mounts": (Mount("bind", "/t", "/{}"),)}, r"mounts\[7\]\.source"),
            ({"sysctls": {"net.core.x": "{}"}}, r"linux\.sysctl"),
        ],
    )
    def test_a_string_that_cannot_be_in_a_specification_is_refused_by_name(
        self, flags: Any, where: str, bad: str
    ) -> None:
        def fill(value: Any) -> Any:
            if isinstance(value, str):
                return value.replace("{}", bad)
            if isinstance(value, tuple):
                return tuple(fill(each) for each in value)
            if isinstance(value, Mount):
                return value.replace(source=fill(value.source))
            return {fill(k): fill(v) for k, v in value.items()}

        made = generate(**{key: fill(value) for key, value in flags.items()}).spec
        with pytest.raises(errors.UsageError, match=where) as caught:
            spec.dump(made, "{}")
        assert caught.value.exit_code == 125
        assert "\0" not in caught.value.message

    def test_a_backslash_before_u0000_is_no_nul(self) -> None:
        made = generate(args=("\\u0000",)).spec
        assert json.loads(spec.dump(made))["process"]["args"] == ["\\u0000"]

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.dictionaries(st.text(), st.text(), max_size=3))
    def test_what_is_accepted_reads_back_exactly(self, args: list[str], annotations: dict[str, str]) -> None:
        try:
            made = generate(args=tuple(args), annotations=annotations).spec
            data = spec.dump(made, '{"defaultAction":"x"}')
        except errors.UsageError:
            assert not args[0] or "\0" in "".join((*args, *annotations, *annotations.values()))
            return
        got = json.loads(data)
        assert got["process"]["args"] == args
        assert got.get("annotations", {}) == annotations


def test_the_hot_path_imports_nothing_expensive() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "from orlop.services.runtime import environment, rootview, runtimes, seccomp, spec, users\n"
        "from orlop.services.runtime.options import RunOptions\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    loaded = set(done.stdout.split())
    banned = {
        "typing",
        "collections",
        "dataclasses",
        "enum",
        "re",
        "json",
        "logging",
        "subprocess",
        "socket",
        "datetime",
        "pathlib",
        "tempfile",
        "shutil",
        "contextlib",
        "functools",
        "argparse",
        "threading",
        "base64",
    }
    assert not loaded & banned
    assert "orlop.services.runtime.seccomp_profile" not in loaded
    assert "orlop.services.runtime.seccomp_user" not in loaded


def test_a_user_without_an_entry_still_gets_a_home() -> None:
    assert process.environment(RunConfig(), RunOptions(), {}, "", User(7))[0] == "HOME=/"
