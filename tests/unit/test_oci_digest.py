"""Digests and descriptors."""

from __future__ import annotations

import hashlib

import pytest

from orlop.base import errors
from orlop.base.oci import descriptor, digest, mediatypes
from orlop.base.oci.descriptor import Descriptor
from orlop.base.oci.platform import Platform

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_bytes_have_the_digest_the_world_gives_them() -> None:
    assert digest.of_bytes(b"") == EMPTY
    assert digest.of_bytes(b"x", "sha512") == "sha512:" + hashlib.sha512(b"x").hexdigest()
    assert digest.parse(EMPTY).short == "e3b0c44298fc"
    assert (digest.parse(EMPTY).algorithm, digest.parse(EMPTY).encoded) == ("sha256", EMPTY[7:])


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256:", "sha256:" + "g" * 64, EMPTY.upper(), EMPTY + "0", "md5:" + "0" * 32, ":" + "0" * 64],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid digest"):
        digest.parse(text)


def test_a_descriptor_goes_to_json_and_back() -> None:
    whole = Descriptor(
        mediatypes.MANIFEST, digest.parse(EMPTY), 7, ("https://example.org/x",), {"b": "2", "a": "1"},
        Platform("linux", "arm", "v7"), "application/x", b"\x00{}",
    )  # fmt: skip
    value = descriptor.to_json(whole)
    assert list(value) == ["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"]
    assert list(value["annotations"]) == ["a", "b"]
    assert descriptor.from_json(value) == whole
    small = Descriptor(mediatypes.CONFIG, digest.parse(EMPTY), 0)
    assert descriptor.from_json(descriptor.to_json(small)) == small


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1}, {"size": "1"}, {"size": True}, {"size": None}, {"mediaType": ""}, {"mediaType": None},
        {"digest": 1}, {"digest": "x"}, {"data": "***"}, {"annotations": [1]}, {"urls": "x"},
    ],
)  # fmt: skip
def test_a_bad_descriptor_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidArgument):
        descriptor.from_json({"mediaType": "a/b", "digest": EMPTY, "size": 1} | change)
    with pytest.raises(errors.InvalidArgument, match="layer 3"):
        descriptor.from_json([], "layer 3")
