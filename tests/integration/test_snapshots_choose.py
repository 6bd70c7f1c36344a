"""Which snapshotter is chosen where, found by a trial that leaves nothing behind."""

import os

import pytest

from orlop.base import errors
from orlop.base.kernel import mounts
from orlop.stores.snapshots import choose
from orlop.stores.snapshots.api import Mount


@pytest.fixture
def mounted(tmp_path):
    """Mount something on a new directory."""

    def make(*what):
        place = tmp_path / "mounted"
        place.mkdir()
        mounts.mount_all(what, str(place))
        return str(place)

    yield make
    mounts.unmount_under(str(tmp_path))


def check_nothing_is_left(root):
    assert os.listdir(f"{root}/snapshots") == []
    assert [each for each in mounts.mountinfo() if each.mount_point.startswith(f"{root}/")] == []


def test_overlay_is_chosen_on_a_disk_file_system(ext4_dir):
    assert choose.choose(str(ext4_dir)) == ("overlay", "a trial overlay mount works")
    check_nothing_is_left(str(ext4_dir))


def test_overlay_is_chosen_on_tmpfs(mounted):
    root = mounted(Mount("tmpfs", "tmpfs", "", ("size=1m",)))
    assert choose.choose(root)[0] == "overlay"
    check_nothing_is_left(root)


def test_native_is_chosen_on_overlayfs_and_the_reason_told(mounted, ext4_dir):
    for name in ("lower", "upper", "work"):
        (ext4_dir / name).mkdir()
    options = (f"lowerdir={ext4_dir}/lower", f"upperdir={ext4_dir}/upper", f"workdir={ext4_dir}/work")
    root = mounted(Mount("overlay", "overlay", "", options))
    name, reason = choose.choose(root)
    assert name == "native"
    assert root in reason
    check_nothing_is_left(root)


def test_native_is_chosen_where_whiteouts_cannot_be_kept(mounted):
    root = mounted(Mount("ramfs", "ramfs"))
    name, _ = choose.choose(root)
    assert name == "native"
    check_nothing_is_left(root)


def test_a_root_that_cannot_be_written_is_an_error(mounted):
    root = mounted(Mount("tmpfs", "tmpfs", "", ("ro",)))
    with pytest.raises(errors.OrlopError, match="Read-only"):
        choose.choose(root)
