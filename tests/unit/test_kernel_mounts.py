"""Mount options, escapes and mountinfo: parsing only."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.kernel import mountinfo, mounts
from orlop.base.kernel.mounts import parse_options

LINE = (
    b"36 35 98:0 /mnt1\\040a /mnt2\\134x\\011y rw,noatime master:1 shared:7 - ext3 /dev/ro\\040ot rw,errors=continue\n"
)


def test_a_line_of_mountinfo_is_taken_apart_and_unescaped():
    (mount,) = mountinfo.parse(LINE)
    assert (mount.id, mount.parent_id, mount.device) == (36, 35, "98:0")
    assert (mount.root, mount.mount_point) == ("/mnt1 a", "/mnt2\\x\ty")
    assert mount.options == ("rw", "noatime")
    assert mount.optional == ("master:1", "shared:7")
    assert (mount.type, mount.source) == ("ext3", "/dev/ro ot")
    assert mount.super_options == ("rw", "errors=continue")


def test_a_line_without_optional_fields_is_taken_apart():
    (mount,) = mountinfo.parse(b"22 27 0:21 / /proc rw,relatime - proc proc rw\n")
    assert (mount.optional, mount.type) == ((), "proc")


@pytest.mark.parametrize(
    "line", [b"x\n", b"1 2 3:4 / / rw - ext4\n", b"a 2 3:4 / / rw - ext4 x rw\n", b"1 2 3 4 5 6 7\n"]
)
def test_a_line_that_is_not_mountinfo_is_refused(line):
    with pytest.raises(ValueError, match="mountinfo"):
        mountinfo.parse(line)


def kernel_escape(text: str) -> str:
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in text)


@given(st.text(alphabet=st.sampled_from(list(" \t\n\\#a0147é/")), max_size=30))
@settings(max_examples=200)
def test_unescape_undoes_the_kernels_escapes(text):
    assert mountinfo.unescape(kernel_escape(text)) == text


def test_mounts_under_a_path_come_deepest_last_mounted_first():
    text = b"".join(
        b"%d 1 0:%d / %s rw - tmpfs t rw\n" % (i, i, p) for i, p in enumerate([b"/a", b"/a/b", b"/ab", b"/a"])
    )
    below = mountinfo.mounted_under("/a", mountinfo.parse(text))
    assert [m.id for m in below] == [3, 1, 0]
    assert mountinfo.mounted_at("/a", mountinfo.parse(text)).id == 3
    assert mountinfo.mounted_at("/b", mountinfo.parse(text)) is None


def test_flags_data_and_propagation_are_sorted_out():
    got = parse_options(["nosuid", "nodev", "size=64m", "mode=755", "rprivate", "ro"])
    assert got.flags == mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_RDONLY
    assert got.data == ("size=64m", "mode=755")
    assert got.propagation == (mounts.MS_PRIVATE | mounts.MS_REC,)


def test_the_last_of_contradicting_options_wins():
    assert parse_options(["ro", "rw"]).flags == 0
    assert parse_options(["rw", "ro"]).flags == mounts.MS_RDONLY
    assert parse_options(["noexec", "exec"]).cleared == mounts.MS_NOEXEC
    assert parse_options(["noatime", "strictatime"]).flags == mounts.MS_STRICTATIME


@pytest.mark.parametrize(("option", "flags"), [("bind", mounts.MS_BIND), ("rbind", mounts.MS_BIND | mounts.MS_REC)])
def test_bind_options(option, flags):
    assert parse_options([option]).flags == flags


def test_recursive_options_of_the_runtime_specification():
    got = parse_options(["rro", "rexec"])
    assert (got.recursive, got.recursive_cleared) == (mounts.MS_RDONLY, mounts.MS_NOEXEC)
    assert got.data == ()


@pytest.mark.parametrize(
    "option", ["X-mount.mkdir", "x-systemd.automount", "nofail", "_netdev", "comment=hello", "", "defaults"]
)
def test_what_only_userland_reads_is_dropped(option):
    assert parse_options([option]) == parse_options([])


def test_loop_is_refused_by_name():
    with pytest.raises(errors.Unimplemented, match="loop"):
        parse_options(["loop"])


@given(st.lists(st.text(alphabet=st.sampled_from(list("/ab:,\\ é")), min_size=1, max_size=12), min_size=1, max_size=6))
@settings(max_examples=200)
def test_lowerdir_is_split_where_it_was_joined(paths):
    assert mounts.split_lowerdir(":".join(mounts.escape_path(path, lower=True) for path in paths)) == paths
