"""base/fsio: atomic files, flocks, removal."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from orlop.base import errors, fsio
from orlop.base.cancel import Cancel


def test_a_file_is_replaced_whole_with_its_mode_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    fsio.write_atomic(str(path), b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["f"]


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        fsio.write_atomic(str(path), b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_directories_get_their_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        fsio.make_dirs(str(tmp_path / "a" / "b"), 0o755)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755


def test_reading_refuses_more_than_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    assert fsio.read_file(str(path), 100) == b"x" * 100
    with pytest.raises(errors.ResourceExhausted, match="larger than 99"):
        fsio.read_file(str(path), 99)


def test_a_lock_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    assert not fsio.is_locked(path)
    with fsio.lock(path):
        assert fsio.is_locked(path)
        with pytest.raises(errors.Unavailable):
            fsio.lock(path, wait=False)
    assert not fsio.is_locked(path)
    with fsio.lock(path, shared=True), fsio.lock(path, shared=True, wait=False):
        pass


def test_waiting_for_a_lock_ends_at_its_deadline(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with fsio.lock(path), pytest.raises(errors.DeadlineExceeded):
        fsio.lock(path, cancel=Cancel(0.05))


def test_a_waiter_does_not_get_a_lock_file_that_was_unlinked(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first = fsio.lock(path)
    got: list[fsio.Lock] = []
    thread = threading.Thread(target=lambda: got.append(fsio.lock(path)))
    thread.start()
    first.release(unlink=True)
    thread.join(10)
    assert os.fstat(got[0].fd).st_ino == os.stat(path).st_ino
    got[0].release()


def test_removal_takes_a_tree_but_never_follows_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("x")
    tree = tmp_path / "tree"
    deep = tree
    for _ in range(30):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "f").write_text("x")
    (tree / "link").symlink_to(outside)
    os.mkfifo(tree / "fifo")
    fsio.remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "keep").exists()
    fsio.remove_tree(str(tree))
    (tmp_path / "l").symlink_to(outside)
    fsio.remove_tree(str(tmp_path / "l"))
    assert (outside / "keep").exists()


def test_removal_takes_a_tree_deeper_than_the_interpreters_stack(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("top", dir_fd=fd)
    here = os.open("top", os.O_RDONLY, dir_fd=fd)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    os.close(fd)
    fsio.remove_tree(str(tmp_path / "top"))
    assert os.listdir(tmp_path) == []
