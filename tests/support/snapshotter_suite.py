"""The behaviour every snapshotter of Orlop shares; a test class names an implementation and inherits these tests.

Ideas from containerd's snapshotter test suite (core/snapshots/testsuite), written anew.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orlop.base import errors
from orlop.base.kernel import mounts
from orlop.base.oci import digest
from orlop.stores.layers.local import LocalLayerStore
from orlop.stores.metadata.database import Database
from orlop.stores.snapshots import local
from orlop.stores.snapshots.native import NativeSnapshotter
from orlop.stores.snapshots.overlay import OverlaySnapshotter
from tests.support import layering
from tests.support.layering import Entry, directory, file, hard, link, opaque, whiteout

KINDS: dict[str, Any] = {"overlay": OverlaySnapshotter, "native": NativeSnapshotter}


class Bench:
    """A root directory with a snapshotter and a layer store, and places to mount things on."""

    def __init__(self, root: Path, kind: str) -> None:
        root.mkdir(parents=True)
        self.root = str(root)
        self.kind = kind
        self.db = Database(f"{root}/metadata.db")
        self.snapshots = self.namespace("default")
        self.layers = LocalLayerStore(self.db, self.root)
        self._mounted: list[str] = []

    def namespace(self, name: str) -> Any:
        return KINDS[self.kind](self.db, self.root, name)

    def layer(self, *entries: Entry) -> digest.Digest:
        """Build a layer in the layer store, unless it is there."""
        diff_id = digest.parse(layering.diff_id(entries))
        try:
            builder = self.layers.build(diff_id)
        except errors.AlreadyExists:
            return diff_id
        with builder:
            implied, foreign = layering.build_alone(builder.path, entries)
            builder.commit(diff_id, size=0, inodes=len(entries), tar_size=0, implied=implied, foreign_links=foreign)
        return diff_id

    def stack(self, *layers: Sequence[Entry], prefix: str = "chain") -> str:
        """A chain of snapshots of layers, bottom first; the top's name."""
        parent = ""
        for number, entries in enumerate(layers):
            name = f"{prefix}-{number}"
            self.snapshots.stack(name, parent, self.layer(*entries))
            parent = name
        return parent

    @contextmanager
    def mounted(self, what: Any) -> Iterator[str]:
        """Mount a list of mounts (or what `mounts` gives for a key); yields where."""
        place = f"{self.root}.mnt{len(self._mounted)}"
        self._mounted.append(place)
        os.mkdir(place)
        mounts.mount_all(self.snapshots.mounts(what) if isinstance(what, str) else what, place)
        try:
            yield place
        finally:
            mounts.unmount(place, lazy=False)

    def seen(self, parent: str, *, times: bool = True) -> dict[str, dict[str, Any]]:
        """What a read-only view of a committed snapshot shows."""
        key = f"view-{os.urandom(4).hex()}"
        with self.mounted(self.snapshots.view(key, parent)) as place:
            found = layering.tree(place, times=times)
        self.snapshots.remove(key)
        return found

    def files(self) -> set[str]:
        """Names of the numbered directories on disk."""
        return {name for name in os.listdir(f"{self.root}/snapshots/{self.kind}") if name.isdigit()}

    def close(self) -> None:
        for place in self._mounted:
            mounts.unmount_under(place)
        self.db.close()


def write(place: str, path: str, content: str = "") -> None:
    os.makedirs(os.path.dirname(f"{place}/{path}"), exist_ok=True)
    Path(place, path).write_text(content or path)


class SnapshotterSuite:
    """Inherit, and set `kind`."""

    kind = ""

    @pytest.fixture
    def bench(self, ext4_dir: Path) -> Iterator[Bench]:
        made = Bench(ext4_dir / "root", self.kind)
        yield made
        made.close()

    def fill(self, bench: Bench, name: str, parent: str = "", **files: str) -> str:
        """Prepare, write files, commit as `name`."""
        with bench.mounted(bench.snapshots.prepare(f"active-{name}", parent)) as place:
            for path, content in files.items():
                write(place, path.replace("__", "/"), content)
        bench.snapshots.commit(name, f"active-{name}")
        return name

    # ------------------------------------------------------------ the life of a snapshot

    def test_it_is_the_snapshotter_it_says(self, bench: Bench) -> None:
        assert bench.snapshots.name == self.kind
        (mount,) = bench.snapshots.prepare("x", self.fill(bench, "one", a="1"))
        assert mount.type == {"overlay": "overlay", "native": "bind"}[self.kind]

    def test_prepare_write_commit_and_read_back(self, bench: Bench) -> None:
        self.fill(bench, "one", a="1", d__b="2")
        assert bench.seen("one")["d/b"]["content"] == b"2"
        self.fill(bench, "two", "one", a="changed", c="3")
        seen = bench.seen("two")
        assert {path for path in seen if path} == {"a", "c", "d", "d/b"}
        assert seen["a"]["content"] == b"changed"
        assert bench.seen("one")["a"]["content"] == b"1", "a child's writes never reach its parent"

    def test_stat_tells_what_a_snapshot_is(self, bench: Bench) -> None:
        self.fill(bench, "one", a="1")
        bench.snapshots.prepare("child", "one", {"l": "v"})
        info = bench.snapshots.stat("child")
        assert (info.kind, info.name, info.parent, info.labels) == ("active", "child", "one", {"l": "v"})
        assert info.created_ns > 0
        assert bench.snapshots.stat("one").kind == "committed"
        bench.snapshots.view("v", "one")
        assert bench.snapshots.stat("v").kind == "view"
        with pytest.raises(errors.NotFound):
            bench.snapshots.stat("missing")

    def test_walk_gives_all_and_what_filters_fit(self, bench: Bench) -> None:
        self.fill(bench, "one", a="1")
        bench.snapshots.prepare("two", "one", {"colour": "red"})
        bench.snapshots.view("three", "one")
        assert [info.name for info in bench.snapshots.walk()] == ["one", "two", "three"]
        assert [info.name for info in bench.snapshots.walk("kind==active", "kind==view")] == ["two", "three"]
        assert [info.name for info in bench.snapshots.walk("parent==one,labels.colour==red")] == ["two"]
        with pytest.raises(errors.InvalidArgument):
            bench.snapshots.walk("kind=")

    def test_an_active_snapshot_without_parent_starts_empty_and_plain(self, bench: Bench) -> None:
        with bench.mounted(bench.snapshots.prepare("x")) as place:
            assert os.listdir(place) == []
            assert stat.S_IMODE(os.stat(place).st_mode) == 0o755
            write(place, "a")
        assert [mount.options[-1] for mount in bench.snapshots.mounts("x")][-1:] != ["ro"]

    def test_a_view_is_read_only(self, bench: Bench) -> None:
        self.fill(bench, "one", a="1")
        self.fill(bench, "two", "one", b="2")
        for key, parent in (("none", ""), ("single", "one"), ("double", "two")):
            with bench.mounted(bench.snapshots.view(key, parent)) as place:
                with pytest.raises(OSError, match="Read-only"):
                    write(place, "new")
        with pytest.raises(errors.FailedPrecondition):
            bench.snapshots.commit("n", "single")

    def test_what_is_unmounted_and_mounted_again_is_still_there(self, bench: Bench) -> None:
        bench.snapshots.prepare("x", self.fill(bench, "one", a="1"))
        with bench.mounted("x") as place:
            write(place, "b", "kept")
            os.unlink(f"{place}/a")
        with bench.mounted("x") as place:
            assert Path(place, "b").read_text() == "kept"
            assert not os.path.exists(f"{place}/a")

    def test_a_committed_snapshot_cannot_be_mounted_or_committed_again(self, bench: Bench) -> None:
        self.fill(bench, "one", a="1")
        with pytest.raises(errors.FailedPrecondition):
            bench.snapshots.mounts("one")
        with pytest.raises(errors.FailedPrecondition):
            bench.snapshots.commit("again", "one")

    def test_a_parent_must_be_there_and_committed(self, bench: Bench) -> None:
        bench.snapshots.prepare("active")
        for parent, kind in (("active", errors.InvalidArgument), ("missing", errors.NotFound)):
            with pytest.raises(kind):
                bench.snapshots.prepare("x", parent)
            with pytest.raises(kind):
                bench.snapshots.stack("x", parent, bench.layer(file("a")))
        with pytest.raises(errors.NotFound):
            bench.snapshots.stat("x")

    def test_names_and_keys_share_one_space(self, bench: Bench) -> None:
        self.fill(bench, "one", a="1")
        bench.snapshots.prepare("two")
        layer = bench.layer(file("x"))
        for taken in ("one", "two"):
            with pytest.raises(errors.AlreadyExists):
                bench.snapshots.prepare(taken)
            with pytest.raises(errors.AlreadyExists):
                bench.snapshots.view(taken)
            with pytest.raises(errors.AlreadyExists):
                bench.snapshots.commit(taken, "two")
            with pytest.raises(errors.AlreadyExists):
                bench.snapshots.stack(taken, "", layer)
        assert bench.snapshots.stat("two").kind == "active"

    def test_namespaces_do_not_see_each_other(self, bench: Bench) -> None:
        other = bench.namespace("other")
        self.fill(bench, "one", a="mine")
        with pytest.raises(errors.NotFound):
            other.stat("one")
        with bench.mounted(other.prepare("k")) as place:
            write(place, "a", "theirs")
        other.commit("one", "k")
        assert bench.seen("one")["a"]["content"] == b"mine"
        with pytest.raises(errors.NotFound):
            other.prepare("x", "active-one")
        other.cleanup()
        assert bench.seen("one")["a"]["content"] == b"mine", "cleaning one namespace leaves the others' files"

    def test_labels_are_updated_whole_or_by_field(self, bench: Bench) -> None:
        bench.snapshots.prepare("x", "", {"a": "1", "b": "2"})
        assert bench.snapshots.update("x", {"a": "9"}, ["labels.a"]).labels == {"a": "9", "b": "2"}
        assert bench.snapshots.update("x", {"c": "3"}).labels == {"c": "3"}
        assert bench.snapshots.stat("x").labels == {"c": "3"}
        with pytest.raises(errors.NotFound):
            bench.snapshots.update("missing", {})
        with pytest.raises(errors.InvalidArgument):
            bench.snapshots.update("x", {}, ["parent"])

    def test_commit_sets_its_own_labels(self, bench: Bench) -> None:
        bench.snapshots.prepare("k", "", {"containerd.io/gc.root": "now"})
        bench.snapshots.commit("n", "k", {"done": "yes"})
        assert bench.snapshots.stat("n").labels == {"done": "yes"}
        with pytest.raises(errors.NotFound):
            bench.snapshots.stat("k")

    # ------------------------------------------------------------ removing

    def test_a_snapshot_with_children_cannot_be_removed(self, bench: Bench) -> None:
        self.fill(bench, "one", a="1")
        self.fill(bench, "two", "one", b="2")
        bench.snapshots.prepare("leaf", "two")
        for key in ("one", "two"):
            with pytest.raises(errors.FailedPrecondition, match=key):
                bench.snapshots.remove(key)
        for key in ("leaf", "two", "one"):
            bench.snapshots.remove(key)
        assert list(bench.snapshots.walk()) == []
        assert bench.files() == set()
        with pytest.raises(errors.NotFound):
            bench.snapshots.remove("one")

    def test_a_key_can_be_used_again_and_starts_anew(self, bench: Bench) -> None:
        with bench.mounted(bench.snapshots.prepare("x")) as place:
            write(place, "old")
        bench.snapshots.remove("x")
        with bench.mounted(bench.snapshots.prepare("x")) as place:
            assert os.listdir(place) == []

    def test_big_removals_leave_the_deleting_to_cleanup(self, bench: Bench) -> None:
        with bench.mounted(bench.snapshots.prepare("x")) as place:
            for number in range(local._SMALL + 10):
                write(place, f"f{number}")
        bench.snapshots.remove("x")
        assert bench.files() == set()
        trash = f"{bench.root}/snapshots/{self.kind}/trash"
        assert len(os.listdir(trash)) == 1
        bench.snapshots.cleanup()
        assert os.listdir(trash) == []

    def test_cleanup_removes_what_no_row_names_and_nothing_else(self, bench: Bench) -> None:
        self.fill(bench, "one", a="1")
        bench.snapshots.prepare("active", "one")
        kept = bench.files()
        base = f"{bench.root}/snapshots/{self.kind}"
        write(base, "999/fs/garbage")
        write(base, "new/abandoned/fs/garbage")
        bench.snapshots.cleanup()
        assert bench.files() == kept
        assert os.listdir(f"{base}/new") == []
        with bench.mounted("active") as place:
            assert os.listdir(place) == ["a"]

    def test_files_of_a_removed_row_are_taken_away_for_the_collector(self, bench: Bench) -> None:
        self.fill(bench, "one", a="1")
        (number,) = bench.files()
        local.remove_snapshot_files(bench.root, self.kind, int(number))
        local.remove_snapshot_files(bench.root, self.kind, int(number))
        assert bench.files() == set()

    def test_usage_counts_blocks_and_inodes_of_the_snapshot_alone(self, bench: Bench) -> None:
        with bench.mounted(bench.snapshots.prepare("x")) as place:
            before = bench.snapshots.usage("x")
            write(place, "a", "x" * 100_000)
            os.link(f"{place}/a", f"{place}/b")
            os.sync()
            after = bench.snapshots.usage("x")
        assert after.inodes == before.inodes + 1
        assert 100_000 <= after.size - before.size <= 130_000
        bench.snapshots.commit("one", "x")
        committed = bench.snapshots.usage("one")
        assert 100_000 <= committed.size <= 140_000
        assert bench.snapshots.usage("one") == committed

    # ------------------------------------------------------------ what a child shows of its parent

    def test_permissions_owners_and_the_roots_own_are_inherited(self, bench: Bench) -> None:
        with bench.mounted(bench.snapshots.prepare("k")) as place:
            os.chmod(place, 0o1751)
            os.chown(place, 7, 8)
            write(place, "d/f")
            os.chown(f"{place}/d", 1, 2)
            os.chmod(f"{place}/d", 0o2770)
            os.chmod(f"{place}/d/f", 0o4755)
        bench.snapshots.commit("one", "k")
        with bench.mounted(bench.snapshots.prepare("x", "one")) as place:
            root, sub, inner = os.stat(place), os.stat(f"{place}/d"), os.stat(f"{place}/d/f")
        assert (stat.S_IMODE(root.st_mode), root.st_uid, root.st_gid) == (0o1751, 7, 8)
        assert (stat.S_IMODE(sub.st_mode), sub.st_uid, sub.st_gid) == (0o2770, 1, 2)
        assert stat.S_IMODE(inner.st_mode) == 0o4755

    def test_hard_links_within_a_snapshot_stay(self, bench: Bench) -> None:
        with bench.mounted(bench.snapshots.prepare("k")) as place:
            write(place, "a", "text")
            os.link(f"{place}/a", f"{place}/b")
        bench.snapshots.commit("one", "k")
        assert bench.seen("one")["a"]["links"] == ["a", "b"]
        with bench.mounted(bench.snapshots.prepare("x", "one")) as place:
            os.link(f"{place}/a", f"{place}/c")
            assert Path(place, "c").read_text() == "text"

    def test_deleted_and_replaced_things_stay_so(self, bench: Bench) -> None:
        self.fill(bench, "one", d__a="1", d__b="2", e__f="3", g="4")
        with bench.mounted(bench.snapshots.prepare("k", "one")) as place:
            os.unlink(f"{place}/d/a")
            os.unlink(f"{place}/e/f")
            os.rmdir(f"{place}/e")
            write(place, "e/new")
            os.unlink(f"{place}/g")
            os.mkdir(f"{place}/g")
        bench.snapshots.commit("two", "k")
        assert set(bench.seen("two")) == {"", "d", "d/b", "e", "e/new", "g"}
        assert bench.seen("two")["g"]["mode"].startswith("0o40")
        assert set(bench.seen("one")) == {"", "d", "d/a", "d/b", "e", "e/f", "g"}

    def test_a_directory_of_the_parent_can_be_moved(self, bench: Bench) -> None:
        self.fill(bench, "one", d__a="1", d__sub__b="2")
        with bench.mounted(bench.snapshots.prepare("k", "one")) as place:
            subprocess.run(["mv", f"{place}/d", f"{place}/moved"], check=True)
        bench.snapshots.commit("two", "k")
        assert set(bench.seen("two")) == {"", "moved", "moved/a", "moved/sub", "moved/sub/b"}

    def test_two_children_do_not_disturb_each_other(self, bench: Bench) -> None:
        self.fill(bench, "one", a="1")
        with bench.mounted(bench.snapshots.prepare("x", "one")) as left:
            with bench.mounted(bench.snapshots.prepare("y", "one")) as right:
                write(left, "a", "left")
                os.unlink(f"{right}/a")
                assert Path(left, "a").read_text() == "left"

    # ------------------------------------------------------------ stacks of layers

    def check_stack(self, bench: Bench, *layers: Sequence[Entry], unspecified: Sequence[str] = ()) -> dict[str, Any]:
        """A stack shows what extracting the layers one after the other gives."""
        truth = f"{bench.root}.truth-{os.urandom(3).hex()}"
        os.mkdir(truth, 0o755)
        for entries in layers:
            layering.apply(truth, entries)
        wanted = layering.tree(truth)
        seen = bench.seen(bench.stack(*layers, prefix=os.urandom(3).hex()))
        for path in unspecified:
            wanted.get(path, {}).pop("mtime", None)
            seen.get(path, {}).pop("mtime", None)
        assert seen == wanted
        return seen

    def test_a_stack_shows_its_layers(self, bench: Bench) -> None:
        base = [directory(""), directory("etc"), file("etc/a"), file("etc/b", mode=0o600, uid=5), link("l", "etc/a")]
        top = [directory("etc", 0o700, time=1_650_000_000), file("etc/a", "new"), whiteout("etc/b"), file("c")]
        self.check_stack(bench, base, top)
        info = bench.snapshots.stat(bench.stack(base, top))
        assert info.kind == "committed"
        assert info.layers == (layering.diff_id(base), layering.diff_id(top))

    def test_the_labels_of_a_stack_are_kept(self, bench: Bench) -> None:
        info = bench.snapshots.stack("s", "", bench.layer(file("a")), {"containerd.io/snapshot.ref": "x"})
        assert info.labels == {"containerd.io/snapshot.ref": "x"}
        assert bench.snapshots.stat("s") == info

    def test_a_layer_in_use_cannot_be_removed(self, bench: Bench) -> None:
        layer = bench.layer(file("a"))
        bench.snapshots.stack("s", "", layer)
        with pytest.raises(errors.FailedPrecondition):
            bench.layers.remove(layer)
        bench.snapshots.remove("s")
        bench.layers.remove(layer)
        with pytest.raises(errors.NotFound):
            bench.snapshots.stack("s", "", layer)

    def test_whiteouts_and_opaque_directories_hide_what_is_below(self, bench: Bench) -> None:
        base = [directory(""), directory("d"), file("d/a"), file("d/b"), directory("e"), file("e/x"), file("gone")]
        middle = [directory("d"), opaque("d"), file("d/new"), whiteout("gone"), whiteout("e")]
        top = [directory("e"), file("e/y"), file("gone", "back")]
        self.check_stack(bench, base, middle)
        self.check_stack(bench, base, middle, top)

    def test_a_file_where_a_directory_was_and_the_other_way_round(self, bench: Bench) -> None:
        base = [directory(""), directory("a"), file("a/x"), file("b")]
        self.check_stack(bench, base, [file("a"), directory("b"), file("b/y")])

    def test_implied_directories_look_like_what_is_below(self, bench: Bench) -> None:
        base = [
            directory("", 0o1755, uid=3, time=1_500_000_000),
            directory("opt", 0o2750, uid=10, gid=20, time=1_510_000_000, xattrs={"user.colour": b"red"}),
            directory("opt/app", 0o711, time=1_520_000_000),
        ]
        seen = self.check_stack(bench, base, [file("opt/app/bin")], [file("opt/other")])
        assert seen["opt"]["mode"] == oct(stat.S_IFDIR | 0o2750)
        assert seen["opt"]["owner"] == (10, 20)
        assert seen["opt"]["xattrs"] == {"user.colour": b"red"}
        assert seen[""]["mode"] == oct(stat.S_IFDIR | 0o1755)

    def test_implied_directories_that_no_layer_lists_are_plain(self, bench: Bench) -> None:
        seen = self.check_stack(bench, [file("a/b/c")], [file("a/b/d")], unspecified=["a", "a/b"])
        assert (seen["a/b"]["mode"], seen["a/b"]["owner"]) == (oct(stat.S_IFDIR | 0o755), (0, 0))

    def test_implied_directories_do_not_look_like_what_a_whiteout_or_opaque_mark_hides(self, bench: Bench) -> None:
        base = [directory(""), directory("a", 0o700), directory("b", 0o700), directory("b/c", 0o700, uid=9)]
        middle = [whiteout("a"), directory("b", 0o711), opaque("b")]
        seen = self.check_stack(bench, base, middle, [file("a/x"), file("b/c/x")], unspecified=["a", "b/c"])
        assert seen["a"]["mode"] == oct(stat.S_IFDIR | 0o755)
        assert seen["b/c"]["owner"] == (0, 0)

    def test_an_implied_directory_that_is_opaque_keeps_its_attributes(self, bench: Bench) -> None:
        base = [directory(""), directory("a", 0o700, uid=4), file("a/x")]
        seen = self.check_stack(bench, base, [opaque("a"), file("a/y")])
        assert set(seen) == {"", "a", "a/y"}
        assert seen["a"]["owner"] == (4, 0)

    def test_files_below_an_implied_directory_go_where_a_link_below_leads(self, bench: Bench) -> None:
        base = [
            directory(""), directory("usr", 0o711), directory("usr/lib", 0o750, uid=2), file("usr/lib/old"),
            directory("usr/lib/sub", 0o700), link("lib", "usr/lib"), link("lib64", "/lib"), link("dangling", "usr/new"),
        ]  # fmt: skip
        top = [
            file("lib/new"), file("lib/sub/deep"), whiteout("lib/old"), file("lib64/other", mode=0o4755),
            directory("lib/listed", 0o711, uid=6), file("lib/listed/x"), file("dangling/x"),
        ]  # fmt: skip
        seen = self.check_stack(bench, base, top, unspecified=["usr/new"])
        assert seen["lib"]["target"] == "usr/lib"
        assert {"usr/lib/new", "usr/lib/sub/deep", "usr/lib/other", "usr/new/x"} <= set(seen)
        assert "usr/lib/old" not in seen
        assert seen["usr/lib"]["owner"] == (2, 0)

    def test_files_below_a_link_to_a_file_or_in_a_circle_are_refused(self, bench: Bench) -> None:
        base = [directory(""), file("f"), link("a", "f"), link("x", "y"), link("y", "x")]
        parent = bench.stack(base)
        for path in ("a/new", "x/new"):
            with pytest.raises(errors.DataLoss, match=path[0]):
                bench.snapshots.stack("bad", parent, bench.layer(file(path)))
        with pytest.raises(errors.NotFound):
            bench.snapshots.stat("bad")
        bench.snapshots.cleanup()
        assert not os.listdir(f"{bench.root}/snapshots/{self.kind}/new")

    def test_a_listed_directory_replaces_a_link_below(self, bench: Bench) -> None:
        base = [directory(""), directory("usr"), link("lib", "usr")]
        self.check_stack(bench, base, [directory("lib", 0o700), file("lib/x")])

    def test_a_link_can_never_lead_out_of_the_root(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        base = [directory(""), link("up", "../../../../../../.." + str(tmp_path / "outside")), directory("d")]
        inside = str(tmp_path / "outside")[1:]
        above = ["/".join(inside.split("/")[:count]) for count in range(1, inside.count("/") + 2)]
        self.check_stack(bench, base, [file("up/x")], unspecified=above)
        assert list((tmp_path / "outside").iterdir()) == []

    def test_foreign_hard_links_are_links_to_the_file_below(self, bench: Bench) -> None:
        base = [
            directory(""), directory("bin", 0o711), file("bin/a", "tool", 0o4755, uid=3, xattrs={"user.x": b"1"}),
            link("s", "bin/a"),
        ]  # fmt: skip
        seen = self.check_stack(bench, base, [hard("bin/b", "bin/a"), hard("opt/c", "bin/a"), hard("t", "s")],
                                unspecified=["opt"])  # fmt: skip
        assert seen["bin/a"]["links"] == ["bin/a", "bin/b", "opt/c"]
        assert seen["opt/c"]["xattrs"] == {"user.x": b"1"}
        assert seen["t"]["target"] == "bin/a"

    def test_a_foreign_hard_link_can_name_another(self, bench: Bench) -> None:
        seen = self.check_stack(bench, [directory(""), file("a")], [hard("b", "a"), hard("c", "b")])
        assert seen["c"]["links"] == ["a", "b", "c"]

    def test_a_foreign_hard_link_to_a_file_of_several_names_joins_them_all(self, bench: Bench) -> None:
        base = [directory(""), directory("bin"), file("bin/sh"), hard("bin/ls", "bin/sh"), hard("gone", "bin/sh")]
        seen = self.check_stack(bench, base, [hard("new/ash", "bin/ls")], [hard("x", "new/ash"), whiteout("gone")],
                                unspecified=["new"])  # fmt: skip
        assert seen["x"]["links"] == ["bin/ls", "bin/sh", "new/ash", "x"]

    def test_hard_links_stay_when_one_name_goes_where_a_link_leads(self, bench: Bench) -> None:
        base = [directory(""), directory("usr"), link("lib", "usr")]
        seen = self.check_stack(bench, base, [file("bin/a"), hard("lib/a", "bin/a"), hard("lib/b", "bin/a")],
                                unspecified=["bin"])  # fmt: skip
        assert seen["usr/b"]["links"] == ["bin/a", "usr/a", "usr/b"]

    def test_a_foreign_hard_link_keeps_the_old_file_when_the_layer_replaces_or_deletes_the_target(
        self, bench: Bench
    ) -> None:
        base = [directory(""), file("a", "old"), file("b", "old too")]
        seen = bench.seen(bench.stack(base, [hard("kept", "a"), whiteout("a"), hard("also", "b")]))
        assert seen["kept"]["content"] == b"old"
        assert "a" not in seen
        assert seen["b"]["links"] == ["also", "b"]

    def test_a_foreign_hard_link_is_found_through_a_linked_directory(self, bench: Bench) -> None:
        base = [directory(""), directory("usr"), directory("usr/bin"), file("usr/bin/a"), link("bin", "usr/bin")]
        seen = self.check_stack(bench, base, [hard("bin/b", "bin/a")])
        assert seen["usr/bin/b"]["links"] == ["usr/bin/a", "usr/bin/b"]

    def test_a_hard_link_to_nothing_is_refused_naming_both(self, bench: Bench) -> None:
        parent = bench.stack([directory(""), directory("d")])
        for target in ("missing/target", "d"):
            with pytest.raises(errors.DataLoss, match=f"new/name.*{target}"):
                bench.snapshots.stack("bad", parent, bench.layer(hard("new/name", target)))

    def test_a_layer_that_occurs_twice_shows_as_applied_twice(self, bench: Bench) -> None:
        one = [directory(""), directory("d"), file("d/a", "one"), whiteout("d/z")]
        two = [directory("d", 0o711), file("d/a", "two"), file("d/b"), file("d/z")]
        seen = self.check_stack(bench, one, two, one)
        assert seen["d/a"]["content"] == b"one"
        key = bench.stack(one, two, one)
        assert bench.snapshots.stat(key).layers == (layering.diff_id(one), layering.diff_id(two))
        with bench.mounted(bench.snapshots.prepare("x", key)) as place:
            write(place, "d/a", "written")
            assert sorted(os.listdir(f"{place}/d")) == ["a", "b"]

    def test_an_empty_layer_many_times_is_no_trouble(self, bench: Bench) -> None:
        empty: list[Entry] = []
        self.check_stack(bench, [directory(""), file("a")], empty, empty, [file("b")], empty)

    def test_a_layer_can_be_put_on_a_committed_snapshot(self, bench: Bench) -> None:
        with bench.mounted(bench.snapshots.prepare("k")) as place:
            write(place, "d/a", "1")
            os.chmod(f"{place}/d", 0o700)
        bench.snapshots.commit("one", "k")
        bench.snapshots.stack("two", "one", bench.layer(file("d/b"), hard("d/c", "d/a")))
        seen = bench.seen("two")
        assert seen["d"]["mode"] == oct(stat.S_IFDIR | 0o700)
        assert seen["d/c"]["links"] == ["d/a", "d/c"]

    def test_a_stack_without_parent_drops_whiteouts_of_nothing(self, bench: Bench) -> None:
        parent = bench.stack([directory(""), directory("d"), file("d/a")], [directory("d"), whiteout("d/none")])
        assert set(bench.seen(parent)) == {"", "d", "d/a"}

    def test_a_hundred_layers(self, bench: Bench) -> None:
        layers = [[directory("") if number == 0 else file(f"only{number}"), file("same", str(number))]
                  for number in range(100)]  # fmt: skip
        top = bench.stack(*layers)
        with bench.mounted(bench.snapshots.prepare("x", top)) as place:
            assert Path(place, "same").read_text() == "99"
            assert len(os.listdir(place)) == 100
            write(place, "same", "written")
        with bench.mounted(bench.snapshots.view("v", top)) as place:
            assert Path(place, "same").read_text() == "99"

    def test_a_long_root_path(self, ext4_dir: Path) -> None:
        bench = Bench(ext4_dir / ("long" * 50) / "root", self.kind)
        try:
            assert len(bench.root) > 200
            top = bench.stack(*([file(f"f{number}"), file("same", str(number))] for number in range(60)))
            with bench.mounted(bench.snapshots.prepare("x", top)) as place:
                assert Path(place, "same").read_text() == "59"
                write(place, "new")
        finally:
            bench.close()

    def test_a_root_path_with_characters_that_mean_something_in_mount_options(self, ext4_dir: Path) -> None:
        bench = Bench(ext4_dir / "a,b:c\\d e" / "root", self.kind)
        try:
            top = bench.stack([directory(""), file("a")], [file("b")])
            with bench.mounted(bench.snapshots.prepare("x", top)) as place:
                write(place, "c")
                assert sorted(os.listdir(place)) == ["a", "b", "c"]
        finally:
            bench.close()

    def test_cleaning_never_takes_what_is_being_made(self, bench: Bench) -> None:
        self.fill(bench, "one", a="1")
        layer = bench.layer(directory("", 0o700), file("d/x"), hard("y", "a"))
        failures: list[BaseException] = []
        working = [True]

        def clean() -> None:
            while working:
                bench.snapshots.cleanup()

        def make(name: str) -> None:
            try:
                for number in range(15):
                    key = f"{name}-{number}"
                    (mount,) = bench.snapshots.prepare(key, "one")
                    upper = [option[9:] for option in mount.options if option.startswith("upperdir=")] or [mount.source]
                    assert os.path.isdir(upper[0])
                    bench.snapshots.stack(f"{key}-layer", "one", layer)
                    bench.snapshots.remove(key)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=make, args=(name,)) for name in ("x", "y")]
        cleaner = threading.Thread(target=clean)
        for thread in (cleaner, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        working.clear()
        cleaner.join()
        assert failures == []
        assert len(bench.files()) == 31
        assert bench.seen("x-14-layer")["y"]["links"] == ["a", "y"]

    # ------------------------------------------------------------ crashes

    VERBS = {
        "prepare": ("s.prepare('new', 'one')", ["snapshots.prepare.made", "snapshots.prepare.row"]),
        "view": ("s.view('new', 'one')", ["snapshots.prepare.made", "snapshots.prepare.row"]),
        "commit": ("s.commit('new', 'active')", ["snapshots.commit.synced", "snapshots.commit.row"]),
        "stack": (
            "s.stack('new', 'one', d)",
            ["snapshots.stack.made", "snapshots.stack.placed", "snapshots.stack.row"],
        ),
        "remove": ("s.remove('active')", ["snapshots.remove.row"]),
    }

    @pytest.mark.parametrize(
        ("verb", "point"), [(verb, point) for verb, (_, points) in VERBS.items() for point in points]
    )
    def test_killed_at_any_point_it_leaves_a_state_that_is_before_or_after(
        self, bench: Bench, verb: str, point: str
    ) -> None:
        with bench.mounted(bench.snapshots.prepare("k")) as place:
            os.mkdir(f"{place}/d", 0o700)
        bench.snapshots.commit("one", "k")
        with bench.mounted(bench.snapshots.prepare("active", "one")) as place:
            write(place, "a")
        layer = bench.layer(file("d/x"))
        program = f"""
            import os
            from orlop.base import faults
            from orlop.stores.metadata.database import Database
            from tests.support.snapshotter_suite import KINDS
            def hook(name):
                if name == {point!r}:
                    os._exit(77)
            faults.hook = hook
            root, d = {bench.root!r}, {str(layer)!r}
            s = KINDS[{self.kind!r}](Database(root + "/metadata.db"), root, "default")
            {self.VERBS[verb][0]}
        """
        repository = str(Path(__file__).resolve().parents[2])
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], cwd=repository, capture_output=True, text=True, timeout=60
        )
        assert run.returncode == 77, run.stderr
        done = point.endswith(".row")
        names = {info.name: info.kind for info in bench.snapshots.walk()}
        assert ("new" in names) == (done and verb != "remove")
        assert ("active" in names) == (not done or verb not in ("commit", "remove"))
        if verb == "commit":
            bench.snapshots.view("look", "new") if done else bench.snapshots.mounts("active")
        elif "new" in names:
            bench.snapshots.view("look", "new") if names["new"] == "committed" else bench.snapshots.mounts("new")
        bench.snapshots.cleanup()
        with bench.db.read() as tx:
            assert bench.files() <= {str(row[0]) for row in tx.rows("SELECT number FROM snapshots")}
        if not done:
            again = {"prepare": "prepare", "view": "view"}.get(verb)
            if again:
                assert getattr(bench.snapshots, again)("new", "one")
            elif verb == "stack":
                assert "d/x" in bench.seen(bench.snapshots.stack("new", "one", layer).name)

    def test_a_snapshot_whose_making_fails_leaves_nothing(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        from orlop.base import faults

        self.fill(bench, "one", a="1")

        def full(name: str) -> None:
            if name in ("snapshots.prepare.made", "snapshots.stack.placed"):
                raise OSError(28, "No space left on device")

        layer = bench.layer(file("x"))
        monkeypatch.setattr(faults, "hook", full)
        with pytest.raises(errors.ResourceExhausted):
            bench.snapshots.prepare("new", "one")
        with pytest.raises(errors.ResourceExhausted):
            bench.snapshots.stack("new", "one", layer)
        monkeypatch.setattr(faults, "hook", None)
        assert [info.name for info in bench.snapshots.walk()] == ["one"]
        bench.snapshots.cleanup()
        bench.snapshots.prepare("new", "one")
        with bench.mounted("new") as place:
            assert os.listdir(place) == ["a"]
