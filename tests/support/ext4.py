"""A loop-mounted ext4 with a journal: the file system of tests that need a real disk.

The root file system of a test machine may be an ext4 without one, where creating files after large deletes crawls.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import machine

SIZE = 8 << 30


@contextmanager
def mounted(directory: str, size: int = SIZE) -> Iterator[str]:
    """Mount a new ext4 of `size` bytes (sparse: it takes what is written to it); yields the mount point.

    directory: where the image file and the mount point are made; it must exist. All is undone at the end, what is
    still mounted below included.
    """
    image, point = f"{directory}/ext4.img", f"{directory}/ext4"
    os.mkdir(point, 0o700)
    with open(image, "xb") as file:
        file.truncate(size)
    try:
        lazily = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
        _run("mkfs.ext4", "-q", "-O", "has_journal", "-m", "0", "-E", lazily, image)
        # noinit_itable: no background thread zeroes inode tables while something is being measured.
        _run("mount", "-t", "ext4", "-o", "loop,noinit_itable,nodiscard", image, point)
        try:
            yield point
        finally:
            unmount_below(point)
    finally:
        os.unlink(image)
        os.rmdir(point)


def unmount_below(top: str) -> None:
    """Unmount `top` and everything below it, the innermost first; what is busy is detached."""
    for point in reversed([p for p in machine.mount_points() if p == top or p.startswith(f"{top}/")]):
        if subprocess.run(_command("umount", point), stderr=subprocess.DEVNULL, check=False).returncode != 0:
            _run("umount", "-l", point)


def _command(name: str, *arguments: str) -> list[str]:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise FileNotFoundError(f"{name} is not installed (scripts/setup tests installs it)")
    return [path, *arguments]


def _run(name: str, *arguments: str) -> None:
    subprocess.run(_command(name, *arguments), check=True, timeout=120, stdout=subprocess.DEVNULL)
