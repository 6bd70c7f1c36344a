"""Manifests and indexes: reading without ambiguity, writing without surprise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.oci import digest, manifest, mediatypes, platform
from orlop.base.oci.descriptor import Descriptor
from orlop.base.oci.manifest import Index, Manifest
from orlop.base.oci.platform import Platform

ZERO = "sha256:" + "0" * 64
CONFIG = {"mediaType": mediatypes.CONFIG, "digest": ZERO, "size": 2}
LAYER = {"mediaType": mediatypes.LAYER_GZIP, "digest": ZERO, "size": 3, "annotations": {"a": "b"}}
IMAGE: dict[str, Any] = {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER, LAYER]}
LIST: dict[str, Any] = {
    "schemaVersion": 2,
    "manifests": [
        {"mediaType": mediatypes.MANIFEST, "digest": ZERO, "size": n, "platform": {"os": "linux", "architecture": a}}
        for n, a in enumerate(("386", "amd64", "arm64"))
    ],
}


def _raw(value: object) -> bytes:
    return json.dumps(value).encode()


def _image(value: object, media_type: str = "") -> Manifest:
    parsed = manifest.parse(_raw(value), media_type)
    assert isinstance(parsed, Manifest)
    return parsed


def _index(value: object, media_type: str = "") -> Index:
    parsed = manifest.parse(_raw(value), media_type)
    assert isinstance(parsed, Index)
    return parsed


def test_a_manifest_is_viewed_and_its_bytes_kept() -> None:
    raw = b" " + _raw(IMAGE | {"annotations": {"k": "v"}, "subject": CONFIG, "artifactType": "a/b", "unknown": [1]})
    view = manifest.parse(raw, mediatypes.MANIFEST)
    assert isinstance(view, Manifest)
    assert view.raw == raw
    assert view.digest == digest.of_bytes(raw)
    assert view.media_type == mediatypes.MANIFEST
    assert (view.config.media_type, view.config.size) == (mediatypes.CONFIG, 2)
    assert [layer.size for layer in view.layers] == [3, 3]
    assert (view.annotations, view.artifact_type) == ({"k": "v"}, "a/b")
    assert view.subject is not None
    assert view.descriptor() == Descriptor(mediatypes.MANIFEST, view.digest, len(raw), artifact_type="a/b")


def test_an_index_is_viewed() -> None:
    view = _index(LIST)
    assert view.media_type == mediatypes.INDEX
    assert [m.platform for m in view.manifests] == [Platform("linux", a) for a in ("386", "amd64", "arm64")]
    assert view.descriptor().size == len(view.raw)


def test_the_digest_of_verified_bytes_is_taken_on_trust() -> None:
    known = digest.of_bytes(_raw(IMAGE), "sha512")
    assert manifest.parse(_raw(IMAGE), "", known).digest == known


def test_the_kind_is_told_by_argument_then_member_then_shape() -> None:
    assert _image(IMAGE, mediatypes.DOCKER_MANIFEST).media_type == mediatypes.DOCKER_MANIFEST
    assert _image(IMAGE | {"mediaType": mediatypes.DOCKER_MANIFEST}).media_type == mediatypes.DOCKER_MANIFEST
    assert _image(IMAGE).media_type == mediatypes.MANIFEST
    docker = IMAGE | {"config": CONFIG | {"mediaType": mediatypes.DOCKER_CONFIG}}
    assert _image(docker).media_type == mediatypes.DOCKER_MANIFEST
    assert _index(LIST, mediatypes.DOCKER_LIST).media_type == mediatypes.DOCKER_LIST
    assert _image(IMAGE, "application/vnd.OCI.image.manifest.v1+json; charset=utf-8").media_type == mediatypes.MANIFEST
    for generic in ("application/json", "text/plain; charset=utf-8", "application/octet-stream"):
        assert _image(IMAGE, generic).media_type == mediatypes.MANIFEST


@pytest.mark.parametrize(
    ("value", "media_type", "says"),
    [
        (IMAGE | LIST, "", "ambiguous"),
        (IMAGE | {"manifests": []}, mediatypes.MANIFEST, "ambiguous"),
        (LIST | {"layers": []}, mediatypes.INDEX, "ambiguous"),
        (LIST | {"config": CONFIG}, "", "ambiguous"),
        (IMAGE | {"mediaType": mediatypes.MANIFEST}, mediatypes.DOCKER_MANIFEST, "announced as"),
        (IMAGE | {"mediaType": mediatypes.INDEX}, "", "members of the other kind"),
        (IMAGE, mediatypes.INDEX, "members of the other kind"),
        (LIST, mediatypes.MANIFEST, "members of the other kind"),
        (IMAGE, "application/vnd.cncf.helm.config.v1+json", "is not that of"),
        (IMAGE | {"mediaType": 7}, "", "not a text"),
        (IMAGE | {"schemaVersion": 3}, "", "schemaVersion 3"),
        ({"schemaVersion": 2}, "", "no mediaType"),
        ([], "", "not a JSON object"),
        (IMAGE | {"layers": {}}, "", "layers is not a list"),
        (IMAGE | {"layers": [1]}, "", r"layers\[0\]"),
        (IMAGE | {"config": None}, "", "config is not"),
        (IMAGE | {"annotations": []} | {"annotations": [1]}, "", "annotations"),
        (IMAGE | {"subject": "x"}, "", "subject"),
    ],
)
def test_doubtful_manifests_are_refused(value: object, media_type: str, says: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=says):
        manifest.parse(_raw(value), media_type)


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        ({"schemaVersion": 1, "name": "x", "fsLayers": []}, ""),
        ({"fsLayers": [{}], "mediaType": mediatypes.MANIFEST}, ""),
        (IMAGE, mediatypes.DOCKER_SCHEMA1_SIGNED),
        (IMAGE, mediatypes.DOCKER_SCHEMA1),
    ],
)
def test_schema_1_is_refused_with_what_to_do(value: object, media_type: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="schema 1 is not supported") as caught:
        manifest.parse(_raw(value), media_type)
    assert caught.value.advice


def test_a_huge_manifest_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(errors.InvalidArgument, match="at most 4194304"):
        manifest.parse(b"x" * (manifest.MAX_MANIFEST_BYTES + 1))
    with pytest.raises(errors.InvalidArgument, match="not JSON"):
        manifest.parse(b"x" * manifest.MAX_MANIFEST_BYTES)


def test_null_members_are_missing_members() -> None:
    view = _image(IMAGE | {"manifests": None, "annotations": None, "subject": None, "artifactType": None})
    assert (view.annotations, view.artifact_type, view.subject) == ({}, "", None)
    assert _image({"schemaVersion": 2, "config": CONFIG, "layers": None}).layers == ()
    assert _index({"manifests": []}).manifests == ()


def test_an_index_gives_the_manifest_for_a_platform() -> None:
    index = _index(LIST)

    def pick(wanted: str, strict: bool = False) -> int | None:
        chosen = index.select(platform.parse(wanted), strict=strict)
        return chosen.size if chosen else None

    assert pick("linux/amd64") == 1
    assert pick("linux/amd64/v3") == 1
    assert pick("linux/386") == 0
    assert pick("linux/arm64/v8") == 2
    assert pick("linux/s390x") is None
    assert pick("linux/amd64/v3", strict=True) is None


def test_an_index_entry_without_platform_is_the_last_resort_and_foreign_types_none() -> None:
    odd = {"mediaType": "application/x", "digest": ZERO, "size": 8}
    bare = {"mediaType": mediatypes.MANIFEST, "digest": ZERO, "size": 9}
    attestation = bare | {"size": 10, "platform": {"os": "unknown", "architecture": "unknown"}}
    index = _index({"manifests": [odd, attestation, bare, *LIST["manifests"]]})
    chosen = index.select(platform.parse("linux/amd64"))
    assert chosen is not None
    assert chosen.size == 1
    fallback = index.select(platform.parse("linux/s390x"))
    assert fallback is not None
    assert fallback.size == 9


def test_written_manifests_are_golden() -> None:
    config = Descriptor(mediatypes.CONFIG, digest.parse(ZERO), 2)
    layer = Descriptor(mediatypes.LAYER_GZIP, digest.parse(ZERO), 3, annotations={"z": "1", "a": "ä"})
    raw = manifest.manifest_bytes(
        config, [layer], annotations={"b": "2", "a": "1"}, artifact_type="t/t", subject=config
    )
    d = f'"digest":"{ZERO}"'
    assert raw.decode() == (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"t/t",'
        '"config":{"mediaType":"application/vnd.oci.image.config.v1+json",' + d + ',"size":2},'
        '"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",'
        + d
        + ',"size":3,"annotations":{"a":"ä","z":"1"}}],'
        '"subject":{"mediaType":"application/vnd.oci.image.config.v1+json",'
        + d
        + ',"size":2},"annotations":{"a":"1","b":"2"}}'
    )


def test_written_manifests_are_read_back() -> None:
    view = _image(IMAGE)
    for docker in (False, True):
        again = manifest.parse(manifest.manifest_bytes(view.config, view.layers, docker=docker))
        assert isinstance(again, Manifest)
        assert (again.config, again.layers) == (view.config, view.layers)
        assert again.media_type == (mediatypes.DOCKER_MANIFEST if docker else mediatypes.MANIFEST)
        index = _index(LIST)
        listed = manifest.parse(manifest.index_bytes(index.manifests, docker=docker))
        assert isinstance(listed, Index)
        assert listed.manifests == index.manifests
        assert listed.media_type == (mediatypes.DOCKER_LIST if docker else mediatypes.INDEX)
    annotated = manifest.parse(
        manifest.index_bytes([], annotations={"k": "v"}, subject=view.config, artifact_type="a/b")
    )
    assert (annotated.annotations, annotated.subject, annotated.artifact_type) == ({"k": "v"}, view.config, "a/b")


def test_dockers_schema_2_cannot_carry_what_only_oci_has() -> None:
    view = _image(IMAGE)
    with pytest.raises(errors.InvalidArgument, match="no annotations"):
        manifest.manifest_bytes(view.config, [], annotations={"a": "b"}, docker=True)
    with pytest.raises(errors.InvalidArgument, match="no annotations"):
        manifest.index_bytes([], subject=view.config, docker=True)


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from(["", "x", ZERO, mediatypes.MANIFEST])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["mediaType", "size", "digest", "platform", "os", "annotations", "urls", "data"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "annotations", "subject"]),
        _json,
    )
)
def test_any_json_is_a_manifest_or_an_invalid_argument(value: dict[str, Any]) -> None:
    try:
        view = manifest.parse(_raw(value))
    except errors.InvalidArgument:
        return
    assert view.raw == _raw(value)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_manifest_or_an_invalid_argument(raw: bytes) -> None:
    with pytest.raises(errors.InvalidArgument):
        manifest.parse(raw)
