"""The tree of an image's content: labels, choosing a platform, walking what is stored."""

from __future__ import annotations

from typing import cast

import pytest

from orlop.base import errors
from orlop.base.oci import digest as digests
from orlop.base.oci import manifest as manifests
from orlop.base.oci import mediatypes, platform
from orlop.base.oci.descriptor import Descriptor
from orlop.base.oci.digest import Digest
from orlop.services.transfer import tree
from orlop.stores.content.api import ContentStore, Info

AMD64 = platform.parse("linux/amd64")


class Memory:
    """As much of a content store as a tree reads."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.read_count = 0

    def put(self, data: bytes, media_type: str) -> Descriptor:
        digest = digests.of_bytes(data)
        self.blobs[digest] = data
        return Descriptor(media_type, digest, len(data))

    def read(self, digest: Digest, limit: int = 4 << 20) -> bytes:
        self.read_count += 1
        return self.blobs[self._there(digest)]

    def info(self, digest: Digest) -> Info:
        return Info(digest, len(self.blobs[self._there(digest)]), 0, 0)

    def _there(self, digest: Digest) -> Digest:
        if digest not in self.blobs:
            raise errors.NotFound(f"content {digest}")
        return digest


def store(memory: Memory) -> ContentStore:
    return cast("ContentStore", memory)


def manifest(memory: Memory, name: str, platform_text: str = "") -> Descriptor:
    config = memory.put(b"{}" + name.encode(), mediatypes.CONFIG)
    layers = [memory.put(f"layer {n} of {name}".encode(), mediatypes.LAYER) for n in range(2)]
    made = memory.put(manifests.manifest_bytes(config, layers), mediatypes.MANIFEST)
    return made.replace(platform=platform.parse(platform_text)) if platform_text else made


def index(memory: Memory, *children: Descriptor) -> Descriptor:
    return memory.put(manifests.index_bytes(children), mediatypes.INDEX)


def test_labels_keep_the_children() -> None:
    memory = Memory()
    child = manifest(memory, "a", "linux/amd64")
    parsed = tree.read_manifest(store(memory), child)
    assert isinstance(parsed, manifests.Manifest)
    assert tree.gc_labels(parsed) == {
        "containerd.io/gc.ref.content.config": str(parsed.config.digest),
        "containerd.io/gc.ref.content.l.0": str(parsed.layers[0].digest),
        "containerd.io/gc.ref.content.l.1": str(parsed.layers[1].digest),
    }
    top = tree.read_manifest(store(memory), index(memory, child))
    assert tree.gc_labels(top) == {"containerd.io/gc.ref.content.m.0": str(child.digest)}


def test_the_best_platform_comes_first_then_those_that_name_none() -> None:
    memory = Memory()
    v6, v7, unnamed, other = (
        manifest(memory, name, text)
        for name, text in (("6", "linux/arm/v6"), ("7", "linux/arm/v7"), ("none", ""), ("s", "linux/s390x"))
    )
    top = tree.read_manifest(store(memory), index(memory, other, unnamed, v6, v7))
    assert isinstance(top, manifests.Index)
    found = tree.pick(top, platform.parse("linux/arm/v7"), "x")
    assert [d.digest for d in found] == [v7.digest, v6.digest, unnamed.digest]


def test_what_there_is_is_told_when_nothing_fits() -> None:
    memory = Memory()
    children = [manifest(memory, name, name) for name in ("linux/s390x", "linux/arm64", "unknown/unknown")]
    top = tree.read_manifest(store(memory), index(memory, *children))
    assert isinstance(top, manifests.Index)
    with pytest.raises(tree.NoPlatform, match=r"it has linux/arm64, linux/s390x$"):
        tree.pick(top, AMD64, "x")
    empty = tree.read_manifest(store(memory), index(memory))
    assert isinstance(empty, manifests.Index)
    with pytest.raises(errors.NotFound, match="it has none"):
        tree.pick(empty, AMD64, "x")


def test_choosing_goes_on_where_content_is_missing() -> None:
    memory = Memory()
    missing = manifest(memory, "missing", "linux/amd64")
    there = manifest(memory, "there", "linux/amd64")
    top = index(memory, missing, index(memory, there))
    del memory.blobs[missing.digest]
    chosen = tree.choose(store(memory), top, AMD64, "x")
    assert chosen.descriptor.digest == there.digest
    assert chosen.path[0].digest == top.digest
    del memory.blobs[there.digest]
    with pytest.raises(errors.NotFound, match="linux/amd64 is not stored here") as caught:
        tree.choose(store(memory), top, AMD64, "x")
    assert "orlop pull --platform linux/amd64 x" in caught.value.advice


def test_walking_gives_children_first_each_once_and_passes_over_what_is_missing() -> None:
    memory = Memory()
    first, second = manifest(memory, "a", "linux/amd64"), manifest(memory, "b", "linux/s390x")
    top = index(memory, first, second, first)
    del memory.blobs[second.digest]
    found = [descriptor.digest for descriptor, _ in tree.walk(store(memory), top)]
    assert len(found) == len(set(found)) == 5
    assert found[-2:] == [first.digest, top.digest]
    assert second.digest not in found


def test_indexes_nested_for_ever_end() -> None:
    memory = Memory()
    top = manifest(memory, "a")
    for _ in range(20):
        top = index(memory, top)
    assert len(list(tree.walk(store(memory), top))) <= tree.DEEPEST + 2
    with pytest.raises(errors.DataLoss, match="nested"):
        tree.choose(store(memory), top, AMD64, "x")
