"""Images that go to skopeo, podman and umoci, and that come from them: the same digests, the same trees."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.base.archive import compression
from tests.support import orlops, transfer
from tests.support.orlops import Orlop, Registry

SKOPEO = ["skopeo", "--insecure-policy"]
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with orlops.registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def orlop(ext4_dir: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4_dir, "native") as opened:
        yield opened


def run(*argv: str, **env: str) -> bytes:
    done = subprocess.run(argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.decode()}"
    return done.stdout


def imported(orlop: Orlop, name: str = "local/app:1", compressed: str = "gzip") -> str:
    """An image with a directory, a symbolic link and a file of odd mode; returns its manifest's digest."""
    # Unlike any other test's: skopeo remembers where it has seen a layer, and takes it from there in another form.
    data = transfer.tar_of({"etc": None, "etc/file": os.urandom(50_000), "link": "etc/file", "plain": b"text\n"})
    made = orlop.engine.images.import_(io.BytesIO(data), name, changes=["ENV A=b"], compression=compressed)
    return str(made.target.digest)


def rootfs(orlop: Orlop, name: str, directory: Path) -> dict[str, tuple[object, ...]]:
    """The tree that a container of this image would see."""
    resolved = orlop.engine.images.resolve(name)
    snapshots = orlop.engine.wiring.snapshots
    (mount,) = snapshots.view("look", resolved.chain_id)
    try:
        return transfer.tree(mount.source)
    finally:
        snapshots.remove("look")


@pytest.fixture
def podman(ext4_dir: Path) -> Iterator[list[str]]:
    """podman on a root of its own; nothing of it is left."""
    root, runroot = ext4_dir / "podman", Path(tempfile.mkdtemp(prefix="podman-", dir="/run"))  # 50 characters at most
    yield [
        "podman", "--cgroup-manager=cgroupfs", "--storage-driver=vfs", "--root", str(root), "--runroot", str(runroot),
    ]  # fmt: skip
    subprocess.run(["umount", "-l", str(root / "vfs")], stderr=subprocess.DEVNULL, check=False)
    subprocess.run(["umount", "-l", str(root)], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(runroot, ignore_errors=True)


# ---------------------------------------------------------------- what we save


@pytest.mark.parametrize(
    ("format", "transport", "suffix"),
    [("docker-archive", "docker-archive", ""), ("oci-archive", "oci-archive", ":1"), ("oci-dir", "oci", ":1")],
)
@pytest.mark.parametrize("compressed", ["gzip", "zstd", "none"])
def test_skopeo_reads_and_copies_what_was_saved(
    orlop: Orlop, tmp_path: Path, format: str, transport: str, suffix: str, compressed: str
) -> None:
    digest = imported(orlop, compressed=compressed)
    resolved = orlop.engine.images.resolve("local/app:1")
    saved = tmp_path / "saved"
    orlop.engine.images.save(["local/app:1"], str(saved), format=format)
    told = json.loads(run(*SKOPEO, "inspect", f"{transport}:{saved}{suffix}"))
    assert "A=b" in told["Env"]
    if transport != "docker-archive":
        assert told["Digest"] == digest
    copy = tmp_path / "copy"
    run(*SKOPEO, "copy", f"{transport}:{saved}{suffix}", f"dir:{copy}")
    config = copy / resolved.manifest.config.digest.encoded
    assert hashlib.sha256(config.read_bytes()).hexdigest() == resolved.manifest.config.digest.encoded
    if transport != "docker-archive":
        assert hashlib.sha256((copy / "manifest.json").read_bytes()).hexdigest() == digest.partition(":")[2]


def test_several_names_in_one_archive_are_all_found_by_skopeo(orlop: Orlop, tmp_path: Path) -> None:
    imported(orlop)
    imported(orlop, "local/other:2", "none")
    orlop.engine.images.tag("local/app:1", "local/again:3")
    saved = tmp_path / "saved"
    orlop.engine.images.save(["local/app:1", "local/other:2", "local/again:3"], str(saved))
    for name in ("local/app:1", "local/other:2", "local/again:3"):
        assert json.loads(run(*SKOPEO, "inspect", f"docker-archive:{saved}:{name}"))["Architecture"]


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive"])
def test_podman_loads_what_was_saved_and_we_load_what_podman_saved(
    orlop: Orlop, tmp_path: Path, podman: list[str], format: str
) -> None:
    imported(orlop, "localhost/app:1")
    resolved = orlop.engine.images.resolve("localhost/app:1")
    before = rootfs(orlop, "localhost/app:1", tmp_path)
    orlop.engine.images.save(["localhost/app:1"], str(tmp_path / "ours"), format=format)
    said = run(*podman, "load", "-q", "-i", str(tmp_path / "ours")).decode()
    id = resolved.manifest.config.digest.encoded
    assert "Loaded image" in said
    assert id in run(*podman, "images", "-q", "--no-trunc").decode()
    name = "localhost/app:1" if "localhost/app:1" in said else id
    run(*podman, "save", "--format", format, "-o", str(tmp_path / "theirs"), name)
    orlop.engine.images.remove("localhost/app:1")
    (image,) = orlop.engine.images.load(str(tmp_path / "theirs"))
    again = orlop.engine.images.read(image)
    assert again.manifest.config.digest == resolved.manifest.config.digest
    assert rootfs(orlop, image.name, tmp_path) == before


def test_umoci_unpacks_the_tree_that_our_snapshot_has(orlop: Orlop, tmp_path: Path, ext4_dir: Path) -> None:
    orlop.engine.images.import_(io.BytesIO(orlops.rootfs_tar()), "local/box:1")
    orlop.engine.images.save(["local/box:1"], str(tmp_path / "layout"), format="oci-dir")
    bundle = ext4_dir / "bundle"
    run("umoci", "unpack", "--image", f"{tmp_path}/layout:1", str(bundle))
    theirs = transfer.tree(bundle / "rootfs")
    assert len(theirs) > 100
    assert rootfs(orlop, "local/box:1", tmp_path) == theirs


# ---------------------------------------------------------------- what others wrote


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_wrote_is_loaded(orlop: Orlop, tmp_path: Path, transport: str) -> None:
    imported(orlop)
    resolved = orlop.engine.images.resolve("local/app:1")
    before = rootfs(orlop, "local/app:1", tmp_path)
    orlop.engine.images.save(["local/app:1"], str(tmp_path / "ours"), format="oci-dir")
    orlop.engine.images.remove("local/app:1")
    theirs = tmp_path / "theirs"
    run(*SKOPEO, "copy", f"oci:{tmp_path}/ours:1", f"{transport}:{theirs}:docker.io/some/app:2")
    (image,) = orlop.engine.images.load(str(theirs))
    assert image.name == "docker.io/some/app:2"
    again = orlop.engine.images.read(image)
    assert again.config.diff_ids == resolved.config.diff_ids
    assert "A=b" in again.config.config.env
    assert rootfs(orlop, image.name, tmp_path) == before


# ---------------------------------------------------------------- through a registry


@pytest.mark.parametrize("compressed", ["gzip", "zstd", "none"])
def test_skopeo_pulls_what_we_pushed(orlop: Orlop, registry: Registry, tmp_path: Path, compressed: str) -> None:
    name = f"{registry.host}/ours/{compressed}:1"
    digest = imported(orlop, name, compressed)
    orlop.engine.images.push(name)
    told = json.loads(run(*SKOPEO, "inspect", "--tls-verify=false", f"docker://{name}"))
    assert told["Digest"] == digest
    run(*SKOPEO, "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/copy:1")
    index = json.loads((tmp_path / "copy" / "index.json").read_bytes())
    if compressed != "none":  # that it compresses on the way
        assert index["manifests"][0]["digest"] == digest


@pytest.mark.parametrize("options", [[], ["--format", "v2s2"], ["--dest-compress-format", "zstd", "--format", "oci"]])
def test_we_pull_what_skopeo_pushed(orlop: Orlop, registry: Registry, tmp_path: Path, options: list[str]) -> None:
    imported(orlop)
    before = rootfs(orlop, "local/app:1", tmp_path)
    diff_ids = orlop.engine.images.resolve("local/app:1").config.diff_ids
    orlop.engine.images.save(["local/app:1"], str(tmp_path / "ours"), format="oci-dir")
    orlop.engine.images.remove("local/app:1")
    name = f"{registry.host}/theirs/app:{len(options)}-{orlop.state.name}"
    source = f"oci:{tmp_path}/ours:1"
    if "zstd" in options:  # skopeo compresses anew only what comes from a directory transport uncompressed
        run(*SKOPEO, "copy", "--dest-decompress", source, f"dir:{tmp_path}/plain")
        source = f"dir:{tmp_path}/plain"
    run(*SKOPEO, "copy", *options, "--dest-tls-verify=false", source, f"docker://{name}")
    orlop.engine.images.pull(name)
    resolved = orlop.engine.images.resolve(name)
    if "v2s2" in options:
        assert resolved.manifest.media_type == DOCKER_MANIFEST
    if "zstd" in options:
        assert resolved.manifest.layers[0].media_type.endswith("+zstd")
    assert resolved.config.diff_ids == diff_ids
    assert rootfs(orlop, name, tmp_path) == before
    again = f"{registry.host}/again/app:{orlop.state.name}"
    orlop.engine.images.tag(name, again)
    pushed = orlop.engine.images.push(again)
    told = json.loads(run(*SKOPEO, "inspect", "--tls-verify=false", f"docker://{again}"))
    assert told["Digest"] == pushed.digest == resolved.image.target.digest


def test_a_layer_of_several_gzip_members_is_pulled(orlop: Orlop, registry: Registry, tmp_path: Path) -> None:
    """As pigz, estargz and concatenation make them."""
    data = transfer.tar_of({"file": transfer.noise(30_000)})
    out = io.BytesIO()
    for start in range(0, len(data), 10_000):
        writer = compression.open_writer(out, "gzip")
        writer.write(data[start : start + 10_000])
        writer.close()
    name = f"{registry.host}/members/app:1"
    orlop.engine.images.import_(io.BytesIO(out.getvalue()), name)
    orlop.engine.images.push(name)
    orlop.engine.images.remove(name)
    orlop.engine.images.pull(name)
    assert list(rootfs(orlop, name, tmp_path)) == ["file"]
