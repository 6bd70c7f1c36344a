"""The view of a stack of layers shows what the kernel's overlay of the same directories shows."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.kernel import mounts
from orlop.services.runtime import rootview

NAMES = ("a", "b", "c")
TARGETS = ("a", "/a/b", "../b", "../../../c", "/b/../a", "c/a", ".", "/")


def fill(directory: Path, rng: random.Random, depth: int, label: str) -> None:
    for name in NAMES:
        path = directory / name
        kind = rng.choice(("none", "file", "dir", "dir", "link", "whiteout", "opaque"))
        if kind == "file" or (kind in ("dir", "opaque") and depth == 0):
            path.write_text(f"{label}:{name}")
        elif kind == "link":
            path.symlink_to(rng.choice(TARGETS))
        elif kind == "whiteout":
            os.mknod(path, 0o020000, 0)
        elif kind in ("dir", "opaque"):
            path.mkdir()
            if kind == "opaque":
                os.setxattr(path, "trusted.overlay.opaque", b"y")
            fill(path, rng, depth - 1, label)


def read(view: rootview.OpenInRoot, path: str) -> str | None:
    try:
        fd = view(path)
    except errors.RuntimeFailed:
        return "<not a file>"
    if fd is None:
        return None
    with os.fdopen(fd) as file:
        return file.read()


@pytest.mark.parametrize("seed", range(24))
def test_a_stack_reads_as_its_overlay_does(tmp_path: Path, seed: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    rng = random.Random(seed)
    layers = []
    for number in range(rng.randint(1, 4)):
        layer = tmp_path / f"l{number}"
        layer.mkdir()
        fill(layer, rng, 2, f"l{number}")
        layers.append(str(layer))
    merged = tmp_path / "merged"
    empty = tmp_path / "empty"
    merged.mkdir()
    empty.mkdir()
    mounts.mount("overlay", str(merged), "overlay", mounts.MS_RDONLY, "lowerdir=" + ":".join((*layers, str(empty))))
    try:
        paths = ["/" + "/".join(parts) for parts in _paths(3)] + ["/a/../b", "/a/../../c", "/./a/b/", "/nope/../a"]
        stack, overlay = rootview.over_layers(layers), rootview.over_directory(str(merged))
        for path in paths:
            assert read(stack, path) == read(overlay, path), path
    finally:
        mounts.unmount(str(merged))


def _paths(depth: int) -> list[tuple[str, ...]]:
    if depth == 0:
        return [()]
    shorter = _paths(depth - 1)
    return [*shorter, *((*path, name) for path in shorter if len(path) == depth - 1 for name in NAMES)]
