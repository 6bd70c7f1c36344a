"""Pulls that fail: each tells one clear error, changes no image, and leaves nothing that a collection does not take."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.base import errors
from orlop.base.archive import compression
from orlop.base.cancel import Cancel
from orlop.engine import wiring
from orlop.services.diff.limits import Limits
from orlop.services.diff.pipeline import LayerUnpacker
from tests.support import fault_registry, orlops, transfer
from tests.support.fault_registry import FaultRegistry, ImageHandle
from tests.support.orlops import Orlop

DOCKER = "application/vnd.docker.distribution.manifest"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with FaultRegistry() as running:
        yield running


@pytest.fixture
def orlop(ext4_dir: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4_dir, "overlay") as opened:
        transfer.use(opened.engine, transfer.hasty(ext4_dir))
        yield opened


def add(registry: FaultRegistry, tag: str = "1", seed: int = 0) -> ImageHandle:
    layers = [transfer.layer("small", 1000, seed), transfer.layer("large", 300_000, seed + 1)]
    return registry.add_image("app", tag, layers)


def refused(orlop: Orlop, name: str, kind: type[errors.OrlopError], *texts: str, **about: Any) -> errors.OrlopError:
    """Pull, which must fail so; afterwards nothing may be left."""
    with pytest.raises(kind) as caught:
        orlop.engine.images.pull(name, **about)
    error = caught.value
    assert "\n" not in error.message
    for text in texts:
        assert text in error.message
    assert list(orlop.engine.images.list()) == []
    resumable = isinstance(error, (errors.Unavailable, errors.Cancelled))
    assert transfer.drop_leases(orlop) == (1 if resumable else 0)
    if resumable:
        orlop.engine.system.gc()
        # What had come of a blob waits a day for the next try, as an ingest that nobody holds.
        for path in (orlop.root / "content" / "ingest").glob("*/updatedat"):
            path.write_bytes(b"2001-01-01T00:00:00Z")
        for path in (orlop.root / "content" / "ingest").rglob("*"):
            os.utime(path, (1, 1))
    transfer.assert_clean(orlop)
    return error


BLOB_FAULTS: dict[str, tuple[dict[str, Any], type[errors.OrlopError], str]] = {
    "wrong digest": ({"kind": "corrupt"}, errors.DataLoss, "digest"),
    "too long": ({"kind": "grow", "at": 100}, errors.DataLoss, "the manifest says"),
    "too short": ({"kind": "grow", "at": -100}, errors.DataLoss, "the manifest says"),
    "too short, length not told": ({"kind": "chunked", "at": -100}, errors.DataLoss, "ends after"),
    "truncated body": ({"kind": "close", "at": 1000}, errors.DataLoss, "ends short"),
    "dropped for ever": ({"kind": "drop", "at": 0}, errors.Unavailable, "gave up at byte"),
    "stalls": ({"kind": "stall", "at": 0}, errors.Unavailable, "gave up at byte"),
    "html": ({"kind": "html"}, errors.Unavailable, "is this a registry?"),
    "401": ({"kind": "status", "status": 401}, errors.Unauthenticated, "401"),
    "403": ({"kind": "status", "status": 403}, errors.PermissionDenied, "403"),
    "404": ({"kind": "status", "status": 404}, errors.NotFound, "404"),
    "429": ({"kind": "status", "status": 429}, errors.ResourceExhausted, "429"),
    "500": ({"kind": "status", "status": 500}, errors.Unavailable, "500"),
}


@pytest.mark.parametrize("name", BLOB_FAULTS)
@pytest.mark.parametrize("which", ["layer", "config"])
def test_a_blob_that_does_not_come_right(orlop: Orlop, registry: FaultRegistry, name: str, which: str) -> None:
    about, kind, text = BLOB_FAULTS[name]
    image = add(registry)
    blob = image.layers[1] if which == "layer" else image.config
    if which == "config" and about["kind"] == "close":
        about = {**about, "at": 10}
    registry.fault(**about, match=blob.digest, times=-1)
    refused(orlop, f"{registry.host}/app:1", kind, text, blob.digest, registry.host)


MANIFEST_FAULTS = {
    name: fault for name, fault in BLOB_FAULTS.items() if fault[0]["kind"] in ("html", "status", "stall", "drop")
}


@pytest.mark.parametrize("name", MANIFEST_FAULTS)
def test_a_manifest_that_does_not_come(orlop: Orlop, registry: FaultRegistry, name: str) -> None:
    about, kind, text = MANIFEST_FAULTS[name]
    add(registry)
    registry.fault(**about, match="/manifests/", times=-1)
    refused(orlop, f"{registry.host}/app:1", kind, registry.host, text if about["kind"] in ("html", "status") else "")


def test_a_manifest_with_another_digest_than_asked_for(orlop: Orlop, registry: FaultRegistry) -> None:
    image = add(registry)
    registry.fault("corrupt", match="/manifests/", times=-1)
    refused(orlop, f"{registry.host}/app@{image.manifest.digest}", errors.DataLoss, image.manifest.digest)


@pytest.mark.parametrize("what", ["/manifests/", "/blobs/"])
def test_redirects_that_go_in_circles(orlop: Orlop, registry: FaultRegistry, what: str) -> None:
    image = add(registry)
    to = f"{registry.url}/v2/app{what}{'1' if 'manifests' in what else image.layers[0].digest}"
    registry.fault("redirect", match=what, to=to, times=-1)
    refused(orlop, f"{registry.host}/app:1", errors.OrlopError, "redirect")


@pytest.mark.parametrize("at", [1, 100_000, 299_999])
def test_a_connection_that_drops_is_resumed_not_restarted(orlop: Orlop, registry: FaultRegistry, at: int) -> None:
    image = add(registry)
    large = image.layers[1]
    registry.fault("drop", match=large.digest, at=at)
    orlop.engine.images.pull(f"{registry.host}/app:1")
    first, second = registry.seen("GET", large.digest)
    start = int(second.headers.get("range", "bytes=0-")[len("bytes=") : -1])
    assert at - 70_000 <= start <= at  # a reset may take with it what lies in the socket's buffer
    assert first.sent + second.sent == large.size + at - start
    transfer.assert_sound(orlop)


def test_a_pull_that_was_cut_off_is_resumed_by_the_next_one(orlop: Orlop, registry: FaultRegistry) -> None:
    image = add(registry)
    large = image.layers[1]
    strike = registry.fault("drop", match=large.digest, at=100_000, times=1)
    registry.fault("status", match=large.digest, status=503, times=-1)
    with pytest.raises(errors.Unavailable):
        orlop.engine.images.pull(f"{registry.host}/app:1")
    assert strike.times == 0
    orlop.engine.system.gc()
    registry.faults.clear()
    orlop.engine.images.pull(f"{registry.host}/app:1")
    assert registry.bytes_served(large.digest) < large.size + 71_000  # with the answers 503
    assert int(registry.seen("GET", large.digest)[-1].headers["range"][len("bytes=") : -1]) > 29_000
    assert len(registry.seen("GET", image.config.digest)) == 1
    transfer.assert_sound(orlop)


def test_what_a_resumed_blob_began_with_was_wrong_it_is_fetched_anew(orlop: Orlop, registry: FaultRegistry) -> None:
    image = add(registry)
    large = image.layers[1]
    registry.fault("drop", match=large.digest, at=100_000)
    registry.fault("status", match=large.digest, status=503, times=-1)
    with pytest.raises(errors.Unavailable):
        orlop.engine.images.pull(f"{registry.host}/app:1")
    registry.faults.clear()
    data = max((orlop.root / "content" / "ingest").glob("*/data"), key=lambda path: path.stat().st_size)
    data.write_bytes(b"\0" + data.read_bytes()[1:])
    orlop.engine.images.pull(f"{registry.host}/app:1")
    assert [r.headers.get("range", "")[:6] for r in registry.seen("GET", large.digest)][-2:] == ["bytes=", ""]
    transfer.assert_sound(orlop)


def test_one_corrupted_answer_is_asked_for_again(orlop: Orlop, registry: FaultRegistry) -> None:
    image = add(registry)
    registry.fault("corrupt", match=image.layers[1].digest)
    orlop.engine.images.pull(f"{registry.host}/app:1")
    assert len(registry.seen("GET", image.layers[1].digest)) == 2
    transfer.assert_sound(orlop)


def test_bytes_after_the_end_of_a_blob_are_not_its_own(orlop: Orlop, registry: FaultRegistry) -> None:
    image = add(registry)
    registry.fault("chunked", match=image.layers[1].digest, at=100, times=-1)
    orlop.engine.images.pull(f"{registry.host}/app:1")
    transfer.assert_sound(orlop)


def test_a_failed_pull_leaves_the_old_image_as_it_was(orlop: Orlop, registry: FaultRegistry) -> None:
    old = add(registry, seed=0)
    name = f"{registry.host}/app:1"
    orlop.engine.images.pull(name)
    new = add(registry, seed=10)
    assert new.manifest.digest != old.manifest.digest
    registry.fault("corrupt", match=new.layers[1].digest, times=-1)
    before = transfer.on_disk(orlop)
    with pytest.raises(errors.DataLoss):
        orlop.engine.images.pull(name)
    assert orlop.engine.images.get(name).target.digest == old.manifest.digest
    orlop.engine.system.gc()
    assert transfer.on_disk(orlop) == before
    transfer.assert_sound(orlop)
    registry.faults.clear()
    assert orlop.engine.images.pull(name).changed
    assert orlop.engine.images.get(name).target.digest == new.manifest.digest


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        ({"kind": "corrupt", "match": "LAYER"}, 1, "digest"),
        ({"kind": "status", "status": 404, "match": "/manifests/"}, 1, "404"),
        ({"kind": "status", "status": 401, "match": "/manifests/"}, 1, "orlop login"),
    ],
)
def test_the_command_line_tells_it_in_a_line_and_an_advice(
    orlop: Orlop, registry: FaultRegistry, fault: dict[str, Any], code: int, text: str
) -> None:
    image = add(registry)
    about = {**fault, "match": fault["match"].replace("LAYER", image.layers[1].digest)}
    registry.fault(**about, times=-1)
    done = orlop.run("pull", "-q", f"{registry.host}/app:1", code=code)
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("orlop: ")
    assert len(lines) == 2
    assert lines[1].startswith("  to fix: ")
    assert text in done.stderr.decode()
    assert done.stdout == b""


# ---------------------------------------------------------------- content that is wrong although its digest is right


def bad_crc(data: bytes) -> bytes:
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


def holed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(64) + data[middle + 64 :]


def raw_deflate_rubbish(data: bytes) -> bytes:
    return data[:10] + zlib.compress(b"x" * 100) + data[10:]


GOOD_TAR = transfer.tar_of({"etc": None, "etc/file": transfer.noise(100_000)})
GOOD = gzip.compress(GOOD_TAR, 1, mtime=0)
DIFF_ID = fault_registry.sha256(GOOD_TAR)

BROKEN_LAYERS: dict[str, tuple[bytes, str]] = {
    "gzip cut short": (GOOD[: len(GOOD) // 2], fault_registry.LAYER),
    "gzip without its trailer": (GOOD[:-8], fault_registry.LAYER),
    "gzip with a bad checksum": (bad_crc(GOOD), fault_registry.LAYER),
    "gzip with rubbish inside": (holed(GOOD), fault_registry.LAYER),
    "gzip with other deflate data": (raw_deflate_rubbish(GOOD), fault_registry.LAYER),
    "no gzip at all": (b"rubbish" * 100, fault_registry.LAYER),
    "empty": (b"", fault_registry.LAYER),
    "no zstd at all": (b"rubbish" * 100, ZSTD),
    "gzip that is called zstd": (GOOD, ZSTD),
    "tar cut short": (gzip.compress(GOOD_TAR[:50_000]), fault_registry.LAYER),
    "no tar at all": (gzip.compress(b"rubbish" * 1000), fault_registry.LAYER),
    "plain tar that is called gzip": (GOOD_TAR, fault_registry.LAYER),
}


@pytest.mark.parametrize("name", BROKEN_LAYERS)
def test_a_broken_layer_is_refused_by_its_digest(orlop: Orlop, registry: FaultRegistry, name: str) -> None:
    data, media_type = BROKEN_LAYERS[name]
    image = registry.add_image(
        "app", "1", [transfer.layer("good"), data], layer_type=media_type, diff_ids=[DIFF_ID, DIFF_ID]
    )
    if media_type != fault_registry.LAYER:
        image = registry.add_image("app", "1", [data], layer_type=media_type, diff_ids=[DIFF_ID])
    else:
        good = transfer.layer("good")
        image = registry.add_image(
            "app", "1", [good, data], diff_ids=[fault_registry.sha256(gzip.decompress(good)), DIFF_ID]
        )
    digest = image.layers[-1].digest
    refused(orlop, f"{registry.host}/app:1", errors.DataLoss, digest)
    assert len(registry.seen("GET", digest)) <= 1, "what has the right digest is not fetched again"


def test_a_diff_id_other_than_the_config_says(orlop: Orlop, registry: FaultRegistry) -> None:
    wrong = fault_registry.sha256(b"something else")
    image = registry.add_image("app", "1", [GOOD], diff_ids=[wrong])
    refused(orlop, f"{registry.host}/app:1", errors.DataLoss, image.layers[0].digest, DIFF_ID, wrong)


@pytest.mark.parametrize("diff_ids", [[], [DIFF_ID], [DIFF_ID] * 3])
def test_config_and_manifest_that_disagree_on_layers(
    orlop: Orlop, registry: FaultRegistry, diff_ids: list[str]
) -> None:
    image = registry.add_image("app", "1", [GOOD, transfer.layer("x")], diff_ids=diff_ids)
    refused(orlop, f"{registry.host}/app:1", errors.DataLoss, image.config.digest, f"{len(diff_ids)} diff IDs")
    assert not registry.seen("GET", image.layers[0].digest)


def test_one_layer_with_two_diff_ids(orlop: Orlop, registry: FaultRegistry) -> None:
    image = registry.add_image("app", "1", [GOOD, GOOD], diff_ids=[fault_registry.sha256(b"other"), DIFF_ID])
    refused(orlop, f"{registry.host}/app:1", errors.DataLoss, image.config.digest, image.layers[0].digest)


def test_a_layer_that_occurs_twice_is_fetched_once(orlop: Orlop, registry: FaultRegistry) -> None:
    image = registry.add_image("app", "1", [GOOD, transfer.layer("x"), GOOD])
    orlop.engine.images.pull(f"{registry.host}/app:1")
    assert len(registry.seen("GET", image.layers[0].digest)) == 1
    transfer.assert_sound(orlop)


def test_a_layer_of_an_unknown_media_type(orlop: Orlop, registry: FaultRegistry) -> None:
    image = registry.add_image("app", "1", [GOOD], layer_type="application/x-brotli-tar")
    refused(orlop, f"{registry.host}/app:1", errors.InvalidArgument, image.layers[0].digest, "application/x-brotli-tar")


@pytest.mark.parametrize("raw", [b"not json", b"[]", b'{"rootfs": {"type": "blob", "diff_ids": []}}', b"{" * 5000])
def test_a_config_that_is_none(orlop: Orlop, registry: FaultRegistry, raw: bytes) -> None:
    config = registry.add_blob("app", raw, fault_registry.CONFIG)
    layer = registry.add_blob("app", GOOD, fault_registry.LAYER)
    document = {"schemaVersion": 2, "config": config.json(), "layers": [layer.json()]}
    registry.add_manifest("app", "1", json.dumps(document).encode())
    refused(orlop, f"{registry.host}/app:1", errors.OrlopError, config.digest)


def test_layers_that_try_to_escape_do_not(orlop: Orlop, registry: FaultRegistry, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_bytes(b"untouched")
    out = str(victim)
    up = "../" * 30
    tars = [
        transfer.tar_of({up + out.lstrip("/") + "/evil": b"x"}),
        transfer.tar_of({out + "/evil": b"x"}),
        transfer.tar_of({"link": out, "link/evil": b"x"}),
        transfer.tar_of({"link": up + out.lstrip("/"), "link/evil": b"x", "link/file": b"x"}),
        transfer.tar_of({"a": None, "a/b": out, "a/b/.wh.file": b"", "a/b/.wh..wh..opq": b""}),
        transfer.tar_of({"link": out}) + transfer.tar_of({"x": b""}),
    ]
    for number, data in enumerate(tars):
        registry.add_image("app", str(number), [gzip.compress(data)])
        with contextlib.suppress(errors.OrlopError):  # refused, or kept within its root: both are safe
            orlop.engine.images.pull(f"{registry.host}/app:{number}")
        assert [path.name for path in victim.iterdir()] == ["file"]
        assert (victim / "file").read_bytes() == b"untouched"
    for image in orlop.engine.images.list():
        orlop.engine.images.remove(image.name)
    transfer.assert_clean(orlop)


BOMBS: dict[str, tuple[bytes, str]] = {
    "ratio": (transfer.tar_of({"zeros": bytes(3 << 20)}), "bomb"),
    "entries": (transfer.tar_of({f"f{n}": b"" for n in range(300)}), "entries"),
    "depth": (transfer.tar_of({"/".join("d" * 60): None}), "depth"),
    "file size": (transfer.tar_of({"big": bytes(600_000)}), "file_bytes"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(orlop: Orlop, registry: FaultRegistry, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {
        "ratio": Limits(ratio=10),
        "entries": Limits(entries=200),
        "depth": Limits(depth=20),
        "file size": Limits(file_bytes=500_000),
    }[name]

    def open_unpacker(kind: str, path: str, cancel: Cancel) -> LayerUnpacker:
        return LayerUnpacker(kind, path, limits=limits, cancel=cancel)

    monkeypatch.setattr(wiring, "_open_unpacker", open_unpacker)
    monkeypatch.setattr(compression, "_RATIO_GRACE", 1 << 20)
    data, text = BOMBS[name]
    image = registry.add_image("app", "1", [gzip.compress(data), transfer.layer("other", 200_000)])
    refused(orlop, f"{registry.host}/app:1", errors.ResourceExhausted, text, image.layers[0].digest)


# ---------------------------------------------------------------- manifests


def index_of(registry: FaultRegistry, tag: str, children: list[dict[str, Any]]) -> str:
    raw = json.dumps({"schemaVersion": 2, "mediaType": fault_registry.INDEX, "manifests": children}).encode()
    return registry.add_manifest("app", tag, raw, fault_registry.INDEX).digest


def for_platform(registry: FaultRegistry, architecture: str, seed: int) -> tuple[ImageHandle, dict[str, Any]]:
    image = registry.add_image(
        "app", "", [transfer.layer("arch", 500, seed)], config={"architecture": architecture, "os": "linux"}
    )
    return image, {**image.manifest.json(), "platform": {"os": "linux", "architecture": architecture}}


def test_an_index_for_other_platforms_says_which_there_are(orlop: Orlop, registry: FaultRegistry) -> None:
    children = [for_platform(registry, name, seed)[1] for seed, name in enumerate(("s390x", "riscv64"))]
    children.append({**children[0], "platform": {"os": "unknown", "architecture": "unknown"}})
    index_of(registry, "1", children)
    error = refused(orlop, f"{registry.host}/app:1", errors.NotFound, "linux/riscv64, linux/s390x", "linux/amd64")
    assert "unknown" not in error.message
    assert "--platform" in error.advice


def test_a_manifest_for_another_platform_says_which(orlop: Orlop, registry: FaultRegistry) -> None:
    registry.add_image("app", "1", [GOOD], config={"architecture": "s390x", "os": "linux"})
    error = refused(orlop, f"{registry.host}/app:1", errors.NotFound, "linux/s390x", "linux/amd64")
    assert "--platform linux/s390x" in error.advice
    orlop.engine.images.pull(f"{registry.host}/app:1", platform="linux/s390x")


def test_manifests_without_a_platform_are_told_apart_by_their_configs(orlop: Orlop, registry: FaultRegistry) -> None:
    other, _ = for_platform(registry, "s390x", 1)
    ours, _ = for_platform(registry, "amd64", 2)
    index_of(registry, "1", [other.manifest.json(), ours.manifest.json()])
    pulled = orlop.engine.images.pull(f"{registry.host}/app:1")
    assert pulled.manifest_digest == ours.manifest.digest
    assert not registry.seen("GET", other.layers[0].digest)
    index_of(registry, "2", [other.manifest.json(), other.manifest.json()])
    orlop.engine.images.remove(f"{registry.host}/app:1")
    refused(orlop, f"{registry.host}/app:2", errors.NotFound, "linux/amd64")


def test_an_index_in_an_index_is_followed_and_its_siblings_are_tried(orlop: Orlop, registry: FaultRegistry) -> None:
    others = index_of(registry, "others", [for_platform(registry, "s390x", 1)[1]])
    image, child = for_platform(registry, "amd64", 2)
    ours = index_of(registry, "ours", [child])
    sizes = {digest: len(raw) for digest, (_, raw) in registry.manifests["app"].items()}
    index_of(
        registry,
        "1",
        [{"mediaType": fault_registry.INDEX, "digest": digest, "size": sizes[digest]} for digest in (others, ours)],
    )
    assert orlop.engine.images.pull(f"{registry.host}/app:1").manifest_digest == image.manifest.digest
    orlop.engine.system.gc()
    assert ours in transfer.blobs_on_disk(orlop)
    orlop.engine.images.resolve(f"{registry.host}/app:1")


def test_indexes_nested_too_deep(orlop: Orlop, registry: FaultRegistry) -> None:
    _, child = for_platform(registry, "amd64", 2)
    for level in range(8):
        digest = index_of(registry, f"deep{level}", [child])
        child = {
            "mediaType": fault_registry.INDEX, "digest": digest, "size": len(registry.manifests["app"][digest][1])
        }  # fmt: skip
    refused(orlop, f"{registry.host}/app:deep7", errors.DataLoss, "nested")


@pytest.mark.parametrize(
    ("raw", "media_type", "text"),
    [
        (b'{"schemaVersion": 1, "fsLayers": [], "name": "app"}', f"{DOCKER}.v1+json", "schema 1"),
        (b'{"schemaVersion": 1, "fsLayers": [], "signatures": []}', f"{DOCKER}.v1+prettyjws", "schema 1"),
        (b'{"schemaVersion": 2, "mediaType": "application/x-unheard-of"}', "application/x-unheard-of", "media type"),
        (b"not json", fault_registry.MANIFEST, "not JSON"),
        (b'{"schemaVersion": 2, "layers": [], "manifests": []}', fault_registry.MANIFEST, "ambiguous"),
        (b'{"schemaVersion": 2, "config": {"digest": "sha256:1"}, "layers": []}', fault_registry.MANIFEST, "config"),
    ],
)  # fmt: skip
def test_what_is_no_manifest(orlop: Orlop, registry: FaultRegistry, raw: bytes, media_type: str, text: str) -> None:
    registry.add_manifest("app", "1", raw, media_type)
    refused(orlop, f"{registry.host}/app:1", errors.InvalidArgument, text, f"{registry.host}/app")


def test_a_manifest_of_more_than_four_mebibytes(orlop: Orlop, registry: FaultRegistry) -> None:
    image = add(registry)
    document = {**json.loads(image.raw), "annotations": {"long": "x" * (4 << 20)}}
    raw = json.dumps(document).encode()
    big = registry.add_manifest("app", "big", raw)
    refused(orlop, f"{registry.host}/app:big", errors.ResourceExhausted, "4194304", f"{registry.host}/app:big")
    index_of(registry, "1", [{**big.json(), "platform": {"os": "linux", "architecture": "amd64"}}])
    refused(orlop, f"{registry.host}/app:1", errors.ResourceExhausted, big.digest)


def test_an_artifact_is_not_run_but_may_be_pulled_as_it_is(orlop: Orlop, registry: FaultRegistry) -> None:
    config = registry.add_blob("app", b"{}", "application/vnd.oci.empty.v1+json")
    data = registry.add_blob("app", b"payload", "application/x-thing")
    document = {
        "schemaVersion": 2,
        "artifactType": "application/x-thing",
        "config": config.json(),
        "layers": [data.json()],
    }
    registry.add_manifest("app", "1", json.dumps(document).encode())
    error = refused(orlop, f"{registry.host}/app:1", errors.InvalidArgument, "not a container image")
    assert "--unpack=false" in error.advice
    orlop.engine.images.pull(f"{registry.host}/app:1", unpack=False)
    assert data.digest in transfer.blobs_on_disk(orlop)


def test_content_within_a_descriptor_is_used_only_if_it_is_what_it_says(orlop: Orlop, registry: FaultRegistry) -> None:
    import base64

    image, child = for_platform(registry, "amd64", 3)
    good = {**child, "data": base64.b64encode(image.raw).decode()}
    index_of(registry, "good", [good])
    assert orlop.engine.images.pull(f"{registry.host}/app:good").manifest_digest == image.manifest.digest
    assert not registry.seen("GET", f"/manifests/{image.manifest.digest}")
    orlop.engine.images.remove(f"{registry.host}/app:good")
    index_of(registry, "lies", [{**child, "data": base64.b64encode(image.raw + b" ").decode()}])
    assert orlop.engine.images.pull(f"{registry.host}/app:lies").manifest_digest == image.manifest.digest
    assert registry.seen("GET", f"/manifests/{image.manifest.digest}")


# ---------------------------------------------------------------- cancelling


def test_a_cancelled_pull_ends_at_once_and_is_resumed(orlop: Orlop, registry: FaultRegistry) -> None:
    image = add(registry)
    registry.fault("stall", match=image.layers[1].digest, at=100_000)
    transfer.use(orlop.engine, transfer.hasty(orlop.root, stall_timeout=60))
    cancel = Cancel()

    def cancel_in_the_middle() -> None:
        orlops.wait_for("half a layer", lambda: registry.bytes_served(image.layers[1].digest) >= 100_000)
        cancel.cancel("enough")

    thread = threading.Thread(target=cancel_in_the_middle)
    thread.start()
    with pytest.raises(errors.Cancelled):
        orlop.engine.images.pull(f"{registry.host}/app:1", cancel=cancel)
    thread.join()
    assert list(orlop.engine.images.list()) == []
    orlop.engine.images.pull(f"{registry.host}/app:1")
    transfer.assert_sound(orlop)


def test_a_deadline_ends_a_pull(orlop: Orlop, registry: FaultRegistry) -> None:
    image = add(registry)
    registry.fault("stall", match=image.layers[1].digest, at=100_000, times=-1)
    transfer.use(orlop.engine, transfer.hasty(orlop.root, stall_timeout=60))
    make: Callable[[], Cancel] = lambda: Cancel(0.5)  # noqa: E731
    with pytest.raises(errors.DeadlineExceeded):
        orlop.engine.images.pull(f"{registry.host}/app:1", cancel=make())
    assert list(orlop.engine.images.list()) == []
