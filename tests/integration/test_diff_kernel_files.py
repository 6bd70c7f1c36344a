"""base/kernel/files: what the applier and others ask of the kernel beyond Python's `os`."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from orlop.base.kernel import files


@pytest.fixture
def top(tmp_path: Path) -> int:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").write_text("inside")
    (tmp_path / "outside").write_text("outside")
    os.symlink("/etc", tmp_path / "root/abs")
    os.symlink("../../outside", tmp_path / "root/up")
    return os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)


def read(fd: int) -> bytes:
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def test_openat2_resolves_as_it_is_told(top: int) -> None:
    try:
        assert read(files.openat2(top, "abs/passwd", os.O_RDONLY, resolve=files.RESOLVE_IN_ROOT)) == b"inside"
        assert read(files.openat2(top, b"etc/passwd", os.O_RDONLY, resolve=files.RESOLVE_NO_SYMLINKS)) == b"inside"
        for path, rules, number in (
            ("up", files.RESOLVE_BENEATH, errno.EXDEV),
            ("../outside", files.RESOLVE_BENEATH, errno.EXDEV),
            ("abs/passwd", files.RESOLVE_NO_SYMLINKS, errno.ELOOP),
            ("up", files.RESOLVE_IN_ROOT, errno.ENOENT),
        ):
            with pytest.raises(OSError, match=path) as caught:
                files.openat2(top, path, os.O_RDONLY, resolve=rules)
            assert caught.value.errno == number
        with pytest.raises(ValueError, match="null"):
            files.openat2(top, "a\0b", os.O_RDONLY)
        fd = files.openat2(top, "made", os.O_CREAT | os.O_WRONLY, 0o600)
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        assert not os.get_inheritable(fd)
        files.syncfs(fd)
        os.close(fd)
    finally:
        os.close(top)


def test_a_thread_may_have_a_umask_of_its_own() -> None:
    before = os.umask(0o022)
    seen: list[int] = []

    def work() -> None:
        files.take_own_umask(0o007)
        seen.append(files.umask())

    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen == [0o007]
        assert files.umask() == 0o022
    finally:
        os.umask(before)
