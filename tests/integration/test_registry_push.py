"""Pushing to a registry that misbehaves; lists, referrers and deletion."""

from __future__ import annotations

import hashlib
import json

import pytest

from orlop.base import errors
from orlop.base.oci import digest as digests
from orlop.base.oci import manifest as manifests
from orlop.base.oci.descriptor import Descriptor
from orlop.base.oci.reference import parse_normalized
from orlop.services.registry.client.client import RegistryClient
from tests.support.fault_registry import INDEX, MANIFEST, FaultRegistry, sha256

DATA = hashlib.shake_256(b"to push").digest(3_000_000)
DESCRIPTOR = Descriptor("application/octet-stream", digests.of_bytes(DATA), len(DATA))


class FileSource:
    """A blob in a file, as the content store opens it."""

    def __init__(self, path):
        self._file = open(path, "rb")
        self.size = path.stat().st_size
        self.closed = False

    def fileno(self):
        return self._file.fileno()

    def read_at(self, offset, length):
        raise AssertionError("a file goes out by sendfile")

    def close(self):
        self.closed = True
        self._file.close()


class RemoteSource:
    """A blob that is no local file."""

    size = len(DATA)

    def fileno(self):
        raise errors.Unavailable("not a file")

    def read_at(self, offset, length):
        return DATA[offset : offset + length]

    def close(self):
        pass


@pytest.fixture
def registry():
    with FaultRegistry() as made:
        yield made


@pytest.fixture
def slept():
    return []


@pytest.fixture
def client(tmp_path, slept):
    with RegistryClient(
        hosts_dirs=(), docker_config=str(tmp_path), sleep=slept.append, random=lambda: 0.0, stall_timeout=10.0
    ) as made:
        yield made


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(DATA)
    opened = []

    def open_source():
        opened.append(FileSource(path))
        return opened[-1]

    open_source.opened = opened
    return open_source


def at(registry, repository="app", tag="1"):
    return parse_normalized(f"{registry.host}/{repository}:{tag}")


def stored(registry, repository="app"):
    return registry.blobs.get(repository, {}).get(DESCRIPTOR.digest)


def methods(registry):
    return [request.method for request in registry.requests]


@pytest.mark.parametrize("kind", ["file", "remote"])
def test_a_blob_is_sent_whole_in_one_request(registry, client, source, kind):
    told = []
    opener = source if kind == "file" else RemoteSource
    assert client.push_blob(at(registry), DESCRIPTOR, opener, progress=told.append) == "uploaded"
    assert stored(registry) == DATA
    assert methods(registry) == ["HEAD", "POST", "PUT"]
    assert told == sorted(told)
    assert told[-1] == len(DATA)
    assert all(each.closed for each in source.opened)


def test_a_blob_that_is_there_is_not_opened(registry, client, source):
    registry.add_blob("app", DATA)
    assert client.push_blob(at(registry), DESCRIPTOR, source) == "exists"
    assert source.opened == []


def test_a_blob_of_another_repository_is_mounted(registry, client, source):
    registry.add_blob("base", DATA)
    assert client.push_blob(at(registry), DESCRIPTOR, source, mount_from=["app", "base"]) == "mounted"
    assert stored(registry) == DATA
    assert source.opened == []
    (post,) = registry.seen("POST")
    assert post.query == {"mount": [DESCRIPTOR.digest], "from": ["base"]}


def test_a_mount_that_is_not_done_goes_on_as_an_upload(registry, client, source):
    registry.mounts = False
    assert client.push_blob(at(registry), DESCRIPTOR, source, mount_from=["one", "two"]) == "uploaded"
    assert methods(registry) == ["HEAD", "POST", "DELETE", "POST", "PUT"]
    assert stored(registry) == DATA
    assert registry.uploads == {}


def test_a_mount_that_is_refused_goes_on_as_an_upload(registry, client, source):
    registry.fault("status", status=403, match="mount=")
    assert client.push_blob(at(registry), DESCRIPTOR, source, mount_from=["theirs"]) == "uploaded"
    assert stored(registry) == DATA


def test_chunks_are_of_the_size_that_was_asked_for(registry, client, source):
    assert client.push_blob(at(registry), DESCRIPTOR, source, chunk_size=1_000_001) == "uploaded"
    assert [(r.headers["content-range"], r.received) for r in registry.seen("PATCH")] == [
        ("0-1000000", 1_000_001),
        ("1000001-2000001", 1_000_001),
        ("2000002-2999999", 999_998),
    ]
    assert stored(registry) == DATA


def test_chunks_are_not_smaller_than_the_registry_wants(registry, client, source):
    registry.chunk_min = 2_000_000
    assert client.push_blob(at(registry), DESCRIPTOR, source, chunk_size=1000) == "uploaded"
    assert [r.received for r in registry.seen("PATCH")] == [2_000_000, 1_000_000]


@pytest.mark.parametrize("kind", ["drop", "close"])
def test_a_dropped_patch_is_gone_on_from_what_arrived(registry, client, source, slept, kind):
    registry.fault(kind, method="PATCH", at=600_000, after=1)
    assert client.push_blob(at(registry), DESCRIPTOR, source, chunk_size=1_000_000) == "uploaded"
    assert stored(registry) == DATA
    assert [r.headers["content-range"] for r in registry.seen("PATCH")] == [
        "0-999999",
        "1000000-1999999",
        "1600000-2599999",
        "2600000-2999999",
    ]
    assert sum(r.received for r in registry.seen("PATCH")) == len(DATA), "no byte arrived twice"
    assert len(slept) == 1


def test_a_dropped_put_is_gone_on_from_what_arrived(registry, client, source):
    registry.fault("drop", method="PUT", at=2_000_000)
    assert client.push_blob(at(registry), DESCRIPTOR, source) == "uploaded"
    assert stored(registry) == DATA
    assert [r.received for r in registry.seen("PATCH")] == [1_000_000]


def test_a_registry_that_stalls_in_an_upload_is_gone_on_with(registry, source, tmp_path, slept):
    registry.fault("stall", method="PATCH", at=500_000)
    with RegistryClient(hosts_dirs=(), docker_config=str(tmp_path), stall_timeout=0.3, sleep=slept.append) as client:
        assert client.push_blob(at(registry), DESCRIPTOR, source, chunk_size=len(DATA)) == "uploaded"
    assert stored(registry) == DATA
    assert registry.seen("PATCH")[1].headers["content-range"] == "500000-2999999"


def test_an_upload_that_the_registry_forgot_is_begun_again(registry, client, source):
    registry.fault("drop", method="PUT", at=1_000_000)
    registry.fault("status", method="GET", match="/uploads/", status=404)
    told = []
    assert client.push_blob(at(registry), DESCRIPTOR, source, progress=told.append) == "uploaded"
    assert stored(registry) == DATA
    assert len(registry.seen("POST")) == 2
    assert 0 in told, "the progress fell back"


def test_an_answer_that_was_lost_is_not_an_upload_that_was(registry, client, source):
    registry.fault("lost", method="PUT")
    assert client.push_blob(at(registry), DESCRIPTOR, source) == "uploaded"
    assert methods(registry) == ["HEAD", "POST", "PUT", "HEAD"]


def test_a_server_error_in_an_upload_is_tried_again(registry, client, source):
    registry.fault("status", method="PUT", status=503)
    assert client.push_blob(at(registry), DESCRIPTOR, source) == "uploaded"
    assert stored(registry) == DATA


def test_an_upload_that_always_breaks_is_given_up(registry, client, source, slept):
    registry.fault("drop", method="PUT", at=0, times=-1)
    with pytest.raises(errors.Unavailable, match=f"upload of {registry.host}/app@sha256"):
        client.push_blob(at(registry), DESCRIPTOR, source)
    assert len(registry.seen("PUT")) == 6
    assert all(each.closed for each in source.opened)


def test_a_body_that_is_too_large_is_sent_in_chunks(registry, client, source):
    registry.fault("status", method="PUT", status=413)
    assert client.push_blob(at(registry), DESCRIPTOR, source) == "uploaded"
    assert len(registry.seen("PATCH")) == 1
    assert stored(registry) == DATA


def test_a_refusal_in_the_middle_of_an_upload_is_told(registry, client, source):
    registry.fault("status", method="PUT", status=403, code="DENIED", message="quota exceeded")
    with pytest.raises(errors.PermissionDenied, match="quota exceeded"):
        client.push_blob(at(registry), DESCRIPTOR, source)
    assert len(registry.seen("PUT")) == 1


@pytest.mark.parametrize("kind", ["file", "remote"])
def test_a_refusal_before_the_body_was_read_is_told(registry, client, source, kind):
    registry.fault("early", method="PUT", status=403, code="DENIED", message="quota exceeded")
    with pytest.raises(errors.PermissionDenied, match="quota exceeded"):
        client.push_blob(at(registry), DESCRIPTOR, source if kind == "file" else RemoteSource)
    assert client.push_blob(at(registry), DESCRIPTOR, source) == "uploaded"


def test_a_source_of_the_wrong_size_is_not_sent(registry, client, source):
    with pytest.raises(errors.DataLoss, match="has 3000000 bytes, its descriptor says 3000001"):
        client.push_blob(at(registry), DESCRIPTOR.replace(size=len(DATA) + 1), source)


def test_wrong_bytes_are_refused_by_the_registry(registry, client, source):
    wrong = DESCRIPTOR.replace(digest=digests.of_bytes(b"other"))
    with pytest.raises(errors.InvalidArgument, match="DIGEST_INVALID"):
        client.push_blob(at(registry), wrong, source)


# ---------------------------------------------------------------------- manifests


RAW = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": []}).encode()


def test_a_manifest_is_put_under_its_tag_or_its_digest(registry, client):
    digest = digests.of_bytes(RAW)
    assert client.push_manifest(at(registry), RAW, MANIFEST) == digest
    assert registry.tags["app"] == {"1": digest}
    untagged = at(registry).replace(tag="", digest=digest)
    assert client.push_manifest(untagged, RAW, MANIFEST) == digest
    assert [r.path for r in registry.seen("PUT")] == ["/v2/app/manifests/1", f"/v2/app/manifests/{digest}"]
    assert registry.seen("PUT")[0].headers["content-type"] == MANIFEST


def test_a_manifest_that_was_stored_as_something_else_is_data_loss(registry, client):
    registry.fault("digest", method="PUT")
    with pytest.raises(errors.DataLoss, match="the registry stored it as"):
        client.push_manifest(at(registry), RAW, MANIFEST)


def test_a_manifest_that_is_not_the_pinned_one_is_not_sent(registry, client):
    with pytest.raises(errors.InvalidArgument):
        client.push_manifest(at(registry).replace(digest=digests.of_bytes(b"x")), RAW, MANIFEST)
    assert registry.requests == []


def test_a_manifest_is_put_again_after_a_failure(registry, client):
    registry.fault("hangup", method="PUT")
    registry.fault("status", method="PUT", status=500)
    client.push_manifest(at(registry), RAW, MANIFEST)
    assert len(registry.seen("PUT")) == 3


def artifact(subject, kind="application/vnd.example.signature"):
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2}
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": empty,
            "layers": [empty],
            "subject": {"mediaType": MANIFEST, "digest": subject, "size": len(RAW)},
            "annotations": {"a": "b"},
        }
    ).encode()


@pytest.mark.parametrize("api", [True, False])
def test_referrers_are_found_with_and_without_the_api(registry, client, api):
    registry.referrers = api
    subject = client.push_manifest(at(registry), RAW, MANIFEST)
    reference = at(registry).replace(tag="", digest=subject)
    assert client.referrers(reference, subject) == []
    pushed = []
    for kind in ("application/vnd.example.signature", "application/vnd.example.sbom"):
        raw = artifact(subject, kind)
        pushed.append(client.push_manifest(at(registry).replace(tag="", digest=digests.of_bytes(raw)), raw, MANIFEST))
    assert sorted(d.digest for d in client.referrers(reference, subject)) == sorted(pushed)
    (only,) = client.referrers(reference, subject, "application/vnd.example.sbom")
    assert (only.digest, only.artifact_type) == (pushed[1], "application/vnd.example.sbom")
    tag = "sha256-" + subject.encoded
    assert (tag in registry.tags["app"]) is not api
    if not api:
        kind, raw = registry.manifests["app"][registry.tags["app"][tag]]
        assert kind == INDEX
        index = manifests.parse(raw, kind)
        assert [entry.annotations for entry in index.manifests] == [{"a": "b"}, {"a": "b"}]


def test_pushing_a_referrer_again_lists_it_once(registry, client):
    registry.referrers = False
    subject = client.push_manifest(at(registry), RAW, MANIFEST)
    raw = artifact(subject)
    for _ in range(2):
        client.push_manifest(at(registry).replace(tag="", digest=digests.of_bytes(raw)), raw, MANIFEST)
    assert len(client.referrers(at(registry), subject)) == 1


def test_tags_come_page_by_page(registry, client):
    registry.page = 2
    names = [f"v{n}" for n in range(5)]
    for name in names:
        registry.add_manifest("app", name, RAW)
    assert client.tags(at(registry)) == names
    assert len(registry.seen("GET", "/tags/list")) == 3
    with pytest.raises(errors.NotFound, match="NAME_UNKNOWN"):
        client.tags(at(registry, "none"))


def test_manifests_tags_and_blobs_are_deleted(registry, client):
    image = registry.add_image("app", "1", [b"x"])
    client.delete(at(registry))
    assert registry.tags["app"] == {}
    client.delete(at(registry).replace(digest=digests.parse(image.manifest.digest)))
    assert registry.manifests["app"] == {}
    client.delete_blob(at(registry), digests.parse(image.layers[0].digest))
    assert image.layers[0].digest not in registry.blobs["app"]
    with pytest.raises(errors.NotFound):
        client.delete_blob(at(registry), digests.parse(image.layers[0].digest))
    registry.deletes = False
    with pytest.raises(errors.Unimplemented, match="the operation is unsupported"):
        client.delete(at(registry))
