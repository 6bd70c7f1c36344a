"""services/diff: the layer in an overlay's upper directory, for changes made through a real overlay mount."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.services.diff.applier import apply_layer
from orlop.services.diff.differ import diff_trees
from orlop.services.diff.members import Options
from orlop.services.diff.upper import diff_upper
from tests.support import trees

OPAQUE = "trusted.overlay.opaque"


def members(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [info.name for info in archive.getmembers()]


def layer_of(upper: Path, lowers: list[Path], **options: object) -> bytes:
    out = io.BytesIO()
    diff_upper(str(upper), [str(lower) for lower in lowers], out, options=Options(**options))
    return out.getvalue()


class Overlay:
    def __init__(self, top: Path) -> None:
        self.lower, self.upper, self.work, self.merged = (top / name for name in ("lower", "upper", "work", "merged"))
        for path in (self.lower, self.upper, self.work, self.merged):
            path.mkdir()
        self.mounted = False

    def mount(self) -> None:
        options = f"lowerdir={self.lower},upperdir={self.upper},workdir={self.work},redirect_dir=off,metacopy=off"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.merged], check=True)
        self.mounted = True

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", self.merged], check=True)
            self.mounted = False


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Overlay]:
    made = Overlay(tmp_path)
    try:
        yield made
    finally:
        made.unmount()


@pytest.mark.parametrize("seed", range(6))
def test_what_happened_in_a_mounted_overlay_is_the_layer(overlay: Overlay, tmp_path: Path, seed: int) -> None:
    grower = trees.Grower(seed)
    grower.grow(str(overlay.lower), 40)
    grower.settle(str(overlay.lower))
    copy, alone = tmp_path / "copy", tmp_path / "alone"
    copy.mkdir()
    alone.mkdir()
    out = io.BytesIO()
    diff_trees(None, str(overlay.lower), out)
    apply_layer(io.BytesIO(out.getvalue()), str(copy))
    overlay.mount()
    # Without settling: times of directories that nothing was done to must stay as they were.
    grower.change(str(overlay.merged), 30)
    seen = trees.facts(overlay.merged, dir_times=False)
    overlay.unmount()
    layer = layer_of(overlay.upper, [overlay.lower])
    apply_layer(io.BytesIO(layer), str(copy), mode="onto")
    # A file that was copied up has left its other names in the lower layer behind; overlayfs shows that as two files.
    assert not trees.differences(seen, trees.facts(copy, dir_times=False))
    applied = apply_layer(io.BytesIO(layer), str(alone))
    assert [path for path in applied.implied if path != "."] == []
    assert applied.foreign_links == ()
    shutil.rmtree(overlay.upper)
    alone.rename(overlay.upper)
    overlay.mount()
    assert not trees.differences(seen, trees.facts(overlay.merged, dir_times=False, root_too=False) | {".": seen["."]})


def test_whiteouts_opaque_directories_and_attributes(overlay: Overlay) -> None:
    (overlay.lower / "d/sub").mkdir(parents=True)
    (overlay.lower / "d/file").write_text("x")
    (overlay.lower / "gone").write_text("x")
    overlay.mount()
    (overlay.merged / "gone").unlink()
    shutil.rmtree(overlay.merged / "d")
    (overlay.merged / "d").mkdir()
    (overlay.merged / "d/new").write_text("y")
    overlay.unmount()
    assert members(layer_of(overlay.upper, [])) == ["d", "d/.wh..wh..opq", "d/new", ".wh.gone"]


def test_whiteouts_of_what_no_layer_below_has_are_left_out(tmp_path: Path) -> None:
    upper, one, two = tmp_path / "upper", tmp_path / "one", tmp_path / "two"
    for path in (upper / "d", one / "d", two / "d"):
        path.mkdir(parents=True)
    for name in ("hides", "nothing", "hidden-already", "d/hides"):
        os.mknod(upper / name, stat.S_IFCHR, 0)
    (two / "hides").write_text("x")
    (two / "d/hides").write_text("x")
    (two / "hidden-already").write_text("x")
    os.mknod(one / "hidden-already", stat.S_IFCHR, 0)
    assert members(layer_of(upper, [one, two])) == ["d", "d/.wh.hides", ".wh.hides"]
    assert len(members(layer_of(upper, []))) == 5


def test_whiteouts_that_are_files_are_known_in_directories_that_say_so(tmp_path: Path) -> None:
    for name in ("marked", "plain"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").touch()
        os.setxattr(tmp_path / name / "f", "trusted.overlay.whiteout", b"")
    os.setxattr(tmp_path / "marked", OPAQUE, b"x")
    assert members(layer_of(tmp_path, [])) == ["marked", "marked/.wh.f", "plain", "plain/f"]


def test_the_roots_attributes_are_written_when_they_differ(tmp_path: Path) -> None:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    upper.mkdir()
    lower.mkdir()
    assert members(layer_of(upper, [lower])) == []
    upper.chmod(0o700)
    assert members(layer_of(upper, [lower])) == ["."]
    assert members(layer_of(upper, [])) == []


@pytest.mark.parametrize("note", ["redirect", "metacopy"])
@pytest.mark.parametrize("prefix", ["trusted", "user"])
def test_what_the_upper_directory_alone_cannot_tell_is_refused(tmp_path: Path, note: str, prefix: str) -> None:
    target = tmp_path / "x"
    target.mkdir() if note == "redirect" else target.touch()
    os.setxattr(target, f"{prefix}.overlay.{note}", b"/old")
    with pytest.raises(errors.Unimplemented, match=f"'x' .*overlay.{note}"):
        layer_of(tmp_path, [])


def test_overlayfs_other_notes_are_not_part_of_the_layer(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.setxattr(tmp_path / "f", "trusted.overlay.origin", b"x")
    os.setxattr(tmp_path / "f", "trusted.mine", b"x")
    with tarfile.open(fileobj=io.BytesIO(layer_of(tmp_path, []))) as archive:
        assert [k for k in archive.getmember("f").pax_headers if "xattr" in k] == ["SCHILY.xattr.trusted.mine"]
