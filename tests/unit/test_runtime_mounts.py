"""`-v`, `--mount`, `--tmpfs` and the order of a container's mounts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.services.runtime import mounts
from orlop.services.runtime.mounts import Mount


def options(mount: Mount, deep: bool = True) -> list[str]:
    found = mounts.to_spec(mount, recursive_read_only=deep)["options"]
    assert isinstance(found, list)
    return found


class TestVolume:
    def test_a_path_of_the_host_is_bound_privately_and_made_when_missing(self) -> None:
        mount, warnings = mounts.parse_volume("/data:/srv")
        assert (mount.type, mount.source, mount.target) == ("bind", "/data", "/srv")
        assert mount.create_source
        assert options(mount) == ["rbind", "rw", "rprivate"]
        assert warnings == ()

    def test_a_relative_source_is_taken_from_the_callers_directory(self) -> None:
        assert mounts.parse_volume("./x:/srv", "/home/me")[0].source == "/home/me/x"
        assert mounts.parse_volume("..:/srv", "/home/me")[0].source == "/home"

    def test_a_word_is_the_name_of_a_volume_and_no_source_an_anonymous_one(self) -> None:
        assert mounts.parse_volume("db:/var/lib/db")[0] == Mount("volume", "/var/lib/db", "db")
        assert mounts.parse_volume("/var/lib/db")[0] == Mount("volume", "/var/lib/db")

    def test_read_only_is_recursive_where_the_kernel_can(self) -> None:
        mount, _ = mounts.parse_volume("/data:/srv:ro")
        assert options(mount) == ["rbind", "ro", "rro", "rprivate"]
        assert options(mount, deep=False) == ["rbind", "ro", "rprivate"]

    def test_recursive_read_only_that_was_demanded_fails_where_it_cannot_be_done(self) -> None:
        mount, _ = mounts.parse_volume("/data:/srv:rro")
        with pytest.raises(errors.FailedPrecondition, match=r"recursive read-only"):
            options(mount, deep=False)

    @pytest.mark.parametrize("propagation", mounts.PROPAGATIONS)
    def test_propagation_is_handed_on(self, propagation: str) -> None:
        assert options(mounts.parse_volume(f"/a:/b:{propagation}")[0])[-1] == propagation

    @pytest.mark.parametrize("option", ["z", "Z"])
    def test_selinux_labels_are_warned_about(self, option: str) -> None:
        mount, warnings = mounts.parse_volume(f"/a:/b:ro,{option}")
        assert mount.read_only
        assert "no effect" in warnings[0]

    @pytest.mark.parametrize(
        "spec",
        ["", ":", "/a:", ":/b", "/a:b", "/a:/", "/a:/b:ro,rw", "/a:/b:shared,slave", "/a:/b:nonsense", "/a:/b:ro:x",
         "/a:/b:", "-x:/b", "a b:/b", "vol:/b:shared"],
    )  # fmt: skip
    def test_a_malformed_volume_is_refused_with_exit_code_125(self, spec: str) -> None:
        with pytest.raises(errors.UsageError, match=r"invalid --(volume|mount) ") as caught:
            mounts.parse_volume(spec)
        assert caught.value.exit_code == 125

    @pytest.mark.parametrize(("given_path", "clean"), [("/a/../b", "/b"), ("//b", "/b"), ("/b/./c/", "/b/c")])
    def test_the_target_is_cleaned(self, given_path: str, clean: str) -> None:
        assert mounts.parse_volume(f"/x:{given_path}")[0].target == clean


class TestMountFlag:
    def test_a_bind(self) -> None:
        mount, _ = mounts.parse_mount("type=bind,source=/a,target=/b,readonly,bind-propagation=rslave")
        assert (mount.type, mount.source, mount.target, mount.read_only) == ("bind", "/a", "/b", True)
        assert not mount.create_source
        assert options(mount)[-1] == "rslave"

    def test_a_tmpfs_with_size_and_mode(self) -> None:
        mount, _ = mounts.parse_mount("type=tmpfs,dst=/t,tmpfs-size=10m,tmpfs-mode=1770")
        assert options(mount) == ["noexec", "nosuid", "nodev", "size=10485760", "mode=1770", "rprivate"]

    def test_the_type_is_a_volume_unless_said_otherwise(self) -> None:
        assert mounts.parse_mount("src=v,dst=/b,volume-subpath=x")[0] == Mount("volume", "/b", "v", subpath="x")

    def test_a_quoted_value_may_hold_a_comma_and_quotes(self) -> None:
        assert mounts.parse_mount('type=bind,"source=/a,b ""c""",dst=/b')[0].source == '/a,b "c"'

    def test_only_the_top_mount_is_bound_or_made_read_only_when_asked(self) -> None:
        assert options(mounts.parse_mount("type=bind,src=/a,dst=/b,bind-recursive=disabled")[0])[0] == "bind"
        assert "rro" not in options(mounts.parse_mount("type=bind,src=/a,dst=/b,ro,bind-recursive=writable")[0])

    @pytest.mark.parametrize(
        "spec",
        ["type=bind,source=/a", "type=nope,dst=/b", "dst=rel", "type=bind,dst=/b", "type=tmpfs,src=/a,dst=/b",
         "type=bind,src=/a,dst=/b,tmpfs-size=1", "type=tmpfs,dst=/b,tmpfs-size=x", "type=tmpfs,dst=/b,tmpfs-mode=9",
         "type=bind,src=/a,dst=/b,bind-propagation=loud", "bogus=1,dst=/b", "type=bind,src=/a,dst=/b,ro=perhaps",
         'type=bind,"src=/a,dst=/b', "type=image,dst=/b", "type=bind,src=/a,dst=/b,bind-recursive=readonly",
         "src=v,dst=/b,bind-propagation=shared", "type=bind,src=/a,dst=/b,volume-nocopy"],
    )  # fmt: skip
    def test_a_malformed_mount_is_refused(self, spec: str) -> None:
        with pytest.raises(errors.UsageError, match=r"invalid --(volume|mount) "):
            mounts.parse_mount(spec)


class TestTmpfs:
    def test_defaults_restrict_and_may_be_lifted_one_by_one(self) -> None:
        assert options(mounts.parse_tmpfs("/run")) == ["noexec", "nosuid", "nodev", "rprivate"]
        assert options(mounts.parse_tmpfs("/run:exec,size=1g")) == [
            "nosuid",
            "nodev",
            "exec",
            "size=1073741824",
            "rprivate",
        ]

    @pytest.mark.parametrize(
        "spec", ["run", "/", "/r:bogus", "/r:size=", "/r:size=1x", "/r:mode=8", "/r:uid=me", "/r:uid"]
    )
    def test_a_malformed_tmpfs_is_refused(self, spec: str) -> None:
        with pytest.raises(errors.UsageError):
            mounts.parse_tmpfs(spec)


class TestMerge:
    def base(self) -> list[dict[str, object]]:
        return mounts.defaults(1, shm="", cgroups_writable=False, privileged=False)

    def place(self, path: str) -> dict[str, object]:
        return {"destination": path, "type": "bind", "source": "/x", "options": []}

    def test_the_callers_mount_replaces_a_default_at_the_same_place(self) -> None:
        merged = mounts.merge(self.base(), [self.place("/dev/shm")])
        assert [m for m in merged if m["destination"] == "/dev/shm"] == [self.place("/dev/shm")]

    def test_nothing_of_ours_is_put_below_a_dev_of_the_callers(self) -> None:
        merged = mounts.merge(self.base(), [self.place("/dev")])
        assert [m["destination"] for m in merged if str(m["destination"]).startswith("/dev")] == ["/dev"]

    def test_a_directory_is_mounted_before_what_is_below_it(self) -> None:
        merged = mounts.merge(self.base(), [self.place("/a/b/c"), self.place("/z"), self.place("/a")])
        assert [m["destination"] for m in merged[-3:]] == ["/z", "/a", "/a/b/c"]

    def test_two_mounts_at_one_place_are_refused(self) -> None:
        with pytest.raises(errors.UsageError, match="duplicate mount point: /a"):
            mounts.merge(self.base(), [self.place("/a"), self.place("/a")])


def test_the_root_becomes_shared_or_slave_only_when_a_bind_needs_it() -> None:
    assert mounts.root_propagation([Mount("bind", "/a", "/b")]) == ""
    assert mounts.root_propagation([Mount("bind", "/a", "/b", propagation="rslave")]) == "slave"
    assert mounts.root_propagation([Mount("bind", "/a", "/b", propagation=p) for p in ("rslave", "shared")]) == "shared"


def test_what_the_engine_did_not_turn_into_a_bind_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="no source on this host"):
        mounts.to_spec(Mount("volume", "/b", "v"), recursive_read_only=True)


def test_a_missing_source_is_made_for_a_volume_and_refused_for_a_mount(tmp_path: Path) -> None:
    mounts.prepare_sources([Mount("bind", "/b", str(tmp_path / "x/y"), create_source=True)])
    assert (tmp_path / "x/y").is_dir()
    with pytest.raises(errors.UsageError, match="bind source path does not exist"):
        mounts.prepare_sources([Mount("bind", "/b", str(tmp_path / "z"))])


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abz/.:,=ro \0é", max_size=24))
def test_no_text_makes_the_parsers_fail_in_another_way_than_by_a_usage_error(text: str) -> None:
    for parse in (mounts.parse_volume, mounts.parse_mount, mounts.parse_tmpfs):
        try:
            found = parse(text)
        except errors.UsageError:
            continue
        mount = found[0] if isinstance(found, tuple) else found
        assert mount.target.startswith("/")
        assert mount.target != "/"
        assert "/../" not in mount.target + "/"
