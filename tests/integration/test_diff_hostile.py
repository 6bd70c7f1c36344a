"""services/diff: whatever an archive holds, nothing outside the tree changes, and both modes agree."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors, fsio
from orlop.services.diff.applier import apply_layer
from tests.support import trees
from tests.support.trees import END, header, member, pax

D = b"5"


class Cage:
    """A tree between things that must stay as they are: beside it, above it, and where links of its lead."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.tree = top / "outer/inner/tree"
        self.tree.mkdir(parents=True)
        for path in (
            "etc/passwd",
            "outer/etc/passwd",
            "outer/inner/etc/passwd",
            "outer/inner/secret",
            "victim/deep/file",
        ):
            file = top / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("untouched")
            os.utime(file, ns=(5, 5))
        for directory in (top, top / "outer", top / "outer/inner", top / "victim"):
            os.utime(directory, ns=(7, 7))
        self.before = self._outside()

    def _outside(self) -> trees.Facts:
        inside = self.tree.relative_to(self.top).as_posix()
        found = trees.facts(self.top)
        # A link to a file outside would show by its count, which `facts` tells only of names it sees.
        counts = {path: (*fact, os.lstat(self.top / path).st_nlink) for path, fact in found.items()}
        return {path: fact for path, fact in counts.items() if not f"{path}/".startswith(f"{inside}/")}

    def check(self) -> None:
        assert not trees.differences(self.before, self._outside())


@pytest.fixture
def cage(tmp_path: Path) -> Cage:
    return Cage(tmp_path)


UP = b"../" * 12
OUT = b"../../../"  # from the tree to the cage's top


def sym(name: bytes, target: bytes, **fields: int) -> bytes:
    return header(name, b"2", linkname=target, **fields)


def hard(name: bytes, target: bytes, **fields: int) -> bytes:
    return header(name, b"1", linkname=target, **fields)


def put(name: bytes) -> bytes:
    return member(name, b"x")


def escapes(top: bytes) -> dict[str, bytes]:
    """Archives that try to reach out; top: the absolute path of the cage."""
    away, passwd, to_away = top + b"/victim", OUT + b"etc/passwd", sym(b"d", top + b"/victim")
    plain = header(b"d/", D, mtime=9)
    xattr = pax({b"SCHILY.xattr.user.a": b"b"})
    return {
        "dotdot": put(UP + b"etc/orlop-escaped") + put(passwd),
        "dotdot in the middle": put(b"a/../../../../etc/passwd") + put(b"a/b/" + UP + b"x"),
        "absolute": put(top + b"/etc/passwd"),
        "directory link": sym(b"d", OUT + b"etc") + put(b"d/passwd"),
        "absolute link": to_away + put(b"d/deep/file") + header(b"d/.wh.deep"),
        "link to the root": sym(b"d", b"/") + put(b"d" + top + b"/etc/passwd"),
        "chain of links": sym(b"a", b"..") + sym(b"b", b"a/..") + sym(b"c", b"b/..") + put(b"c/etc/passwd"),
        "link replaces a directory": plain + put(b"d/f") + to_away + put(b"d/deep/file"),
        "directory replaces a link": to_away + header(b"d/", D, mode=0o777, uid=9, mtime=9) + put(b"d/deep/file"),
        "directory attributes through a link": to_away + header(b"d/deep/", D, mode=0o777, uid=9),
        "directory time through a link": plain + header(b"d/deep/", D, mtime=9) + to_away,
        "write through a link": sym(b"f", passwd) + put(b"f"),
        "attributes of a link": xattr + sym(b"f", passwd, uid=9, mtime=9),
        "hard link out": hard(b"h", passwd) + put(b"h"),
        "absolute hard link": hard(b"h", top + b"/etc/passwd"),
        "hard link through a link": sym(b"d", OUT + b"etc") + hard(b"h", b"d/passwd"),
        "hard link to a link": sym(b"s", passwd) + hard(b"h", b"s") + put(b"h") + hard(b"i", b"s", mode=0o777, uid=9),
        "hard link over a link": put(b"f") + sym(b"s", passwd) + hard(b"s", b"f") + put(b"s"),
        "whiteout out": header(OUT + b"etc/.wh.passwd") + header(b".wh..wh..opq"),
        "whiteout through a link": sym(b"d", OUT) + header(b"d/.wh.victim") + header(b"d/victim/.wh.deep"),
        "opaque through a link": to_away + header(b"d/.wh..wh..opq"),
        "whiteout of a link": to_away + header(b".wh.d") + plain,
        "device through a link": to_away + header(b"d/null", b"3", device=(1, 3)),
        "magic link": sym(b"d", b"/proc/self/root") + put(b"d/etc/orlop-escaped"),
        "descriptor link": sym(b"d", b"/proc/self/fd/0/../../..") + put(b"d/x"),
        "long": pax({b"path": b"d/" * 50 + UP + b"../" * 100 + b"etc/orlop-escaped"}) + put(b"x"),
        "pax linkpath": plain + pax({b"linkpath": away}) + header(b"d", b"2") + put(b"d/deep/file"),
        "aufs store": sym(b".wh..wh.plnk", away) + put(b".wh..wh.plnk/deep/file"),
    }


@pytest.mark.parametrize("mode", ["alone", "onto"])
@pytest.mark.parametrize("name", list(escapes(b"")))
def test_no_trick_reaches_out_of_the_tree(cage: Cage, mode: str, name: str) -> None:
    data = escapes(os.fsencode(cage.top))[name] + END
    try:
        apply_layer(io.BytesIO(data), str(cage.tree), mode=mode)
    except errors.DataLoss:
        pass
    cage.check()
    assert not os.path.lexists("/etc/orlop-escaped")
    assert not os.path.lexists("/orlop-escaped")


def test_a_tree_that_already_holds_hostile_links_leads_nowhere(cage: Cage) -> None:
    os.symlink("/etc", cage.tree / "abs")
    os.symlink("../../..", cage.tree / "up")
    os.symlink(cage.top / "victim", cage.tree / "victim")
    members = [
        member(b"abs/orlop-escaped", b"x"),
        member(b"up/etc/passwd", b"x"),
        header(b"up/victim/.wh.deep"),
        header(b"victim/.wh..wh..opq"),
        member(b"victim/deep/file", b"x"),
        header(b".wh.abs"),
        header(b".wh.up"),
    ]
    apply_layer(io.BytesIO(b"".join(members) + END), str(cage.tree), mode="onto")
    cage.check()
    assert not os.path.lexists("/etc/orlop-escaped")
    assert not os.path.lexists(cage.tree / "abs")
    # With its link there, "up" was the tree's own root, and "/etc" the tree's own.
    assert (cage.tree / "etc/passwd").read_text() == "x"
    assert (cage.tree / "etc/orlop-escaped").read_text() == "x"


PARTS = st.sampled_from([b"a", b"b", b"c", b"..", b".", b"", b".wh.a", b".wh.b", b".wh..wh..opq", b".wh...", b"..."])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map(b"/".join)
TARGETS = st.one_of(
    NAMES,
    NAMES.map(lambda name: b"/" + name),
    st.sampled_from([OUT + b"victim", OUT + b"etc", UP, b"/", b"a/../../b", b"../../../victim/deep"]),
)
HEADERS = st.builds(
    lambda name, flag, link, mode, data: member(
        name, data if flag == b"0" else b"", flag, linkname=link, mode=mode, mtime=3, device=(1, 3), uid=mode % 3
    ),
    NAMES,
    st.sampled_from([b"0", b"0", b"1", b"2", b"2", b"3", b"5", b"5", b"6"]),
    TARGETS,
    st.sampled_from([0o644, 0o755, 0o2777, 0o1700, 0o4711]),
    st.sampled_from([b"", b"data"]),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.lists(HEADERS, max_size=10), min_size=1, max_size=2), st.sampled_from(["alone", "onto"]))
def test_random_sequences_of_hostile_entries_never_reach_out(layers: list[list[bytes]], mode: str) -> None:
    base = Path("/dev/shm") / f"orlop-test-{os.getpid()}-hostile"
    base.mkdir()
    try:
        cage = Cage(base)
        for layer in layers:
            try:
                apply_layer(io.BytesIO(b"".join(layer) + END), str(cage.tree), mode=mode)
            except errors.DataLoss:
                pass
            cage.check()
    finally:
        fsio.remove_tree(str(base))


TAME_NAMES = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3).map(b"/".join)


def whiteout_of(name: bytes) -> bytes:
    directory, slash, base = name.rpartition(b"/")
    return header(directory + slash + b".wh." + base)


FILE_MODES, DIR_MODES = st.sampled_from([0o600, 0o4755]), st.sampled_from([0o700, 0o755])
TAME = st.one_of(
    st.builds(lambda n, m, d: member(n, d, mode=m, mtime=3), TAME_NAMES, FILE_MODES, st.binary(max_size=9)),
    st.builds(lambda n, m, u: header(n + b"/", D, mode=m, uid=u, mtime=4), TAME_NAMES, DIR_MODES, st.integers(0, 1)),
    st.builds(lambda n: header(n, b"6", mtime=5), TAME_NAMES),
    st.builds(hard, TAME_NAMES, TAME_NAMES),
    st.builds(whiteout_of, TAME_NAMES),
    st.builds(lambda n: header(n + b"/.wh..wh..opq"), TAME_NAMES),
)


def listed(names: set[bytes]) -> list[bytes]:
    """Entries for directories and their parents."""
    every = {b"/".join(name.split(b"/")[:depth]) for name in names for depth in range(1, name.count(b"/") + 2)}
    return [header(name + b"/", D, mode=0o711, mtime=6) for name in sorted(every)]


ROOT = header(b"./", b"5", mode=0o755, mtime=1)


@settings(max_examples=400, deadline=None)
@given(*[st.tuples(st.sets(TAME_NAMES, max_size=4), st.lists(TAME, max_size=8))] * 2)
def test_a_layer_built_alone_looks_in_a_stack_as_if_it_had_been_applied_onto_the_one_below(
    lower: tuple[set[bytes], list[bytes]], upper: tuple[set[bytes], list[bytes]]
) -> None:
    """The overlay of the two, seen by the kernel, is the tree that applying both gives.

    What only the snapshotter settles (implied directories over others, foreign links) is left to its own tests.
    """
    base = Path("/dev/shm") / f"orlop-test-{os.getpid()}-stack"
    base.mkdir()
    merged = base / "merged"
    mounted = False
    try:
        for name in ("onto", "lower", "upper", "merged"):
            (base / name).mkdir()
        layers = [ROOT + b"".join(listed(names)) + b"".join(members) + END for names, members in (lower, upper)]
        try:
            apply_layer(io.BytesIO(layers[0]), str(base / "lower"))
            built = apply_layer(io.BytesIO(layers[1]), str(base / "upper"))
            for layer in layers:
                apply_layer(io.BytesIO(layer), str(base / "onto"), mode="onto")
        except errors.DataLoss:
            return
        if built.implied or built.foreign_links:
            return
        options = f"lowerdir={base}/upper:{base}/lower"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
        mounted = True
        assert not trees.differences(
            trees.facts(base / "onto", dir_times=False), trees.facts(merged, dir_times=False, ghosts=True)
        )
    finally:
        if mounted:
            subprocess.run(["umount", merged], check=True)
        fsio.remove_tree(str(base))
