"""The image store."""

from __future__ import annotations

from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.oci.descriptor import Descriptor
from orlop.base.oci.digest import of_bytes
from orlop.base.oci.platform import Platform
from orlop.stores.images.api import Image
from tests.support.stores import Root, target

ONE, TWO = of_bytes(b"1"), of_bytes(b"2")


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(str(tmp_path / "root"))


def test_an_image_comes_back_with_all_of_its_target(root: Root) -> None:
    whole = Descriptor(
        media_type="application/vnd.oci.image.index.v1+json",
        digest=ONE,
        size=42,
        urls=("https://example.org/x",),
        annotations={"a": "ü"},
        platform=Platform(os="linux", architecture="arm64", variant="v8"),
        artifact_type="application/x",
        data=b"\0\xff",
    )
    made = root.images().create(Image("docker.io/library/x:1", whole, labels={"l": "m", "empty": ""}))
    assert made.target == whole
    assert made.created_ns == made.updated_ns > 0
    assert made.labels == {"l": "m"}
    assert root.images().get("docker.io/library/x:1") == made


def test_names_are_unique_within_a_namespace_only(root: Root) -> None:
    root.images().create(Image("x", target(ONE)))
    with pytest.raises(errors.AlreadyExists):
        root.images().create(Image("x", target(TWO)))
    root.images("other").create(Image("x", target(TWO)))
    assert root.images().get("x").target.digest == ONE


def test_they_are_listed_in_order_of_name_and_by_filters(root: Root) -> None:
    images = root.images()
    for name, digest in (("b", ONE), ("a", TWO), ("c", ONE)):
        images.create(Image(name, target(digest), labels={"n": name}))
    assert [image.name for image in images.list()] == ["a", "b", "c"]
    assert [image.name for image in images.list(f"target.digest=={ONE}")] == ["b", "c"]
    assert [image.name for image in images.list("labels.n==a", "name==c")] == ["a", "c"]
    assert [image.name for image in images.list("target.mediatype~=manifest,name~=[ab]")] == ["a", "b"]
    with pytest.raises(errors.InvalidArgument):
        images.list("name=")


def test_update_changes_all_or_what_is_named(root: Root) -> None:
    images = root.images()
    images.create(Image("x", target(ONE), labels={"a": "1", "b": "2"}))
    assert images.update(Image("x", target(TWO), labels={"c": "3"}), ["target"]).labels == {"a": "1", "b": "2"}
    changed = images.update(Image("x", target(ONE), labels={"a": "9"}), ["labels.a", "labels.b"])
    assert (changed.target.digest, changed.labels) == (TWO, {"a": "9"})
    changed = images.update(Image("x", target(ONE), labels={"z": "0"}))
    assert (changed.target.digest, changed.labels) == (ONE, {"z": "0"})
    assert changed.created_ns < changed.updated_ns
    with pytest.raises(errors.InvalidArgument):
        images.update(Image("x", target(ONE)), ["name"])
    with pytest.raises(errors.NotFound):
        images.update(Image("y", target(ONE)))


def test_put_makes_or_replaces_and_keeps_labels_unless_told(root: Root) -> None:
    images = root.images()
    assert images.put("x", target(ONE), {"a": "1"}).labels == {"a": "1"}
    assert images.put("x", target(TWO)).labels == {"a": "1"}
    assert images.put("x", target(TWO), {}).labels == {}
    assert images.get("x").target.digest == TWO


def test_delete_takes_one_name(root: Root) -> None:
    images = root.images()
    images.put("x", target(ONE))
    images.delete("x")
    for call in (images.delete, images.get):
        with pytest.raises(errors.NotFound, match="no image 'x'"):
            call("x")
    with pytest.raises(errors.InvalidArgument):
        images.put("", target(ONE))


def test_changes_are_published_and_a_failure_is_not(root: Root) -> None:
    images = root.images()
    images.put("x", target(ONE), {"a": "b"})
    with pytest.raises(errors.AlreadyExists):
        images.create(Image("x", target(ONE)))
    images.put("x", target(TWO))
    images.delete("x")
    events = [(event.topic, event.payload) for event in root.events().read()]
    assert events == [
        ("/images/create", {"name": "x", "labels": {"a": "b"}}),
        ("/images/update", {"name": "x", "labels": {"a": "b"}}),
        ("/images/delete", {"name": "x"}),
    ]
