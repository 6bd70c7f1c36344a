"""Pushes: what is there is skipped, mounts, reduced indexes, missing content, uploads that break."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.base import errors
from orlop.base.progress import Report, Sink
from tests.support import fault_registry, orlops, transfer
from tests.support.fault_registry import FaultRegistry, ImageHandle
from tests.support.orlops import Orlop


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with FaultRegistry() as running:
        yield running


@pytest.fixture
def orlop(ext4_dir: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4_dir, "overlay") as opened:
        transfer.use(opened.engine, transfer.hasty(ext4_dir))
        yield opened


class Heard(Sink):
    """Remembers the last action of each item."""

    def __init__(self) -> None:
        self.last: dict[str, str] = {}

    def report(self, report: Report) -> None:
        self.last[report.item] = report.action


def imported(orlop: Orlop, name: str, size: int = 300_000) -> str:
    """An image made here; returns its manifest's digest."""
    import io

    data = transfer.tar_of({"file": transfer.noise(size)})
    return str(orlop.engine.images.import_(io.BytesIO(data), name).target.digest)


def two_platforms(registry: FaultRegistry, repository: str, tag: str) -> tuple[str, ImageHandle, ImageHandle]:
    handles = []
    children = []
    for seed, architecture in enumerate(("amd64", "s390x")):
        image = registry.add_image(
            repository, "", [transfer.layer("arch", 5000, seed)], config={"architecture": architecture}
        )
        handles.append(image)
        children.append({**image.manifest.json(), "platform": {"os": "linux", "architecture": architecture}})
    raw = json.dumps({"schemaVersion": 2, "mediaType": fault_registry.INDEX, "manifests": children}).encode()
    index = registry.add_manifest(repository, tag, raw, fault_registry.INDEX)
    return index.digest, handles[0], handles[1]


def uploads(registry: FaultRegistry) -> int:
    return len([r for r in registry.seen("PUT", "/blobs/uploads/") if r.status == 201])


def test_what_is_there_is_not_sent_again(orlop: Orlop, registry: FaultRegistry) -> None:
    name = f"{registry.host}/app:1"
    digest = imported(orlop, name)
    pushed = orlop.engine.images.push(name)
    assert (str(pushed.digest), pushed.reduced) == (digest, False)
    assert registry.tags["app"]["1"] == digest
    assert uploads(registry) == 2
    heard = Heard()
    orlop.engine.images.push(name, progress=heard)
    assert uploads(registry) == 2
    assert sorted(heard.last.values()) == ["done", "exists", "exists"]


def test_another_repository_of_the_registry_gives_its_blobs(orlop: Orlop, registry: FaultRegistry) -> None:
    first, second = f"{registry.host}/one:1", f"{registry.host}/deep/two:1"
    imported(orlop, first)
    orlop.engine.images.push(first)
    orlop.engine.images.tag(first, second)
    heard = Heard()
    orlop.engine.images.push(second, progress=heard)
    assert uploads(registry) == 2
    assert sorted(heard.last.values()) == ["done", "mounted", "mounted"]
    mounts = [r.query["from"] for r in registry.seen("POST", "mount=")]
    assert mounts == [["one"], ["one"]]


def test_what_was_pulled_is_mounted_from_where_it_came(orlop: Orlop, registry: FaultRegistry) -> None:
    registry.add_image("source", "1", [transfer.layer("x")])
    orlop.engine.images.pull(f"{registry.host}/source:1")
    orlop.engine.images.tag(f"{registry.host}/source:1", f"{registry.host}/copy:1")
    orlop.engine.images.push(f"{registry.host}/copy:1")
    assert uploads(registry) == 0
    assert registry.tags["copy"]["1"] == registry.tags["source"]["1"]


def test_a_registry_that_does_not_mount_gets_the_bytes(orlop: Orlop) -> None:
    with FaultRegistry(mounts=False) as registry:
        registry.add_image("source", "1", [transfer.layer("x")])
        orlop.engine.images.pull(f"{registry.host}/source:1")
        orlop.engine.images.tag(f"{registry.host}/source:1", f"{registry.host}/copy:1")
        orlop.engine.images.push(f"{registry.host}/copy:1")
        assert uploads(registry) == 2


def test_of_an_index_with_one_platform_stored_that_one_is_pushed(orlop: Orlop, registry: FaultRegistry) -> None:
    _, ours, other = two_platforms(registry, "source", "1")
    name = f"{registry.host}/copy:1"
    orlop.engine.images.pull(f"{registry.host}/source:1", platform="linux/amd64")
    orlop.engine.images.tag(f"{registry.host}/source:1", name)
    pushed = orlop.engine.images.push(name, platform="linux/amd64")
    assert pushed.reduced
    assert registry.tags["copy"]["1"] == ours.manifest.digest
    assert other.manifest.digest not in registry.manifests["copy"]


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/s390x"])
def test_without_a_platform_the_one_that_is_stored_is_pushed(
    orlop: Orlop, registry: FaultRegistry, platform: str
) -> None:
    _, ours, other = two_platforms(registry, "source", "1")
    name = f"{registry.host}/copy:1"
    orlop.engine.images.pull(f"{registry.host}/source:1", platform=platform)
    orlop.engine.images.tag(f"{registry.host}/source:1", name)
    assert orlop.engine.images.push(name).reduced
    wanted = ours if platform == "linux/amd64" else other
    assert registry.tags["copy"]["1"] == wanted.manifest.digest


def test_a_whole_index_is_pushed_whole(orlop: Orlop, registry: FaultRegistry) -> None:
    index, ours, other = two_platforms(registry, "source", "1")
    name = f"{registry.host}/copy:1"
    orlop.engine.images.pull(f"{registry.host}/source:1", all_platforms=True)
    orlop.engine.images.tag(f"{registry.host}/source:1", name)
    assert not orlop.engine.images.push(name).reduced
    assert registry.tags["copy"]["1"] == index
    assert set(registry.manifests["copy"]) == {index, ours.manifest.digest, other.manifest.digest}
    puts = [r.path.rpartition("/")[2] for r in registry.seen("PUT", "/copy/manifests/")]
    assert puts[-1] == "1", "the index comes last: nobody finds a tag whose parts are missing"
    assert orlop.engine.images.push(name, platform="linux/s390x").reduced
    assert registry.tags["copy"]["1"] == other.manifest.digest


def test_content_that_is_missing_is_named(orlop: Orlop, registry: FaultRegistry) -> None:
    image = registry.add_image("source", "1", [transfer.layer("x"), transfer.layer("y", 2000)])
    name = f"{registry.host}/source:1"
    orlop.engine.images.pull(name)
    lost = image.layers[1].digest
    orlop.engine.wiring.content().delete(lost)  # type: ignore[arg-type]
    orlop.engine.images.tag(name, f"{registry.host}/copy:1")
    with pytest.raises(errors.NotFound) as caught:
        orlop.engine.images.push(f"{registry.host}/copy:1")
    assert lost in caught.value.message
    assert image.manifest.digest in caught.value.message
    assert "copy" not in registry.tags
    assert not registry.seen("POST")


UPLOAD_FAULTS: dict[str, tuple[dict[str, Any], type[errors.OrlopError]]] = {
    "drops every upload": ({"kind": "drop", "at": 1000}, errors.Unavailable),
    "closes every upload": ({"kind": "hangup"}, errors.Unavailable),
    "403": ({"kind": "status", "status": 403}, errors.PermissionDenied),
    "413": ({"kind": "status", "status": 413}, errors.ResourceExhausted),
    "500": ({"kind": "status", "status": 500}, errors.Unavailable),
}


@pytest.mark.parametrize("name", UPLOAD_FAULTS)
def test_an_upload_that_always_fails_is_told_and_no_tag_appears(
    orlop: Orlop, registry: FaultRegistry, name: str
) -> None:
    about, kind = UPLOAD_FAULTS[name]
    imported(orlop, f"{registry.host}/app:1")
    for method in ("PUT", "PATCH"):
        registry.fault(**about, method=method, match="/blobs/uploads/", times=-1)
    before = transfer.on_disk(orlop)
    with pytest.raises(kind) as caught:
        orlop.engine.images.push(f"{registry.host}/app:1")
    assert registry.host in caught.value.message
    assert "\n" not in caught.value.message
    assert "app" not in registry.tags
    transfer.drop_leases(orlop)
    orlop.engine.system.gc()
    assert transfer.on_disk(orlop) == before


@pytest.mark.parametrize("kind", ["drop", "close", "hangup"])
def test_an_upload_that_breaks_once_is_gone_on_with(orlop: Orlop, registry: FaultRegistry, kind: str) -> None:
    digest = imported(orlop, f"{registry.host}/app:1")
    for method in ("PUT", "PATCH"):
        registry.fault(kind, at=100_000, method=method, match="/blobs/uploads/")
    orlop.engine.images.push(f"{registry.host}/app:1")
    assert registry.tags["app"]["1"] == digest
    for blob, data in registry.blobs["app"].items():
        assert fault_registry.sha256(data) == blob
