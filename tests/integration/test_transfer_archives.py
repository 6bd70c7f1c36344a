"""Archives and layouts: what comes back is what was saved; what is damaged is refused and leaves nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.base import errors
from tests.support import fault_registry, orlops, transfer
from tests.support.fault_registry import FaultRegistry
from tests.support.orlops import Orlop


@pytest.fixture
def orlop(ext4_dir: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4_dir, "overlay") as opened:
        transfer.use(opened.engine, transfer.hasty(ext4_dir))
        yield opened


def imported(orlop: Orlop, name: str = "local/app:1") -> str:
    data = transfer.tar_of({"etc": None, "etc/file": transfer.noise(20_000)})
    return str(orlop.engine.images.import_(io.BytesIO(data), name).target.digest)


def multi_platform(orlop: Orlop, name: str = "app", all_platforms: bool = True, platform: str = "") -> str:
    """Pull an image of two platforms; returns its name."""
    with FaultRegistry() as registry:
        children = []
        for seed, architecture in enumerate(("amd64", "s390x")):
            image = registry.add_image(
                name, "", [transfer.layer("arch", 5000, seed)], config={"architecture": architecture}
            )
            children.append({**image.manifest.json(), "platform": {"os": "linux", "architecture": architecture}})
        raw = json.dumps({"schemaVersion": 2, "mediaType": fault_registry.INDEX, "manifests": children}).encode()
        registry.add_manifest(name, "1", raw, fault_registry.INDEX)
        orlop.engine.images.pull(f"{registry.host}/{name}:1", all_platforms=all_platforms, platform=platform or None)
        return f"{registry.host}/{name}:1"


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive", "oci-dir"])
@pytest.mark.parametrize("whole", [True, False])
def test_an_index_comes_back_with_what_was_stored_of_it(orlop: Orlop, tmp_path: Path, format: str, whole: bool) -> None:
    name = multi_platform(orlop, all_platforms=whole)
    before = transfer.blobs_on_disk(orlop)
    target = orlop.engine.images.get(name).target
    saved = str(tmp_path / "saved")
    orlop.engine.images.save([name], saved, format=format)
    orlop.engine.images.remove(name)
    transfer.assert_clean(orlop)
    (image,) = orlop.engine.images.load(saved)
    assert (image.name, image.target.digest) == (name, target.digest)
    assert before <= transfer.blobs_on_disk(orlop)
    orlop.engine.system.gc()
    assert transfer.blobs_on_disk(orlop) == before
    assert orlop.engine.images.resolve(name).config.architecture == "amd64"


def test_one_platform_of_an_index_is_saved_alone(orlop: Orlop, tmp_path: Path) -> None:
    name = multi_platform(orlop)
    saved = str(tmp_path / "saved")
    orlop.engine.images.save([name], saved, format="oci-archive", platform="linux/s390x")
    orlop.engine.images.remove(name)
    orlop.engine.images.load(saved)
    assert orlop.engine.images.resolve(name).config.architecture == "s390x"
    assert len(transfer.blobs_on_disk(orlop) & {str(orlop.engine.images.get(name).target.digest)}) == 1


def test_an_image_for_another_platform_alone_is_saved_and_loaded(orlop: Orlop, tmp_path: Path) -> None:
    name = multi_platform(orlop, all_platforms=False, platform="linux/s390x")
    saved = str(tmp_path / "saved")
    orlop.engine.images.save([name], saved)
    with tarfile.open(saved) as tar:
        listed = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(tar.extractfile(listed[0]["Config"]))  # type: ignore[arg-type]
    assert config["architecture"] == "s390x"
    orlop.engine.images.remove(name)
    orlop.engine.images.load(saved)
    assert orlop.engine.images.resolve(name, "linux/s390x").config.architecture == "s390x"


def test_an_artifact_goes_into_an_oci_archive_only(orlop: Orlop, tmp_path: Path) -> None:
    with FaultRegistry() as registry:
        config = registry.add_blob("thing", b"{}", "application/vnd.oci.empty.v1+json")
        data = registry.add_blob("thing", b"payload", "application/x-thing")
        document = {"schemaVersion": 2, "config": config.json(), "layers": [data.json()]}
        registry.add_manifest("thing", "1", json.dumps(document).encode())
        name = f"{registry.host}/thing:1"
        orlop.engine.images.pull(name, unpack=False)
    with pytest.raises(errors.InvalidArgument, match="not a container image"):
        orlop.engine.images.save([name], str(tmp_path / "docker"))
    assert os.listdir(tmp_path) == []
    orlop.engine.images.save([name], str(tmp_path / "oci"), format="oci-archive")
    orlop.engine.images.remove(name)
    orlop.engine.images.load(str(tmp_path / "oci"))
    assert data.digest in transfer.blobs_on_disk(orlop)


def test_a_layout_may_lie_among_other_files_and_have_linked_blobs(orlop: Orlop, tmp_path: Path) -> None:
    digest = imported(orlop)
    layout = tmp_path / "layout"
    orlop.engine.images.save(["local/app:1"], str(layout), format="oci-dir")
    orlop.engine.images.remove("local/app:1")
    (layout / "README").write_bytes(b"not ours")
    (layout / "blobs" / "sha256" / "half.part").write_bytes(b"nor is this")
    (layout / "fifo").parent.mkdir(exist_ok=True)
    os.mkfifo(layout / "fifo")
    for blob in (layout / "blobs" / "sha256").glob("????????????????*"):
        moved = tmp_path / blob.name
        blob.rename(moved)
        blob.symlink_to(moved)
    (image,) = orlop.engine.images.load(str(layout))
    assert image.target.digest == digest
    orlop.engine.system.gc()
    assert len(transfer.blobs_on_disk(orlop)) == 3


def test_a_layout_that_is_there_keeps_its_other_images(orlop: Orlop, tmp_path: Path) -> None:
    layout = str(tmp_path / "layout")
    first = imported(orlop, "local/one:1")
    orlop.engine.images.save(["local/one:1"], layout, format="oci-dir")
    old = imported(orlop, "local/two:1")
    orlop.engine.images.save(["local/two:1"], layout, format="oci-dir")
    second = imported(orlop, "local/two:1")
    assert second != old
    orlop.engine.images.save(["local/two:1"], layout, format="oci-dir")
    for name in ("local/one:1", "local/two:1"):
        orlop.engine.images.remove(name)
    loaded = orlop.engine.images.load(layout)
    assert {image.name: str(image.target.digest) for image in loaded} == {
        "docker.io/local/one:1": first,
        "docker.io/local/two:1": second,
    }
    (tmp_path / "layout" / "index.json").write_bytes(b"something else")
    with pytest.raises(errors.InvalidArgument, match=r"index\.json"):
        orlop.engine.images.save(["local/two:1"], layout, format="oci-dir")
    assert (tmp_path / "layout" / "index.json").read_bytes() == b"something else"


@pytest.mark.parametrize(
    "damage", ["blob changed", "blob cut short", "layer missing", "config missing", "index missing"]
)
def test_a_damaged_layout_is_refused_and_leaves_nothing(orlop: Orlop, tmp_path: Path, damage: str) -> None:
    imported(orlop)
    resolved = orlop.engine.images.resolve("local/app:1")
    layout = tmp_path / "layout"
    orlop.engine.images.save(["local/app:1"], str(layout), format="oci-dir")
    orlop.engine.images.remove("local/app:1")
    layer = layout / "blobs" / "sha256" / resolved.manifest.layers[0].digest.encoded
    config = layout / "blobs" / "sha256" / resolved.manifest.config.digest.encoded
    kind: type[errors.OrlopError] = errors.DataLoss
    named = layer.name
    if damage == "blob changed":
        layer.write_bytes(b"\0" + layer.read_bytes()[1:])
    elif damage == "blob cut short":
        layer.write_bytes(layer.read_bytes()[:-1])
    elif damage == "layer missing":
        layer.unlink()
    elif damage == "config missing":
        config.unlink()
        named = config.name
    else:
        (layout / "index.json").unlink()
        kind, named = errors.InvalidArgument, "holds no image"
    with pytest.raises(kind) as caught:
        orlop.engine.images.load(str(layout))
    assert named in caught.value.message
    assert list(orlop.engine.images.list()) == []
    transfer.assert_clean(orlop)


def test_a_descriptor_with_a_wrong_size_is_refused(orlop: Orlop, tmp_path: Path) -> None:
    imported(orlop)
    layout = tmp_path / "layout"
    orlop.engine.images.save(["local/app:1"], str(layout), format="oci-dir")
    orlop.engine.images.remove("local/app:1")
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][0]["size"] += 1
    (layout / "index.json").write_text(json.dumps(index))
    with pytest.raises(errors.DataLoss, match="its descriptor says"):
        orlop.engine.images.load(str(layout))
    transfer.assert_clean(orlop)


def test_an_archive_that_ends_at_any_place_is_refused(orlop: Orlop) -> None:
    imported(orlop)
    out = io.BytesIO()
    orlop.engine.images.save(["local/app:1"], out)
    orlop.engine.images.remove("local/app:1")
    data = out.getvalue()
    for part in range(8):
        with pytest.raises(errors.OrlopError):
            orlop.engine.images.load(io.BytesIO(data[: len(data) * part // 8]))
        assert list(orlop.engine.images.list()) == []
        transfer.assert_clean(orlop)


def test_a_docker_archive_whose_config_and_layers_disagree(orlop: Orlop) -> None:
    rootfs = transfer.tar_of({"file": b"x"})
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}
    ).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    listed = json.dumps([{"Config": name, "RepoTags": ["x:1"], "Layers": ["a/layer.tar"]}]).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in (("a/layer.tar", rootfs), (name, config), ("manifest.json", listed)):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(errors.DataLoss, match="diff ID"):
        orlop.engine.images.load(io.BytesIO(out.getvalue()))
    transfer.assert_clean(orlop)


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive", "oci-dir"])
def test_a_save_that_fails_leaves_no_half_archive(orlop: Orlop, tmp_path: Path, format: str) -> None:
    imported(orlop)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.OrlopError) as caught:
        orlop.engine.images.save(["local/app:1"], str(tmp_path / "file" / "out"), format=format)
    assert str(tmp_path / "file") in caught.value.message
    with pytest.raises(errors.NotFound):
        orlop.engine.images.save(["local/app:1", "nonesuch:1"], str(tmp_path / "out"), format=format)
    assert os.listdir(tmp_path) == ["file"]


class Interrupted(io.BytesIO):
    def read(self, n: int | None = -1) -> bytes:
        if self.tell() > 5000:
            raise KeyboardInterrupt
        return super().read(min(n or 4096, 4096) if n and n > 0 else 4096)


@pytest.mark.parametrize("verb", ["load", "import"])
def test_an_interrupt_leaves_no_ingest_behind(orlop: Orlop, verb: str) -> None:
    imported(orlop)
    out = io.BytesIO()
    orlop.engine.images.save(["local/app:1"], out)
    orlop.engine.images.remove("local/app:1")
    data = out.getvalue() if verb == "load" else gzip.compress(transfer.noise(50_000))
    take = orlop.engine.images.load if verb == "load" else orlop.engine.images.import_
    with pytest.raises(KeyboardInterrupt):
        take(Interrupted(data))
    transfer.drop_leases(orlop)
    transfer.assert_clean(orlop)
