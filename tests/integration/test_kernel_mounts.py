"""Mounting for real: binds with flags, propagation, tmpfs, overlays of any length, places below the target, undoing."""

import os
import subprocess

import pytest

from orlop.base import errors
from orlop.base.kernel import mountapi, mounts
from orlop.stores.snapshots.api import Mount


@pytest.fixture
def place(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    yield str(target)
    mounts.unmount_under(str(tmp_path))


def bind(source, *options, target=""):
    return Mount("bind", str(source), target, ("rbind", *options))


def layers(directory, count):
    made = []
    for number in range(count):
        path = directory / f"{number:03d}"
        path.mkdir(parents=True)
        (path / f"file{number}").write_text(str(number))
        (path / "top").write_text(str(number))
        made.append(str(path))
    return made


def overlay(lower, directory):
    for name in ("upper", "work"):
        (directory / name).mkdir(exist_ok=True)
    joined = ":".join(mounts.escape_path(path, lower=True) for path in lower)
    upper, work = (mounts.escape_path(str(directory / name)) for name in ("upper", "work"))
    return Mount("overlay", "overlay", "", (f"workdir={work}", f"upperdir={upper}", f"lowerdir={joined}"))


def test_a_bind_shows_its_source_and_read_only_is_enforced(tmp_path, place):
    source = tmp_path / "source"
    source.mkdir()
    mounts.mount_all([bind(source, "ro", "nosuid")], place)
    with pytest.raises(OSError, match="Read-only"):
        open(f"{place}/x", "w")
    options = mounts.mounted_at(place).options
    assert "ro" in options
    assert "nosuid" in options
    (source / "y").touch()
    assert os.listdir(place) == ["y"]


def test_a_bind_keeps_the_flags_its_source_has_unless_they_are_said_to_be_off(tmp_path, place):
    source = tmp_path / "source"
    source.mkdir()
    mounts.mount_all([Mount("tmpfs", "tmpfs", "", ("nodev", "noexec", "size=64k"))], str(source))
    mounts.mount_all([bind(source, "ro", "exec")], place)
    options = mounts.mounted_at(place).options
    assert {"ro", "nodev"} <= set(options)
    assert "noexec" not in options


def test_a_tmpfs_takes_its_own_options(place):
    mounts.mount_all([Mount("tmpfs", "shm", "", ("nosuid", "size=64k", "mode=1777", "X-mount.mkdir"))], place)
    assert os.stat(place).st_mode & 0o7777 == 0o1777
    assert "size=64k" in mounts.mounted_at(place).super_options


def test_propagation_is_set(place):
    mounts.mount_all([Mount("tmpfs", "t", "", ("shared",))], place)
    assert mounts.mounted_at(place).optional[0].startswith("shared:")
    mounts.mount_all([Mount("none", "none", "", ("private",))], place)
    assert mounts.mounted_at(place).optional == ()


def test_recursive_read_only_reaches_the_mounts_below(tmp_path, place):
    source = tmp_path / "source"
    (source / "in").mkdir(parents=True)
    mounts.mount_all([Mount("tmpfs", "t")], str(source / "in"))
    mounts.mount_all([bind(source, "rro", "private")], place)
    assert "ro" in mounts.mounted_at(f"{place}/in").options
    assert "rw" in mounts.mounted_at(str(source / "in")).options


def test_a_mount_below_the_target_stays_inside_whatever_links_say(tmp_path, place):
    source = tmp_path / "source"
    outside = tmp_path / "outside"
    for path in (source, outside, tmp_path / "target/real"):
        path.mkdir()
    os.symlink(str(outside), f"{place}/link")
    os.symlink("/real", f"{place}/inner")
    (source / "x").touch()
    mounts.mount_all([bind(source, target="inner")], place)
    assert os.listdir(f"{place}/real") == ["x"]
    with pytest.raises(FileNotFoundError):
        mounts.mount_all([bind(source, target="/link")], place)
    assert os.listdir(outside) == []


def test_a_list_that_fails_halfway_leaves_nothing_mounted(tmp_path, place):
    before = len(mounts.mounted_under(str(tmp_path)))
    with pytest.raises(OSError, match="mount nosuchfs"):
        mounts.mount_all([Mount("tmpfs", "t"), Mount("nosuchfs", "x")], place)
    assert len(mounts.mounted_under(str(tmp_path))) == before


def test_an_error_names_the_place_and_the_source(tmp_path, place):
    with pytest.raises(FileNotFoundError) as raised:
        mounts.mount_all([bind(tmp_path / "missing")], place)
    assert raised.value.filename == place
    assert raised.value.filename2 == str(tmp_path / "missing")


@pytest.mark.parametrize("awkward", ["plain", "with,comma:colon", "with blank\\back"])
def test_an_overlay_mounts_whatever_its_paths_are_called(tmp_path, place, awkward):
    directory = tmp_path / awkward
    mounts.mount_all([overlay(layers(directory, 3), directory)], place)
    assert set(os.listdir(place)) == {"file0", "file1", "file2", "top"}
    open(f"{place}/new", "w").close()
    assert os.listdir(directory / "upper") == ["new"]


def without_fsconfig(monkeypatch):
    monkeypatch.setattr(mounts, "_mount_overlay_by_fsconfig", lambda *args: False)


@pytest.mark.parametrize("old_kernel", [False, True])
@pytest.mark.parametrize("awkward", ["plain", "with,comma:colon", "b\\s"])
def test_an_overlay_of_a_hundred_layers_mounts_though_its_options_take_more_than_a_page(
    tmp_path, place, monkeypatch, awkward, old_kernel
):
    directory = tmp_path / awkward
    lower = layers(directory, 100)
    wanted = overlay(lower, directory)
    assert len(",".join(wanted.options)) > 4096
    if old_kernel:
        without_fsconfig(monkeypatch)
    here = os.getcwd()
    mounts.mount_all([wanted], place)
    assert os.getcwd() == here
    with open(f"{place}/top") as file:
        assert file.read() == "0"
    assert len(os.listdir(place)) == 101
    open(f"{place}/new", "w").close()
    assert os.listdir(directory / "upper") == ["new"]


def test_an_overlay_that_no_way_can_take_is_refused_with_advice(tmp_path, place, monkeypatch):
    without_fsconfig(monkeypatch)
    lower = layers(tmp_path / ("n" * 60), 2)
    many = [lower[0], *(f"/{'x' * 100}{i}" for i in range(100))]
    with pytest.raises(errors.InvalidArgument, match="more than a page") as raised:
        mounts.mount_all([overlay(many, tmp_path)], place)
    assert "Linux 6.5" in raised.value.advice


def test_unmount_says_whether_something_was_mounted_and_detaches_what_is_in_use(place):
    assert mounts.unmount(place) is False
    assert mounts.unmount(f"{place}/missing") is False
    mounts.mount_all([Mount("tmpfs", "t")], place)
    with open(f"{place}/held", "w") as held:
        with pytest.raises(OSError, match="busy"):
            mounts.unmount(place, lazy=False)
        assert mounts.unmount(place) is True
        assert mounts.mounted_at(place) is None
        held.write("still there")


def test_unmount_never_follows_a_link(tmp_path, place):
    mounts.mount_all([Mount("tmpfs", "t")], place)
    os.symlink(place, tmp_path / "link")
    assert mounts.unmount(str(tmp_path / "link")) is False
    assert mounts.mounted_at(place)


def test_stacked_and_nested_mounts_all_go(place):
    for _ in range(3):
        mounts.mount_all([Mount("tmpfs", "t")], place)
    assert mounts.unmount_all(place) == 3
    mounts.mount_all([Mount("tmpfs", "t")], place)
    os.mkdir(f"{place}/in")
    mounts.mount_all([Mount("tmpfs", "t")], f"{place}/in")
    assert mounts.unmount_under(place) == 2


def test_mountinfo_agrees_with_findmnt_on_an_awkward_name(tmp_path):
    target = tmp_path / "a b\\c\td"
    target.mkdir()
    mounts.mount_all([Mount("tmpfs", "some source")], str(target))
    try:
        found = mounts.mounted_at(str(target))
        assert (found.type, found.source) == ("tmpfs", "some source")
        listed = subprocess.run(["findmnt", "-rno", "FSTYPE", "--target", str(target)], capture_output=True, text=True)
        assert listed.stdout.strip() == "tmpfs"
    finally:
        mounts.unmount(str(target))


def test_the_new_api_builds_and_attaches_a_mount(place):
    context = mountapi.fsopen("tmpfs")
    try:
        mountapi.fsconfig_string(context, "size", "64k")
        mountapi.fsconfig_create(context)
        made = mountapi.fsmount(context, attributes=mountapi.MOUNT_ATTR_NODEV)
    finally:
        os.close(context)
    mountapi.move_mount(made, "", mountapi.AT_FDCWD, place, mountapi.MOVE_MOUNT_F_EMPTY_PATH)
    os.close(made)
    assert "nodev" in mounts.mounted_at(place).options
    copy = mountapi.open_tree(place, mountapi.OPEN_TREE_CLONE | mountapi.OPEN_TREE_CLOEXEC)
    mountapi.mount_setattr("", mountapi.MOUNT_ATTR_RDONLY, flags=mountapi.AT_EMPTY_PATH, dir_fd=copy)
    mountapi.move_mount(copy, "", mountapi.AT_FDCWD, place, mountapi.MOVE_MOUNT_F_EMPTY_PATH)
    os.close(copy)
    assert "ro" in mounts.mounted_at(place).options


def test_the_new_api_tells_what_the_file_system_said():
    context = mountapi.fsopen("tmpfs")
    try:
        with pytest.raises(OSError, match="size") as raised:
            mountapi.fsconfig_string(context, "size", "enormous")
        assert "tmpfs" in raised.value.strerror
    finally:
        os.close(context)
    with pytest.raises(OSError, match="No such device"):
        mountapi.fsopen("nosuchfs")
