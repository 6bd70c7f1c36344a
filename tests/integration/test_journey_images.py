"""Images through the command line: import, push, pull, save, load, tag, remove; a real registry, the real kernel."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import orlops
from tests.support.orlops import Orlop, Registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with orlops.registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(params=["overlay", "native"])
def orlop(ext4_dir: Path, request: pytest.FixtureRequest) -> Iterator[Orlop]:
    with orlops.opened(ext4_dir, request.param) as opened:
        yield opened


def assert_snapshotter(orlop: Orlop) -> None:
    assert orlop.out("info", "-f", "{{.Driver}}") == orlop.snapshotter


def test_import_push_remove_pull_run(orlop: Orlop, registry: Registry, tmp_path: Path) -> None:
    assert_snapshotter(orlop)
    name = f"{registry.host}/team/box:{orlop.state.name}"
    archive = tmp_path / "rootfs.tar"
    archive.write_bytes(orlops.rootfs_tar())
    digest = orlop.out(
        "import", "-c", 'CMD ["echo", "it", "works"]', "-c", "ENV A=b", "-m", "first", str(archive), name
    )
    assert digest.startswith("sha256:")
    assert orlop.out("run", "--rm", name) == "it works"
    assert digest in orlop.out("push", name)
    removed = orlop.out("rmi", name)
    assert f"Untagged: {name}" in removed
    assert f"Deleted: {digest}" in removed
    assert orlop.out("images", "-q") == ""
    assert not any((orlop.root / "content" / "blobs" / "sha256").iterdir())
    assert not any((orlop.root / "layers" / "sha256").glob("*"))
    out = orlop.out("pull", name)
    assert f"Digest: {digest}" in out
    assert "Downloaded newer image" in out
    assert "Image is up to date" in orlop.out("pull", name)
    assert orlop.out("run", "--rm", name) == "it works"
    told = json.loads(orlop.out("inspect", name))[0]
    assert told["Config"]["Env"] == ["A=b"]
    assert told["Id"] == digest
    assert orlop.out("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}") == f"{name} {digest[7:19]}"


def test_run_pulls_what_is_missing_and_says_so(orlop: Orlop, registry: Registry) -> None:
    name = f"{registry.host}/auto/box:{orlop.state.name}"
    orlop.import_busybox(name)
    orlop.run("push", "-q", name)
    orlop.run("rmi", name)
    done = orlop.run("run", "--rm", name, "echo", "pulled")
    assert done.stdout == b"pulled\n"
    assert f"Unable to find image '{name}' locally" in done.stderr.decode()


def test_push_skips_what_is_there_and_mounts_from_another_repository(orlop: Orlop, registry: Registry) -> None:
    first = f"{registry.host}/a/one:{orlop.state.name}"
    second = f"{registry.host}/b/two:{orlop.state.name}"
    orlop.import_busybox(first)
    assert "Uploaded" in orlop.run("push", first).stderr.decode()
    assert "Uploaded" not in orlop.run("push", first).stderr.decode()
    orlop.run("tag", first, second)
    said = orlop.run("push", second).stderr.decode()
    assert "Mounted from another repository" in said
    assert "Uploaded" not in said


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive", "oci-dir"])
def test_save_and_load_keep_every_digest(orlop: Orlop, tmp_path: Path, format: str) -> None:
    orlop.import_busybox("local/box:1")
    orlop.run("tag", "local/box:1", "local/other:2")
    digest = orlop.out("inspect", "-f", "{{.Id}}", "local/box:1")
    saved = tmp_path / "saved"
    orlop.run("save", "--format", format, "-o", str(saved), "local/box:1", "local/other:2")
    orlop.run("rmi", "local/box:1", "local/other:2")
    out = orlop.out("load", "-i", str(saved))
    assert out.splitlines() == ["Loaded image: local/box:1", "Loaded image: local/other:2"]
    assert orlop.out("inspect", "-f", "{{.Id}}", "local/other:2") == digest
    assert orlop.out("run", "--rm", "local/box:1", "echo", "loaded") == "loaded"


def test_archives_go_through_pipes_compressed_or_not(orlop: Orlop) -> None:
    orlop.import_busybox("local/box:1")
    saved = orlop.run("save", "local/box:1").stdout
    orlop.run("rmi", "local/box:1")
    assert orlop.out("load", stdin=gzip.compress(saved)) == "Loaded image: local/box:1"
    assert orlop.out("run", "--rm", "local/box:1", "echo", "piped") == "piped"


def old_docker_archive(rootfs: bytes, name: str) -> bytes:
    """What `docker save` wrote before version 25: layers as plain tars in directories, links between equal ones."""
    import hashlib

    diff_id = "sha256:" + hashlib.sha256(rootfs).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["echo", "old"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]},
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    listed = [{"Config": config_name, "RepoTags": [name], "Layers": ["aaa/layer.tar", "bbb/layer.tar"]}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in (("aaa/VERSION", b"1.0"), ("aaa/layer.tar", rootfs), (config_name, config)):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("bbb/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../aaa/layer.tar"
        tar.addfile(link)
        data = json.dumps(listed).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_an_old_docker_archive_loads(orlop: Orlop) -> None:
    archive = old_docker_archive(orlops.rootfs_tar(), "vintage:3")
    assert orlop.out("load", stdin=archive) == "Loaded image: vintage:3"
    assert orlop.out("run", "--rm", "vintage:3") == "old"


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda data: data[: len(data) // 2], "end"),
        (lambda data: b"not a tar at all" * 100, "tar archive"),
        (lambda data: orlops.rootfs_tar(), "holds no image"),
    ],
    ids=["truncated", "no tar", "no image"],
)
def test_a_damaged_archive_is_refused_in_one_line_and_leaves_nothing(
    orlop: Orlop, damage: Callable[[bytes], bytes], text: str
) -> None:
    orlop.import_busybox("local/box:1")
    saved = orlop.run("save", "local/box:1").stdout
    orlop.run("rmi", "local/box:1")
    done = orlop.run("load", stdin=damage(saved), code=1)
    assert text in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert orlop.out("images", "-q") == ""
    orlop.run("gc")
    assert not any((orlop.root / "content" / "blobs" / "sha256").iterdir())


def test_import_refuses_what_is_no_tar(orlop: Orlop) -> None:
    done = orlop.run("import", "-", "bad:1", stdin=b"rubbish" * 1000, code=1)
    assert "Traceback" not in done.stderr.decode()
    done = orlop.run("import", "-", "bad:1", stdin=gzip.compress(orlops.rootfs_tar())[:5000], code=1)
    assert "Traceback" not in done.stderr.decode()
    orlop.run("import", "/no/such/file", "bad:1", code=1)
    assert orlop.out("images", "-q") == ""


def test_names_tags_and_ids(orlop: Orlop) -> None:
    orlop.import_busybox("box")
    assert orlop.out("images", "--format", "{{.Repository}}:{{.Tag}}") == "box:latest"
    id = orlop.out("images", "-q")
    orlop.run("tag", id, "box:two")
    orlop.run("rmi", id, code=1)
    assert orlop.out("images", "-q") == id
    assert orlop.out("rmi", "box:two") == "Untagged: box:two"
    orlop.run("tag", "box", "BAD", code=1)
    orlop.run("tag", "nonesuch", "x", code=1)
    assert "Deleted: sha256:" in orlop.out("rmi", id)


def test_an_image_in_use_is_not_removed(orlop: Orlop) -> None:
    orlop.import_busybox("box")
    orlop.run("create", "--name", "user", "box", "true")
    done = orlop.run("rmi", "box", code=1)
    assert "container" in done.stderr.decode()
    orlop.run("rmi", "-f", "box")
    orlop.run("start", "user")
    assert orlop.out("wait", "user") == "0"
    orlop.run("rm", "user")


def test_gc_tells_what_it_would_do_and_why_things_are_kept(orlop: Orlop) -> None:
    orlop.import_busybox("box")
    digest = orlop.out("inspect", "-f", "{{.ConfigDigest}}", "box")
    lines = orlop.out("gc", "--why", digest).splitlines()
    assert "docker.io/library/box:latest" in lines[0]
    assert digest in lines[-1]
    orlop.run("rmi", "--no-prune", "box")
    assert digest in orlop.out("gc", "--dry-run")
    assert digest in orlop.out("gc")
    assert "0B" in orlop.out("gc")


def test_a_wrong_registry_is_told_in_one_line(orlop: Orlop, registry: Registry) -> None:
    done = orlop.run("pull", f"{registry.host}/no/such:1", code=1)
    assert "no/such" in done.stderr.decode()
    done = orlop.run("pull", f"127.0.0.1:{orlops.free_port()}/no/such:1", code=1)
    assert "Traceback" not in done.stderr.decode()
    orlop.run("pull", "UPPER/case", code=1)
