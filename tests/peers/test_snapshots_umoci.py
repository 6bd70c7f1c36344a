"""Layers as tars, applied alone and stacked by Orlop, beside `umoci unpack` of the same image."""

import hashlib
import io
import json
import shutil
import stat
import subprocess
import tarfile

import pytest

from orlop.base.oci import digest
from orlop.services.diff.applier import apply_layer
from tests.support import layering
from tests.support.layering import device, directory, file, hard, link, opaque, whiteout
from tests.support.snapshotter_suite import Bench

pytestmark = pytest.mark.peer

ROOT = directory("", 0o755)
STACKS = {
    "plain": [
        [ROOT, directory("etc", 0o711), file("etc/a", mode=0o4755, uid=5), link("l", "etc/a"), hard("h", "etc/a")],
        [directory("etc", 0o700), file("etc/b", xattrs={"user.colour": b"red"}), device("null", 1, 3)],
    ],
    "whiteouts": [
        [ROOT, directory("d"), file("d/a"), directory("e"), file("e/x"), file("gone"), directory("o"), file("o/old")],
        [directory("d"), whiteout("d/a"), whiteout("e"), whiteout("gone"), directory("o", 0o700), opaque("o")],
        [file("gone", "back"), directory("e", 0o711), file("e/y"), file("o/new")],
    ],
    "implied directories": [
        # No set-group-ID bit here: mkdir(2) hands it down to the directories umoci makes, an accident.
        [directory("", 0o750), directory("opt", 0o1750, uid=10, gid=20, xattrs={"user.x": b"1"})],
        [file("opt/app/bin/tool"), file("usr/share/doc/readme")],
        [file("opt/app/other"), file("usr/x")],
    ],
    "implied directories below deleted ones": [
        [ROOT, directory("a", 0o700, uid=3), directory("a/b", 0o700, uid=4)],
        [whiteout("a")],
        [file("a/b/c")],
    ],
    "files below a linked directory": [
        [ROOT, directory("usr", 0o711), directory("usr/lib", 0o750, uid=2), link("lib", "usr/lib"), file("usr/lib/o")],
        [file("lib/new"), file("lib/sub/deep"), directory("lib/listed", 0o711, uid=6), file("lib/listed/x")],
    ],
    "a listed directory over a link": [
        [ROOT, directory("usr"), link("lib", "usr")],
        [directory("lib", 0o700), file("lib/x")],
    ],
    "hard links to files below": [
        [ROOT, directory("bin"), file("bin/a", "tool", mode=0o4755, uid=3), hard("bin/b", "bin/a")],
        [hard("bin/c", "bin/a"), hard("opt/d", "bin/b")],
    ],
    "files and directories in each other's place": [
        [ROOT, directory("a"), file("a/x"), file("b")],
        [file("a"), directory("b"), file("b/y")],
    ],
    "a layer twice": [
        [ROOT, directory("d"), file("d/a", "one")],
        [directory("d", 0o711), file("d/a", "two"), file("d/b")],
        [ROOT, directory("d"), file("d/a", "one")],
    ],
}  # fmt: skip


def as_tar(entries):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for kind, path, options in entries:
            info = tarfile.TarInfo(path or "./")
            info.mode = options.get("mode", 0o777 if kind == "link" else 0o644)
            info.uid, info.gid = options.get("uid", 0), options.get("gid", 0)
            info.mtime = options.get("time", layering.DEFAULT_TIME_S)
            info.pax_headers = {
                f"SCHILY.xattr.{name}": value.decode() for name, value in options.get("xattrs", {}).items()
            }
            content = b""
            if kind == "dir":
                info.type = tarfile.DIRTYPE
            elif kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, options["target"]
            elif kind == "hard":
                info.type, info.linkname = tarfile.LNKTYPE, options["target"]
            elif kind == "device":
                info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, *divmod(options["rdev"], 256)
            elif kind == "whiteout":
                parent, slash, name = path.rpartition("/")
                info.name = f"{parent}{slash}.wh.{name}"
            elif kind == "opaque":
                info.name = f"{path}/.wh..wh..opq"
            else:
                content = options["content"].encode()
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def umoci_unpack(place, tars):
    """What umoci makes of an image of these layers."""
    blobs = place / "layout/blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data, media_type):
        hexadecimal = hashlib.sha256(data).hexdigest()
        (blobs / hexadecimal).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{hexadecimal}", "size": len(data)}

    layers = [blob(tar, "application/vnd.oci.image.layer.v1.tar") for tar in tars]
    config = {
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"), "layers": layers,
    }  # fmt: skip
    top = blob(json.dumps(manifest).encode(), manifest["mediaType"])
    top["annotations"] = {"org.opencontainers.image.ref.name": "test"}
    (place / "layout/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (place / "layout/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    subprocess.run(
        ["umoci", "unpack", "--image", f"{place}/layout:test", f"{place}/bundle"], check=True, capture_output=True
    )
    return comparable(layering.tree(f"{place}/bundle/rootfs"))


def comparable(tree):
    for entry in tree.values():
        if stat.S_ISDIR(int(entry["mode"], 8)):
            entry.pop("mtime", None)  # umoci leaves the time of the unpacking on directories it had to touch
    return tree


@pytest.fixture
def umoci():
    if not shutil.which("umoci"):
        pytest.skip("umoci is not installed")


@pytest.mark.parametrize("kind", ["overlay", "native"])
@pytest.mark.parametrize("name", STACKS)
def test_a_stack_shows_what_umoci_unpacks(umoci, ext4_dir, name, kind):
    tars = [as_tar(entries) for entries in STACKS[name]]
    bench = Bench(ext4_dir / "root", kind)
    try:
        parent = ""
        for number, tar in enumerate(tars):
            diff_id = digest.of_bytes(tar)
            if tar not in tars[:number]:
                with bench.layers.build(diff_id) as builder:
                    done = apply_layer(io.BytesIO(tar), builder.path)
                    builder.commit(
                        done.diff_id, size=done.size, inodes=done.inodes, tar_size=done.tar_size,
                        implied=done.implied, foreign_links=done.foreign_links,
                    )  # fmt: skip
            parent = bench.snapshots.stack(str(number), parent, diff_id).name
        assert comparable(bench.seen(parent)) == umoci_unpack(ext4_dir, tars)
    finally:
        bench.close()
