"""services/diff: what the differ writes turns one tree into the other, byte for byte, attribute for attribute."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import socket
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors, fsio
from orlop.services.diff.applier import apply_layer
from orlop.services.diff.differ import diff_trees
from orlop.services.diff.members import Options
from tests.support import trees

EXACT = Options(exact=True)


def diff(lower: Path | None, upper: Path, options: Options = EXACT) -> bytes:
    out = io.BytesIO()
    written = diff_trees(str(lower) if lower else None, str(upper), out, options=options)
    assert written.size == len(out.getvalue())
    assert written.digest == "sha256:" + hashlib.sha256(out.getvalue()).hexdigest()
    return out.getvalue()


def names(layer: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        return [info.name for info in archive.getmembers()]


def copy(source: Path, target: Path) -> Path:
    """A copy by the differ's own means, which the first property test vouches for."""
    target.mkdir()
    apply_layer(io.BytesIO(diff(None, source)), str(target))
    return target


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/keep").write_text("keep")
    (tmp_path / "d/gone").write_text("gone")
    (tmp_path / "d/tree/below").mkdir(parents=True)
    (tmp_path / "d/a").write_text("a")
    os.link(tmp_path / "d/a", tmp_path / "d/b")
    for path in ("d/keep", "d/gone", "d/tree/below", "d/tree", "d/a", "d"):
        os.utime(tmp_path / path, ns=(10**9, 10**9))
    return tmp_path


@pytest.fixture
def two(base: Path) -> tuple[Path, Path]:
    return base / "d", copy(base / "d", base / "new")


def test_equal_trees_differ_by_nothing(two: tuple[Path, Path]) -> None:
    assert diff(*two) == bytes(1024)


def test_changes_are_written_in_order_with_the_directories_that_lead_to_them(two: tuple[Path, Path]) -> None:
    old, new = two
    (new / "gone").unlink()
    (new / "z").mkdir()
    (new / "tree/below/file").write_text("x")
    os.utime(new / "tree/below", ns=(10**9, 10**9))
    os.utime(new, ns=(10**9, 10**9))
    assert names(diff(old, new)) == [".wh.gone", "tree", "tree/below", "tree/below/file", "z"]


def test_a_change_of_the_root_is_an_entry_of_its_own(two: tuple[Path, Path]) -> None:
    old, new = two
    new.chmod(0o711)
    layer = diff(old, new)
    assert layer[:3] == b"./\0"
    apply_layer(io.BytesIO(layer), str(old), mode="onto")
    assert old.stat().st_mode & 0o777 == 0o711


def test_of_a_file_with_several_names_the_first_is_the_file(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/m").write_text("x")
    for name in ("z", "a", "b/c"):
        (tmp_path / "t/b").mkdir(exist_ok=True)
        os.link(tmp_path / "t/m", tmp_path / "t" / name)
    with tarfile.open(fileobj=io.BytesIO(diff(None, tmp_path / "t"))) as archive:
        found = [(info.name, info.linkname) for info in archive.getmembers() if not info.isdir()]
    assert found == [("a", ""), ("b/c", "a"), ("m", "a"), ("z", "a")]


def test_a_new_name_of_an_old_file_brings_all_its_names(two: tuple[Path, Path]) -> None:
    old, new = two
    os.link(new / "b", new / "c")
    os.utime(new, ns=(10**9, 10**9))
    assert names(diff(old, new)) == ["a", "b", "c"]


def test_a_link_that_was_broken_is_broken_by_the_layer(two: tuple[Path, Path]) -> None:
    old, new = two
    (new / "b").unlink()
    shutil.copy2(new / "a", new / "b")
    os.utime(new, ns=(10**9, 10**9))
    layer = diff(old, new)
    apply_layer(io.BytesIO(layer), str(old), mode="onto")
    assert not trees.differences(trees.facts(new), trees.facts(old))


def test_content_is_compared_when_the_time_tells_nothing(two: tuple[Path, Path]) -> None:
    old, new = two
    (new / "keep").write_text("KEEP")
    os.utime(new / "keep", ns=(10**9, 10**9))
    assert names(diff(old, new, Options())) == ["keep"]
    for path in (old, new):
        os.utime(path / "keep", ns=(10**9, 10**9 + 5))
    assert names(diff(old, new, Options())) == []
    assert names(diff(old, new, EXACT)) == ["keep"]


def test_the_same_trees_give_the_same_bytes_and_times_are_clamped(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        trees.Grower(5).grow(str(tmp_path / name), 30)
        os.utime(tmp_path / name, ns=(0, 0))
        for directory, below, _ in os.walk(tmp_path / name):
            for each in below:
                os.utime(f"{directory}/{each}", ns=(0, 0))
    assert diff(None, tmp_path / "one") == diff(None, tmp_path / "two")
    (tmp_path / "one/new").write_text("x")
    (tmp_path / "one/old").write_text("x")
    os.utime(tmp_path / "one/old", ns=(0, 5))
    with tarfile.open(fileobj=io.BytesIO(diff(None, tmp_path / "one", Options(epoch=1)))) as archive:
        assert max(info.mtime for info in archive.getmembers()) == 1
        assert archive.getmember("old").mtime < 1


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_layer_is_compressed_on_the_way(two: tuple[Path, Path], kind: str) -> None:
    plain = diff(None, two[1])
    out = io.BytesIO()
    written = diff_trees(None, str(two[1]), out, options=Options(compression=kind))
    assert written.diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()
    assert written.tar_size == len(plain)
    assert written.digest == "sha256:" + hashlib.sha256(out.getvalue()).hexdigest()
    if kind == "gzip":
        assert gzip.decompress(out.getvalue()) == plain


def test_sockets_are_left_out(two: tuple[Path, Path]) -> None:
    old, new = two
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(new / "socket"))
    os.utime(new, ns=(10**9, 10**9))
    assert names(diff(old, new)) == []
    assert "socket" not in names(diff(None, new))


def test_a_file_named_like_a_whiteout_is_refused(two: tuple[Path, Path]) -> None:
    (two[1] / ".wh.x").write_text("x")
    with pytest.raises(errors.InvalidArgument, match=r"\.wh\.x"):
        diff(*two)


def test_a_file_that_shrinks_while_it_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)
    real = os.fstat

    def grown(fd: int) -> os.stat_result:
        found = list(real(fd))
        found[6] = 200
        return os.stat_result(found, {"st_mtime_ns": 0, "st_blksize": 0, "st_rdev": 0})

    from orlop.services.diff import members

    monkeypatch.setattr(members.os, "fstat", grown)
    with pytest.raises(errors.Unavailable, match="'f' changed"):
        diff(None, tmp_path)


def test_a_missing_tree_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound):
        diff(tmp_path / "missing", tmp_path)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["alone", "onto"]))
def test_a_layer_of_a_whole_tree_gives_that_tree(seed: int, mode: str) -> None:
    with shelf() as top:
        grower = trees.Grower(seed)
        (top / "a").mkdir()
        grower.grow(str(top / "a"), 40)
        grower.settle(str(top / "a"))
        (top / "b").mkdir()
        applied = apply_layer(io.BytesIO(diff(None, top / "a")), str(top / "b"), mode=mode)
        assert not trees.differences(trees.facts(top / "a"), trees.facts(top / "b"))
        assert (applied.implied, applied.foreign_links) == ((), ())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_applying_the_difference_of_two_trees_turns_one_into_the_other(seed: int) -> None:
    with shelf() as top:
        grower = trees.Grower(seed)
        (top / "a").mkdir()
        grower.grow(str(top / "a"), 30)
        grower.settle(str(top / "a"))
        copy(top / "a", top / "b")
        grower.change(str(top / "b"), 25)
        grower.settle(str(top / "b"))
        layer = diff(top / "a", top / "b")
        apply_layer(io.BytesIO(layer), str(top / "a"), mode="onto")
        assert not trees.differences(trees.facts(top / "b"), trees.facts(top / "a"))
        assert diff(top / "a", top / "b") == bytes(1024)


class shelf:
    """A directory in memory for one example."""

    def __enter__(self) -> Path:
        self._top = Path("/dev/shm") / f"orlop-test-{os.getpid()}-differ"
        self._top.mkdir()
        return self._top

    def __exit__(self, *exc: object) -> None:
        fsio.remove_tree(str(self._top))
