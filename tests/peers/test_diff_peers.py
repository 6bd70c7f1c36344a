"""services/diff beside GNU tar, umoci and Python's tarfile, on real content of this machine, in every format.

Trees must agree attribute for attribute and byte for byte. Not compared: times of directories that an archive does not
list, and access times.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.services.diff.applier import apply_layer
from orlop.services.diff.differ import diff_trees
from orlop.services.diff.members import Options
from orlop.services.diff.pipeline import unpack_stream
from tests.support import trees

pytestmark = pytest.mark.peer

TAR = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner"]


def run(*command: str | Path, **options: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=120, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, (command, done.stderr.decode("utf-8", "replace"))


@pytest.fixture(scope="module")
def content(ext4: Path) -> Iterator[Path]:
    """Real files of this machine, and of every kind of special file one or two."""
    top = make(ext4 / "diff-peers")
    tree = top / "tree"
    tree.mkdir(mode=0o755)
    pick = random.Random(7)
    docs = sorted(name for name in os.listdir("/usr/share/doc") if os.path.isdir(f"/usr/share/doc/{name}"))
    programs = [name for name in sorted(os.listdir("/usr/bin")) if os.lstat(f"/usr/bin/{name}").st_size < 300_000]
    names = [f"usr/share/doc/{name}" for name in pick.sample(docs, min(80, len(docs)))]
    names += [f"usr/bin/{name}" for name in pick.sample(programs, min(60, len(programs)))]
    names += [
        "etc/passwd",
        "etc/shadow",
        "etc/alternatives",
        "etc/apt",
        "etc/init.d",
        "etc/ssl/certs",
        "usr/share/zoneinfo",
    ]
    names = [name for name in names if os.path.lexists(f"/{name}")]
    listing = top / "names"
    listing.write_text("\n".join(names))
    run("sh", "-c", f"tar -C / -cf - -T {listing} | tar -C {tree} --same-owner -xpf -")
    trees.Grower(11).grow(str(make(tree / "crafted")), 60)
    special = make(tree / "special")
    (special / "capable").write_bytes(b"#!/bin/true")
    os.setxattr(special / "capable", "security.capability", b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12))
    (special / "setuid").write_bytes(b"x")
    (special / "setuid").chmod(0o6755)
    os.link(special / "setuid", special / "setuid-too")
    os.link(special / "setuid", tree / "a-link-elsewhere")
    os.mknod(special / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(special / "fifo")
    (special / ("deep/" * 60)).mkdir(parents=True)
    (special / ("deep/" * 60) / "file").write_text("deep")
    os.symlink("x" * 900, special / "long-link")
    with open(special / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(5 << 20)
        file.write(b"middle")
        file.truncate(9 << 20)
    yield tree
    trees.remove(str(top))


def make(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def by_orlop(archive: Path, tree: Path, mode: str) -> Path:
    make(tree)
    with open(archive, "rb", buffering=0) as file:
        apply_layer(file, str(tree), mode=mode)
    return tree


def by_tar(archive: Path, tree: Path) -> Path:
    run(*TAR, "-C", make(tree), "-xpf", archive)
    return tree


def agree(one: Path, other: Path, *, root_too: bool = True) -> None:
    found = [trees.facts(path, root_too=root_too) for path in (one, other)]
    assert len(found[0]) > 100
    assert "\n".join(trees.differences(*found)) == ""


@pytest.mark.parametrize("mode", ["alone", "onto"])
@pytest.mark.parametrize("form", ["gnu", "pax", "pax-0.0", "pax-0.1", "posix", "oldgnu", "ustar", "v7"])
def test_archives_of_gnu_tar_unpack_as_gnu_tar_unpacks_them(
    content: Path, ext4_dir: Path, form: str, mode: str
) -> None:
    archive = ext4_dir / "layer.tar"
    options = {
        "pax-0.0": ["--format=pax", "--sparse-version=0.0"],
        "pax-0.1": ["--format=pax", "--sparse-version=0.1"],
    }.get(form, [f"--format={form}"])
    if form in ("pax", "pax-0.0", "pax-0.1", "posix"):
        options += ["--xattrs", "--xattrs-include=*"]
    sparse = [] if form in ("ustar", "v7") else ["--sparse"]
    # These two cannot hold what is long, large or special; tar leaves it out, and says so by its status.
    old = form in ("ustar", "v7")
    done = subprocess.run(
        ["tar", *options, *sparse, "-C", content, "-cf", archive, "."], capture_output=True, timeout=120, check=False
    )
    assert done.returncode in ((0, 2) if old else (0, 1))
    agree(by_tar(archive, ext4_dir / "tar"), by_orlop(archive, ext4_dir / "orlop", mode))


def _below(top: Path) -> list[Path]:
    """All that lies below, parents first (rglob of older Pythons stumbles over a link to a very long name)."""
    found = []
    for directory, directories, files in os.walk(top):
        found += [Path(directory) / name for name in (*directories, *files)]
    return sorted(found)


@pytest.mark.parametrize("form", ["USTAR", "GNU", "PAX"])
def test_archives_of_pythons_tarfile_unpack_as_gnu_tar_unpacks_them(content: Path, ext4_dir: Path, form: str) -> None:
    archive = ext4_dir / "layer.tar"
    with tarfile.open(archive, "w", format=getattr(tarfile, f"{form}_FORMAT")) as file:
        for path in _below(content):
            try:
                file.add(path, path.relative_to(content).as_posix(), recursive=False, filter=sane_time)
            except (ValueError, UnicodeEncodeError):
                assert form != "GNU"
    agree(by_tar(archive, ext4_dir / "tar"), by_orlop(archive, ext4_dir / "orlop", "alone"), root_too=False)


def sane_time(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """tarfile writes a time of a nanosecond as 1e-09, which nobody reads; and ustar cannot hold large owners."""
    info.mtime = info.mtime if info.mtime > 1 else 0
    info.uid, info.gid = info.uid % 2_000_000, info.gid % 2_000_000
    return info


def test_archives_of_bsdtar_unpack_as_gnu_tar_unpacks_them(content: Path, ext4_dir: Path) -> None:
    if shutil.which("bsdtar") is None:
        archive = ext4_dir / "fixture.tar"  # libarchive's form of attributes, as bsdtar writes it
        records = {
            b"LIBARCHIVE.xattr.user.a": b"AAEC",
            b"SCHILY.xattr.user.a": b"\0\1\2",
            b"LIBARCHIVE.creationtime": b"5",
        }
        body = trees.pax(records) + trees.member(b"f", b"x") + b"".join(trees.member(b"%d" % n) for n in range(100))
        archive.write_bytes(body + trees.END)
    else:
        archive = ext4_dir / "layer.tar"
        run("bsdtar", "-C", content, "--format=pax", "-cf", archive, ".")
    agree(by_tar(archive, ext4_dir / "tar"), by_orlop(archive, ext4_dir / "orlop", "alone"), root_too=False)


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_gnu_tar_unpacks_what_the_differ_writes_to_the_same_tree(content: Path, ext4_dir: Path, kind: str) -> None:
    archive = ext4_dir / "layer.tar"
    with open(archive, "wb") as out:
        written = diff_trees(None, str(content), out, options=Options(compression=kind))
    flag = {"none": [], "gzip": ["-z"], "zstd": ["--zstd"]}[kind]
    run(*TAR, *flag, "-C", make(ext4_dir / "tar"), "-xpf", archive)
    agree(content, ext4_dir / "tar")
    with open(archive, "rb") as file:
        applied = unpack_stream(file, kind, str(make(ext4_dir / "orlop")))
    agree(content, ext4_dir / "orlop")
    assert applied.diff_id == written.diff_id


def test_python_reads_what_the_differ_writes(content: Path) -> None:
    out = io.BytesIO()
    written = diff_trees(None, str(content), out)
    out.seek(0)
    with tarfile.open(fileobj=out, errors="surrogateescape") as archive:
        assert len(archive.getmembers()) == written.entries


@pytest.fixture
def umoci(ext4_dir: Path) -> Path:
    if shutil.which("umoci") is None:
        pytest.skip("umoci is not installed")
    layout = ext4_dir / "layout"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:t")
    return layout


def test_an_image_of_several_layers_unpacks_as_umoci_unpacks_it(umoci: Path, content: Path, ext4_dir: Path) -> None:
    """Layers by the differ (whiteouts, links, all attributes) and by hand; Orlop's are applied onto one another."""
    steps = [ext4_dir / "step0"]
    run("cp", "-a", content, steps[0])
    for seed in (1, 2):
        step = ext4_dir / f"step{seed}"
        run("cp", "-a", steps[-1], step)
        grower = trees.Grower(seed)
        grower.change(str(step / "crafted"), 40)
        trees.remove(str(step / "etc/apt"))
        grower.settle(str(step / "crafted"))
        steps.append(step)
    layers: list[Path] = []
    for number, (lower, upper) in enumerate(zip([None, *steps], steps)):
        layers.append(ext4_dir / f"{number}.tar")
        with open(layers[-1], "wb") as out:
            diff_trees(str(lower) if lower else None, str(upper), out, options=Options(exact=True))
    by_hand = [
        trees.header(b"etc/.wh..wh..opq"),
        trees.member(b"etc/only", b"what is left"),
        trees.header(b"usr/.wh.bin"),
        trees.header(b"usr/bin/", b"5", mode=0o711, mtime=5) + trees.member(b"usr/bin/new", b"x"),
        trees.member(b"special/implied/deep/file", b"x"),
        trees.header(b"special/hard", b"1", linkname=b"special/setuid"),
        trees.header(b"usr/lib", b"2", linkname=b"/special"),
    ]
    layers.append(ext4_dir / "by-hand.tar")
    layers[-1].write_bytes(b"".join(by_hand) + trees.END)
    for layer in layers:
        run("umoci", "raw", "add-layer", "--image", f"{umoci}:t", layer)
    bundle = ext4_dir / "bundle"
    run("umoci", "unpack", "--image", f"{umoci}:t", bundle)
    assert json.loads((bundle / "config.json").read_text())["root"]["path"] == "rootfs"
    tree = make(ext4_dir / "orlop")
    for layer in layers:
        with open(layer, "rb", buffering=0) as file:
            apply_layer(file, str(tree), mode="onto")
    ours, theirs = (trees.facts(path, root_too=False) for path in (tree, bundle / "rootfs"))
    for path, fact in ours.items():  # to Go's archive/tar an attribute without a value is none
        ours[path] = (*fact[:5], tuple(pair for pair in fact[5] if pair[1]), *fact[6:])  # type: ignore[attr-defined]
    for found in (ours, theirs):
        # umoci gives directories that it makes, and those it makes them in, the time of the extraction.
        for implied in ("special", "special/implied", "special/implied/deep"):
            found[implied] = (*found[implied][:4], 0, *found[implied][5:])
    assert len(ours) > 100
    assert "\n".join(trees.differences(ours, theirs)) == ""
