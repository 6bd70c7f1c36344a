"""services/diff: what the applier makes of each kind of entry, in both modes."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.base.progress import Report, Sink
from orlop.services.diff import applier
from orlop.services.diff.applier import Applied, apply_layer
from orlop.services.diff.limits import Limits
from tests.support import trees
from tests.support.trees import END, header, member, pax

OPAQUE = "trusted.overlay.opaque"
BOTH = pytest.mark.parametrize("mode", ["alone", "onto"])


def apply(path: Path, *members: bytes, mode: str = "alone", **options: object) -> Applied:
    path.mkdir(exist_ok=True)
    return apply_layer(io.BytesIO(b"".join(members) + END), str(path), mode=mode, **options)  # type: ignore[arg-type]


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: Path) -> bool:
    return OPAQUE in os.listxattr(path) and os.getxattr(path, OPAQUE) == b"y"


@BOTH
def test_every_kind_of_entry_gets_its_content_and_attributes(tmp_path: Path, mode: str) -> None:
    tree = tmp_path / "tree"
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
    applied = apply(
        tree,
        member(b"dir/", b"", b"5", mode=0o2750, uid=10, gid=20, mtime=1000),
        pax(
            {b"mtime": b"2000.123456789", b"SCHILY.xattr.user.a": b"b", b"SCHILY.xattr.security.capability": capability}
        ),
        member(b"dir/file", b"content", mode=0o4755, uid=1000, gid=2000),
        header(b"dir/hard", b"1", linkname=b"dir/file", mode=0o600),
        header(b"dir/sym", b"2", linkname=b"../nowhere", uid=5, gid=6, mtime=3000),
        header(b"hardsym", b"1", linkname=b"dir/sym"),
        header(b"char", b"3", device=(1, 3), mode=0o666, gid=7, mtime=4000),
        header(b"block", b"4", device=(8, 257), mode=0o660),
        header(b"fifo", b"6", mode=0o1622),
        mode=mode,
    )
    found = trees.facts(tree, root_too=False)
    links = ("dir/file", "dir/hard")
    assert found["dir"][:5] == (stat.S_IFDIR, "0o2750", (10, 20), 0, 1000 * 10**9)
    assert found["dir/file"] == (
        stat.S_IFREG, "0o4755", (1000, 2000), 0, 2_000_123_456_789,
        (("security.capability", capability), ("user.a", b"b")),
        (7, hashlib.sha256(b"content").hexdigest()), links,
    )  # fmt: skip
    assert found["dir/hard"] == found["dir/file"]
    assert found["dir/sym"][2:5] == ((5, 6), 0, 3000 * 10**9)
    assert found["hardsym"][6:] == ("../nowhere", ("dir/sym", "hardsym"))
    assert found["char"][:5] == (stat.S_IFCHR, "0o666", (0, 7), os.makedev(1, 3), 4000 * 10**9)
    assert found["block"][:4] == (stat.S_IFBLK, "0o660", (0, 0), os.makedev(8, 257))
    assert found["fifo"][:2] == (stat.S_IFIFO, "0o1622")
    assert (applied.size, applied.inodes) == (7, 6)


def test_the_result_tells_the_digest_of_the_whole_stream(tmp_path: Path) -> None:
    data = member(b"f", b"x") + bytes(20_000)
    applied = apply_layer(io.BytesIO(data), str(tmp_path))
    assert applied.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()
    assert applied.tar_size == len(data)


@BOTH
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, mode: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        apply(
            tmp_path / "t",
            header(b"f", mode=0o666),
            header(b"d/", b"5", mode=0o777),
            header(b"implied/p", b"6", mode=0o777),
            mode=mode,
        )
    finally:
        os.umask(before)
    found = trees.facts(tmp_path / "t")
    assert [found[n][1] for n in ("f", "d", "implied", "implied/p")] == ["0o666", "0o777", "0o755", "0o777"]


def test_nothing_is_inherited_from_setgid_directories_or_default_acls(tmp_path: Path) -> None:
    acl = b"\x02\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, perm, who in (
            (1, 7, 2**32 - 1),
            (2, 7, 1234),
            (4, 5, 2**32 - 1),
            (16, 7, 2**32 - 1),
            (32, 0, 2**32 - 1),
        )
    )
    for mode in ("alone", "onto"):
        apply(
            tmp_path / mode,
            header(b"set/", b"5", mode=0o2755, gid=50),
            pax({b"SCHILY.xattr.system.posix_acl_default": acl}),
            header(b"acl/", b"5", mode=0o755),
            *(
                data
                for top in (b"set", b"acl")
                for data in (
                    header(top + b"/f", mode=0o644),
                    header(top + b"/d/", b"5", mode=0o755),
                    header(top + b"/p", b"6", mode=0o644),
                    header(top + b"/s", b"2", linkname=b"x"),
                    header(top + b"/implied/f", mode=0o600),
                )
            ),
            mode=mode,
        )
        found = trees.facts(tmp_path / mode)
        assert found["acl"][5] == (("system.posix_acl_default", acl),)
        for top in ("set", "acl"):
            for name, wanted in (("f", "0o644"), ("d", "0o755"), ("p", "0o644"), ("implied", "0o755"), ("s", "0o777")):
                assert found[f"{top}/{name}"][1:3] == (wanted, (0, 0)), (mode, top, name)
                assert found[f"{top}/{name}"][5] == (), (mode, top, name)


@BOTH
def test_sparse_files_have_their_holes(tmp_path: Path, mode: str) -> None:
    records = {
        b"GNU.sparse.map": b"0,3,8388608,2,10000000,0",
        b"GNU.sparse.name": b"s",
        b"GNU.sparse.size": b"10000000",
    }
    applied = apply(tmp_path / "t", pax(records) + member(b"x", b"abcde"), mode=mode)
    data = (tmp_path / "t/s").read_bytes()
    assert (len(data), data[:3], data[8388608:8388610]) == (10_000_000, b"abc", b"de")
    assert data.strip(b"\0").replace(b"\0", b"") == b"abcde"
    assert (tmp_path / "t/s").stat().st_blocks < 100
    assert applied.size == 10_000_000


@BOTH
def test_directories_have_the_times_of_their_entries_whatever_comes_after(tmp_path: Path, mode: str) -> None:
    apply(
        tmp_path / "t",
        header(b"./", b"5", mtime=1, mode=0o700),
        header(b"a/", b"5", mtime=2),
        header(b"a/b/", b"5", mtime=3),
        member(b"a/b/f", b"x", mtime=4),
        header(b"a/.wh.gone"),
        mode=mode,
    )
    found = trees.facts(tmp_path / "t")
    assert [found[p][4] for p in (".", "a", "a/b", "a/b/f")] == [10**9, 2 * 10**9, 3 * 10**9, 4 * 10**9]
    assert found["."][1] == "0o700"


@pytest.mark.parametrize("name", [b".", b"./", b"/", b"", b"..", b"a/.."])
def test_an_entry_for_the_root_sets_its_attributes(tmp_path: Path, name: bytes) -> None:
    applied = apply(tmp_path / "t", header(name, b"5", mode=0o751, uid=3, gid=4, mtime=5))
    assert trees.facts(tmp_path / "t")["."][:5] == (stat.S_IFDIR, "0o751", (3, 4), 0, 5 * 10**9)
    assert applied.implied == ()


def test_a_root_that_is_not_listed_is_implied_with_the_usual_attributes(tmp_path: Path) -> None:
    tree = tmp_path / "t"
    tree.mkdir(mode=0o700)
    assert apply(tree, header(b"f")).implied == (".",)
    assert stat.S_IMODE(tree.stat().st_mode) == 0o755


@BOTH
def test_times_before_1970_and_far_ahead_are_kept(ext4_dir: Path, mode: str) -> None:
    apply(
        ext4_dir,
        pax({b"mtime": b"-100.5"}) + header(b"old"),
        pax({b"mtime": b"9000000000"}) + header(b"new"),
        mode=mode,
    )
    assert (ext4_dir / "old").stat().st_mtime_ns == -100_500_000_000
    assert (ext4_dir / "new").stat().st_mtime_ns == 9_000_000_000 * 10**9


@BOTH
def test_overlayfs_notes_in_an_archive_are_dropped(tmp_path: Path, mode: str) -> None:
    records = {
        b"SCHILY.xattr.trusted.overlay.opaque": b"y", b"SCHILY.xattr.user.overlay.redirect": b"/etc",
        b"SCHILY.xattr.security.selinux": b"x", b"SCHILY.xattr.trusted.mine": b"1",
    }  # fmt: skip
    apply(tmp_path / "t", pax(records) + header(b"d/", b"5"), pax(records) + header(b"f"), mode=mode)
    assert os.listxattr(tmp_path / "t/d") == os.listxattr(tmp_path / "t/f") == ["trusted.mine"]


# ---------------------------------------------------------------- entries that replace others


@BOTH
def test_the_last_of_several_entries_of_a_name_counts(tmp_path: Path, mode: str) -> None:
    forms = {
        "file": member(b"x", b"data"),
        "dir": header(b"x/", b"5") + member(b"x/inside/deep", b"y"),
        "sym": header(b"x", b"2", linkname=b"/etc"),
        "fifo": header(b"x", b"6"),
        "hard": member(b"t", b"t") + header(b"x", b"1", linkname=b"t"),
        "char": header(b"x", b"3", device=(5, 5)),
    }
    for first, one in forms.items():
        for second, two in forms.items():
            tree, expected = tmp_path / f"{first}-{second}", tmp_path / f"{first}-{second}-expected"
            got = apply(tree, one, two, mode=mode)
            wanted = apply(expected, forms["hard"][:1024] if first == "hard" else b"", two, mode=mode)
            if first == second == "dir":
                continue
            if mode == "alone" and second == "dir":  # the file before it had hidden a directory below
                assert is_opaque(tree / "x")
                os.removexattr(tree / "x", OPAQUE)
            wanted_facts, facts = (trees.facts(path, root_too=False) for path in (expected, tree))
            assert not trees.differences(wanted_facts, facts), (first, second)
            if mode == "alone":
                assert (got.size, got.inodes) == (wanted.size, wanted.inodes), (first, second)


@BOTH
def test_a_directory_listed_twice_keeps_its_content_and_takes_the_last_attributes(tmp_path: Path, mode: str) -> None:
    records = {b"SCHILY.xattr.user.first": b"1"}
    apply(
        tmp_path / "t",
        pax(records) + header(b"d/", b"5", mode=0o700, uid=9),
        member(b"d/f", b"x"),
        header(b"d/", b"5", mode=0o1755, uid=8),
        mode=mode,
    )
    found = trees.facts(tmp_path / "t")
    assert found["d"][1:3] == ("0o1755", (8, 0))
    assert found["d"][5] == ()
    assert "d/f" in found


@BOTH
def test_a_file_is_replaced_not_written_through_its_other_names(tmp_path: Path, mode: str) -> None:
    apply(tmp_path / "t", member(b"a", b"old"), header(b"b", b"1", linkname=b"a"), member(b"a", b"new"), mode=mode)
    assert (tmp_path / "t/a").read_bytes() == b"new"
    assert (tmp_path / "t/b").read_bytes() == b"old"


@BOTH
def test_links_to_directories_on_the_way_are_followed_inside_the_tree(tmp_path: Path, mode: str) -> None:
    apply(
        tmp_path / "t",
        header(b"usr/", b"5") + header(b"usr/lib/", b"5"),
        header(b"lib", b"2", linkname=b"usr/lib"),
        header(b"abs", b"2", linkname=b"/usr/../../usr/lib"),
        header(b"dangling", b"2", linkname=b"made/../made/here"),
        member(b"lib/one", b"1"),
        member(b"abs/two", b"2"),
        member(b"dangling/three", b"3"),
        header(b"four", b"1", linkname=b"abs/one"),
        mode=mode,
    )
    assert (tmp_path / "t/lib").is_symlink()
    assert sorted(os.listdir(tmp_path / "t/usr/lib")) == ["one", "two"]
    assert (tmp_path / "t/made/here/three").read_bytes() == b"3"
    assert (tmp_path / "t/four").stat().st_ino == (tmp_path / "t/usr/lib/one").stat().st_ino


@BOTH
def test_a_file_where_a_directory_is_needed_is_told(tmp_path: Path, mode: str) -> None:
    with pytest.raises(errors.DataLoss, match=r"'a/b/c': 'a/b' is not a directory"):
        apply(tmp_path / "t", member(b"a/b", b"x"), member(b"a/b/c", b"y"), mode=mode)


@BOTH
def test_a_loop_of_links_is_told(tmp_path: Path, mode: str) -> None:
    with pytest.raises(errors.DataLoss, match="too many symbolic links"):
        apply(
            tmp_path / "t",
            header(b"a", b"2", linkname=b"b"),
            header(b"b", b"2", linkname=b"a"),
            header(b"a/f"),
            mode=mode,
        )


# ---------------------------------------------------------------- implied directories


def test_parents_that_are_never_listed_are_implied_parents_first(tmp_path: Path) -> None:
    applied = apply(
        tmp_path / "t",
        header(b"z/y/f", mtime=77),
        header(b"a/b/c/f"),
        header(b"a/b/", b"5", mode=0o700),
        header(b"w/.wh.x"),
    )
    assert applied.implied == (".", "a", "a/b/c", "w", "z", "z/y")
    found = trees.facts(tmp_path / "t")
    assert found["z/y"][:5] == (stat.S_IFDIR, "0o755", (0, 0), 0, 77 * 10**9)
    assert found["a/b"][1] == "0o700"
    assert applied.inodes == 9


def test_onto_other_layers_directories_that_are_not_listed_keep_their_attributes(tmp_path: Path) -> None:
    tree = tmp_path / "t"
    apply(tree, header(b"d/", b"5", mode=0o2711, uid=4, gid=5, mtime=6), member(b"d/old", b"x"), mode="onto")
    before = trees.facts(tree)
    applied = apply(tree, member(b"d/new", b"y", mtime=99), mode="onto")
    after = trees.facts(tree)
    assert after["d"] == before["d"]
    assert after["d/new"][2] == (0, 0)
    assert applied.implied == ()


# ---------------------------------------------------------------- hard links


def test_a_link_whose_target_is_not_in_the_layer_is_noted(tmp_path: Path) -> None:
    applied = apply(
        tmp_path / "t",
        header(b"sub/name", b"1", linkname=b"./lower/file"),
        header(b"other", b"1", linkname=b"sub/name"),
        header(b"self", b"1", linkname=b"self"),
        header(b"replaced", b"1", linkname=b"elsewhere"),
        member(b"replaced", b"own"),
        header(b"gone/deep", b"1", linkname=b"elsewhere"),
        member(b"gone", b"a file now"),
        header(b"dir", b"1", linkname=b"elsewhere"),
        header(b"dir/", b"5"),
    )
    assert applied.foreign_links == (("sub/name", "lower/file"), ("other", "lower/file"))
    assert sorted(os.listdir(tmp_path / "t")) == ["dir", "gone", "replaced", "sub"]


def test_onto_other_layers_a_link_to_a_file_below_is_made(tmp_path: Path) -> None:
    apply(tmp_path / "t", member(b"lower", b"x"), mode="onto")
    apply(tmp_path / "t", header(b"name", b"1", linkname=b"/lower"), mode="onto")
    assert (tmp_path / "t/name").stat().st_nlink == 2
    with pytest.raises(errors.DataLoss, match="'other' to 'missing'"):
        apply(tmp_path / "t", header(b"other", b"1", linkname=b"missing"), mode="onto")


@BOTH
@pytest.mark.parametrize(
    "members",
    [
        (header(b"d/", b"5"), header(b"x", b"1", linkname=b"d")),
        (header(b"x", b"1", linkname=b"/"),),
        (header(b"x", b"1", linkname=b""),),
        (member(b"f", b"x"), header(b"x", b"1", linkname=b"f/below")),
        (member(b"d/f", b"x"), header(b"d", b"1", linkname=b"d/f")),
    ],
)
def test_hard_links_that_cannot_be_are_refused(tmp_path: Path, mode: str, members: tuple[bytes, ...]) -> None:
    with pytest.raises(errors.DataLoss, match="hard link"):
        apply(tmp_path / "t", *members, mode=mode)


def test_a_hard_link_to_what_the_layer_itself_hides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.DataLoss, match="removes it"):
        apply(tmp_path / "a", header(b".wh.f"), header(b"x", b"1", linkname=b"f"))
    with pytest.raises(errors.DataLoss, match="opaque"):
        apply(tmp_path / "b", header(b"d/", b"5"), header(b"d/.wh..wh..opq"), header(b"x", b"1", linkname=b"d/f"))


@BOTH
def test_a_link_that_is_there_already_stays(tmp_path: Path, mode: str) -> None:
    apply(
        tmp_path / "t",
        member(b"a", b"x"),
        *[header(b"b", b"1", linkname=b"a")] * 2,
        header(b"a", b"1", linkname=b"b"),
        mode=mode,
    )
    assert (tmp_path / "t/a").stat().st_nlink == 2


# ---------------------------------------------------------------- whiteouts


def test_alone_whiteouts_become_devices_and_opaque_marks_attributes(tmp_path: Path) -> None:
    applied = apply(
        tmp_path / "t",
        header(b"d/", b"5"),
        header(b"d/.wh.gone"),
        header(b"d/.wh.gone"),
        header(b".wh..dotted"),
        header(b"o/", b"5"),
        header(b"o/.wh..wh..opq"),
        member(b"o/new", b"x"),
    )
    assert is_whiteout(tmp_path / "t/d/gone")
    assert is_whiteout(tmp_path / "t/.dotted")
    assert is_opaque(tmp_path / "t/o")
    assert not is_opaque(tmp_path / "t/d")
    assert sorted(os.listdir(tmp_path / "t/o")) == ["new"]
    assert applied.inodes == 5


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_a_layers_whiteout_does_not_touch_what_it_brings_itself(tmp_path: Path, whiteout_first: bool) -> None:
    own = [member(b"f", b"own"), header(b"d/", b"5"), member(b"d/new", b"x"), member(b"i/new", b"x")]
    marks = [header(b".wh.f"), header(b".wh.d"), header(b".wh.i")]
    members = [*marks, *own] if whiteout_first else [*own, *marks]
    applied = apply(tmp_path / "alone", *members)
    assert (tmp_path / "alone/f").read_bytes() == b"own"
    assert is_opaque(tmp_path / "alone/d")
    assert is_opaque(tmp_path / "alone/i")
    assert applied.implied == (".",)
    apply(
        tmp_path / "onto",
        member(b"f", b"old") + member(b"d/old", b"x") + header(b"i/", b"5", mode=0o700, uid=5) + member(b"i/old", b"x"),
        mode="onto",
    )
    apply(tmp_path / "onto", *members, mode="onto")
    found = trees.facts(tmp_path / "onto", root_too=False, times=False)
    assert sorted(found) == ["d", "d/new", "f", "i", "i/new"]
    assert found["i"][1:3] == ("0o755", (0, 0))
    assert (tmp_path / "onto/f").read_bytes() == b"own"


def test_onto_other_layers_whiteouts_delete(tmp_path: Path) -> None:
    tree = tmp_path / "t"
    apply(
        tree,
        member(b"a", b"x"),
        member(b"d/e/f", b"x"),
        header(b"s", b"2", linkname=b"d"),
        member(b"keep", b"x"),
        mode="onto",
    )
    apply(tree, header(b".wh.a"), header(b".wh.d"), header(b".wh.s"), header(b".wh.never"), mode="onto")
    assert os.listdir(tree) == ["keep"]


@pytest.mark.parametrize("mark_at", [0, 1, 2, 3])
def test_onto_other_layers_opaque_clears_what_they_brought_only(tmp_path: Path, mark_at: int) -> None:
    tree = tmp_path / "t"
    lower = [header(b"d/", b"5", uid=1), member(b"d/old", b"x"), header(b"d/sub/", b"5", mode=0o700, uid=7),
             member(b"d/sub/old", b"x"), member(b"d/gone/deep/old", b"x"), member(b"beside", b"x")]  # fmt: skip
    apply(tree, *lower, mode="onto")
    members = [header(b"d/", b"5", uid=2), member(b"d/new", b"y"), member(b"d/sub/new", b"y")]
    members.insert(mark_at, header(b"d/.wh..wh..opq"))
    apply(tree, *members, mode="onto")
    found = trees.facts(tree, root_too=False, times=False)
    assert sorted(found) == ["beside", "d", "d/new", "d/sub", "d/sub/new"]
    assert found["d"][2] == (2, 0)
    assert found["d/sub"][1:3] == ("0o755", (0, 0))


def test_what_is_put_where_the_layer_removed_something_shows_nothing_from_below(tmp_path: Path) -> None:
    applied = apply(tmp_path / "t", header(b".wh.d"), member(b"d/f", b"x"), header(b".wh.e"), header(b"e/", b"5"))
    assert is_opaque(tmp_path / "t/d")
    assert is_opaque(tmp_path / "t/e")
    assert applied.implied == (".",)


@BOTH
@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"d/.wh...", b".wh.x/f", b"d/.wh.x/f", b".wh./x"])
def test_tricks_with_whiteout_names_are_refused(tmp_path: Path, mode: str, name: bytes) -> None:
    with pytest.raises(errors.DataLoss, match="whiteout"):
        apply(tmp_path / "t", header(b"d/", b"5"), header(name), mode=mode)


@BOTH
def test_aufs_own_files_are_passed_over_and_its_link_store_serves_links(tmp_path: Path, mode: str) -> None:
    applied = apply(
        tmp_path / "t",
        header(b".wh..wh.orph/", b"5"),
        member(b".wh..wh.orph/x", b"x"),
        header(b".wh..wh.aufs"),
        header(b".wh..wh.plnk/", b"5"),
        member(b".wh..wh.plnk/12.34", b"linked"),
        header(b"a", b"1", linkname=b".wh..wh.plnk/12.34"),
        header(b"b", b"1", linkname=b".wh..wh.plnk/12.34"),
        mode=mode,
    )
    assert sorted(os.listdir(tmp_path / "t")) == ["a", "b"]
    assert (tmp_path / "t/a").stat().st_nlink == 2
    if mode == "alone":
        assert (applied.inodes, applied.size, applied.implied) == (1, 6, (".",))


@BOTH
def test_a_device_that_is_overlayfs_whiteout_is_refused(tmp_path: Path, mode: str) -> None:
    with pytest.raises(errors.DataLoss, match="0:0"):
        apply(tmp_path / "t", header(b"x", b"3", device=(0, 0)), mode=mode)


# ---------------------------------------------------------------- limits, cancellation, faults


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(entries=2), "entries=2"),
        (Limits(total_bytes=3000), "total_bytes=3000"),
        (Limits(file_bytes=999), "file_bytes=999"),
        (Limits(path_length=10), "path_length=10"),
        (Limits(depth=3), "depth=3"),
    ],
)
def test_a_limit_that_is_exceeded_is_named_with_the_entry(tmp_path: Path, limits: Limits, name: str) -> None:
    with pytest.raises(errors.ResourceExhausted, match=f"{name}, at 'a/b/c/d/file'"):
        apply(
            tmp_path / "t",
            member(b"one", b"x"),
            member(b"two", b"x"),
            member(b"a/b/c/d/file", b"x" * 1000),
            limits=limits,
        )


@pytest.mark.parametrize("endless", [bytes(512), pax({b"comment": b"x" * 3000}, b"g"), pax({b"path": b"x"})])
def test_the_whole_stream_counts_for_the_limit_not_only_members(tmp_path: Path, endless: bytes) -> None:
    class Endless:
        def read(self, n: int) -> bytes:
            return endless * 100

    with pytest.raises(errors.ResourceExhausted, match="total_bytes"):
        apply_layer(Endless(), str(tmp_path), limits=Limits(total_bytes=10 << 20))


def test_a_directory_counts_for_the_depth_also_through_links(tmp_path: Path) -> None:
    limits = Limits(depth=3)
    with pytest.raises(errors.ResourceExhausted, match="depth=3"):
        apply(tmp_path / "a", header(b"a/b/c/d/", b"5"), limits=limits)
    with pytest.raises(errors.ResourceExhausted, match="depth=3"):
        apply(
            tmp_path / "b",
            header(b"a/b/", b"5"),
            header(b"s", b"2", linkname=b"a/b"),
            header(b"s/c/d/", b"5"),
            limits=limits,
        )


def test_names_the_file_system_cannot_hold_are_told(tmp_path: Path) -> None:
    with pytest.raises(errors.ResourceExhausted, match="longer than the file system allows"):
        apply(tmp_path / "t", pax({b"path": b"x" * 256}) + header(b"x"))


def test_deep_trees_are_made_with_few_descriptors(tmp_path: Path) -> None:
    deep = b"/".join([b"d" * 100] * 400)
    members = [pax({b"path": deep + b"/%d" % n}) + header(b"x") for n in range(3)]
    wide = [header(b"w%d/x/f" % n) for n in range(300)]
    before = len(os.listdir("/proc/self/fd"))
    applied = apply(tmp_path / "t", *members, *wide, *members, limits=Limits(path_length=1 << 20))
    assert len(os.listdir("/proc/self/fd")) == before
    assert applied.inodes == 400 + 3 + 900
    trees_top = tmp_path / "t"
    from orlop.base import fsio

    fsio.remove_tree(str(trees_top))


@pytest.mark.parametrize(
    "member_",
    [
        pax({b"uid": b"4294967295"}) + header(b"f"),
        pax({b"gid": b"-1"}) + header(b"d/", b"5"),
        pax({b"uid": b"99999999999999"}) + header(b"s", b"2", linkname=b"x"),
        pax({b"mtime": b"99999999999999999999"}) + header(b"f"),
        header(b"s", b"2"),
        header(b"./", b"2", linkname=b"/etc"),
    ],
)
def test_impossible_entries_are_data_loss_that_names_them(tmp_path: Path, member_: bytes) -> None:
    with pytest.raises(errors.DataLoss, match=r"'(f|d/|s|\./)'"):
        apply(tmp_path / "t", member_)


def test_it_stops_when_it_is_cancelled(tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.cancel("enough")
    with pytest.raises(errors.Cancelled):
        apply(tmp_path / "t", *[header(b"f%d" % n) for n in range(200)], cancel=cancel)
    with pytest.raises(errors.Cancelled):
        apply(tmp_path / "u", cancel=cancel)


def test_progress_is_told(tmp_path: Path) -> None:
    reports: list[Report] = []

    class Collect(Sink):
        def report(self, report: Report) -> None:
            reports.append(report)

    apply(tmp_path / "t", member(b"big", bytes(12 << 20)), progress=Collect(), item="layer")
    assert {(r.item, r.action) for r in reports} == {("layer", "unpacking")}
    assert [r.current for r in reports] == sorted(r.current for r in reports)


def test_a_full_disk_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(applier.os, "write", full)
    with pytest.raises(errors.ResourceExhausted, match=r"unpack layer entry 'f': No space left on device"):
        apply(tmp_path / "t", member(b"f", b"x"))


def test_a_write_that_takes_only_a_part_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(applier.os, "write", lambda fd, data: real(fd, bytes(data[:1000])))
    data = os.urandom(100_000)
    apply(tmp_path / "t", member(b"f", data))
    assert (tmp_path / "t/f").read_bytes() == data


def test_a_capability_that_cannot_be_kept_is_not_lost_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(applier.xattrs.os, "setxattr", unsupported)
    apply(tmp_path / "t", pax({b"SCHILY.xattr.user.a": b"b"}) + header(b"fine"))
    with pytest.raises(errors.Unimplemented, match="capabilities of 'ping'"):
        apply(tmp_path / "t", pax({b"SCHILY.xattr.security.capability": b"x"}) + header(b"ping"))


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound):
        apply_layer(io.BytesIO(END), str(tmp_path / "missing"))
